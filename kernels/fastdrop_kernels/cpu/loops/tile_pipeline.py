"""Pillars: strips of a panel one below the other, whole *runs* of 8; see `panel`.

While a pillar is drawn, the one before is put: a run of a column with each strip that is drawn. So
memory is gone through column by column, as in C order, and bits cover the way there and back. Strip
by strip it would be 8 columns at once, and where these are whole pages apart, all of them at one
place of the caches. 1024 x 1024 float32 at 0.91 of the rate of C order, not 0.69, 1000 x 1024 at
0.92, not 0.68, 131,072 x 8 at 0.85, not 0.72, and 2048 x 2048 float16 at 0.88, not 0.68; with rows
that begin inside blocks, 1003 x 1003, 0.79, not 0.66. In place 1.0, as without.

Between the two an element is a bit, its mark. Marks lie strip by strip, and of each column by
column.

What was slower: all bits of a pillar, and then all its elements (0.53 to 0.67). Any number of
strips, so that a column may end among the 8 that are put: choosing between two places for each,
0.63 to 0.66, and steps between them that are not known when this is compiled, 0.67 to 0.72, because
all that is computed beside the vectors takes ports from them. Marks gathered by ``pext`` from what
is compared before it is transposed: alike.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import address_of, advance, intrinsic, prefetch, wide_vectors
from ..codegen.vectors import BIT, I64, Lanes, store
from ..elements.operations import Operation
from ..elements.sampler import HALVES, POINTER, ROUNDS, U64, settler
from .apply import LINE_BYTES, apply_vector, sizes
from .call_descriptor import loaded
from .contiguous import spread
from .transposed_loops import ROW_BYTES, ROWS, law_of
from .transposed_tile import COLUMNS, Strip, columns_of, got_blocks, put_blocks

# Of a run: a strip's elements of one column each. As many as columns, so that as many runs are put
# as strips are drawn.
_UNITS = COLUMNS
_MARK_BYTES = HALVES // 8  # of a unit
STRIP_MARK_BYTES = COLUMNS * _MARK_BYTES
_MARK, _STRIP_MARKS = np.uint64(_MARK_BYTES), np.uint64(STRIP_MARK_BYTES)
RUN_ROWS = np.uint64(_UNITS) * ROWS
_AHEAD = np.uint64(2)  # runs that lines are asked for ahead
_EACH, _ZERO, _ONE = (np.uint64(n) for n in (_UNITS, 0, 1))


def _put_unit(operation: Operation, builder: Any, x: Any, y: Any, marks: Any, value: Any) -> None:
    bits = builder.load(builder.bitcast(marks, ir.IntType(HALVES).as_pointer()), align=1)
    kept = Lanes(builder, builder.bitcast(bits, ir.VectorType(BIT, HALVES)))
    parameters = operation.parameters(builder, value)
    apply_vector(operation, kept, x, y, 0, HALVES, parameters)


def _unit_putter(operation: Operation) -> Any:
    """Intrinsic ``(x, y, marks, value)``."""

    @intrinsic
    def put(typingctx: Any, x: Any, y: Any, marks: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _put_unit(operation, builder, *args)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 4), codegen

    return put


def _step(operation: Operation, aligned: bool) -> Any:
    """Intrinsic: draw a strip of a pillar, and put a run of the one before."""
    unit_bytes = [HALVES * storage.bits // 8 for storage in (operation.source, operation.target)]
    lines = [
        (side, at)
        for side, nbytes in enumerate(unit_bytes)
        for at in range(0, _UNITS * nbytes, LINE_BYTES)
    ]

    @intrinsic
    def step(
        typingctx: Any,
        x: Any,
        y: Any,
        marks: Any,
        x_ahead: Any,
        y_ahead: Any,
        index: Any,
        row_step: Any,
        call: Any,
        kept: Any,
        draw_marks: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sides, ahead = args[:3], args[3:5]
            index, row_step, call, kept, draw_marks = args[5:]
            state = loaded(builder, call)
            law = law_of(builder, state)
            rows = Strip(law, index, row_step)

            def between(r: int) -> None:
                for side, at in spread(lines, ROUNDS - 1, r):
                    prefetch(builder, ahead[side], at, side == 1)
                for k in spread(range(_UNITS), ROUNDS - 1, r):
                    x, y, marks = (
                        builder.gep(side, [ir.Constant(I64, k * nbytes)])
                        for side, nbytes in zip(sides, (*unit_bytes, STRIP_MARK_BYTES), strict=True)
                    )
                    _put_unit(operation, builder, x, y, marks, state.value)

            if aligned:
                words = rows.blocks(0, 0, between)
            else:
                following = rows.blocks(1, 0, between)
                words = rows.moved(got_blocks(builder, kept, 0), following)
                put_blocks(following, kept, 0)
            columns = range(COLUMNS)
            runs = [(builder.add(index, ir.Constant(I64, j)), row_step, HALVES) for j in columns]
            for j, column in enumerate(law.settled(columns_of(words), runs)):
                store((column >= law.bound).as_number(), draw_marks, j * _MARK_BYTES)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 5, *[U64] * 2, *[POINTER] * 3), codegen

    return step


@functools.cache
def pillar_loop(operation: Operation, aligned: bool) -> Any:
    """Routine: draw a pillar, and put the one before, of as many strips.

    ``(x, x_column, y, y_column, marks, x_next, y_next, ..., draw_marks, runs, back)``.
    Of columns that are no whole runs, but longer than one, the last run begins so many rows `back`,
    and puts some once more, as they were put before. `x_next` and `y_next` are where that is which
    is drawn. Where there is none before, `y` is memory for a column, and its step is 0.
    """
    settler()  # known by its symbol
    step = _step(operation, aligned)
    in_size, out_size = sizes(operation)
    x_run, y_run = RUN_ROWS * in_size, RUN_ROWS * out_size
    strip_bytes, run_marks = ROWS * ROW_BYTES, _EACH * _STRIP_MARKS

    def pillar(
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        marks: Any,
        x_next: Any,
        y_next: Any,
        index: Any,
        row_step: Any,
        call: Any,
        kept: Any,
        draw_marks: Any,
        runs: Any,
        back: Any,
    ) -> None:
        wide_vectors()
        # All is counted on, step by step: if it was computed, 0.70 to 0.76 and not 0.83 to 0.90.
        column, strip_step = runs * RUN_ROWS - back, ROWS * row_step
        x_back, y_back, index_back = back * in_size, back * out_size, back * row_step
        x_jump, y_jump = x_column - column * in_size, y_column - column * out_size
        marks_jump = _MARK - runs * run_marks
        # From behind the last column to what is put next.
        x_far = address_of(x_next) - address_of(x) - _EACH * x_column
        y_far = address_of(y_next) - address_of(y) - _EACH * y_column
        x_ahead, y_ahead, run_ahead, columns_ahead = x, y, _ZERO, _ZERO
        run, strip, last = _ZERO, _ZERO, runs - _ONE
        first_back = last * _EACH
        for k in range(_AHEAD + runs * _EACH):
            if k >= _AHEAD:
                step(
                    x,
                    y,
                    marks,
                    x_ahead,
                    y_ahead,
                    index,
                    row_step,
                    call,
                    kept,
                    draw_marks,
                )
                x, y, marks = advance(x, x_run), advance(y, y_run), advance(marks, run_marks)
                run += _ONE
                if run == runs:
                    run = _ZERO
                    x, y, marks = advance(x, x_jump), advance(y, y_jump), advance(marks, marks_jump)
                elif run == last:
                    x, y = advance(x, _ZERO - x_back), advance(y, _ZERO - y_back)
                index += strip_step
                strip += _ONE
                if strip == first_back:
                    index -= index_back
                kept, draw_marks = advance(kept, strip_bytes), advance(draw_marks, _STRIP_MARKS)
            x_ahead, y_ahead = advance(x_ahead, x_run), advance(y_ahead, y_run)
            run_ahead += _ONE
            if run_ahead == runs:
                run_ahead = _ZERO
                columns_ahead += _ONE
                x_ahead = advance(x_ahead, x_jump - x_back)
                y_ahead = advance(y_ahead, y_jump - y_back)
                if columns_ahead == _EACH:
                    x_ahead, y_ahead = advance(x_ahead, x_far), advance(y_ahead, y_far)

    signature = types.void(
        *[POINTER, U64, POINTER, U64, POINTER, POINTER, POINTER],
        *[*[U64] * 2, POINTER, POINTER, POINTER, U64, U64],
    )
    blocks = "blocks" if aligned else "anywhere"
    return routine(f"{operation.name}-pillar-{blocks}", pillar, signature)


@functools.cache
def pillar_putter(operation: Operation) -> Any:
    """Routine ``(x, x_column, y, y_column, marks, value, runs, back)``: put the last pillar."""
    put_unit = _unit_putter(operation)
    in_size, out_size = sizes(operation)

    def put(
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        marks: Any,
        value: Any,
        runs: Any,
        back: Any,
    ) -> None:
        wide_vectors()
        for j in range(_EACH):
            for k in range(runs * _EACH):
                row = moved_back(k * ROWS, runs * RUN_ROWS - back, back)
                put_unit(
                    advance(x, j * x_column + row * in_size),
                    advance(y, j * y_column + row * out_size),
                    advance(marks, j * _MARK + k * _STRIP_MARKS),
                    value,
                )

    signature = types.void(POINTER, U64, POINTER, U64, POINTER, POINTER, U64, U64)
    return routine(f"{operation.name}-pillar-put", put, signature)


@device
def moved_back(row: Any, end: Any, back: Any) -> Any:
    """Return where a strip or run begins that would at a row, if columns were whole runs."""
    return row - back if row + RUN_ROWS >= end + back else row
