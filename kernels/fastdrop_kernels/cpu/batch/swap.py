"""Elements of a table that take the values of other rows of their columns.

`fastdrop._batch.swap` calls `swap`. Tiles of rows and columns are drawn and moved one after the
other: which elements are kept, and the rows that the others take, are in the L1 cache when values
are gathered. `permutations` sorts the rows where each column has a permutation.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ... import contract
from ...rows import Rows, pieces
from ...shielded import shielded
from ...threads import thread_count
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    copy_bytes,
    intrinsic,
    scratch,
    wide_vectors,
)
from ..codegen.vectors import I32, I64, Lanes, load, select, store
from ..elements.sampler import POINTER, U64, load32, load64, store8, store64
from ..host.catalogue import operation
from ..loops.contiguous import CACHED, contiguous_loop
from ..loops.loop_nest import Kernel
from .draws import SECOND_DRAW, call_state, set_coefficients, set_key, uniform_below, uniforms
from .permutations import permutations, prepare_permutations, sort_memory, store32
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at
from .swap_moves import PLACES_BYTES, TILE, VECTOR, locator, mover, taker

_WIDTH = 256  # the most columns of a tile where each column is contiguous
_DRAWN = 4096  # at most, elements of whole rows that are drawn for some of their columns
_PIECE = 1 << 14  # elements of a unit of work, where columns have permutations
# Permutations of so many bytes are made at once, or half of all. 100,000 rows of 64 float32 take,
# ms on one thread and two, so and of all columns at once: into a new array 23.5 and 13.3 (24 and
# 16, much of it for memory that the system provides), into one that is there 24 and 13.8 (21 and
# 11.9), with contiguous columns 24 and 13 (27 and 19; Zen 5, December 2026).
_ORDER_BYTES, _MOST_PARTS = 1 << 24, 2
_REJECTED = 0xFFFFFFFF  # in the place of a row that has to be drawn once more
_COST = 8.0  # relative to dropout (Zen 5, November 2026)
_ZERO, _ONE, _TWO, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 4, 8))
_ALL = np.uint64(contract.ALWAYS)
_PLACES = np.uint64(PLACES_BYTES)

# The kernel's arrays and words. Strides are those of rows and columns.
_X, _SOURCE, _Y, _MASK, _CHOSEN = (np.uint64(k) for k in range(5))
_COLUMNS, _LENGTH, _THRESHOLD, _SOURCES, _LEAST = (np.uint64(k) for k in range(5))
_X_ROW, _X_COLUMN, _SOURCE_ROW, _SOURCE_COLUMN, _Y_ROW, _Y_COLUMN = (
    np.uint64(k) for k in range(5, 11)
)
_HAS_MASK, _IS_CHOSEN, _IS_ACROSS, _PITCH, _FROM = (np.uint64(k) for k in range(11, 16))


def memory(rows: int, columns: int) -> list[tuple[tuple[int, int], str]]:
    """Return shapes and dtypes of the arrays that `swap` needs for permutations.

    That is room for the orders of some columns at a time, as threads share the columns' sorts.
    """
    parts = min(-(-4 * rows * columns // _ORDER_BYTES), _MOST_PARTS)
    at_once = max(-(-columns // parts), thread_count())
    return [((min(at_once, columns), rows), "uint32")]


def swap(
    y: Array,
    rows: Rows,
    seed: int,
    stream: int,
    x: Array,
    source: Array,
    threshold: int,
    mask: Array | None,
    own: tuple[Array, ...],
) -> RowsCall | list[RowsCall] | None:
    """Write x to y, and where an element is dropped, another row of its column in `source`.

    All tables have two axes, and any strides. The mask, of bool and in C order, says which elements
    are kept. Rows are drawn with replacement, or with memory of its `own` (see `memory`), as a
    permutation of each column, for as many columns at once as have room there.
    """
    columns, sources = y.shape[1], len(source)
    if not own:
        tables = y, x, source
        return _swap_columns(tables, rows, seed, stream, threshold, mask, None, columns, 0)
    (orders,) = own
    ready: list[Array] = []
    if len(orders) < columns:  # before the first columns are written, all memory is there
        ready = [np.empty(sort_memory(sources), np.uint64) for _ in range(thread_count())]
    for first in range(0, columns, len(orders)):
        part = slice(first, min(first + len(orders), columns))
        width = part.stop - first
        made = [permutations(orders[:width], seed, stream, first * sources, ready)]
        length = max(1, _PIECE // width)
        units = pieces(sources * width, rows.first, length * width)._replace(step=length * columns)
        tables = y[:, part], x[:, part], source[:, part]
        made += [
            _swap_columns(tables, units, seed, stream, threshold, mask, orders, columns, first)
        ]
    return [call for call in made if call] if len(orders) == columns else None


def _swap_columns(
    tables: tuple[Array, Array, Array],
    rows: Rows,
    seed: int,
    stream: int,
    threshold: int,
    mask: Array | None,
    orders: Array | None,
    pitch: int,
    first: int,
) -> RowsCall | None:
    """Do the same for columns from `first` on, in a table and a mask of `pitch` columns."""
    y, x, source = tables
    columns, sources = y.shape[1], len(source)
    words = [columns, rows.length, threshold, sources, int(contract.rejected_below(sources))]
    words += [*x.strides, *source.strides, *y.strides, mask is not None, orders is not None]
    words.append(columns < VECTOR or abs(y.strides[1]) > abs(y.strides[0]))
    words += [pitch, first]
    arrays = x, source, y, y if mask is None else mask, y if orders is None else orders
    return run_rows(_kernel(y.itemsize), rows, arrays, seed, stream, words, _COST)


def prepare(dtype: np.dtype[Any]) -> None:
    """Compile all that `swap` needs for a dtype, or load it from the cache."""
    _kernel(dtype.itemsize)
    prepare_permutations()


@functools.cache
@shielded
def _kernel(size: int) -> Kernel:
    """Kernel of `swap` for elements of a size. A unit of work is whole rows, or a part of one."""
    draw, locate, move, take = _drawer(), locator(), mover(size), taker()
    keep_memory, chosen_memory = scratch(TILE + VECTOR), scratch(4 * (TILE + VECTOR))
    drawn_memory, drawn_at_once = scratch(_DRAWN + VECTOR), np.uint64(_DRAWN)
    place_memory, offset_memory = scratch(2 * PLACES_BYTES), scratch(2 * PLACES_BYTES)
    tile, narrow = np.uint64(TILE), np.uint64(_WIDTH)

    def unit(
        arrays: Any,
        words: Any,
        own: Any,
        r: Any,
        length: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        call, keep, chosen, drawn = call_state(), keep_memory(), chosen_memory(), drawn_memory()
        memory, offsets = place_memory(), offset_memory()
        set_key(call, seed, stream)
        set_coefficients(call, word_at(words, _THRESHOLD), _ZERO)
        columns, sources = word_at(words, _COLUMNS), word_at(words, _SOURCES)
        x_row, x_column = word_at(words, _X_ROW), word_at(words, _X_COLUMN)
        s_row, s_column = word_at(words, _SOURCE_ROW), word_at(words, _SOURCE_COLUMN)
        y_row, y_column = word_at(words, _Y_ROW), word_at(words, _Y_COLUMN)
        begin = r * word_at(words, _LENGTH)
        top, left = begin // columns, begin % columns
        width = min(columns, length)
        height = length // width
        is_across = word_at(words, _IS_ACROSS) and height > _ONE
        most = min(width, narrow if is_across else tile)
        pitch, from_column = word_at(words, _PITCH), word_at(words, _FROM)
        # Whole rows may be drawn for a part of their columns if these have permutations.
        most_drawn = drawn_at_once if word_at(words, _IS_CHOSEN) else _ZERO
        at_once = drawn_at_once // pitch
        ready = _ZERO  # the width of which there are offsets
        # A tile is moved when the next one has been drawn, whose elements are prefetched meanwhile.
        number, before, its_y, its_h, its_w = _ZERO, memory, _ZERO, _ZERO, _ZERO
        for down in range(_ZERO, height, tile // most):
            h = min(tile // most, height - down)
            for right in range(_ZERO, width, most):
                w = min(most, width - right)
                row, column = top + down, left + right
                mask = advance(array_at(arrays, _MASK), row * pitch + from_column + column)
                at = index + down * pitch + from_column + right
                runs, n = (_ONE, h * w) if w == pitch else (h, w)
                if w < pitch and pitch <= min(most_drawn, _EIGHT * w):
                    # Whole rows, for that takes less time than the groups of each row's part.
                    begin = from_column + right
                    for t in range(_ZERO, h, at_once):
                        m = min(at_once, h - t)
                        draw(drawn, chosen, m * pitch, words, seed, stream, at - begin, call)
                        at += m * pitch
                        for u in range(_ZERO, m):
                            part = advance(drawn, u * pitch + begin)
                            _copy_words(advance(keep, (t + u) * w), part, w)
                else:
                    for t in range(_ZERO, runs):
                        there, rows = advance(keep, t * w), advance(chosen, _FOUR * t * w)
                        draw(there, rows, n, words, seed, stream, at + t * pitch, call)
                if word_at(words, _HAS_MASK):
                    for t in range(_ZERO, runs):
                        copy_bytes(advance(mask, t * pitch), advance(keep, t * w), n)
                if word_at(words, _IS_CHOSEN):
                    rows = advance(array_at(arrays, _CHOSEN), _FOUR * (column * sources + row))
                    take(chosen, rows, sources, h, w, down // h)
                if ready != w:
                    ready = w
                    for t in range(_ZERO, h):
                        for c in range(_ZERO, w):
                            pair = (t * w + c) * _EIGHT
                            store64(offsets, pair, t * x_row + c * x_column)
                            store64(offsets, pair + _PLACES, c * s_column)
                x = address_of(array_at(arrays, _X)) + row * x_row + column * x_column
                source = address_of(array_at(arrays, _SOURCE)) + column * s_column
                places = advance(memory, number % _TWO * _PLACES)
                locate(places, offsets, keep, chosen, h * w, x, source, s_row)
                move(its_y, before, its_h, its_w, is_across, y_row, y_column, places, h * w)
                its_y = address_of(array_at(arrays, _Y)) + row * y_row + column * y_column
                its_h, its_w, before = h, w, places
                number += _ONE
        move(its_y, before, its_h, its_w, is_across, y_row, y_column, before, _ZERO)

    return row_kernel(f"swap-{size}", unit)


@device
def _copy_words(target: Any, source: Any, n: Any) -> None:
    """Copy n bytes, and up to 7 behind them."""
    for k in range(_ZERO, n, _EIGHT):
        store64(target, k, load64(source, k))


@functools.cache
@shielded
def _drawer() -> Any:
    """Routine ``(keep, chosen, n, words, seed, stream, index, call)``: draw n elements.

    Writes whether they are kept, and unless rows are chosen otherwise, which they take.
    """
    mark, draw, choose = contiguous_loop(operation("mark"), CACHED), uniforms(), _chooser()
    again, vector, rejected = uniform_below(), np.uint64(VECTOR), np.uint64(_REJECTED)

    def run(
        keep: Any, chosen: Any, n: Any, words: Any, seed: Any, stream: Any, index: Any, call: Any
    ) -> None:
        threshold = word_at(words, _THRESHOLD)
        if threshold == _ZERO or threshold == _ALL:  # nothing is drawn
            for k in range(_ZERO, n):
                store8(keep, k, types.uint8(threshold == _ZERO))
        else:
            mark(keep, keep, n, index, call)
        if not word_at(words, _IS_CHOSEN):
            rows = word_at(words, _SOURCES)
            draw(chosen, chosen, n, index + SECOND_DRAW, call)
            vectors = (n + vector - _ONE) // vector
            if choose(chosen, vectors, rows, word_at(words, _LEAST)):
                for k in range(_ZERO, n):
                    if np.uint64(load32(chosen, _FOUR * k)) == rejected:
                        row = again(seed, stream, index + k, _ONE, rows)
                        store32(chosen, _FOUR * k, types.uint32(row))

    signature = types.void(POINTER, POINTER, U64, POINTER, U64, U64, U64, POINTER)
    return routine("swap-draw", run, signature)


@functools.cache
@shielded
def _chooser() -> Any:
    """Routine ``(memory, vectors, n, least) -> any``: uniforms become rows below n, in place.

    Uniforms that must be rejected (see `contract.uniform_below`), if there are any, become
    `_REJECTED`.
    """

    @intrinsic
    def choose(typingctx: Any, memory: Any, vectors: Any, n: Any, least: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory, vectors, n, least = args
            factor = Lanes(builder, n).broadcast(VECTOR)
            smallest = Lanes(builder, least).convert(I32).broadcast(VECTOR)
            zeros = Lanes(builder, ir.Constant(ir.VectorType(I32, VECTOR), None))
            found = cgutils.alloca_once_value(builder, zeros.value)
            with cgutils.for_range(builder, vectors) as loop:
                place = builder.mul(loop.index, ir.Constant(I64, 4 * VECTOR))
                here = builder.gep(memory, [place])
                product = load(builder, here, 0, I32, VECTOR).convert(I64) * factor
                wrong = product.convert(I32) < smallest
                row = (product >> 32).convert(I32)
                store(select(wrong, ~zeros, row), here, 0)
                before = Lanes(builder, builder.load(found))
                builder.store((before | select(wrong, ~zeros, zeros)).value, found)
            bits = Lanes(builder, builder.load(found)).as_integer()
            is_any = builder.icmp_unsigned("!=", bits.value, ir.Constant(bits.value.type, 0))
            return builder.zext(is_any, I64)

        return U64(POINTER, U64, U64, U64), codegen

    def run(memory: Any, vectors: Any, n: Any, least: Any) -> Any:
        wide_vectors()
        return choose(memory, vectors, n, least)

    return routine("swap-choose", run, U64(POINTER, U64, U64, U64))
