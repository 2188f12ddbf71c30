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

from .bits import settler
from .compiler import device, routine
from .intrinsics import address_of, advance, scratch, wide_vectors
from .loops import any_loop, sizes
from .operations import Operation, drawn_for
from .shared import PAIR
from .span import by_masks
from .storage import BITS
from .strip_loops import (
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
from .strips import COLUMNS

_COLUMNS = np.uint64(COLUMNS)
# Where rows do not begin with a block, the 8 elements of a row lie in two, and the second is kept
# for the next 8 columns: 16 bytes a row and level, for that many rows.
_KEPT_ROWS = np.uint64(1024)
_kept_scratch = scratch(int(_KEPT_ROWS * ROW_BYTES))
# Rows from which on strips begin where lines of the output do, if lines do so in all columns alike.
# Where columns lie whole pages apart, and input and output at the same place of a page, 16 lines
# want a place of the first level that has room for 8, and one that lies in two strips is fetched
# twice: 1024 x 1024 float32 at 0.76 of the rate of C order, not 0.67. Elsewhere it gains nothing,
# and costs a strip more: 512 x 2048 at 0.77, not 0.80, and 256 x 256 at 0.75, not 0.86.
_ROWS_MET = np.uint64(1024)
_LINE = np.uint64(64)
_ZERO, _SEVEN = np.uint64(0), np.uint64(7)


@functools.cache
def panel_loop(operation: Operation, way: str) -> Any:
    """Routine over two axes: index step 1 along columns, memory nearest along rows inside.

    Goes down 8 columns at a time: that many streams the hardware can follow, and 32 it cannot
    (1000 x 1003 float32: a fifth of the rate of C order, not four fifths).
    """
    settler()  # known by its symbol
    decides, packed = not operation.exact, operation.target is BITS
    in_registers, partly = decides and not packed, by_masks(operation)
    strips: Any = strips_loop(operation, False, way) if in_registers else None
    strips_aligned: Any = strips_loop(operation, True, way) if in_registers else None
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

    def panel(
        x: Any,
        x_column: Any,
        x_row: Any,
        y: Any,
        y_column: Any,
        y_row: Any,
        columns: Any,
        rows: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        marks: Any,
    ) -> None:
        wide_vectors()
        kept_blocks = _kept_scratch()
        contiguous = not packed and x_row == in_size and y_row == out_size
        # Strips are counted from `skipped` rows before the first.
        skipped = _ZERO
        if partly and contiguous and rows >= _ROWS_MET and y_column % _LINE == _ZERO:
            past = address_of(y) % _LINE
            if past % out_size == _ZERO:
                skipped = (past // out_size) % ROWS
        there = skipped + rows
        whole = there - there % ROWS if contiguous else _ZERO
        aligned = decides and contiguous and (index | row_step | columns) & _SEVEN == _ZERO
        if not partly:
            aligned = aligned and whole == there
        most = there if aligned else rows_kept
        for begin in range(_ZERO, there, most):
            end = min(begin + most, there)
            height = end - begin
            for p in range(begin, end, ROWS):
                if not aligned or p < skipped or p >= whole:
                    kept = advance(kept_blocks, _kept_at(aligned, p, begin) * row_bytes)
                    first = index + (p - skipped) * row_step
                    keep_blocks(kept, first, row_step, seed, stream, threshold)
            for column in range(_ZERO, columns, _COLUMNS):
                width = min(_COLUMNS, columns - column)
                by_strips = contiguous and width == _COLUMNS
                # From the end of these columns to the beginning of the next.
                x_next = _COLUMNS * x_column - height * x_row
                y_next = _COLUMNS * y_column - height * y_row
                p = begin
                while p < end:
                    row = p - skipped
                    i = index + row * row_step + column
                    a = advance(x, row * x_row + column * x_column)
                    b = advance(y, row * y_row + column * y_column)
                    kept = advance(kept_blocks, _kept_at(aligned, p, begin) * row_bytes)
                    before = skipped if p < skipped else _ZERO  # in this strip
                    n = min(ROWS, there - p) - before
                    if in_registers:  # known when this is compiled
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
                                    seed,
                                    stream,
                                    threshold,
                                    value,
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
                                    seed,
                                    stream,
                                    threshold,
                                    value,
                                    kept,
                                    count,
                                )
                            p += count * ROWS
                            continue
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
                                seed,
                                stream,
                                threshold,
                                value,
                                kept,
                                before,
                                n,
                            )
                            continue
                    draw(marks, i, row_step, seed, stream, threshold, kept)
                    if not decides:
                        if by_strips and n == ROWS:
                            put(a, x_column, b, y_column, ahead, ahead, marks, value)
                            continue
                    for j in range(width):
                        mark = advance(marks, j * column_bytes + before * noise_size)
                        from_column = advance(a, j * x_column + before * x_row)
                        to_column = advance(b, j * y_column + before * y_row)
                        apply(from_column, x_row, to_column, y_row, mark, n, value)

    return routine(f"{operation.name}-{way}-panel", panel, PAIR)


@device
def _kept_at(aligned: Any, p: Any, begin: Any) -> Any:
    """Return the row of `kept` where a strip's bits are: of aligned ones, only the ends' are."""
    if aligned:
        return ROWS if p else _ZERO
    return p - begin
