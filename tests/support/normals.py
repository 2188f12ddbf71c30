"""The normal numbers that elements must get, in NumPy's float32 arithmetic."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels import normal_coefficients as quantile
from tests.support.oracle import Array, index_of

F32 = np.float32
# What elements and normals are put together by: p of the one, and stddev of the other.
FUNCTIONS: dict[str, Callable[..., Any]] = {"times": fd.gaussian_dropout, "plus": fd.gaussian_noise}


def uniforms(index: Array, key: fd.Key) -> Array:
    """The 32-bit uniforms of mask indices."""
    drawn: Any = contract.uniform32(np.uint64(key.seed), np.uint64(key.stream), index)
    return np.asarray(drawn, np.uint32)


def polynomial(coefficients: Any, t: Array) -> Array:
    y = np.full_like(t, coefficients[-1])
    for c in coefficients[-2::-1]:
        y = y * t + F32(c)
    return y


def standard_normal(u: Array) -> Array:
    """The quantile of ``(u + 0.5) / 2**32``, in float32, step by step."""
    lower = np.minimum(u, ~u).astype(np.int32)
    a = (lower.astype(F32) + F32(0.5)) * F32(2.0**-31)
    x = ((np.int32(2**31 - 1) - lower).astype(F32) + F32(0.5)) * F32(2.0**-31)
    y = np.asarray(a * (F32(2) - a))
    bits = y.view(np.int32)
    t = ((bits & 0x007FFFFF) | 0x3F800000).view(F32) - F32(1.5)
    exponent = (127 - (bits >> 23)).astype(F32)
    w = exponent * F32(quantile.LOG_2) - polynomial(quantile.LOGARITHM, t)
    far = w >= F32(quantile.SPLIT)
    near = polynomial(quantile.CENTRAL, w - F32(quantile.CENTRE))
    root = np.sqrt(np.where(far, w, F32(quantile.SPLIT)))
    tail = polynomial(quantile.TAIL, root - F32(quantile.TAIL_CENTRE))
    z = x * np.where(far, tail, near)
    return np.asarray(np.where(u >> 31, z, -z))


def normals_of(index: Array, key: fd.Key) -> Array:
    """The normal numbers of mask indices."""
    return standard_normal(uniforms(index, key))


def noisy(what: str, z: Array, x: Array, deviation: Any) -> Array:
    """What x "times" normals of mean 1, or "plus" normals of mean 0, is."""
    computed = np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype
    with np.errstate(all="ignore"):
        noise = z.astype(computed) * computed.type(deviation)
        given = x.astype(computed)
        result = given * (noise + computed.type(1)) if what == "times" else given + noise
        return np.asarray(result.astype(x.dtype))


def expected(what: str, x: Array, number: float, key: fd.Key, **where: Any) -> Array:
    """What one of FUNCTIONS must give for x, and a number as its p or stddev."""
    deviation = number if what == "plus" else math.sqrt(number / (1 - number))
    return noisy(what, _placed(x.shape, key, tuple(where.items())), x, deviation)


@functools.lru_cache(maxsize=64)
def _placed(shape: tuple[int, ...], key: fd.Key, where: tuple[tuple[str, Any], ...]) -> Array:
    return normals_of(index_of(shape, **dict(where)), key)
