"""Threshold streams made of arrays of p, and the inner loop that goes through arrays by them.

`kernels` calls it for the two innermost axes. It makes streams in memory of its own, of what
is treated next (see `elements.threshold_streams`), and calls the loop over contiguous elements.
Where elements are not contiguous, they are copied to memory of its own, and back.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ... import contract
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
from ..codegen.vectors import BIT, DOUBLE, FLOAT, I8, I64, Lanes, load
from ..elements.operations import Operation
from ..elements.sampler import GROUP, HALVES, POINTER, U64, load64, store64
from ..elements.storage import BITS, Storage
from ..elements.threshold_streams import (
    CAPACITY,
    FACTORS,
    STREAM_BYTES,
    first_threshold,
    repeat_stream,
    write_stream,
)
from .apply import LINE_BYTES, sizes
from .call_descriptor import (
    IS_GIVEN,
    P_BYTES,
    PERIOD,
    PLACE,
    STEP,
    STREAMS,
    VALUE,
    P,
    loaded,
)
from .contiguous import NEAR, span_loop
from .copy import gather, scatter
from .loop_nest import INNER, length_of, step_of
from .tiles import alike_loop

COUNT = HALVES  # elements of a stream that are made at once: a vector of upper halves
TILE = 512  # of those that are used once and then made anew: 7 KiB, in the first-level cache
# Columns of the table of axes: the steps through p, x and y, and through the mask.
P_STEP, X, Y, INDEX = (np.uint64(c) for c in range(4))
COLUMNS = 4
AXIS_BYTES = np.uint64(8 * (COLUMNS + 1))

_COUNT, _TILE, _GROUP, _CAPACITY = (np.uint64(n) for n in (COUNT, TILE, GROUP, CAPACITY))
_VECTOR, _ALL = np.uint64(HALVES), np.uint64(1 << 62)
_ZERO, _ONE, _FOUR = (np.uint64(n) for n in (0, 1, 4))
_SHARED, _CONSECUTIVE = np.uint64(0), np.uint64(1)  # index steps
# Elements of a line of one p, from which on it is drawn by itself, though it begins and ends inside
# groups: shorter ones are put together.
_LONG = np.uint64(8 * GROUP)
_LEAST = np.uint64(256)  # that go by themselves if they are whole groups


def _writer(factor: Storage | None, element: Any, count: int) -> Any:
    """Intrinsic ``(call, place, p, n)``: n times `count` neighbours (0: one, no vector)."""
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
    """Intrinsic ``(call, place, n)``: what is there, n times `COUNT` times from there on."""

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
    """Routine ``(call, place, p, step, n)``: make streams of n elements, of p so many bytes apart.

    Behind them as much may be written as is made at once.
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


@intrinsic
def _is_kept(typingctx: Any, call: Any, index: Any) -> Any:
    """Decide for one element, by the stream's element 0. A million in 25 ms (Zen 5, 2026-11)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        state = loaded(builder, args[0])
        seed, stream, index = (Lanes(builder, a) for a in (state.seed, state.stream, args[1]))
        threshold = first_threshold(builder, state.streams)
        return contract.keep(seed, stream, index, threshold).convert(I64).value

    return U64(POINTER, U64), codegen


@functools.cache
def stream_rows(operation: Operation, way: str) -> Any:
    """Inner loop (see `loop_nest.INNER`) over two axes of a table with a column for p.

    The call state says where p of the first element is.
    """
    span, fill = span_loop(operation, way, True), _filler(operation.factor)
    alike, reads = alike_loop(operation), operation.source.bits > 0
    gathered: Any = gather(operation.source.itemsize) if reads else None
    writes = operation.target is not BITS  # which are always contiguous
    scattered: Any = scatter(operation.target.itemsize, way == NEAR) if writes else None
    in_size, out_size = sizes(operation)
    has_factor = operation.factor is not None
    memory = scratch(STREAM_BYTES)
    given_memory = scratch(TILE * operation.source.itemsize)
    made_memory = scratch(TILE * operation.target.itemsize)

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
        near = x_step == in_size and y_step == out_size
        contiguous = near and step == _CONSECUTIVE
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
            # What the streams say of a row is said again for each.
            period = n * ((_GROUP + n - _ONE) // n)
            for t in range(_ZERO, period + _GROUP, n):
                fill(call, t, p, p_step, min(n, period + _GROUP - t))
            store64(call, PERIOD, period)
            span(x, y, rows * n, index, call)
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
                span(advance(x, done * in_size), advance(y, done * out_size), m, index + done, call)
                done += m
            return
        # Some columns after the other, in all rows.
        most = _TILE
        if (near and step == _SHARED) or (contiguous and one_p):
            most = n
        elif step > _CONSECUTIVE:
            most = _ONE
        elif contiguous and p_row == _ZERO:
            most = _CAPACITY
        made_of = _VECTOR
        if one_p:
            store64(call, STEP, _ZERO)
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
                    kept = _is_kept(call, element)
                if reads:  # known when this is compiled
                    if x_step != in_size and m > _ONE and kept:
                        gathered(given, a, x_step, m)
                        source = given
                if writes:
                    if y_step != out_size and m > _ONE:
                        target = made
                if step == _SHARED:
                    alike(source, target, kept, m, value)
                else:
                    span(source, target, m, element, call)
                if writes:
                    if y_step != out_size and m > _ONE:
                        scattered(b, y_step, made, m)

    return routine(f"{operation.name}-{way}-stream-rows", rows, INNER)
