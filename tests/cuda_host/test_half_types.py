"""Numbers in CUDA C++, compiled for the host: the half types, what is no number, and rounding."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from fastdrop_kernels.cuda import driver, modules
from tests.support.cuda_host import host
from tests.support.cuda_host.cases import BFLOAT16, FLOATS, KEY, assert_same_numbers, kept_at
from tests.support.oracle import applied, poison, poisoned

pytestmark = pytest.mark.usefixtures("cuda_on_host")


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=str)
def test_all_half_numbers_are_computed_with_and_rounded_once(dtype: np.dtype[Any]) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    for factor in (1.0, 1.1, 3.0, 1e-3, 65504.0, -0.7):
        y = poisoned(every.shape, dtype)
        value = np.array(factor, np.float32)
        driver.apply(driver.dropping(dtype), every, y, 0, None, *KEY, 0, value)
        expected = applied(np.ones(every.shape, bool), every, factor)
        assert_same_numbers(y, expected)


def test_float16_is_rounded_to_nearest_even() -> None:
    library = host.library_of(modules.ADVANCE)
    library.float16_rounded.argtypes = library.bfloat16_rounded.argtypes = [ctypes.c_float]
    library.float16_rounded.restype = library.bfloat16_rounded.restype = ctypes.c_uint
    # Around all float16 numbers and the middles between them.
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)[::7]
    near = halves[np.isfinite(halves)].astype(np.float32)
    middles = (near[:-1] + near[1:]) / 2
    with np.errstate(over="ignore"):
        for x in (near, middles, np.nextafter(middles, np.float32(np.inf))):
            expected = x.astype(np.float16).view(np.uint16)
            assert [library.float16_rounded(v) for v in x.tolist()] == expected.tolist()
            bf16 = x.astype(BFLOAT16).view(np.uint16)
            assert [library.bfloat16_rounded(v) for v in x.tolist()] == bf16.tolist()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_and_infinity_vanish_where_dropped_and_stay_where_kept(dtype: np.dtype[Any]) -> None:
    for bad in (np.nan, np.inf, -np.inf, -0.0):
        for order in ("C", "F"):
            x = np.full((40, 41), bad, dtype, order=order)
            y = poison(np.empty_like(x))
            value = np.array(2, np.float64 if dtype == np.float64 else np.float32)
            driver.apply(driver.dropping(dtype), x, y, 0, None, *KEY, 1 << 31, value)
            expected = applied(kept_at({}, x.shape, 1 << 31), x, 2.0)
            assert_same_numbers(y, expected)
