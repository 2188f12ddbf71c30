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
from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    copy_bytes,
    intrinsic,
    loader,
    pointer_at,
    prefetch,
    scratch,
    storer,
    wide_vectors,
)
from ..codegen.vectors import I8, I32, I64, Lanes, load, select, store
from ..elements.sampler import POINTER, U64, load32, load64, store8, store64
from ..host.catalogue import operation
from ..loops.contiguous import CACHED, contiguous_loop
from ..loops.loop_nest import Kernel
from .draws import SECOND_DRAW, call_state, set_coefficients, set_key, uniform_below, uniforms
from .permutations import permutations, prepare_permutations, store32
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at

_TILE = 1024  # elements: 1 KiB says which are kept, 4 KiB the rows that they take
_WIDTH = 256  # the most columns of a tile where each column is contiguous
_VECTOR = 16  # uniforms that become rows at once
# Rows of permutations are prefetched for so many tiles at once, so that adjacent cache lines come
# together: 100,000 rows of 64 float32, p = 0.3, take 12 to 13 ms, with 4 tiles 13.5, with one 17.5,
# and 25 without prefetches (Zen 5, busy, November 2026).
_AHEAD = 8
_REJECTED = 0xFFFFFFFF  # in the place of a row that has to be drawn once more
_COST = 8.0  # relative to dropout (Zen 5, November 2026)
_ZERO, _ONE, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 4, 8))
_ALL = np.uint64(contract.ALWAYS)
_COLUMN_OFFSETS = np.uint64(8 * (_TILE + _VECTOR))  # behind those in x

# The kernel's arrays and words. Strides are those of rows and columns.
_X, _SOURCE, _Y, _MASK, _CHOSEN = (np.uint64(k) for k in range(5))
_COLUMNS, _LENGTH, _THRESHOLD, _SOURCES, _LEAST = (np.uint64(k) for k in range(5))
_X_ROW, _X_COLUMN, _SOURCE_ROW, _SOURCE_COLUMN, _Y_ROW, _Y_COLUMN = (
    np.uint64(k) for k in range(5, 11)
)
_HAS_MASK, _IS_CHOSEN, _IS_ACROSS = (np.uint64(k) for k in range(11, 14))
# The signature of `_mover`.
_MOVE = types.void(U64, U64, U64, POINTER, *[U64] * 4)


def memory(rows: int, columns: int) -> list[tuple[tuple[int, int], str]]:
    """Return shapes and dtypes of the arrays that `swap` needs for permutations."""
    return [((columns, rows), "uint32")]


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
) -> RowsCall | None:
    """Write x to y, and where an element is dropped, another row of its column in `source`.

    All tables have two axes, and any strides. The mask, of bool and in C order, says which elements
    are kept. Rows are drawn with replacement, or with memory of its `own` (see `memory`), as a
    permutation of each column.
    """
    if own:
        permutations(own[0], seed, stream)
    columns, sources = y.shape[1], len(source)
    words = [columns, rows.length, threshold, sources, int(contract.rejected_below(sources))]
    words += [*x.strides, *source.strides, *y.strides, mask is not None, bool(own)]
    words.append(columns < _VECTOR or abs(y.strides[1]) > abs(y.strides[0]))
    arrays = (x, source, y, y if mask is None else mask, *own)
    made = run_rows(_kernel(y.itemsize), rows, arrays, seed, stream, words, _COST)
    return None if own else made  # which are two calls


def prepare(dtype: np.dtype[Any]) -> None:
    """Compile all that `swap` needs for a dtype, or load it from the cache."""
    _kernel(dtype.itemsize)
    prepare_permutations()


