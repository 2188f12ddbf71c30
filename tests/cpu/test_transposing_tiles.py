"""Transposed copies: `x.T` into C order, and C order into the transpose of an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.host.catalogue import operation
from fastdrop_kernels.cpu.host.schedule import layout_of
from fastdrop_kernels.cpu.loops import tile_transpose
from fastdrop_kernels.layout import STRIDED, TILED, TRANSPOSED
from tests.support.internals import set_cpu_limits
from tests.support.normals import expected
from tests.support.oracle import POISON, Array, applied, assert_same, filled, key_from, mask
from tests.support.subprocesses import Process, assert_succeeds

P, FACTOR = 0.3, 1.5
LINE_BYTES = 64
# On both sides of a block's rows and columns on any machine, of a line, and of a tile.
ROWS = 16, 17, 33, 64, 70, 130
COLUMNS = 16, 31, 64, 65, 128, 129, 256, 257, 300, 513


def placed(shape: tuple[int, int], dtype: np.dtype[Any], by: int, pad: int) -> tuple[Array, Array]:
    """A poisoned array in C order, `by` bytes behind a line, and the memory that it lies in."""
    rows, columns = shape
    apart = columns * dtype.itemsize + pad
    memory = np.full(rows * apart + 3 * LINE_BYTES, POISON, np.uint8)
    begin = -memory.__array_interface__["data"][0] % LINE_BYTES + LINE_BYTES
    return np.ndarray(shape, dtype, memory, begin + by, (apart, dtype.itemsize)), memory


def assert_only_written(laid: Array, memory: Array) -> None:
    laid.view(f"V{laid.dtype.itemsize}")[...] = np.void(bytes([POISON]) * laid.dtype.itemsize)
    assert (memory == POISON).all()


def schedule_of(x: Array, y: Array, index_strides: tuple[int, ...] | None = None) -> str:
    tiled = operation("drop", x.dtype)
    return layout_of(tiled, x.shape, x.strides, y.strides, index_strides, 1 << 31).schedule


def test_which_arrays_go_by_tiles() -> None:
    c, t = np.empty((80, 90), np.float32), np.empty((90, 80), np.float32).T
    assert schedule_of(t, c) == schedule_of(c, t) == TILED
    assert schedule_of(t, t) == TRANSPOSED
    assert schedule_of(t[:15], c[:15]) == STRIDED  # too few rows
    assert schedule_of(t[:, ::2], c[:, ::2]) == STRIDED
    assert schedule_of(t, c, (0, 1)) != TILED  # rows share their decisions
    narrow, wide = np.empty((1000, 40), np.float32), np.empty((40, 1000), np.float32).T
    assert schedule_of(wide, narrow) == TILED
    assert (
        schedule_of(wide, narrow, (1000, 1)) == TRANSPOSED
    )  # most of what rows draw would be lost
    assert not tile_transpose.tiled_bytes(operation("mark"))


@pytest.mark.parametrize("rows", ROWS)
def test_tiles_of_every_size(rows: int, rng: np.random.Generator) -> None:
    dtype, key = np.dtype(np.float32), key_from(rng)
    for columns in COLUMNS:
        for offset in (0, 5, 2**35 - rows * columns // 2):
            x = rng.standard_normal((rows, columns)).astype(dtype)
            want = applied(mask(x.shape, P, key, offset=offset), x, FACTOR)
            by = int(rng.choice([0, 4, 16, LINE_BYTES - 4, 5]))
            pad = int(rng.choice([0, 4, LINE_BYTES]))
            turned, _ = placed((columns, rows), dtype, by, pad)
            turned[...] = x.T
            out, memory = placed((rows, columns), dtype, by, pad)
            fd.dropout(turned.T, P, rng=key, scale=FACTOR, offset=offset, out=out)
            assert_same(out, want)
            assert_only_written(out, memory)
            out, memory = placed((columns, rows), dtype, by, pad)
            fd.dropout(x, P, rng=key, scale=FACTOR, offset=offset, out=out.T)
            assert_same(np.ascontiguousarray(out.T), want)
            assert_only_written(out, memory)


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f8"])
def test_element_sizes(kind: str, rng: np.random.Generator) -> None:
    key = key_from(rng)
    for shape in ((70, 300), (64, 64), (200, 130)):
        x = rng.integers(0, 100, shape).astype(kind)
        want = filled(x, 0.4, 7, key)
        assert_same(fd.masked_fill(np.asfortranarray(x), 0.4, 7, rng=key, out=x.copy()), want)
        out = np.full(shape[::-1], 99, kind).T
        assert_same(np.ascontiguousarray(fd.masked_fill(x, 0.4, 7, rng=key, out=out)), want)


def test_normal_numbers(rng: np.random.Generator) -> None:
    key, x = fd.Key(3, 4), rng.standard_normal((70, 140)).astype(np.float32)
    want = expected("plus", x, 0.3, key)
    assert_same(fd.gaussian_noise(np.asfortranarray(x), 0.3, rng=key, out=x.copy()), want)
    out = np.empty((140, 70), np.float32).T
    assert_same(np.ascontiguousarray(fd.gaussian_noise(x, 0.3, rng=key, out=out)), want)


def test_axes_around_tiles_and_shards(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 40, 2, 80)).astype(np.float32)
    where: dict[str, Any] = {"offset": (7, 0, 1, 2**20), "global_shape": (50, 41, 7, 2**33)}
    key = key_from(rng)
    want = applied(mask(x.shape, P, key, **where), x, FACTOR)
    for order in ((3, 0, 2, 1), (0, 2, 3, 1), (0, 3, 2, 1)):
        turned = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        for given, out in ((turned, np.empty_like(x)), (x, np.empty_like(turned))):
            assert schedule_of(given, out, (41 * 7 * 2**33, 7 * 2**33, 2**33, 1)) == TILED
            fd.dropout(given, P, rng=key, scale=FACTOR, out=out, **where)
            assert_same(np.ascontiguousarray(out), want)


@pytest.mark.parametrize("shape", [(700, 300), (40, 3001), (3001, 40)], ids=str)
def test_threads_change_no_bit(
    shape: tuple[int, int],
    set_threads: Callable[[int], None],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 12)
    key, x = key_from(rng), rng.standard_normal(shape).astype(np.float32)
    want = applied(mask(shape, P, key), x, FACTOR)
    for threads in (1, 2, 5):
        set_threads(threads)
        out = np.full(shape, np.nan, np.float32)
        fd.dropout(np.asfortranarray(x), P, rng=key, scale=FACTOR, out=out)
        assert_same(out, want)
        turned = np.full(shape[::-1], np.nan, np.float32).T
        fd.dropout(x, P, rng=key, scale=FACTOR, out=turned)
        assert_same(np.ascontiguousarray(turned), want)


@pytest.mark.slow
def test_a_small_stack_is_enough() -> None:
    """Of a thread whose user gave it 64 KiB, where two tiles are in buffers."""
    code = """
import threading
import numpy as np
import fastdrop as fd

fd.set_num_threads(1)
x = np.ones((600, 700))


def dropped():
    out = np.empty((700, 600)).T
    fd.dropout(x, 0.3, rng=3, out=out)
    return fd.dropout(np.asfortranarray(x), 0.3, rng=3, out=np.empty_like(x)), out


want = dropped()  # compiles, which takes more
threading.stack_size(64 << 10)
got = []
thread = threading.Thread(target=lambda: got.extend(dropped()))
thread.start()
thread.join()
assert len(got) == 2 and np.array_equal(got, want)
"""
    assert_succeeds(Process(["-c", code], {}).finish())
