"""Elementary functions: to the last places everywhere, and exact where they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdrop_kernels.cpu import elementary

from .oracle import Array, assert_same
from .traced import applied, ulps

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exp(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    bounds = (-104, 89) if dtype == np.float32 else (-746, 710)
    x = spread(dtype, *bounds, rng)
    with np.errstate(all="ignore"):
        true = truth(np.exp, x)
    assert ulps(applied(elementary.exp, x), true).max() <= 1.0  # 0.97 was the most that was seen


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exp_at_its_ends(dtype: np.dtype[Any]) -> None:
    x = np.array([0.0, -0.0, -np.inf, -1e30, np.inf, 1e30, np.nan, 1e-40, -1e-40], dtype)
    got = applied(elementary.exp, x)
    assert_same(got, np.array([1, 1, 0, 0, np.inf, np.inf, np.nan, 1, 1], dtype))
