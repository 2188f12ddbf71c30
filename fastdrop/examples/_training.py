"""The digits, and the training loop with its stopwatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastdrop.examples._network import Array, Labels, Network, Params, momentum_step
from fastdrop.examples._variants import VARIANTS, Timed, bytes_kept

BATCH_SIZE = 100
LEARNING_RATE = 0.1
N_TEST = 500
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
    """What was measured while one network trained."""

    accuracy: list[float] = field(default_factory=list)  # on the test set, after each epoch
    step_seconds: list[float] = field(default_factory=list)
    dropout_seconds: list[float] = field(default_factory=list)  # of those, in dropout
    bytes_kept: int = 0  # by the dropout layers, between forward and backward


def load_data(dtype: npt.DTypeLike = np.float32) -> Data:
    """Load scikit-learn's bundled scans of handwritten digits, 8 by 8 pixels in [0, 1].

    The split into 1,297 training and 500 test images is the same every time.
    """
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        (images / 16).astype(dtype), labels, test_size=N_TEST, stratify=labels, random_state=0
    )
    return Data(x_train, y_train, x_test, y_test)


def minibatches(n: int, seed: int, epoch: int) -> Iterator[Labels]:
    """Yield the indices of each full minibatch of an epoch.

    The order depends on the seed and the epoch alone, so that all variants see the same, and a
    training that was interrupted finds it again.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n)
    for start in range(0, n - BATCH_SIZE + 1, BATCH_SIZE):
        yield order[start : start + BATCH_SIZE]


def learning_rate(epoch: int, epochs: int) -> float:
    """Return the rate for an epoch: falls linearly, as dropout's noise asks for an end in calm."""
    return LEARNING_RATE * (1 - epoch / epochs)


def train_step(network: Network, velocity: Params, x: Array, labels: Labels, lr: float) -> None:
    """Train on one minibatch."""
    _, grads = network.loss_and_grads(x, labels)
    momentum_step(network.params, grads, velocity, lr)


def train(
    variant: str,
    data: Data,
    *,
    seed: int,
    hidden: int,
    epochs: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> Run:
    """Train a new network with one of `VARIANTS` and measure it.

    Parameters
    ----------
    variant : str
        A name in `VARIANTS`.
    data : Data
        What to train and test on.
    seed : int
        Decides the initial weights, the order of the minibatches and the masks.
    hidden : int
        Units in either hidden layer.
    epochs : int
        How many times to go through the training set.
    on_epoch : callable, optional
        Called after each epoch.

    Returns
    -------
    Run
    """
    layers = [Timed(layer) for layer in VARIANTS[variant](seed)]
    sizes = (data.x_train.shape[1], hidden, hidden, N_CLASSES)
    network = Network(sizes, layers, np.random.default_rng(seed))
    velocity = {name: np.zeros_like(param) for name, param in network.params.items()}
    run = Run()
    for epoch in range(epochs):
        lr = learning_rate(epoch, epochs)
        for batch in minibatches(len(data.x_train), seed, epoch):
            dropout_before = sum(layer.seconds for layer in layers)
            start = time.perf_counter()
            train_step(network, velocity, data.x_train[batch], data.y_train[batch], lr)
            run.step_seconds.append(time.perf_counter() - start)
            run.dropout_seconds.append(sum(layer.seconds for layer in layers) - dropout_before)
        run.accuracy.append(network.accuracy(data.x_test, data.y_test))
        on_epoch()
    # The first step compiles fastdrop's kernels and touches the memory of all variants.
    del run.step_seconds[0], run.dropout_seconds[0]
    network.forward(data.x_train[:BATCH_SIZE], training=True)
    run.bytes_kept = sum(bytes_kept(layer) for layer in layers)
    return run
