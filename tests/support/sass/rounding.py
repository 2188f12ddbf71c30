"""Arithmetic that rounds once, as the hardware's fused and converting instructions do.

`floating` and `packed` call it. Sums of more digits than a type has are rounded to odd first: that
keeps what decides the rounding to a shorter type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .operands import F32, F64, I64, U32, U64


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a sum and its error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _split(a: Any) -> tuple[Any, Any]:
    """Split a float64 in two of half its digits (Veltkamp)."""
    scaled = a * F64(2**27 + 1)
    high = scaled - (scaled - a)
    return high, a - high


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a product and its error (Dekker)."""
    product = a * b
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _to_odd(total: Any, error: Any) -> Any:
    """Return the neighbour of ``total + error`` whose last digit is 1, where that is not exact."""
    bits = np.asarray(total, F64).view(I64)
    grows = (error > 0) == (total > 0)
    odd = np.where(grows, bits, bits - 1) | 1
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    return np.where(inexact, odd, bits).view(F64)


def fused(a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c`` of float32 as a float64 that rounds to float32 as the exact number."""
    product = a.astype(F64) * b.astype(F64)  # exact
    return _to_odd(*_two_sum(product, c.astype(F64)))


def fused_double(a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c`` of float64, rounded once.

    S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums", 2008. Beyond the range
    in which the parts of a product are exact, it is rounded twice.
    """
    high, low = _two_product(a, b)
    upper, lower = _two_sum(c, low)
    top, rest = _two_sum(high, upper)
    result = top + _to_odd(*_two_sum(lower, rest))
    return np.where(np.isfinite(result), result, a * b + c)


def narrowed(values: Any, direction: str = "") -> Any:
    """Round float64 to float32, to nearest or in a direction."""
    nearest = values.astype(F32)
    if direction in ("RM", "RP"):
        end = F32(-np.inf if direction == "RM" else np.inf)
        over = nearest > values if direction == "RM" else nearest < values
        return np.where(over, np.nextafter(nearest, end), nearest)
    if direction == "RZ":
        over = np.abs(nearest) > np.abs(values)
        return np.where(over, np.nextafter(nearest, F32(0)), nearest)
    return nearest


def from_integer(values: Any, direction: str = "") -> Any:
    """Round integers of up to 64 bits, which a long double holds exactly, to float32."""
    return narrowed(np.asarray(values).astype(np.longdouble), direction)


def to_integer(values: Any, kind: Any) -> Any:
    """Convert integral float64 to an integer type: the nearest if out of range, 0 for NaN."""
    least, most = np.iinfo(kind).min, np.iinfo(kind).max
    small, large = values <= float(least), values >= float(most)
    inside = np.where(small | large | np.isnan(values), 0, values).astype(kind)
    return np.where(small, kind(least), np.where(large, kind(most), inside))


ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "TRUNC": np.trunc,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
}


def half_bits(values: Any) -> Any:
    """Round float32 to float16, as bits; the hardware makes one NaN."""
    bits = np.asarray(values, F32).astype(np.float16).view(np.uint16).astype(U32)
    return np.where(np.isnan(values), U32(0x7FFF), bits)


def bfloat_bits(values: Any) -> Any:
    """Round float32 to bfloat16, as bits; the hardware makes one NaN."""
    bits = np.asarray(values, F32).view(U32)
    rounded = (bits.astype(U64) + U64(0x7FFF) + (bits >> U32(16) & U32(1)).astype(U64)) >> U64(16)
    return np.where(np.isnan(values), U32(0x7FFF), rounded.astype(U32))
