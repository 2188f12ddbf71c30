"""How fastdrop is called, and what its results have to be, bit for bit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .common import HALF, MI, Array
from .contender import Call, Expected, Step, load

# The pure-NumPy reference takes about 0.3 s a Mi; fastdrop's own mask is compared at every size.
REFERENCE_LIMIT = MI


@functools.cache
def key() -> Any:
    """Return the key of every mask here."""
    return load("fastdrop").Key(2026, 1)


def given(x: Array, p: float, out: Array) -> Call:
    """Write to a given output."""
    dropout, rng = load("fastdrop").dropout, key()
    return lambda: dropout(x, p, rng=rng, out=out)


def fresh(x: Array, p: float, out: Array) -> Call:
    """Return a new array."""
    dropout, rng = load("fastdrop").dropout, key()
    return lambda: dropout(x, p, rng=rng)


def given_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Train with given outputs; nothing is kept between the passes."""
    dropout, rng = load("fastdrop").dropout, key()
    return Step(
        lambda: (dropout(x, p, rng=rng, out=y), None),
        lambda _: dropout(dy, p, rng=rng, out=dx),
    )


def fresh_steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
    """Train with new arrays; nothing is kept between the passes."""
    dropout, rng = load("fastdrop").dropout, key()
    return Step(
        lambda: (dropout(x, p, rng=rng), None),
        lambda _: dropout(dy, p, rng=rng),
    )


def draw(shape: tuple[int, ...], p: float) -> Array:
    """Return the mask of a shape, True = kept: the reference's, or ours where that takes long."""
    if np.prod(shape, dtype=np.int64) > REFERENCE_LIMIT:
        mask: Array = load("fastdrop").dropout_mask(shape, p, rng=key())
        return mask
    reference: Any = load("fastdrop_kernels.reference")
    return np.asarray(reference.keep_mask(reference.mask_index(shape), p, key().seed, key().stream))


def scaled(x: Array, p: float) -> Array:
    """Multiply by 1 / (1 - p) as the contract says: in float32 for the half types."""
    compute = np.dtype(np.float32) if x.dtype.name in HALF else x.dtype
    s = compute.type(1 / (1 - p))
    product: Array = x.astype(compute, copy=False) * s
    return product.astype(x.dtype, copy=False)


def exact(x: Array, p: float) -> Expected:
    """Yield what `dropout` has to give for x: by its own mask, and by the reference's."""
    product, zero = scaled(x, p), x.dtype.type(0)
    mask = load("fastdrop").dropout_mask(x.shape, p, rng=key())
    yield "fastdrop.dropout_mask", np.where(mask, product, zero)
    if x.size <= REFERENCE_LIMIT:
        yield "the NumPy reference", np.where(draw(x.shape, p), product, zero)
