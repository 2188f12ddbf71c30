"""Panels: rectangles of elements for arrays that jump through the mask, as in Fortran order.

Memory is contiguous along rows, the mask along columns. A *strip* is as many rows as a vector has
halves, by 8 columns: a block for each row. Four chains draw the blocks of every fourth row, so that
the 16-bit halves of four words, put side by side, are those of four rows in order: the transpose
takes shifts and masks and no shuffles.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import address_of, advance, pointer_at, scratch, wide_vectors
from ..elements.operations import Operation, drawn_for
from ..elements.sampler import load64, settler
from ..elements.storage import BITS
from .apply import any_loop, sizes
from .call_descriptor import BUFFER, VALUE
from .contiguous import NEAR, by_masks
from .loop_nest import AXIS_BYTES, INDEX, INNER, X, Y, length_of, step_of
from .tile_pipeline import RUN_ROWS, STRIP_MARK_BYTES, moved_back, pillar_loop, pillar_putter
from .transposed_loops import (
    AHEAD_BYTES,
    ROW_BYTES,
    ROWS,
    blocks_keeper,
    levels_of,
    noise_loop,
    part_loop,
    strip_putter,
    strips_loop,
)
from .transposed_tile import COLUMNS

_COLUMNS = np.uint64(COLUMNS)
# Where rows do not begin with a block, the 8 elements of a row lie in two, and the second is kept
# for the next 8 columns: 16 bytes a row and level, for that many rows.
_KEPT_ROWS = np.uint64(1024)
_kept_scratch = scratch(int(_KEPT_ROWS * ROW_BYTES))
# The most rows of a pillar, whose marks stay in the first level, and bytes of a column of it, which
# are set aside: threads may have been given stacks of 64 KiB.
_PILLAR_ROWS, _PILLAR_BYTES = 2048, 8192
# Rows that are left where pillars end are at most one in so many.
_REST = np.uint64(8)
_ZERO, _ONE, _SEVEN = (np.uint64(n) for n in (0, 1, 7))


@functools.cache
def panel_loop(operation: Operation, way: str) -> Any:
    """Inner loop over two axes: index step 1 along columns, memory nearest along rows inside.

    Large arrays go by pillars. What is left of them, and small ones, go by strips down 8 columns at
    a time: that many streams the hardware can follow, and 32 it cannot (1000 x 1003 float32 without
    pillars: a fifth of the rate of C order, not four fifths).
    """
    settler()  # known by its symbol
    decides, packed = not operation.exact, operation.target is BITS
    in_registers, partly = decides and not packed, by_masks(operation)
    strips: Any = strips_loop(operation, False, way) if in_registers else None
    strips_aligned: Any = strips_loop(operation, True, way) if in_registers else None
    by_pillars = in_registers and way != NEAR
    pillar: Any = pillar_loop(operation, False) if by_pillars else None
    pillar_aligned: Any = pillar_loop(operation, True) if by_pillars else None
    put_pillar: Any = pillar_putter(operation) if by_pillars else None
    part: Any = part_loop(operation) if partly else None
    # What is exact draws so long that a way through memory costs little (1024 x 1024 float32 in
    # 1.40 times C order's time and not 1.22, 1000 x 1000 alike), and it needs no code of its own.
    put: Any = None if decides else strip_putter(operation, way)
    drawn, levels = drawn_for(operation), levels_of(operation)
    draw, apply, keep_blocks = noise_loop(drawn), any_loop(operation), blocks_keeper(levels)
    in_size, out_size = sizes(operation)
    row_bytes, rows_kept = ROW_BYTES * np.uint64(levels), _KEPT_ROWS // np.uint64(levels)
    noise_size = np.uint64(drawn.target.itemsize)
    column_bytes = ROWS * noise_size
    ahead = np.uint64(AHEAD_BYTES)
    pillar_rows = np.uint64(min(_PILLAR_ROWS, _PILLAR_BYTES // int(out_size)))
    marks_bytes = (pillar_rows // ROWS) * np.uint64(STRIP_MARK_BYTES)
    two_pillars_marks = scratch(2 * int(marks_bytes))
    pillar_scratch = scratch(int(pillar_rows * out_size))

    def panel(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        wide_vectors()
        inside = advance(axis, AXIS_BYTES)
        columns, x_column, y_column = length_of(axis), step_of(axis, X), step_of(axis, Y)
        rows, x_row, y_row = length_of(inside), step_of(inside, X), step_of(inside, Y)
        row_step = step_of(inside, INDEX)
        marks, value = pointer_at(load64(call, BUFFER)), pointer_at(load64(call, VALUE))
        kept_blocks = _kept_scratch()
        contiguous = not packed and x_row == in_size and y_row == out_size
        apart = in_size == _ZERO or address_of(x) != address_of(y)
        aligned = decides and contiguous and (index | row_step | columns) & _SEVEN == _ZERO
        if not partly:
            aligned = aligned and rows % ROWS == _ZERO
        most = pillar_rows if aligned else min(rows_kept, pillar_rows)
        # Blocks about as high as each other, as far as whole runs allow, so that few rows are left.
        blocks = max(_ONE, (rows + most - _ONE) // most)
        most = (rows + blocks - _ONE) // blocks
        most += (RUN_ROWS - most % RUN_ROWS) % RUN_ROWS
        if by_pillars:
            # Of the pillar that is drawn, and of the one that is put: none at first.
            new_marks = two_pillars_marks()
            old_marks = advance(new_marks, marks_bytes)
            no_pillar = pillar_scratch()
            old_x, old_y, old_column, old_runs, old_back = x, no_pillar, _ZERO, _ZERO, _ZERO
        for begin in range(_ZERO, rows, most):
            end = min(begin + most, rows)
            height = end - begin
            whole = end - height % ROWS
            tall, back = begin, _ZERO  # so far go pillars, see there
            if by_pillars:
                rest = height % RUN_ROWS
                if contiguous and height >= RUN_ROWS:
                    if rest * _REST <= height:
                        tall = end - rest
                    elif apart and (RUN_ROWS - rest) * _REST <= height:
                        tall, back = end, RUN_ROWS - rest
            for p in range(begin, end + back, ROWS):
                if not aligned or p >= whole:
                    kept = advance(kept_blocks, _kept_at(aligned, p, begin) * row_bytes)
                    first = index + moved_back(p, end, back) * row_step
                    keep_blocks(kept, first, row_step, call)
            for column in range(_ZERO, columns, _COLUMNS):
                width = min(_COLUMNS, columns - column)
                by_strips = contiguous and width == _COLUMNS
                # From the end of these columns to where strips begin in the next.
                x_next = _COLUMNS * x_column - (end - tall) * x_row
                y_next = _COLUMNS * y_column - (end - tall) * y_row
                p = begin
                while p < end:
                    i = index + p * row_step + column
                    a = advance(x, p * x_row + column * x_column)
                    b = advance(y, p * y_row + column * y_column)
                    kept = advance(kept_blocks, _kept_at(aligned, p, begin) * row_bytes)
                    n = min(ROWS, end - p)
                    if by_pillars:  # known when this is compiled
                        if by_strips and p < tall:
                            runs = (tall + back - p) // RUN_ROWS
                            if old_runs != runs or old_back != back:  # of another block, or none
                                if old_runs:
                                    put_pillar(
                                        old_x,
                                        x_column,
                                        old_y,
                                        y_column,
                                        old_marks,
                                        value,
                                        old_runs,
                                        old_back,
                                    )
                                old_x, old_y, old_column = a, no_pillar, _ZERO
                            if aligned:
                                pillar_aligned(
                                    old_x,
                                    x_column,
                                    old_y,
                                    old_column,
                                    old_marks,
                                    a,
                                    b,
                                    i,
                                    row_step,
                                    call,
                                    kept,
                                    new_marks,
                                    runs,
                                    back,
                                )
                            else:
                                pillar(
                                    old_x,
                                    x_column,
                                    old_y,
                                    old_column,
                                    old_marks,
                                    a,
                                    b,
                                    i,
                                    row_step,
                                    call,
                                    kept,
                                    new_marks,
                                    runs,
                                    back,
                                )
                            new_marks, old_marks = old_marks, new_marks
                            old_x, old_y, old_column = a, b, y_column
                            old_runs, old_back = runs, back
                            p = tall
                            continue
                    if in_registers:
                        if by_strips and n == ROWS:
                            count = (end - p) // ROWS
                            if aligned:
                                strips_aligned(
                                    a,
                                    x_column,
                                    b,
                                    y_column,
                                    x_next,
                                    y_next,
                                    i,
                                    row_step,
                                    call,
                                    kept,
                                    count,
                                )
                            else:
                                strips(
                                    a,
                                    x_column,
                                    b,
                                    y_column,
                                    x_next,
                                    y_next,
                                    i,
                                    row_step,
                                    call,
                                    kept,
                                    count,
                                )
                            p += count * ROWS
                            continue
                        if back:  # fewer than 8 columns: rows, and so blocks, are not moved
                            keep_blocks(kept, i, row_step, call)
                    p += ROWS
                    if partly:
                        if by_strips:
                            part(
                                a,
                                x_column,
                                b,
                                y_column,
                                i,
                                row_step,
                                call,
                                kept,
                                n,
                            )
                            continue
                    draw(marks, i, row_step, kept, call)
                    if not decides:
                        if by_strips and n == ROWS:
                            put(a, x_column, b, y_column, ahead, ahead, marks, value)
                            continue
                    for j in range(width):
                        mark = advance(marks, j * column_bytes)
                        from_column, to_column = advance(a, j * x_column), advance(b, j * y_column)
                        apply(from_column, x_row, to_column, y_row, mark, n, value)
        if by_pillars:
            if old_runs:
                put_pillar(old_x, x_column, old_y, y_column, old_marks, value, old_runs, old_back)

    return routine(f"{operation.name}-{way}-panel", panel, INNER)


@device
def _kept_at(aligned: Any, p: Any, begin: Any) -> Any:
    """Return the row of `kept` where a strip's bits are: of aligned ones, only the last's are."""
    return _ZERO if aligned else p - begin
