"""Masks that keep exactly k elements of each row, and the positions of the kept and dropped ones.

`fastdrop._batch.keep` calls `keep_k`. The uniforms of some rows are drawn to memory of the thread;
`selection` chooses among those of each row. Rows along an axis other than the last are gathered,
and their masks scattered, some adjacent rows at a time.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from ...rows import Along, Rows, divided
from ...shielded import shielded
from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, storer
from ..elements.sampler import POINTER, U64, load8, load32, load64, store8, store64
from ..loops.loop_nest import Kernel
from .counting import SLACK
from .draws import call_state, set_key, uniforms
from .positions import order
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at
from .selection import choose, prepare_row, row_state, set_row

_TILE = 4096  # uniforms that are drawn at once, if rows are short: 16 KiB, in the L1 cache
_COLUMNS_TILE = 1 << 16  # the same for adjacent rows along another axis: 256 KiB, in the L2 cache
_LEAST_COLUMNS, _MOST_COLUMNS = 16, 1024
_COST = 6.0  # relative to dropout (1,024 rows of 196, Zen 5, November 2026)

_ZERO, _ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX, _SEVEN, _EIGHT = (np.uint64(n) for n in range(9))
_SLACK = np.uint64(SLACK)
_store32 = storer(types.uint32)


def keep_k(
    y: tuple[Array, ...],
    rows: Rows,
    seed: int,
    stream: int,
    along: Along,
    k: npt.NDArray[np.uint64],
) -> RowsCall | None:
    """Write masks that keep k elements of each row, and if asked for, positions.

    Parameters
    ----------
    y : tuple of ndarray
        The mask; or mask, kept and dropped positions, and the order that restores.
    rows : Rows
        Runs of rows, see `Along`.
    seed, stream : int
        The key.
    along : Along
        How rows lie in the runs.
    k : ndarray of uint64, 1-D
        One for all rows, or for each in C order.
    """
    n, has_order = along.n, len(y) > 1
    if along.is_last:
        part = max(1, min(along.rows, _TILE // n))
        parts = -(-along.rows // part)
        units = divided(rows, parts, part * n, part * n)
        kernel, more, memory = _rows_kernel(), [], 4 * part * n + SLACK
    else:
        part = min(along.rows, _MOST_COLUMNS, max(_LEAST_COLUMNS, _COLUMNS_TILE // n))
        parts = -(-along.rows // part)
        units = divided(rows, parts, part, part * n)
        kernel, more = _columns_kernel(), [along.runs, along.step]
        memory = 4 * part * n + 4 * n + SLACK + n + 8 + (16 * n if has_order else 0)
    words = [n, along.rows, part, parts, int(k.size > 1), int(has_order), *more]
    own = -(-memory // 8), np.uint64
    arrays = (y[0], k, *y[1:])
    return run_rows(kernel, units, arrays, seed, stream, words, _COST, own)


def prepare(dtype: np.dtype[Any]) -> None:
    """Compile all that `keep_k` needs, for any dtype, or load it from the cache."""
    _rows_kernel()
    _columns_kernel()


@functools.cache
@shielded
def _rows_kernel() -> Kernel:
    """Kernel for the last axis.

    Words: elements of a row, rows of a run, rows of a part, parts of a run, whether each row has
    its own k, whether positions are wanted.
    """
    draw, choose_row, order_row = uniforms(), choose(), order()

    def part(
        arrays: Any, words: Any, own: Any, r: Any, length: Any, seed: Any, stream: Any, index: Any
    ) -> None:
        n, rows = word_at(words, _ZERO), word_at(words, _ONE)
        most, parts = word_at(words, _TWO), word_at(words, _THREE)
        own_k, has_order = word_at(words, _FOUR), word_at(words, _FIVE)
        begin = r % parts * most
        first, count = r // parts * rows + begin, min(most, rows - begin)
        call = call_state()
        set_key(call, seed, stream)
        draw(own, own, count * n, index, call)
        y, ks = advance(array_at(arrays, _ZERO), first * n), array_at(arrays, _ONE)
        state, k = row_state(), load64(ks, _ZERO)
        prepare_row(state, n, k)
        for i in range(count):
            if own_k:
                k = load64(ks, _EIGHT * (first + i))
                prepare_row(state, n, k)
            u = advance(own, _FOUR * i * n)
            set_row(state, seed, stream, index + i * n, _ONE)
            choose_row(u, n, k, y, state)
            if has_order:
                row = first + i
                kept = advance(array_at(arrays, _TWO), _EIGHT * row * k)
                dropped = advance(array_at(arrays, _THREE), _EIGHT * row * (n - k))
                restore = advance(array_at(arrays, _FOUR), _EIGHT * row * n)
                order_row(y, n, k, kept, dropped, restore)
            y = advance(y, n)

    return row_kernel("keep-k", part)


@functools.cache
@shielded
def _scatter() -> Any:
    """Routine ``(numbers, n, target, step)``: copy n numbers of 64 bits to places `step` apart."""

    def run(numbers: Any, n: Any, target: Any, step: Any) -> None:
        for j in range(n):
            store64(target, _EIGHT * j * step, load64(numbers, _EIGHT * j))

    return routine("scatter-positions", run, types.void(POINTER, U64, POINTER, U64))


@functools.cache
@shielded
def _columns_kernel() -> Kernel:
    """Kernel for other axes.

    Words: those of `_rows_kernel`; runs between elements of a row, and mask index step of a row.
    """
    draw, choose_row, order_row, scatter = uniforms(), choose(), order(), _scatter()

    def part(
        arrays: Any, words: Any, own: Any, r: Any, length: Any, seed: Any, stream: Any, index: Any
    ) -> None:
        n, rows = word_at(words, _ZERO), word_at(words, _ONE)
        most, parts = word_at(words, _TWO), word_at(words, _THREE)
        own_k, has_order = word_at(words, _FOUR), word_at(words, _FIVE)
        runs, step = word_at(words, _SIX), word_at(words, _SEVEN)
        run, begin = r // parts, r % parts * most
        width, stride = min(most, rows - begin), runs * rows
        outer, column = run // runs, run % runs * rows + begin
        # The numbers come first, where they are aligned; the uniforms of a row can be read beyond.
        numbers = own
        tile = advance(numbers, _EIGHT * (_TWO * n * has_order))
        u = advance(tile, _FOUR * n * most)
        marks = advance(u, _FOUR * n + _SLACK)
        call = call_state()
        set_key(call, seed, stream)
        if width == step:
            draw(tile, tile, n * width, index, call)
        else:
            for j in range(n):
                here = advance(tile, _FOUR * j * width)
                draw(here, here, width, index + j * step, call)
        ks = array_at(arrays, _ONE)
        state, k = row_state(), load64(ks, _ZERO)
        prepare_row(state, n, k)
        for i in range(width):
            for j in range(n):
                _store32(u, _FOUR * j, load32(tile, _FOUR * (j * width + i)))
            if own_k:
                k = load64(ks, _EIGHT * (outer * stride + column + i))
                prepare_row(state, n, k)
            set_row(state, seed, stream, index + i, step)
            choose_row(u, n, k, marks, state)
            y = advance(array_at(arrays, _ZERO), outer * n * stride + column + i)
            for j in range(n):
                store8(y, j * stride, load8(marks, j))
            if has_order:
                dropped, restore = advance(numbers, _EIGHT * k), advance(numbers, _EIGHT * n)
                order_row(marks, n, k, numbers, dropped, restore)
                at = column + i
                target = advance(array_at(arrays, _TWO), _EIGHT * (outer * k * stride + at))
                scatter(numbers, k, target, stride)
                target = advance(array_at(arrays, _THREE), _EIGHT * (outer * (n - k) * stride + at))
                scatter(dropped, n - k, target, stride)
                target = advance(array_at(arrays, _FOUR), _EIGHT * (outer * n * stride + at))
                scatter(restore, n, target, stride)

    return row_kernel("keep-k-columns", part)
