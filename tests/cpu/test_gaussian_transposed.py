"""Gaussian operations on transposed arrays: Fortran order, and large strides in the mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.layout import STRIDED, TRANSPOSED, c_strides, plan
from tests.support.internals import set_cpu_limits
from tests.support.normals import expected
from tests.support.oracle import Array, assert_same, poisoned

KEY = fd.Key(2**63 + 11, 2**40 + 7)
DTYPES = [
    np.dtype(np.float32),
    *(
        pytest.param(np.dtype(d), marks=pytest.mark.slow)
        for d in (np.float16, ml_dtypes.bfloat16, np.float64)
    ),
]
# On both sides of a tile's rows and columns on any machine, and of the mask buffer's rows.
ROWS = 1, 11, 12, 16, 31, 32, 33, 64, 100, 513, 1025
COLUMNS = 1, 2, 7, 8, 9, 17, 24


def schedule_of(rows: int, columns: int) -> str:
    x = np.empty((rows, columns), np.float32, order="F")
    return plan(x.shape, x.strides, x.strides, c_strides(x.shape), transposed_from=12).schedule


def test_few_rows_are_strided_and_not_tiled() -> None:
    assert schedule_of(11, 100) == STRIDED
    assert schedule_of(12, 100) == schedule_of(1000, 2) == TRANSPOSED


@pytest.mark.parametrize("rows", ROWS)
def test_transposed_tiles_of_every_size(rows: int, rng: np.random.Generator) -> None:
    for columns in COLUMNS:
        x = rng.standard_normal((rows, columns)).astype(np.float32)
        laid = np.asfortranarray(x)
        for offset in (0, 3, 2**35 - 4 * columns, 2**63 - x.size):
            got = fd.gaussian_noise(laid, 0.3, rng=KEY, offset=offset)
            assert got.flags.f_contiguous
            want = expected("plus", x, 0.3, KEY, offset=offset)
            assert_same(np.ascontiguousarray(got), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_and_strides(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = rng.standard_normal((70, 26)).astype(dtype)
    want = expected("plus", x, 0.3, KEY, offset=5)
    apart = np.repeat(x.T, 2, 1)[:, ::2].T
    backwards = np.ascontiguousarray(x[::-1, ::-1].T).T[::-1, ::-1]
    for laid in (np.asfortranarray(x), apart, backwards):
        assert_same(laid, x)
        for out in (None, poisoned((26, 70), dtype).T, poisoned((26, 140), dtype).T[::2]):
            got = fd.gaussian_noise(laid, 0.3, rng=KEY, offset=5, out=out)
            assert_same(np.ascontiguousarray(got), want)


def test_many_axes_and_shards(rng: np.random.Generator) -> None:
    x = rng.standard_normal((33, 4, 5, 6)).astype(np.float32)
    where: dict[str, Any] = {"offset": (7, 0, 1, 2**20), "global_shape": (50, 5, 7, 2**33)}
    for order in ((3, 2, 1, 0), (3, 0, 2, 1), (1, 3, 0, 2)):
        laid = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        got = fd.gaussian_noise(laid, 0.3, rng=KEY, **where)
        assert got.strides == laid.strides
        assert_same(np.ascontiguousarray(got), expected("plus", x, 0.3, KEY, **where))


@pytest.mark.parametrize("noise_shape", [(None, 1, None), (1, None, None), (None, None, 1)])
def test_normal_numbers_shared_by_a_noise_shape(noise_shape: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((45, 9, 20)).astype(np.float32)
    want = expected("plus", x, 0.3, KEY, noise_shape=noise_shape)
    for laid in (np.asfortranarray(x), np.ascontiguousarray(x.transpose(1, 0, 2)).swapaxes(0, 1)):
        got = fd.gaussian_noise(laid, 0.3, rng=KEY, noise_shape=noise_shape)
        assert_same(np.ascontiguousarray(got), want)


def test_threads_change_no_bit(
    set_threads: Callable[[int], None], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 12)
    for shape in ((700, 100), (20, 3001), (40, 7, 50)):
        x: Array = rng.standard_normal(shape).astype(np.float32)
        want = expected("plus", x, 0.3, KEY)
        for threads in (1, 2, 5):
            set_threads(threads)
            got = fd.gaussian_noise(np.asfortranarray(x), 0.3, rng=KEY)
            assert_same(np.ascontiguousarray(got), want)
