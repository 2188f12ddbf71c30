"""Inner loops for per-element p: they fill threshold streams from p and run contiguous loops.

`kernels` calls `stream_rows` for the two innermost axes. It fills streams in scratch memory for the
next elements (see `elements.threshold_streams`), and calls `contiguous.contiguous_loop`. Elements
that are not contiguous are gathered to tiles in scratch memory, and scattered from there.

Rates relative to a call with one p: dropout of float32 at 256 x 256, 1,024 x 1,024 and 4,096 x
4,096, one thread, Zen 5, November 2026. With AVX2: p for every element 0.49, 0.47, 0.43; for every
row 0.84, 0.92, 0.97; along the last axis 0.94, 0.95, 0.96. With AVX-512, where a call with one p
takes a third of the time: 0.30, 0.32, 0.30; 0.53, 0.72, 0.67; 0.78, 0.85, 0.65.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    intrinsic,
    pointer_at,
    prefetch,
    scratch,
    wide_vectors,
)
from ..codegen.vectors import BIT, DOUBLE, FLOAT, I8, I64, load
from ..elements.operations import Operation
from ..elements.sampler import DRAWS, GROUP, POINTER, U64, high_half, load64, low_half, store64
from ..elements.storage import BITS, Storage
from ..elements.threshold_streams import (
    CAPACITY,
    FACTORS,
    STREAM_BYTES,
    THRESHOLDS,
    repeat_stream,
    write_stream,
)
from .apply import LINE_BYTES, sizes
from .call_descriptor import (
    IS_GIVEN,
    P_BYTES,
    PERIOD,
    PLACE,
    SEED,
    STEP,
    STREAM,
    STREAMS,
    VALUE,
    P,
    loaded,
)
from .contiguous import CACHED, contiguous_loop
from .copy import gather, scatter
from .loop_nest import INNER, length_of, step_of
from .tiles import all_or_none_loop

COUNT = DRAWS  # stream elements that are written at once: a vector of the thresholds' high halves
TILE = 512  # elements of streams that are used only once: 7 KiB, in the first-level cache
# Columns of steps in the table of axes: p, x, y and the mask index.
P_STEP, X, Y, INDEX = (np.uint64(c) for c in range(4))
COLUMNS = 4
AXIS_BYTES = np.uint64(8 * (COLUMNS + 1))

_COUNT, _TILE, _GROUP, _CAPACITY = (np.uint64(n) for n in (COUNT, TILE, GROUP, CAPACITY))
_VECTOR, _ALL = np.uint64(DRAWS), np.uint64(1 << 62)
_ZERO, _ONE, _FOUR = (np.uint64(n) for n in (0, 1, 4))
_HALF_BITS, _HALF = np.uint64(16), np.uint64(0xFFFF)
_SHARED, _CONSECUTIVE = np.uint64(0), np.uint64(1)  # index steps
# Rows and columns of a tile of elements that are not contiguous: where rows are adjacent in memory,
# tiles use whole cache lines.
_TILE_HEIGHT, _TILE_WIDTH = 16, 256
_HEIGHT, _WIDTH = np.uint64(_TILE_HEIGHT), np.uint64(_TILE_WIDTH)
# The shortest rows of one p each that are processed one by one, though they begin and end inside
# groups: shorter ones are joined.
_LONG = np.uint64(8 * GROUP)
_LEAST = np.uint64(256)  # the same for rows that are whole groups


def _writer(factor: Storage | None, element: Any, count: int) -> Any:
    """Intrinsic ``(call, place, p, n)``: write n times `count` elements (0: one, no vector)."""
    size = 4 if element is FLOAT else 8

    @intrinsic
    def write(typingctx: Any, call: Any, place: Any, p: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            call, place, p, n = args
            state = loaded(builder, call)
            given = load(builder, call, int(IS_GIVEN), I8, 0).convert(BIT)
            one = factor.load_value(builder, state.value, 0) if factor else given
            with cgutils.for_range(builder, n) as loop:
                done = builder.mul(loop.index, ir.Constant(I64, max(1, count)))
                distance = builder.mul(done, ir.Constant(I64, size))
                given_p = builder.gep(p, [distance])
                for line in range(0, count * size, LINE_BYTES):
                    prefetch(builder, given_p, line + 1024 * size, False)
                vector = load(builder, given_p, 0, element, count)
                if element is FLOAT:
                    vector = vector.convert(DOUBLE)
                at = builder.add(place, done)
                write_stream(vector, factor, (given, one), state.streams, at)
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, U64), codegen

    return write


def _repeater(factor: Storage | None) -> Any:
    """Intrinsic ``(call, place, n)``: repeat the element at a position n times `COUNT` times."""

    @intrinsic
    def repeat(typingctx: Any, call: Any, place: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            call, place, n = args
            streams = loaded(builder, call).streams
            again = repeat_stream(builder, factor, COUNT, streams, place)
            with cgutils.for_range(builder, n) as loop:
                again(builder.add(place, builder.mul(loop.index, ir.Constant(I64, COUNT))))
            return context.get_dummy_value()

        return types.void(POINTER, U64, U64), codegen

    return repeat


@functools.cache
def _filler(factor: Storage | None) -> Any:
    """Routine ``(call, place, p, step, n)``: write n elements of streams; p has that step in bytes.

    Up to `COUNT` elements more may be written after them.
    """
    (one4, many4), (one8, many8) = (
        [_writer(factor, element, count) for count in (0, COUNT)] for element in (FLOAT, DOUBLE)
    )
    repeat = _repeater(factor)

    @device
    def one(call: Any, place: Any, p: Any, size: Any) -> None:
        if size == _FOUR:
            one4(call, place, p, _ONE)
        else:
            one8(call, place, p, _ONE)

    @device
    def many(call: Any, place: Any, p: Any, size: Any, n: Any) -> None:
        if size == _FOUR:
            many4(call, place, p, n)
        else:
            many8(call, place, p, n)

    def fill(call: Any, place: Any, p: Any, step: Any, n: Any) -> None:
        wide_vectors()
        size = load64(call, P_BYTES)
        if step == _ZERO:
            one(call, place, p, size)
            repeat(call, place, (n + _COUNT - _ONE) // _COUNT)
        elif step == size and n >= _COUNT:
            many(call, place, p, size, n // _COUNT)
            last = n - _COUNT
            many(call, place + last, advance(p, last * size), size, _ONE)
        else:
            for t in range(n):
                one(call, place + t, advance(p, t * step), size)

    name = factor.bits if factor else 0
    return routine(f"streams-{name}", fill, types.void(POINTER, U64, POINTER, U64, U64))


@functools.cache
def _decider() -> Any:
    """Routine ``(call, index)``: whether an element is kept, by element 0 of the streams."""

    def is_kept(call: Any, index: Any) -> Any:
        seed, stream = load64(call, SEED), load64(call, STREAM)
        threshold = load64(pointer_at(load64(call, STREAMS)), THRESHOLDS)
        upper = min(threshold >> _HALF_BITS, _HALF)
        first = high_half(seed, stream, index)
        if first != upper:
            return U64(first > upper)
        return U64(low_half(seed, stream, index) >= threshold - (upper << _HALF_BITS))

    return routine("is-kept", is_kept, U64(POINTER, U64))


def _tile_reader(itemsize: int) -> Any:
    """Inlined ``(tile, x, row, step, rows, n)``: gather rows to a tile, `_TILE_WIDTH` apart."""
    by_rows, by_columns, size = gather(itemsize), scatter(itemsize, True), np.uint64(itemsize)
    pitch = np.uint64(_TILE_WIDTH * itemsize)

    @device
    def copy(tile: Any, x: Any, row: Any, step: Any, rows: Any, n: Any) -> None:
        # By columns, where rows are adjacent in memory.
        if row == size:
            for t in range(n):
                by_columns(advance(tile, t * size), pitch, advance(x, t * step), rows)
        else:
            for t in range(rows):
                by_rows(advance(tile, t * pitch), advance(x, t * row), step, n)

    return copy


def _tile_writer(itemsize: int, is_cached: bool) -> Any:
    """Inlined ``(y, row, step, tile, rows, n)``: scatter rows of a tile; see `_tile_reader`."""
    by_rows, by_columns, size = scatter(itemsize, is_cached), gather(itemsize), np.uint64(itemsize)
    pitch = np.uint64(_TILE_WIDTH * itemsize)

    @device
    def copy(y: Any, row: Any, step: Any, tile: Any, rows: Any, n: Any) -> None:
        if row == size:
            for t in range(n):
                by_columns(advance(y, t * step), advance(tile, t * size), pitch, rows)
        else:
            for t in range(rows):
                by_rows(advance(y, t * row), step, advance(tile, t * pitch), n)

    return copy


@functools.cache
def stream_rows(operation: Operation, access: str) -> Any:
    """Inner loop (see `loop_nest.INNER`) over two axes; their table has a column for p.

    The call state has the address of the first element's p.
    """
    run_contiguous, fill = contiguous_loop(operation, access, True), _filler(operation.factor)
    reads = operation.source.bits > 0
    writes = operation.target is not BITS  # packed bits are always contiguous
    itemsizes = operation.source.itemsize, operation.target.itemsize
    in_pitch, out_pitch = (np.uint64(_TILE_WIDTH * size) for size in itemsizes)
    gathered: Any = gather(itemsizes[0]) if reads else None
    scattered: Any = scatter(itemsizes[1], access == CACHED) if writes else None
    copy_in: Any = _tile_reader(itemsizes[0]) if reads else None
    copy_out: Any = _tile_writer(itemsizes[1], access == CACHED) if writes else None
    all_or_none, is_kept = all_or_none_loop(operation), _decider()
    in_size, out_size = sizes(operation)
    has_factor = operation.factor is not None
    memory = scratch(STREAM_BYTES)
    given_memory = scratch(_TILE_HEIGHT * int(in_pitch))
    made_memory = scratch(_TILE_HEIGHT * int(out_pitch))

    def rows(x: Any, y: Any, outer: Any, index: Any, call: Any) -> None:
        wide_vectors()
        inner, streams, given, made = (
            advance(outer, AXIS_BYTES),
            memory(),
            given_memory(),
            made_memory(),
        )
        value = advance(streams, FACTORS) if has_factor else pointer_at(load64(call, VALUE))
        p, rows, n = pointer_at(load64(call, P)), length_of(outer), length_of(inner)
        p_row, x_row, y_row = step_of(outer, P_STEP), step_of(outer, X), step_of(outer, Y)
        p_step, x_step, y_step = step_of(inner, P_STEP), step_of(inner, X), step_of(inner, Y)
        row, step = step_of(outer, INDEX), step_of(inner, INDEX)
        in_place = x_step == in_size and y_step == out_size
        contiguous = in_place and step == _CONSECUTIVE
        goes_on = rows == _ONE or (x_row == n * x_step and y_row == n * y_step and row == n)
        joined, one_p = contiguous and goes_on, p_step == _ZERO
        store64(call, STREAMS, address_of(streams))
        store64(call, PLACE, _ZERO)
        store64(call, PERIOD, _ALL)
        store64(call, STEP, _ONE)
        if one_p and joined and p_row != _ZERO:
            in_lines = n >= _LONG or (n >= _LEAST and (index | n) % _GROUP == _ZERO)
            joined = not in_lines
        elif one_p:
            joined = False
        if joined and rows > _ONE and p_row == _ZERO and n <= _CAPACITY:
            # All rows have the same p: streams of whole rows, at least a group, are repeated.
            period = n * ((_GROUP + n - _ONE) // n)
            for t in range(_ZERO, period + _GROUP, n):
                fill(call, t, p, p_step, min(n, period + _GROUP - t))
            store64(call, PERIOD, period)
            run_contiguous(x, y, rows * n, index, call)
            return
        if joined:
            total, done = rows * n, _ZERO
            while done < total:
                m = min(_TILE - (index + done) % _GROUP, total - done)
                r, column, t = done // n, done % n, _ZERO
                while t < m:
                    length = min(n - column, m - t)
                    fill(call, t, advance(p, r * p_row + column * p_step), p_step, length)
                    t += length
                    r, column = r + _ONE, _ZERO
                store64(call, PLACE, _ZERO)
                run_contiguous(
                    advance(x, done * in_size), advance(y, done * out_size), m, index + done, call
                )
                done += m
            return
        made_of = _VECTOR
        if one_p:
            store64(call, STEP, _ZERO)
        if step == _CONSECUTIVE and not contiguous:
            for begin in range(_ZERO, n, _WIDTH):
                m = min(_WIDTH, n - begin)
                if not one_p:
                    made_of = m
                for top in range(_ZERO, rows, _HEIGHT):
                    height = min(_HEIGHT, rows - top)
                    a = advance(x, top * x_row + begin * x_step)
                    b = advance(y, top * y_row + begin * y_step)
                    source, source_row = a, x_row
                    target, target_row = b, y_row
                    if reads:  # known when this is compiled
                        if x_step != in_size:
                            source, source_row = given, in_pitch
                            copy_in(given, a, x_row, x_step, height, m)
                    if writes:
                        if y_step != out_size:
                            target, target_row = made, out_pitch
                    for r in range(height):
                        if (r == _ZERO and top == _ZERO) or p_row:
                            its = advance(p, (top + r) * p_row + begin * p_step)
                            fill(call, _ZERO, its, p_step, made_of)
                        element = index + (top + r) * row + begin
                        store64(call, PLACE, _ZERO)
                        from_row, to_row = r * source_row, r * target_row
                        run_contiguous(
                            advance(source, from_row), advance(target, to_row), m, element, call
                        )
                    if writes:
                        if y_step != out_size:
                            copy_out(b, y_row, y_step, made, height, m)
            return
        # Blocks of columns, each in all rows.
        most = _TILE
        if (in_place and step == _SHARED) or (contiguous and one_p):
            most = n
        elif step > _CONSECUTIVE:
            most = _ONE
        elif contiguous and p_row == _ZERO:
            most = _CAPACITY
        for begin in range(_ZERO, n, most):
            m = min(most, n - begin)
            if not one_p:
                made_of = m
            for r in range(rows):
                if r == _ZERO or p_row:
                    fill(call, _ZERO, advance(p, r * p_row + begin * p_step), p_step, made_of)
                element = index + r * row + begin * step
                a = advance(x, r * x_row + begin * x_step)
                b = advance(y, r * y_row + begin * y_step)
                store64(call, PLACE, _ZERO)
                source, target, kept = a, b, _ONE
                if step == _SHARED:
                    kept = is_kept(call, element)
                if reads:  # known when this is compiled
                    if x_step != in_size and m > _ONE and kept:
                        gathered(given, a, x_step, m)
                        source = given
                if writes:
                    if y_step != out_size and m > _ONE:
                        target = made
                if step == _SHARED:
                    all_or_none(source, target, kept, m, value)
                else:
                    run_contiguous(source, target, m, element, call)
                if writes:
                    if y_step != out_size and m > _ONE:
                        scattered(b, y_step, made, m)

    return routine(f"{operation.name}-{access}-stream-rows", rows, INNER)
