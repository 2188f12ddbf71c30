"""The moves of `swap`: where elements come from, and tiles of them that are copied.

`swap` calls these routines for each tile, whose elements lie row by row in the routines' memory.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    intrinsic,
    loader,
    pointer_at,
    prefetch,
    storer,
    wide_vectors,
)
from ..codegen.vectors import I8, I32, I64, Lanes, load, store
from ..elements.sampler import POINTER, U64, load32, load64, store64
from ..loops.apply import LINE_BYTES
from ..loops.tile_transpose import block_lanes, transpose_loop
from .permutations import store32

TILE = 1024  # elements: 1 KiB says which are kept, 4 KiB the rows that they take
VECTOR = 16  # elements that are computed at once, also behind those of a tile
PLACES_BYTES = 8 * (TILE + VECTOR)  # of addresses or offsets of a tile
# Rows of a column's permutation that are prefetched at once, two cache lines: 100,000 rows of 64
# columns take 20.4 ms, with 128 rows 22.8; 1,000 rows of 6,400 34.7 and 41 (Zen 5, December 2026).
_AHEAD = 32
_ZERO, _ONE, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 4, 8))


@functools.cache
@shielded
def locator() -> Any:
    """Routine that writes the addresses of n elements.

    Arguments: memory for the addresses; where elements are in x and their columns in `source`, as
    offsets (`PLACES_BYTES` behind the others); whether they are kept, and the rows that they take;
    n; the addresses that offsets are to, and the step from row to row of `source`.
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
            x, source, s_row = (Lanes(builder, a).broadcast(VECTOR) for a in args[5:])
            with cgutils.for_range(builder, vectors) as loop:

                def loaded(pointer: Any, element: Any, offset: int = 0) -> Lanes:
                    step = ir.Constant(I64, element.width // 8 * VECTOR)
                    place = builder.gep(pointer, [builder.mul(loop.index, step)])
                    return load(builder, place, offset, element, VECTOR)

                here = x + loaded(offsets, I64)
                there = source + loaded(offsets, I64, PLACES_BYTES)
                there = there + loaded(chosen, I32).convert(I64) * s_row
                # Selected by arithmetic: x where an element is kept, which is 1.
                place = here ^ ((here ^ there) & (loaded(keep, I8).convert(I64) - 1))
                step = builder.mul(loop.index, ir.Constant(I64, 8 * VECTOR))
                store(place, builder.gep(places, [step]), 0)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 4, *[U64] * 4), codegen

    vector = np.uint64(VECTOR)

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

    return routine("swap-locate", run, types.void(*[POINTER] * 4, *[U64] * 4))


@functools.cache
@shielded
def taker() -> Any:
    """Routine ``(chosen, rows, sources, h, w, number)``: take the rows of a tile from orders.

    `rows` is where those of its first column are, of which each has `sources`; `number` counts
    tiles of the same columns.
    """
    transpose, lanes = transpose_loop(4), np.uint64(block_lanes(4))
    block, most, cache_line = np.uint64(LINE_BYTES // 4), np.uint64(_AHEAD), np.uint64(LINE_BYTES)

    def run(chosen: Any, rows: Any, sources: Any, h: Any, w: Any, number: Any) -> None:
        wide_vectors()
        tiles = max(_ONE, most // h)
        if number % tiles == _ZERO:
            nbytes = _FOUR * h * tiles
            for c in range(_ZERO, w):
                behind = address_of(rows) + _FOUR * c * sources + nbytes
                for k in range(_ZERO, nbytes, cache_line):
                    _prefetch(behind + k)
        blocks = h // block if w >= lanes else _ZERO
        for b in range(_ZERO, blocks):
            first, there = advance(rows, _FOUR * b * block), advance(chosen, _FOUR * b * block * w)
            transpose(first, _FOUR * sources, there, w, _ZERO, (w + lanes - _ONE) // lanes, _ONE)
        for t in range(blocks * block, h):
            for c in range(_ZERO, w):
                row = load32(rows, _FOUR * (c * sources + t))
                store32(chosen, _FOUR * (t * w + c), row)

    return routine("swap-take", run, types.void(POINTER, POINTER, *[U64] * 4))


def mover(size: int) -> Any:
    """Routine that copies a tile of h times w elements, and prefetches those of the next one.

    Arguments: the address of y; the addresses to copy from; h, w; whether the inner loop is along
    rows; strides of y along rows and columns; the addresses to prefetch, and their number.
    """
    copy = _copier(size)

    @device
    def move(
        y: Any,
        y_outer: Any,
        y_inner: Any,
        places: Any,
        outer: Any,
        inner: Any,
        m: Any,
        n: Any,
        ahead: Any,
    ) -> None:
        for a in range(_ZERO, m):
            target, sources = y + a * y_outer, advance(places, a * outer)
            later = advance(ahead, a * n * _EIGHT)
            for b in range(_ZERO, n):
                _prefetch(load64(later, b * _EIGHT))
                copy(pointer_at(target + b * y_inner), pointer_at(load64(sources, b * inner)))

    def run(
        y: Any,
        places: Any,
        h: Any,
        w: Any,
        is_across: Any,
        y_row: Any,
        y_column: Any,
        ahead: Any,
        wanted: Any,
    ) -> None:
        # Most of the loads miss the caches, and a processor looks ahead about 30 elements. 100,000
        # rows of 64 float32 take 9.1 ms; with the prefetches of a tile before any of it is moved
        # 10.7, and without prefetches 22 (Zen 5, December 2026).
        if is_across:
            move(y, y_column, y_row, places, _EIGHT, _EIGHT * w, w, h, ahead)
        else:
            move(y, y_row, y_column, places, _EIGHT * w, _EIGHT, h, w, ahead)
        for k in range(h * w, wanted):
            _prefetch(load64(ahead, _EIGHT * k))

    signature = types.void(U64, POINTER, *[U64] * 5, POINTER, U64)
    return routine(f"swap-move-{size}", run, signature)


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