@functools.cache
@shielded
def _kernel(size: int) -> Kernel:
    """Kernel of `swap` for elements of a size. A unit of work is whole rows, or a part of one."""
    draw, locate, move = _drawer(), _locator(), _mover(size)
    keep_memory, chosen_memory = scratch(_TILE + _VECTOR), scratch(4 * (_TILE + _VECTOR))
    place_memory, offset_memory = scratch(8 * (_TILE + _VECTOR)), scratch(16 * (_TILE + _VECTOR))
    tile, narrow, ahead = np.uint64(_TILE), np.uint64(_WIDTH), np.uint64(_AHEAD)

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
        call, keep, chosen = call_state(), keep_memory(), chosen_memory()
        places, offsets = place_memory(), offset_memory()
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
        ready = _ZERO  # the width of which there are offsets
        for down in range(_ZERO, height, tile // most):
            h = min(tile // most, height - down)
            for right in range(_ZERO, width, most):
                w = min(most, width - right)
                row, column = top + down, left + right
                at = index + down * width + right
                runs, n = (_ONE, h * w) if w == width else (h, w)
                for t in range(_ZERO, runs):
                    there, rows = advance(keep, t * w), advance(chosen, _FOUR * t * w)
                    draw(there, rows, n, words, seed, stream, at + t * width, call)
                if word_at(words, _HAS_MASK):
                    mask = advance(array_at(arrays, _MASK), row * columns + column)
                    for t in range(_ZERO, runs):
                        copy_bytes(advance(mask, t * columns), advance(keep, t * w), n)
                if word_at(words, _IS_CHOSEN):
                    given = array_at(arrays, _CHOSEN)
                    for c in range(_ZERO, w):
                        rows = advance(given, _FOUR * ((column + c) * sources + row))
                        if down // h % ahead == _ZERO:
                            for later in range(_ONE, ahead + _ONE):
                                _prefetch(address_of(rows) + later * _FOUR * h)
                        for t in range(_ZERO, h):
                            store32(chosen, _FOUR * (t * w + c), load32(rows, _FOUR * t))
                if ready != w:
                    ready = w
                    for t in range(_ZERO, h):
                        for c in range(_ZERO, w):
                            pair = (t * w + c) * _EIGHT
                            store64(offsets, pair, t * x_row + c * x_column)
                            store64(offsets, pair + _COLUMN_OFFSETS, c * s_column)
                x = address_of(array_at(arrays, _X)) + row * x_row + column * x_column
                source = address_of(array_at(arrays, _SOURCE)) + column * s_column
                locate(places, offsets, keep, chosen, h * w, x, source, s_row)
                y = address_of(array_at(arrays, _Y)) + row * y_row + column * y_column
                if is_across:
                    move(y, y_column, y_row, places, _EIGHT, _EIGHT * w, w, h)
                else:
                    move(y, y_row, y_column, places, _EIGHT * w, _EIGHT, h, w)

    return row_kernel(f"swap-{size}", unit)


@functools.cache
@shielded
def _drawer() -> Any:
    """Routine ``(keep, chosen, n, words, seed, stream, index, call)``: draw n elements.

    Writes whether they are kept, and unless rows are chosen otherwise, which they take.
    """
    mark, draw, choose = contiguous_loop(operation("mark"), CACHED), uniforms(), _chooser()
    again, vector, rejected = uniform_below(), np.uint64(_VECTOR), np.uint64(_REJECTED)

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
            factor = Lanes(builder, n).broadcast(_VECTOR)
            smallest = Lanes(builder, least).convert(I32).broadcast(_VECTOR)
            zeros = Lanes(builder, ir.Constant(ir.VectorType(I32, _VECTOR), None))
            found = cgutils.alloca_once_value(builder, zeros.value)
            with cgutils.for_range(builder, vectors) as loop:
                place = builder.mul(loop.index, ir.Constant(I64, 4 * _VECTOR))
                here = builder.gep(memory, [place])
                product = load(builder, here, 0, I32, _VECTOR).convert(I64) * factor
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


@functools.cache
@shielded
def _locator() -> Any:
    """Routine that writes the addresses of n elements, and prefetches what is there.

    Arguments: memory for the addresses; where elements are in x and their columns in `source`, as
    offsets; whether they are kept, and the rows that they take; n; the addresses that offsets are
    to, and the step from row to row of `source`.
    """

    @intrinsic
    def locate(
        typingctx: Any,
        places: Any,
        offsets: Any,
        keep: Any,
        chosen: Any,
        vectors: Any,
        x: Any,
        source: Any,
        s_row: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            places, offsets, keep, chosen, vectors = args[:5]
            x, source, s_row = (Lanes(builder, a).broadcast(_VECTOR) for a in args[5:])
            with cgutils.for_range(builder, vectors) as loop:

                def loaded(pointer: Any, element: Any, offset: int = 0) -> Lanes:
                    step = ir.Constant(I64, element.width // 8 * _VECTOR)
                    place = builder.gep(pointer, [builder.mul(loop.index, step)])
                    return load(builder, place, offset, element, _VECTOR)

                here = x + loaded(offsets, I64)
                there = source + loaded(offsets, I64, int(_COLUMN_OFFSETS))
                there = there + loaded(chosen, I32).convert(I64) * s_row
                # Selected by arithmetic: x where an element is kept, which is 1.
                place = here ^ ((here ^ there) & (loaded(keep, I8).convert(I64) - 1))
                step = builder.mul(loop.index, ir.Constant(I64, 8 * _VECTOR))
                store(place, builder.gep(places, [step]), 0)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 4, *[U64] * 4), codegen

    vector = np.uint64(_VECTOR)

    def run(
        places: Any,
        offsets: Any,
        keep: Any,
        chosen: Any,
        n: Any,
        x: Any,
        source: Any,
        s_row: Any,
    ) -> None:
        wide_vectors()
        vectors = (n + vector - _ONE) // vector
        locate(places, offsets, keep, chosen, vectors, x, source, s_row)
        # Most of the loads miss the caches, and a processor looks ahead about 30 elements. With
        # prefetches 100,000 rows of 64 float32 take 12 ms, without them 68 (Zen 5, November 2026).
        for k in range(_ZERO, n):
            _prefetch(load64(places, _EIGHT * k))

    return routine("swap-locate", run, types.void(*[POINTER] * 4, *[U64] * 4))


def _mover(size: int) -> Any:
    """Routine that copies m times n elements, see `_MOVE`.

    The address of y with its strides along m and n, the addresses to copy from with theirs, m, n.
    """
    copy = _copier(size)

    def run(
        y: Any,
        y_outer: Any,
        y_inner: Any,
        places: Any,
        outer: Any,
        inner: Any,
        m: Any,
        n: Any,
    ) -> None:
        for a in range(_ZERO, m):
            target, sources = y + a * y_outer, advance(places, a * outer)
            for b in range(_ZERO, n):
                copy(pointer_at(target + b * y_inner), pointer_at(load64(sources, b * inner)))

    return routine(f"swap-move-{size}", run, _MOVE)


@intrinsic
def _prefetch(typingctx: Any, address: Any) -> Any:
    """Prefetch the cache line at an address, to be read."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch(builder, builder.inttoptr(args[0], ir.IntType(8).as_pointer()), 0, False)
        return context.get_dummy_value()

    return types.void(U64), codegen


def _copier(size: int) -> Any:
    """Inlined ``copy(target, source)`` of an element."""
    if size == 16:

        @device
        def copy_two(target: Any, source: Any) -> None:
            first, second = load64(source, _ZERO), load64(source, _EIGHT)
            store64(target, _ZERO, first)
            store64(target, _EIGHT, second)

        return copy_two
    kind = {1: types.uint8, 2: types.uint16, 4: types.uint32, 8: types.uint64}[size]
    read, write = loader(kind), storer(kind)

    @device
    def copy(target: Any, source: Any) -> None:
        write(target, _ZERO, read(source, _ZERO))

    return copy
