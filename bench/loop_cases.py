"""Which training loops are timed: networks, and data of scikit-learn that need no download."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .common import Array
from .loop_nets import Batch, Layers, Lstm, Network, Transformer, TwoHidden
from .loop_sites import Site, Spot


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images / 16.0, data.target


def _cells() -> tuple[Array, Array]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    x = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    return x, data.target


def _large(images: Array) -> Array:
    """Enlarge images of 8 x 8 to 32 x 32, a row each."""
    return np.kron(images, np.ones((1, 4, 4))).reshape(len(images), -1)


def _patches(images: Array) -> Array:
    """Cut images of 8 x 8 into 16 patches of 2 x 2."""
    cut = images.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4)
    patches: Array = cut.reshape(len(images), 16, 4)
    return patches


@dataclass(frozen=True)
class Loop:
    """A training loop: a network, its data and its dropout.

    Attributes
    ----------
    name, text : str
        What results call it, and what the table says.
    network : type
        The class of the network.
    data : callable
        Returns all samples and labels.
    shaped : callable
        Turns samples into what the network reads.
    samples, inputs, hidden : int
        Of a batch, of an input, of a hidden layer.
    spots : tuple of Spot
        Where dropout is.
    """

    name: str
    text: str
    network: Callable[..., Network]
    data: Callable[[], tuple[Array, Array]]
    shaped: Callable[[Array], Array]
    samples: int
    inputs: int
    hidden: int
    spots: tuple[Spot, ...]

    def batches(self, dtype: Any, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield batches without end: samples drawn anew, each with noise of its own."""
        x, labels = self.data()
        while True:
            chosen = rng.integers(len(x), size=self.samples)
            given = self.shaped(x[chosen])
            noise = rng.standard_normal(given.shape, np.float32) * np.float32(0.05)
            yield Batch((given + noise).astype(dtype), labels[chosen])

    def build(self, sites: Sequence[Site], dtype: Any, seed: int = 0) -> Network:
        """Return a new network; the same seed gives the same weights."""
        rng = np.random.default_rng(seed)
        return self.network(sites, np.dtype(dtype), self.inputs, self.hidden, rng)


IN_PLACE = Spot(0.5, "rand", in_place=True)
LOOPS = (
    Loop(
        "cs231n",
        "CS231n's two hidden layers of 500, batches of 100",
        TwoHidden,
        _digits,
        _large,
        *(100, 1024, 500),
        (IN_PLACE, IN_PLACE),
    ),
    Loop(
        "layers",
        "layer objects, binomial masks and Adam, 2 x 512, batches of 256",
        Layers,
        _cells,
        np.asarray,
        *(256, 30, 512),
        (Spot(0.1, "binomial"), Spot(0.1, "binomial")),
    ),
    Loop(
        "lstm",
        "an LSTM of 128 over 8 rows, batches of 64",
        Lstm,
        _digits,
        np.asarray,
        *(64, 8, 128),
        (Spot(0.1), Spot(0.5)),
    ),
    Loop(
        "transformer",
        "a transformer block, width 128, 4 heads, batches of 32",
        Transformer,
        _digits,
        _patches,
        *(32, 4, 128),
        (Spot(0.1), Spot(0.1), Spot(0.1)),
    ),
)
BY_NAME = {loop.name: loop for loop in LOOPS}
# What is timed: loops in the types that people run them in.
CASES = (
    ("cs231n", "float64"),
    ("cs231n", "float32"),
    ("layers", "float32"),
    ("lstm", "float64"),
    ("transformer", "float32"),
)
