"""Dropout in the training loops that are timed: none, a stored mask, an fd.Mask, a layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from .common import Array
from .contender import load

NONE, STORED, MASK, LAYER = "none", "stored mask", "fd.Mask", "fd.Dropout layer"
VARIANTS = (NONE, STORED, MASK, LAYER)

Make = Callable[[tuple[int, ...]], Any]


class Spot(NamedTuple):
    """A place in a network where elements are dropped.

    Attributes
    ----------
    p : float
        The drop probability.
    idiom : {"rand", "binomial"}
        How public loops of this shape draw their mask.
    in_place : bool
        Whether they multiply in place, ``h *= mask``, as CS231n's notes do.
    """

    p: float
    idiom: str = "rand"
    in_place: bool = False


class Site(Protocol):
    """What stands in a spot: dropout there and back, and what it costs."""

    seconds: float  # of all calls since it was set to 0
    kept: int  # bytes that masks took between forward and backward, the most

    def forward(self, x: Array) -> Array:
        """Drop elements of x."""

    def backward(self, dy: Array) -> Array:
        """Turn the gradient of the last output into that of its input."""


class Nothing:
    """No dropout."""

    seconds, kept = 0.0, 0

    def forward(self, x: Array) -> Array:
        """Return x."""
        return x

    def backward(self, dy: Array) -> Array:
        """Return dy."""
        return dy


class Multiplied:
    """A mask that is made, multiplied in, and kept for the backward pass: stored, or an fd.Mask.

    Of several forwards the backwards come in reverse order, as in backpropagation through time.
    """

    def __init__(self, make: Make, in_place: bool) -> None:
        self.make, self.in_place = make, in_place
        self.masks: list[Any] = []
        self.seconds, self.kept = 0.0, 0

    def forward(self, x: Array) -> Array:
        """Make a mask and multiply by it."""
        start = time.perf_counter()
        mask = self.make(x.shape)
        if self.in_place:
            x *= mask
        else:
            x = x * mask
        self.masks.append(mask)
        self.seconds += time.perf_counter() - start
        self.kept = max(self.kept, sum(mask.nbytes for mask in self.masks))
        return x

    def backward(self, dy: Array) -> Array:
        """Multiply by the last mask that has not gone back."""
        start = time.perf_counter()
        mask = self.masks.pop()
        if self.in_place:
            dy *= mask
        else:
            dy = dy * mask
        self.seconds += time.perf_counter() - start
        return dy


class Layer:
    """A layer of fastdrop, which keeps no mask."""

    def __init__(self, p: float, rng: Any) -> None:
        self.layer = load("fastdrop").Dropout(p, rng=rng)
        self.seconds, self.kept = 0.0, 0

    def forward(self, x: Array) -> Array:
        """Go forward."""
        start = time.perf_counter()
        y: Array = self.layer.forward(x)
        self.seconds += time.perf_counter() - start
        return y

    def backward(self, dy: Array) -> Array:
        """Go backward."""
        start = time.perf_counter()
        dx: Array = self.layer.backward(dy)
        self.seconds += time.perf_counter() - start
        return dx


def stored(spot: Spot) -> Make:
    """Return what makes the masks of public loops, which are of float64."""
    q = 1 - spot.p
    if spot.idiom == "binomial":
        return lambda shape: np.random.binomial(1, q, size=shape) / q  # noqa: NPY002 - the idiom
    return lambda shape: (np.random.rand(*shape) < q) / q  # noqa: NPY002 - the idiom


def masks(spot: Spot) -> Make:
    """Return what makes an fd.Mask in the idiom's place, from the same global state."""
    make = load("fastdrop").Mask
    return lambda shape: make(shape, spot.p, rng=np.random)


def site(variant: str, spot: Spot, number: int) -> Site:
    """Return what stands in a network's n-th spot."""
    if variant == NONE:
        return Nothing()
    if variant == LAYER:
        return Layer(spot.p, load("fastdrop").Key(2026).fold_in(number))
    return Multiplied({STORED: stored, MASK: masks}[variant](spot), spot.in_place)
