"""Fortran order: tiles in flight, the micro-tiles that are left where these end, and around."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.host.schedule import split_axis
from fastdrop_kernels.cpu.loops.transposed import SEGMENT_ROWS
from fastdrop_kernels.layout import TRANSPOSED
from tests.support.internals import set_cpu_limits
from tests.support.normals import uniforms
from tests.support.oracle import POISON, Array, applied, assert_same, filled, key_from, mask
from tests.support.subprocesses import Process, assert_succeeds

STRIDED = 64


def columns_at(
    by: int, rows: int, columns: int, dtype: np.dtype[Any], pad: int
) -> tuple[Array, Array]:
    """A poisoned array whose columns all begin `by` bytes behind a line, and its memory.

    Columns are `pad` lines apart, or a little more.
    """
    apart = -(-(by + rows * dtype.itemsize) // STRIDED) * STRIDED + pad * STRIDED
    memory = np.full(columns * apart + 2 * STRIDED, POISON, np.uint8)
    begin = -memory.__array_interface__["data"][0] % STRIDED
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


# No tile; one segment; with rows that micro-tiles take, a few and whole ones; with a last segment
# that begins further back; some segments; and bands of several tiles.
ROWS = (
    SEGMENT_ROWS - 5,
    SEGMENT_ROWS,
    SEGMENT_ROWS + 5,
    2 * SEGMENT_ROWS - 3,
    2 * SEGMENT_ROWS - SEGMENT_ROWS // 4,
    2 * SEGMENT_ROWS + SEGMENT_ROWS // 4 - 1,
    4 * SEGMENT_ROWS,
    4 * SEGMENT_ROWS + 9,
    8 * SEGMENT_ROWS + 1,
    9 * SEGMENT_ROWS - 1,
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", ROWS)
def test_rectangles_of_every_height(
    rows: int, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    key, p = key_from(rng), 0.3
    for columns in (3, 8, 17, 24, 64):
        whole = columns % 8 == 0
        near, far = (0, 2**35 - 8 * (rows // 2)) if whole else (3, 2**35 - rows * columns // 2)
        for offset in (near, far, 2**63 - 2**20):
            by = int(rng.choice([0, dtype.itemsize, 16, STRIDED - dtype.itemsize, 5]))
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["u1", "i2", "c16"])
def test_fills_and_marks(kind: str, rng: np.random.Generator) -> None:
    dtype, key = np.dtype(kind), key_from(rng)
    for rows, columns in (
        (SEGMENT_ROWS, 8),
        (2 * SEGMENT_ROWS - 9, 24),
        (4 * SEGMENT_ROWS + 76, 19),
    ):
        for by in (0, dtype.itemsize, STRIDED - dtype.itemsize):
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


@pytest.mark.parametrize("columns", [24, 27])
def test_ties_in_tiles(columns: int, rng: np.random.Generator) -> None:
    """Level 1 decides on an element: between two thresholds, one more, it alone changes."""
    key, rows = key_from(rng), 2 * SEGMENT_ROWS - 5
    x = np.ones((rows, columns), np.float32, order="F")
    for _ in range(40):
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        index = np.array([row * columns + column], np.uint64)
        u = int(uniforms(index, key)[0])
        kept, dropped = (fd.dropout(x, t / 2**32, rng=key, scale=1.0) for t in (u, u + 1))
        assert kept[row, column] == 1 and dropped[row, column] == 0
        assert_same(kept, mask(x.shape, u / 2**32, key).astype(np.float32))
        assert np.count_nonzero(kept != dropped) == np.count_nonzero(
            mask(x.shape, u / 2**32, key) != mask(x.shape, (u + 1) / 2**32, key)
        )


def test_steps_back_through_the_mask(rng: np.random.Generator) -> None:
    """Columns and rows that are gone through from the last to the first."""
    key, p = key_from(rng), 0.3
    x = rng.standard_normal((2 * SEGMENT_ROWS, 40)).astype(np.float32)
    want = applied(mask(x.shape, p, key), x, 2.0)
    for rows in (slice(None), slice(None, None, -1)):
        for columns in (slice(None), slice(None, None, -1)):
            turned = np.asfortranarray(x[rows, columns])[rows, columns]
            assert_same(fd.dropout(turned, p, rng=key, scale=2.0), want)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(2 * SEGMENT_ROWS - 9, 1000), (3000, 700), (80 * SEGMENT_ROWS, 40)], ids=str
)
def test_threads_share_rectangles(
    shape: tuple[int, int], threads: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 12)
    key, p, before = key_from(rng), 0.3, fd.get_num_threads()
    x = np.asfortranarray(rng.standard_normal(shape, np.float32))
    out = np.full(shape, np.nan, np.float32, order="F")
    try:
        fd.set_num_threads(threads)
        fd.dropout(x, p, rng=key, scale=2.0, out=out)
    finally:
        fd.set_num_threads(before)
    assert_same(out, applied(mask(shape, p, key), x, 2.0))


def test_parts_of_threads_have_tiles() -> None:
    """Threads share columns if there are enough for all, and else rows in whole segments."""
    threads = fd.get_num_threads()
    few = 2 * 64 * threads

    def split(columns: int, rows: int) -> tuple[int, int]:
        return split_axis([(columns, 0, 0, 0, 1), (rows, 0, 4, 4, columns)], TRANSPOSED, False)

    assert split(few, 10 * few) == (0, 64)
    assert split(few - 1, 2 * threads * SEGMENT_ROWS) == (1, SEGMENT_ROWS)
    assert split(few - 1, (2 * threads - 1) * SEGMENT_ROWS) == (0, 64)
    assert split(10 * few, few) == (0, 128)


@pytest.mark.slow
def test_alpha_dropout_in_tiles(rng: np.random.Generator) -> None:
    """Its three parameters are the same in either order."""
    key, x = key_from(rng), rng.standard_normal((3 * SEGMENT_ROWS - 20, 24), np.float32)
    want = fd.alpha_dropout(x, 0.2, rng=key)
    assert_same(fd.alpha_dropout(np.asfortranarray(x), 0.2, rng=key), want)


@pytest.mark.slow
def test_a_small_stack_is_enough() -> None:
    """Of a thread whose user gave it 64 KiB: a large rectangle of the largest elements."""
    code = """
import threading
import numpy as np
import fastdrop as fd

fd.set_num_threads(1)
x = np.ones((1100, 200), "c16", order="F")
want = fd.masked_fill(x, 0.3, 0, rng=3)  # compiles, which takes more
threading.stack_size(64 << 10)
got = []
thread = threading.Thread(target=lambda: got.append(fd.masked_fill(x, 0.3, 0, rng=3)))
thread.start()
thread.join()
assert np.array_equal(got[0], want)
"""
    assert_succeeds(Process(["-c", code], {}).finish())
