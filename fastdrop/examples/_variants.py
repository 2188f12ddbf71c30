"""The three variants of dropout layers that the digits example compares, with one interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop.examples._network import Array, DropoutLayer

# Probabilities of dropping: for the input, and for either hidden layer.
P_DROP = (0.2, 0.5, 0.5)


class NoDropout:
    """The identity."""

    def forward(self, x: Array, training: bool | None = None) -> Array:
        """Return `x`."""
        return x

    def backward(self, dy: Array) -> Array:
        """Return `dy`."""
        return dy


class StoredMask:
    """Inverted dropout as in the CS231n notes: draw a mask, keep it for the backward pass.

    The notes write ``mask = (np.random.rand(*x.shape) < keep) / keep``. This is the same with two
    improvements: `numpy.random.Generator` is faster than ``np.random.rand``, and the mask has the
    dtype of `x`. A mask of float64 would make all later arrays float64, at twice the time and
    memory.
    """

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        self.keep = 1 - p
        self.rng = rng
        self.masks: list[Array] = []

    def forward(self, x: Array, training: bool | None = None) -> Array:
        """Return `x` with elements dropped; store the mask."""
        if training is False:
            return x
        kept = self.rng.random(x.shape) < self.keep
        mask: Array = np.divide(kept, self.keep, dtype=x.dtype)
        self.masks.append(mask)
        return x * mask

    def backward(self, dy: Array) -> Array:
        """Apply the last forward's mask to `dy` and discard it."""
        return dy * self.masks.pop()


class Timed:
    """A dropout layer that measures the time of its calls in training."""

    def __init__(self, layer: DropoutLayer) -> None:
        self.layer = layer
        self.seconds = 0.0

    def forward(self, x: Array, training: bool | None = None) -> Array:
        """Call the layer's forward."""
        if training is False:
            return self.layer.forward(x, training)
        start = time.perf_counter()
        y = self.layer.forward(x, training)
        self.seconds += time.perf_counter() - start
        return y

    def backward(self, dy: Array) -> Array:
        """Call the layer's backward."""
        start = time.perf_counter()
        dx = self.layer.backward(dy)
        self.seconds += time.perf_counter() - start
        return dx


def no_dropout_layers(seed: int) -> list[DropoutLayer]:
    """Return three layers that drop nothing."""
    return [NoDropout() for _ in P_DROP]


def stored_mask_layers(seed: int) -> list[DropoutLayer]:
    """Return three layers with stored masks."""
    rng = np.random.default_rng(seed)
    return [StoredMask(p, rng) for p in P_DROP]


def fastdrop_layers(seed: int) -> list[fd.Dropout]:
    """Return three fastdrop layers, each with its own key.

    With the same integer as `rng`, all three would draw the same masks; so the keys are derived by
    `fold_in`.
    """
    key = fd.Key(seed)
    return [fd.Dropout(p, rng=key.fold_in(i)) for i, p in enumerate(P_DROP)]


VARIANTS: dict[str, Callable[[int], Sequence[DropoutLayer]]] = {
    "no dropout": no_dropout_layers,
    "stored mask": stored_mask_layers,
    "fastdrop": fastdrop_layers,
}


def bytes_kept(held: Any) -> int:
    """Return the total bytes of all arrays that an object references, directly or indirectly.

    Called on a layer between forward and backward, this is the memory that the layer keeps.
    """
    if isinstance(held, np.ndarray):
        return held.nbytes
    if isinstance(held, dict):
        return sum(map(bytes_kept, held.values()))
    if isinstance(held, list | tuple | set):
        return sum(map(bytes_kept, held))
    slots = [n for c in type(held).__mro__ for n in getattr(c, "__slots__", ())]
    return bytes_kept(getattr(held, "__dict__", {})) + sum(
        bytes_kept(getattr(held, name, None)) for name in slots if name != "__dict__"
    )
