"""Validation before timing: a contender that computes something else must not be ranked.

A check takes the input, what the contender returned and p, and says what is wrong, or nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .common import HALF, MI, Array, BenchError, dtype_of, load

# A correct contender fails one check in 5e8; a rate of 0.12 for 0.1 fails from 64 Ki elements up.
SIGMAS = 6.0
RATE_ROUNDING = 2.0**-17  # 16-bit thresholds round p by up to this
# The pure-NumPy reference takes about 0.3 s a Mi; fastdrop's own mask is compared at every size.
REFERENCE_LIMIT = MI
# Elements whose first 16 bits are those of the threshold, ties, cost a kernel extra: one in 65,536,
# some 1 us each. This stream has as many as are to be expected, for p = 0.1, 0.125 and 0.5: none in
# the first 16 Ki elements, 1 in 64 Ki, 3 to 5 in 256 Ki, 15 to 18 in 1 Mi.
STREAM = 984
STREAM_WITHOUT_TIES = 1  # in the first 64 Ki

Check = Callable[[Array, Any, float], str]


class Wrong(BenchError):
    """A contender's output is not what it has to be."""


def key(stream: int = STREAM) -> Any:
    """Return the key of the masks here."""
    return load("fastdrop").Key(2026, stream)


def draw(shape: tuple[int, ...], p: Any, rng: Any = None) -> Array:
    """Return the mask of a shape, True = kept: the reference's, or ours where that takes long."""
    rng = rng or key()
    if math.prod(shape) > REFERENCE_LIMIT or np.ndim(p):
        mask: Array = load("fastdrop").dropout_mask(shape, p, rng=rng)
        return mask
    reference: Any = load("fastdrop_kernels.reference")
    return np.asarray(reference.keep_mask(reference.mask_index(shape), p, rng.seed, rng.stream))


def scaled(x: Array, p: float) -> Array:
    """Multiply by 1 / (1 - p) as the contract says: in float32 for the half types."""
    compute = np.dtype(np.float32) if x.dtype.name in HALF else x.dtype
    product: Array = x.astype(compute, copy=False) * compute.type(1 / (1 - p))
    return product.astype(x.dtype, copy=False)


def same_bits(given: Any, expected: Any) -> bool:
    """Say whether arrays are equal as bytes: also the sign of zero and the bits of NaN count."""
    y, right = np.ascontiguousarray(given), np.ascontiguousarray(expected)
    if y.dtype != right.dtype or y.shape != right.shape:
        return False
    return bool(np.array_equal(y.view(np.uint8), right.view(np.uint8)))


def share(lost: Array, p: float, rounding: float = 0.0) -> str:
    """Say whether another part is lost than should be."""
    if abs(float(lost.mean()) - p) <= SIGMAS * math.sqrt(p * (1 - p) / lost.size) + rounding:
        return ""
    return f"drops {lost.mean():.6g} of the elements, not {p:g}"


def _rounding(dtype: str) -> tuple[Any, Any]:
    """Return what peers may be off by: relative, absolute.

    They round scale and product once each, to half an eps, and so does the check. Only the half
    types have subnormals that normals of variance 1 reach.
    """
    if dtype == "bfloat16":
        return np.float32(4 * 2.0**-7), np.float32(0)
    about = np.finfo(dtype_of(dtype))
    kind = np.float64 if dtype == "float64" else np.float32
    return kind(4 * about.eps), kind(about.smallest_subnormal if dtype in HALF else 0)


def is_dropout(x: Array, y: Any, p: float, rate: float | None = None) -> str:
    """Check that each element is 0 or x / (1 - p), and how many are 0: `rate`, or p."""
    y, rate = np.asarray(y), p if rate is None else rate
    if y.shape != x.shape:
        return f"shape {y.shape} is not the input's {x.shape}"
    relative, smallest = _rounding(x.dtype.name)
    compute = np.dtype(np.float64 if x.dtype.itemsize > 4 else np.float32)
    s = compute.type(1 / (1 - p))
    zero = np.empty(x.size, np.bool_)
    # In pieces: whole-array temporaries would need several times the memory of the contenders.
    for start in range(0, x.size, MI):
        piece = slice(start, start + MI)
        part = y.reshape(-1)[piece].astype(compute, copy=False)
        kept = x.reshape(-1)[piece].astype(compute, copy=False) * s
        zero[piece] = part == 0
        # Written so that NaN counts as wrong.
        bad = ~(zero[piece] | (np.abs(part - kept) <= np.abs(kept) * relative + smallest))
        if bad.any():
            at = int(np.argmax(bad))
            return f"element {start + at} is {part[at]:.8g} instead of {kept[at]:.8g} or 0"
    return share(zero, rate, RATE_ROUNDING if rate else 0.0)


