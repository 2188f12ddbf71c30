"""Panels: rectangles of elements for arrays that jump through the mask, as in Fortran order.

Memory is contiguous along rows, the mask along columns. A *strip* is as many rows as a vector has
halves, by 8 columns: a block for each row. Four chains draw the blocks of every fourth row, so that
the 16-bit halves of four words, put side by side, are those of four rows in order: the transpose
takes shifts and masks and no shuffles.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import types

from .bits import HALVES, POINTER, ROUNDS, U64, Law, in_long_vectors, settler, uniforms_of
from .compiler import routine
from .intrinsics import advance, intrinsic, scratch, wide_vectors
from .lanes import I32, Lanes, load
from .loops import any_loop, sizes
from .operations import Operation, drawn_for
from .shared import PAIR
from .span import NEAR
from .storage import BITS
from .strips import COLUMNS, Columns, Strip, columns_of, got_blocks, put_blocks

_ROWS, _COLUMNS = np.uint64(HALVES), np.uint64(COLUMNS)
# Where rows do not begin with a block, the 8 elements of a row lie in two, and the second is kept
# for the next 8 columns: 16 bytes a row and level, for that many rows.
_KEPT_ROWS = np.uint64(1024)
_ROW_BYTES = np.uint64(16)
_kept_scratch = scratch(int(_KEPT_ROWS * _ROW_BYTES))
# Bytes down each column that FAR asks for ahead: 1 Mi float32 at 0.64 of the rate of C order, not
# 0.55, and 16 Mi at 0.8. All from 320 to 1600 are alike, and so is asking for the second level.
# Where columns lie whole pages apart, and input and output at the same place of a page, 16 lines
# want a place of the first level that has room for 8: 1024 x 1024 at 0.60, elsewhere 0.74. To ask
# for the output's lines in the second level only made that 0.64 and 0.69.
_AHEAD_BYTES = 320
_ZERO, _SEVEN = np.uint64(0), np.uint64(7)


def _keep_blocks(levels: int) -> Any:
    """Intrinsic ``(kept, index, row_step, ...)``: the bits of the blocks in which rows begin."""

    @intrinsic
    def keep_blocks(
        typingctx: Any, kept: Any, index: Any, row_step: Any, seed: Any, stream: Any, threshold: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kept, index, row_step, *key = args
            rows = Strip(Law(builder, *key), index, row_step)
            for level in range(levels):
                put_blocks(rows.blocks(0, level), kept, level)
            return context.get_dummy_value()

        return types.void(POINTER, *[U64] * 5), codegen

    return keep_blocks


def _levels(operation: Operation) -> int:
    """Return how many times 16 bits are drawn of every element: for decisions, or uniforms."""
    return 2 if operation.exact else 1


def _strip(operation: Operation, aligned: bool, way: str) -> Any:
    """Intrinsic ``(x, x_column, y, y_column, index, row_step, ..., kept)``: one strip.

    Where rows begin inside blocks (not `aligned`), `kept` holds the bits of these blocks, and then
    of those that follow.
    """
    levels = _levels(operation)

    @intrinsic
    def strip(
        typingctx: Any,
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        x_ahead: Any,
        y_ahead: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        kept: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, x_column, y, y_column, *ahead, index, row_step, seed, stream, threshold = args[:-2]
            value, kept = args[-2:]
            key = seed, stream, threshold
            law = Law(builder, *key)
            rows = Strip(law, index, row_step)
            columns = Columns(operation, way, builder, (x, x_column), (y, y_column))

            def between(r: int) -> None:
                columns.ask_ahead(ahead, ROUNDS - 1, r)

            halves = []
            for level in range(levels):
                if aligned:
                    words = rows.blocks(0, level, between)
                else:
                    following = rows.blocks(1, level, between)
                    words = rows.moved(got_blocks(builder, kept, level), following)
                    put_blocks(following, kept, level)
                halves.append(columns_of(words))
            noise: Iterator[Lanes]
            if operation.exact:
                uniforms = [uniforms_of(*levels) for levels in zip(*halves, strict=True)]
                pairs = map(operation.noise, in_long_vectors(uniforms))  # of columns
                noise = (column for pair in pairs for column in pair.parted())
            else:
                runs = [(builder.add(index, j), row_step, HALVES) for j in columns.each]
                noise = (column >= law.bound for column in law.settled(halves[0], runs))
            columns.put(noise, operation.parameters(builder, value))
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, *[U64] * 8, POINTER, POINTER), codegen

    return strip


@functools.cache
def _strip_of_noise(drawn: Operation) -> Any:
    """Routine ``(noise, index, row_step, seed, stream, threshold, kept)``.

    It writes a strip's noise, column by column.
    """
    settler()  # known by its symbol
    strip: Any = _strip(drawn, False, NEAR)
    column_bytes = _ROWS * np.uint64(drawn.target.itemsize)

    def draw(
        noise: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        kept: Any,
    ) -> None:
        wide_vectors()
        strip(
            noise,
            _ZERO,
            noise,
            column_bytes,
            _ZERO,
            _ZERO,
            index,
            row_step,
            seed,
            stream,
            threshold,
            noise,
            kept,
        )

    return routine(f"{drawn.name}-strip", draw, types.void(POINTER, *[U64] * 5, POINTER))


def _strip_put(operation: Operation, way: str) -> Any:
    """Intrinsic ``(x, x_column, y, y_column, x_ahead, y_ahead, noise, value)``: one strip.

    Its noise is in memory, column by column, 32 bits each.
    """

    @intrinsic
    def put(
        typingctx: Any,
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        x_ahead: Any,
        y_ahead: Any,
        noise: Any,
        value: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, x_column, y, y_column, *ahead, noise, value = args
            columns = Columns(operation, way, builder, (x, x_column), (y, y_column))
            columns.ask_ahead(ahead, 1, 0)
            there = (load(builder, noise, 4 * HALVES * j, I32, HALVES) for j in range(COLUMNS))
            columns.put(there, operation.parameters(builder, value))
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, *[U64] * 3, POINTER, POINTER), codegen

    return put


@functools.cache
def panel_loop(operation: Operation, way: str) -> Any:
    """Routine over two axes: index step 1 along columns, memory nearest along rows inside.

    Goes down 8 columns at a time: that many streams the hardware can follow, and 32 it cannot
    (1000 x 1003 float32: a fifth of the rate of C order, not four fifths).
    """
    settler()  # known by its symbol
    decides, packed = not operation.exact, operation.target is BITS
    in_registers = decides and not packed
    strip: Any = _strip(operation, False, way) if in_registers else None
    strip_aligned: Any = _strip(operation, True, way) if in_registers else None
    # What is exact draws so long that a way through memory costs little (1024 x 1024 float32 in
    # 1.40 times C order's time and not 1.22, 1000 x 1000 alike), and it needs no code of its own.
    put: Any = None if decides else _strip_put(operation, way)
    drawn, levels = drawn_for(operation), _levels(operation)
    draw, apply, keep_blocks = _strip_of_noise(drawn), any_loop(operation), _keep_blocks(levels)
    in_size, out_size = sizes(operation)
    row_bytes, rows_kept = _ROW_BYTES * np.uint64(levels), _KEPT_ROWS // np.uint64(levels)
    column_bytes = _ROWS * np.uint64(drawn.target.itemsize)
    ahead = np.uint64(_AHEAD_BYTES)

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
        whole = rows - rows % _ROWS
        if packed or x_row != in_size or y_row != out_size:
            whole = _ZERO
        # To let whole strips of aligned rows go this way, where some rows remain, gained nothing
        # (1000 x 1000, 1%) and cost other shapes 5 to 9%.
        aligned = decides and (index | row_step | columns) & _SEVEN == _ZERO and whole == rows
        most = rows if aligned else rows_kept
        for begin in range(_ZERO, rows, most):
            end = min(begin + most, rows)
            height = end - begin
            if not aligned:
                for row in range(begin, end, _ROWS):
                    kept = advance(kept_blocks, (row - begin) * row_bytes)
                    first = index + row * row_step
                    keep_blocks(kept, first, row_step, seed, stream, threshold)
            for column in range(_ZERO, columns, _COLUMNS):
                width = min(_COLUMNS, columns - column)
                for row in range(begin, end, _ROWS):
                    i = index + row * row_step + column
                    a = advance(x, row * x_row + column * x_column)
                    b = advance(y, row * y_row + column * y_column)
                    kept = advance(kept_blocks, (row - begin) * row_bytes)
                    # At the end of these columns, ask for the next.
                    x_ahead = y_ahead = ahead
                    if (row - begin) * x_row + ahead >= height * x_row:
                        x_ahead += _COLUMNS * x_column - height * x_row
                    if (row - begin) * y_row + ahead >= height * y_row:
                        y_ahead += _COLUMNS * y_column - height * y_row
                    if in_registers:  # known when this is compiled
                        if aligned:
                            strip_aligned(
                                a,
                                x_column,
                                b,
                                y_column,
                                x_ahead,
                                y_ahead,
                                i,
                                row_step,
                                seed,
                                stream,
                                threshold,
                                value,
                                marks,
                            )
                            continue
                        if row < whole and width == _COLUMNS:
                            strip(
                                a,
                                x_column,
                                b,
                                y_column,
                                x_ahead,
                                y_ahead,
                                i,
                                row_step,
                                seed,
                                stream,
                                threshold,
                                value,
                                kept,
                            )
                            continue
                    count = min(_ROWS, rows - row)
                    draw(marks, i, row_step, seed, stream, threshold, kept)
                    if not decides:
                        if row < whole and width == _COLUMNS:
                            put(a, x_column, b, y_column, x_ahead, y_ahead, marks, value)
                            continue
                    for j in range(width):
                        mark = advance(marks, j * column_bytes)
                        from_column, to_column = advance(a, j * x_column), advance(b, j * y_column)
                        apply(from_column, x_row, to_column, y_row, mark, count, value)

    return routine(f"{operation.name}-{way}-panel", panel, PAIR)
