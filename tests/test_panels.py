"""Panels of many rows, whose strips begin where cache lines of the output do."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd

from .oracle import POISON, Array, applied, assert_same, filled, key_from, mask

LINE = 64


def columns_at(
    by: int, rows: int, columns: int, dtype: np.dtype[Any], pad: int
) -> tuple[Array, Array]:
    """A poisoned array whose columns all begin `by` bytes behind a line, and its memory.

    Columns are `pad` lines apart, or a little more.
    """
    apart = -(-(by + rows * dtype.itemsize) // LINE) * LINE + pad * LINE
    memory = np.full(columns * apart + 2 * LINE, POISON, np.uint8)
    begin = -memory.__array_interface__["data"][0] % LINE
    laid = np.ndarray((rows, columns), dtype, memory, begin + by, (dtype.itemsize, apart))
    return laid, memory


def assert_alone_written(laid: Array, memory: Array) -> None:
    """All around an array is as it was."""
    size = laid.dtype.itemsize
    laid.view(f"V{size}")[...] = np.void(bytes([POISON]) * size)
    assert (memory == POISON).all()


# Kernels for each take a compiler some seconds.
DTYPES = [
    np.dtype(np.float32),
    *(
        pytest.param(np.dtype(d), marks=pytest.mark.slow)
        for d in (np.float16, ml_dtypes.bfloat16, np.float64)
    ),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [1023, 1024, 1040, 1111])
def test_strips_begin_with_lines(rows: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    key, p = key_from(rng), 0.3
    for columns in (3, 8, 17, 24):
        for by in (0, dtype.itemsize, 16, LINE - dtype.itemsize, 5):
            offset = int(rng.choice([0, 3, 2**35 - 40, 2**63 - rows * columns]))
            x, around = columns_at(int(rng.choice([0, 16, by])), rows, columns, dtype, 1)
            x[...] = rng.standard_normal((rows, columns)).astype(dtype)
            want = applied(mask(x.shape, p, key, offset=offset), x, 1.5)
            out, memory = columns_at(by, rows, columns, dtype, 0)
            fd.dropout(x, p, rng=key, scale=1.5, offset=offset, out=out)
            assert_same(np.ascontiguousarray(out), np.ascontiguousarray(want))
            assert_alone_written(out, memory)
            fd.dropout(x, p, rng=key, scale=1.5, offset=offset, out=x)
            assert_same(np.ascontiguousarray(x), np.ascontiguousarray(want))
            assert_alone_written(x, around)


@pytest.mark.parametrize(
    "kind", ["u1", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("i2", "c16"))]
)
def test_fills_and_marks(kind: str, rng: np.random.Generator) -> None:
    dtype, key = np.dtype(kind), key_from(rng)
    for rows, columns in ((1024, 8), (1100, 19)):
        for by in (0, dtype.itemsize, LINE - dtype.itemsize):
            x, _ = columns_at(0, rows, columns, dtype, 1)
            x[...] = rng.integers(0, 100, (rows, columns))
            out, memory = columns_at(by, rows, columns, dtype, 0)
            fd.masked_fill(x, 0.4, 7, rng=key, out=out)
            assert_same(np.ascontiguousarray(out), filled(x, 0.4, 7, key))
            assert_alone_written(out, memory)
            marks, memory = columns_at(by, rows, columns, np.dtype(bool), 0)
            fd.dropout_mask(x.shape, 0.4, rng=key, out=marks)
            assert_same(np.ascontiguousarray(marks), mask(x.shape, 0.4, key))
            assert_alone_written(marks, memory)
