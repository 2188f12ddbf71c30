"""How fastdrop is called, and what its results have to be, bit for bit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .common import HALF, MI, Array
from .contender import Call, Expected, Step, load

# The pure-NumPy reference takes about 0.3 s a Mi; fastdrop's own mask is compared at every size.
REFERENCE_LIMIT = MI

# Elements whose first 16 bits are those of the threshold, ties, cost a kernel extra: one in 65,536,
# some 1 us each. This stream has as many as are to be expected, for p = 0.1, 0.125 and 0.5: none in
# the first 16 Ki elements, 1 in 64 Ki, 3 to 5 in 256 Ki, 15 to 18 in 1 Mi.
STREAM = 984
STREAM_WITHOUT_TIES = 1  # in the first 64 Ki


@functools.cache
def key(stream: int = STREAM) -> Any:
    """Return the key of the masks here."""
    return load("fastdrop").Key(2026, stream)


def given(x: Array, p: float, out: Array) -> Call:
    """Write to a given output."""
    dropout, rng = load("fastdrop").dropout, key()
    return lambda: dropout(x, p, rng=rng, out=out)


def fresh(x: Array, p: float, out: Array) -> Call:
    """Return a new array."""
    dropout, rng = load("fastdrop").dropout, key()
    return lambda: dropout(x, p, rng=rng)


def generated(x: Array, p: float, out: Array) -> Call:
    """Let a Generator say which mask."""
    dropout, rng = load("fastdrop").dropout, np.random.default_rng()
    return lambda: dropout(x, p, rng=rng)


def unseeded(x: Array, p: float, out: Array) -> Call:
    """Let the operating system say which mask."""
    dropout = load("fastdrop").dropout
    return lambda: dropout(x, p)


def layered(x: Array, p: float, out: Array) -> Call:
    """Go forward through a layer."""
    layer = load("fastdrop").Dropout(p, rng=key())
    return lambda: layer(x)


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


def draw(shape: tuple[int, ...], p: float, stream: int = STREAM) -> Array:
    """Return the mask of a shape, True = kept: the reference's, or ours where that takes long."""
    rng = key(stream)
    if np.prod(shape, dtype=np.int64) > REFERENCE_LIMIT:
        mask: Array = load("fastdrop").dropout_mask(shape, p, rng=rng)
        return mask
    reference: Any = load("fastdrop_kernels.reference")
    return np.asarray(reference.keep_mask(reference.mask_index(shape), p, rng.seed, rng.stream))


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
