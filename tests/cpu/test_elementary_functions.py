"""exp, tanh and the normal tail of the CPU kernels: errors in ulp, and exact values at limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdrop_kernels.cpu.codegen.vectors import Lanes
from fastdrop_kernels.cpu.elements import math as elementary
from tests.support.oracle import Array, assert_same
from tests.support.slow import slow_unless
from tests.support.traced import applied, ulps

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
every_dtype = pytest.mark.parametrize(
    "dtype", slow_unless(lambda dtype: dtype == np.float32, DTYPES), ids=str
)
EXTENDED = np.longdouble  # 64 bits of significand on x86, whose exp and tanh are good to most


def truth(function: Any, x: Array) -> Array:
    """A function's values in more digits than those of x."""
    if x.dtype == np.float32:
        return np.asarray(function(x.astype(np.float64)))
    if np.finfo(EXTENDED).nmant < 60:
        pytest.skip("long double has no more digits than float64 here")
    return np.asarray(function(x.astype(EXTENDED)))


def spread(dtype: np.dtype[Any], least: float, most: float, rng: np.random.Generator) -> Array:
    """Numbers between bounds, evenly and by their logarithms, of both signs."""
    evenly = rng.uniform(least, most, 400_000)
    small = np.exp(rng.uniform(np.log(np.finfo(dtype).smallest_subnormal), 0, 100_000))
    return np.concatenate([evenly, small, -small, [least, most]]).astype(dtype)


# The largest error allowed, in ulp: 0.97 and 2.3 were measured.
FUNCTIONS: dict[str, tuple[Any, Any, float, tuple[float, float], tuple[float, float]]] = {
    "exp": (elementary.exp, np.exp, 1.0, (-104, 89), (-746, 710)),
    "tanh": (elementary.tanh, np.tanh, 2.5, (-10, 10), (-20, 20)),
}


@every_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_within_the_last_places(
    name: str, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    function, true_function, most, *bounds = FUNCTIONS[name]
    x = spread(dtype, *bounds[DTYPES.index(dtype)], rng)
    with np.errstate(all="ignore"):
        true = truth(true_function, x)
    off = ulps(applied(function, x), true)
    assert off.max() <= most


def lower_tail(x: Lanes) -> Lanes:
    return elementary.times_lower_tail(x.constant(1.0), elementary.absolute(x))


@every_dtype
def test_the_lower_tail_of_the_normal_distribution_is_accurate(
    dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    mpmath = pytest.importorskip("mpmath")
    x = rng.uniform(0, 14.5 if dtype == np.float32 else 39, 1500).astype(dtype)
    with mpmath.workdps(30):
        true = np.array([mpmath.ncdf(-mpmath.mpf(float(a))) for a in x])
        got = applied(lower_tail, x)
        off = [abs(mpmath.mpf(float(g)) - t) for g, t in zip(got, true, strict=True)]
        units = [float(o / mpmath.mpf(float(np.spacing(g)))) for o, g in zip(off, got, strict=True)]
    assert max(units) <= 5  # 4.6 was measured


@every_dtype
def test_exp_at_its_limits(dtype: np.dtype[Any]) -> None:
    x = np.array([0.0, -0.0, -np.inf, -1e30, np.inf, 1e30, np.nan, 1e-40, -1e-40], dtype)
    got = applied(elementary.exp, x)
    assert_same(got, np.array([1, 1, 0, 0, np.inf, np.inf, np.nan, 1, 1], dtype))


@every_dtype
def test_tanh_at_its_limits(dtype: np.dtype[Any]) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, -np.inf, np.inf, 20, -1e30, np.nan, tiny, -3 * tiny], dtype)
    got = applied(elementary.tanh, x)
    assert_same(got, np.array([0.0, -0.0, -1, 1, 1, -1, np.nan, tiny, -3 * tiny], dtype))