def is_close(given: Array, right: Array, zeros: bool) -> str:
    """Check an array against another of its dtype to a few roundings; zeros exactly, if said so.

    In a gradient a zero may be the difference of two numbers that are rounded otherwise elsewhere.
    """
    relative, _ = _rounding(right.dtype.name)
    y, expected = given.astype(np.float64), right.astype(np.float64)
    # Differences of sums are accurate relative to the largest.
    within = 4 * float(relative) * np.abs(expected) + 1e-5 * np.abs(expected).max()
    bad = ~(np.abs(y - expected) <= within)
    if zeros:
        bad |= (expected == 0) != (y == 0)
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        return f"element {tuple(map(int, at))} is {y[at]:.8g} instead of {expected[at]:.8g}"
    return ""


is_scaled = functools.partial(is_dropout, rate=0.0)  # the roof drops nothing


def is_ours(x: Array, y: Any, p: float, rng: Any = None) -> str:
    """Check dropout under a key, bit for bit, with our mask and the reference's."""
    if wrong := is_dropout(x, y, p):
        return wrong
    rng = rng or key()
    masks = {"fastdrop.dropout_mask": load("fastdrop").dropout_mask(x.shape, p, rng=rng)}
    if x.size <= REFERENCE_LIMIT:
        masks["the NumPy reference"] = draw(x.shape, p, rng)
    for name, mask in masks.items():
        if not same_bits(y, np.where(mask, scaled(x, p), x.dtype.type(0))):
            return f"differs from {name}"
    return ""


def is_step(one: Check) -> Check:
    """Check output and gradient of a step whose gradient was -x."""

    def check(x: Array, made: Any, p: float) -> str:
        y, dx = map(np.asarray, made)
        for name, given, part in (("output", x, y), ("gradient", -x, dx)):
            if wrong := one(given, part, p):
                return f"{name}: {wrong}"
        differ = not np.array_equal(y == 0, dx == 0)
        return "forward and backward drop different elements" if differ else ""

    return check


def kept_or_lost(kept: Array, lost: Array, independent: float) -> Check:
    """Check that each element is what is kept or what is lost, and how many are lost.

    Where the two are alike, nothing can be told. Fewer decisions are independent if shared.
    """

    def check(x: Array, y: Any, p: float) -> str:
        y = np.asarray(y[0] if isinstance(y, tuple) else y)
        if (y.shape, y.dtype) != (kept.shape, kept.dtype):
            return f"{y.dtype} of shape {y.shape}"
        close = 1e-5 * float(np.abs(kept).max())
        is_lost, is_kept = np.abs(y - lost) <= close, np.abs(y - kept) <= close
        if wrong := int(np.count_nonzero(~(is_lost | is_kept))):  # so that NaN counts as wrong
            return f"{wrong} elements are wrong"
        told = is_lost[np.abs(kept - lost) > 2 * close]
        return share(told, p, SIGMAS * math.sqrt(p / independent) * (independent < kept.size))

    return check


def has_moments(right: Array, independent: float) -> Check:
    """Check mean and deviation against those of a result with as many independent values."""

    def check(x: Array, y: Any, p: float) -> str:
        y = np.asarray(y[0] if isinstance(y, tuple) else y)
        if y.shape != right.shape or y.dtype != right.dtype:
            return f"{y.dtype} of shape {y.shape}"
        for moment in (np.mean, np.std):
            a, b = float(moment(y, dtype=np.float64)), float(moment(right, dtype=np.float64))
            if not abs(a - b) < 2 * SIGMAS * float(right.std()) / math.sqrt(independent):
                return f"{moment.__name__} {a:.5g} instead of about {b:.5g}"
        return ""

    return check


def nothing(x: Array, y: Any, p: float) -> str:
    """Check nothing: what is made may be no array, and no dropout of x."""
    return ""


CHECKS = {"dropout": is_dropout, "scaled": is_scaled, "ours": is_ours, "nothing": nothing}
