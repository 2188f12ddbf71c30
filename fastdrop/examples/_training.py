"""The digits data, and the training loop with its time measurements."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastdrop.examples._network import Array, DropoutLayer, Labels, Network, momentum_step
from fastdrop.examples._variants import Timed, bytes_kept

BATCH_SIZE = 100
LEARNING_RATE = 0.1
N_TRAIN = 500
N_TEST = 1797 - N_TRAIN
WRONG = 0.2  # part of the training labels
N_CLASSES = 10


@dataclass(frozen=True)
class Data:
    """Training and test images, one a row, with their labels."""

    x_train: Array
    y_train: Labels
    x_test: Array
    y_test: Labels


@dataclass
class Run:
    """Measurements of the training of one network."""

    accuracy: list[float] = field(default_factory=list)  # on the test set, after each epoch
    step_seconds: list[float] = field(default_factory=list)
    dropout_seconds: list[float] = field(default_factory=list)  # of those, in dropout
    bytes_kept: int = 0  # by the dropout layers, between forward and backward


def load_data(dtype: npt.DTypeLike = np.float32, seed: int = 0) -> Data:
    """Load scikit-learn's bundled scans of handwritten digits, 8 by 8 pixels in [0, 1].

    There are few training images, and one in five has a wrong label, so a wide network overfits: it
    can memorise all of them. The seed determines the split into 500 training and 1,297 test images,
    and which labels are wrong. The test labels are right.
    """
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        *((images / 16).astype(dtype), labels),
        train_size=N_TRAIN,
        stratify=labels,
        random_state=seed % 2**32,
    )
    rng = np.random.default_rng(seed)
    wrong = rng.choice(N_TRAIN, round(WRONG * N_TRAIN), replace=False)
    y_train[wrong] = (y_train[wrong] + rng.integers(1, N_CLASSES, len(wrong))) % N_CLASSES
    return Data(x_train, y_train, x_test, y_test)


def minibatches(n: int, seed: int, epoch: int) -> Iterator[Labels]:
    """Yield the indices of each full minibatch of an epoch.

    The order depends on the seed and the epoch only, so that it is the same for all variants and
    after a resume.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n)
    for start in range(0, n - BATCH_SIZE + 1, BATCH_SIZE):
        yield order[start : start + BATCH_SIZE]


def learning_rate(epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch, which decays linearly because of dropout's noise."""
    return LEARNING_RATE * (1 - epoch / epochs)


class Trainer:
    """A network in training, with its dropout layers, momentum and stopwatch.

    Parameters
    ----------
    data : Data
        The training and test data.
    layers : sequence of three DropoutLayer
        The dropout layers of the network.
    seed : int
        Determines the initial weights and the order of the minibatches.
    hidden : int
        Units in either hidden layer.
    epochs : int
        Total number of epochs.
    """

    def __init__(
        self, data: Data, layers: Sequence[DropoutLayer], *, seed: int, hidden: int, epochs: int
    ) -> None:
        self.data = data
        self.layers = [Timed(layer) for layer in layers]
        sizes = (data.x_train.shape[1], hidden, hidden, N_CLASSES)
        self.network = Network(sizes, self.layers, np.random.default_rng(seed))
        self.velocity = {k: np.zeros_like(v) for k, v in self.network.params.items()}
        self.seed, self.epoch, self.epochs = seed, 0, epochs
        self.run = Run()

    def train_epoch(self) -> None:
        """Train for one epoch, then test."""
        data, run = self.data, self.run
        lr = learning_rate(self.epoch, self.epochs)
        for batch in minibatches(len(data.x_train), self.seed, self.epoch):
            dropout_before = self._seconds_in_dropout()
            start = time.perf_counter()
            _, grads = self.network.loss_and_grads(data.x_train[batch], data.y_train[batch])
            momentum_step(self.network.params, grads, self.velocity, lr)
            run.step_seconds.append(time.perf_counter() - start)
            run.dropout_seconds.append(self._seconds_in_dropout() - dropout_before)
        if self.epoch == 0:
            # The first step compiles fastdrop's kernels, and touches all memory for the first time.
            del run.step_seconds[0], run.dropout_seconds[0]
        run.accuracy.append(self.network.accuracy(data.x_test, data.y_test))
        self.epoch += 1

    def finish(self) -> Run:
        """Measure the memory that the dropout layers keep of a forward; return all measurements."""
        before = self._bytes_kept()
        self.network.forward(self.data.x_train[:BATCH_SIZE], training=True)
        self.run.bytes_kept = self._bytes_kept() - before
        return self.run

    def _bytes_kept(self) -> int:
        return sum(bytes_kept(layer) for layer in self.layers)

    def _seconds_in_dropout(self) -> float:
        return sum(layer.seconds for layer in self.layers)
