"""The transposed schedule: down a column memory is contiguous, and along a row the mask is.

Arrays in Fortran order are like this. Large parts go through the *tile pipeline*: it draws the keep
bits of one tile while it applies the operation, column by column, to the previous tile. The rest
goes by micro-tiles. `kernels` calls `transposed_loop`. The loops here call the intrinsics of
`transposed_tile`, and `tiles.column_loop`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..codegen.compiler import routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    copy_bytes,
    pointer_at,
    scratch,
    wide_vectors,
)
from ..elements.operations import Operation, buffer_draw
from ..elements.sampler import DRAWS, POINTER, U64, load64, store64, tie_resolver
from ..elements.storage import BITS
from .apply import sizes
from .call_descriptor import BUFFER, VALUE
from .contiguous import uses_masks
from .loop_nest import AXIS_BYTES, INDEX, INNER, X, Y, length_of, step_of
from .mask_buffer import BUFFER_BYTES
from .tiles import column_loop
from .transposed_tile import (
    COLUMNS,
    DRAWN_CARRIED,
    DRAWN_INDEX,
    DRAWN_MASK,
    DRAWN_ROW_STEP,
    KEPT_BYTES,
    MASK_BYTES,
    SEGMENT,
    apply_decisions,
    apply_segment,
    carry_blocks,
    draw_decisions,
    micro_tile,
    pipeline_step,
)

_ROWS, _COLUMNS = np.uint64(DRAWS), np.uint64(COLUMNS)  # of a micro-tile
_KEPT, _MASK, _SEGMENT = (np.uint64(n) for n in (KEPT_BYTES, MASK_BYTES, SEGMENT))
SEGMENT_ROWS = SEGMENT * DRAWS
_SEGMENT_ROWS, _SEGMENT_MASK = np.uint64(SEGMENT_ROWS), np.uint64(SEGMENT * MASK_BYTES)
# If rows do not begin with a Philox block, 8 elements of a row lie in two blocks. The draws of the
# second are carried to the next 8 columns: 16 bytes per row and level, for this many rows.
_CARRIED_ROWS, _CARRIED_BYTES = 1024, np.uint64(16)
_carried_scratch = scratch(_CARRIED_ROWS * 16)
# Maximal rows of a tile, so that its keep bits stay in the L1 cache, and maximal bytes of a column.
_TILE_ROWS, _TILE_BYTES = 2048, 8192
assert _TILE_BYTES <= BUFFER_BYTES  # it takes one column if there is no previous tile
_REST = np.uint64(8)  # if possible, at most 1 / 8 of rows are left to micro-tiles or computed twice
_AHEAD = np.uint64(2)  # segments from a computed one to the one that is prefetched
_ZERO, _ONE, _SEVEN = (np.uint64(n) for n in (0, 1, 7))

# Byte offsets in the record of a tile: addresses of its first element in x and y, the step in y
# from column to column, the address of its keep bits, the mask index of its first element, the
# segments of a column, and how many rows earlier the last segment begins, to end with the tile.
_X, _Y, _Y_STEP, _BITS, _INDEX, _SEGMENTS, _BACK = (np.uint64(8 * k) for k in range(7))
_TILE_WORDS = np.uint64(8 * 7)
_two_tiles = scratch(2 * int(_TILE_WORDS))
_drawn_words = scratch(8 * 4)
_two_axes = scratch(2 * int(AXIS_BYTES))


@functools.cache
def transposed_loop(operation: Operation) -> Any:
    """Inner loop over columns (index step 1) and, inside, rows (the smallest step in memory)."""
    micro_tiles: Any = _micro_tiles_loop(operation)
    if operation.needs_uniform or operation.target is BITS:
        return micro_tiles
    tiles: Any = _tiles_loop(operation)
    in_size, out_size = sizes(operation)

    def transposed(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        inside, part = advance(axis, AXIS_BYTES), _two_axes()
        columns, x_column, y_column = length_of(axis), step_of(axis, X), step_of(axis, Y)
        rows, x_row, y_row = length_of(inside), step_of(inside, X), step_of(inside, Y)
        whole, tall = columns - columns % _COLUMNS, rows
        rest = rows % _SEGMENT_ROWS
        # Unless in place, the last segment of a column can begin earlier and compute rows twice.
        apart = in_size == _ZERO or address_of(x) != address_of(y)
        more = (_SEGMENT_ROWS - rest) * _REST
        if rest * _REST <= rows or not apart or rows < max(more, _SEGMENT_ROWS):
            tall = rows - rest
        if not whole or not tall or x_row != in_size or y_row != out_size:
            micro_tiles(x, y, axis, index, call)
            return
        copy_bytes(part, axis, AXIS_BYTES + AXIS_BYTES)
        store64(part, _ZERO, whole)
        store64(part, AXIS_BYTES, tall)
        tiles(x, y, part, index, call)
        if tall < rows:
            store64(part, AXIS_BYTES, rows - tall)
            below = index + tall * step_of(inside, INDEX)
            micro_tiles(advance(x, tall * x_row), advance(y, tall * y_row), part, below, call)
        if whole < columns:
            store64(part, _ZERO, columns - whole)
            store64(part, AXIS_BYTES, rows)
            a, b = advance(x, whole * x_column), advance(y, whole * y_column)
            micro_tiles(a, b, part, index + whole, call)

    return routine(f"{operation.name}-transposed", transposed, INNER)


@functools.cache
def _micro_tiles_loop(operation: Operation) -> Any:
    """Inner loop as `transposed_loop`, by micro-tiles, down 8 columns at a time.

    The hardware can follow 8 streams, but not 32. Where columns are contiguous in memory, keep
    masks stay in registers. Other decisions are written to memory, and then applied by columns.
    """
    tie_resolver()  # known by its symbol
    in_registers = not operation.needs_uniform and operation.target is not BITS
    partly = uses_masks(operation)
    whole: Any = _micro_tile_rows(operation, False) if in_registers else None
    part: Any = _micro_tile_rows(operation, True) if partly else None
    levels = 2 if operation.needs_uniform else 1
    # Drawing whole uniforms takes so long that writing them to memory costs little.
    needs_uniform = operation.needs_uniform
    put: Any = apply_decisions(operation) if needs_uniform else None
    draw, apply = _decision_loop(buffer_draw(operation)), column_loop(operation)
    carry = carry_blocks(levels)
    in_size, out_size = sizes(operation)
    most, row_bytes = np.uint64(_CARRIED_ROWS // levels), _CARRIED_BYTES * np.uint64(levels)

    def micro_tiles(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        wide_vectors()
        inside, carried = advance(axis, AXIS_BYTES), _carried_scratch()
        columns, x_column, y_column = length_of(axis), step_of(axis, X), step_of(axis, Y)
        rows, x_row, y_row = length_of(inside), step_of(inside, X), step_of(inside, Y)
        row_step = step_of(inside, INDEX)
        decision, value = pointer_at(load64(call, BUFFER)), pointer_at(load64(call, VALUE))
        contiguous = x_row == in_size and y_row == out_size
        for begin in range(_ZERO, rows, most):
            end = min(begin + most, rows)
            for p in range(begin, end, _ROWS):
                blocks = advance(carried, (p - begin) * row_bytes)
                carry(blocks, index + p * row_step, row_step, call)
            for column in range(_ZERO, columns, _COLUMNS):
                width = min(_COLUMNS, columns - column)
                p = begin
                while p < end:
                    a = advance(x, p * x_row + column * x_column)
                    b = advance(y, p * y_row + column * y_column)
                    first = index + p * row_step + column
                    blocks = advance(carried, (p - begin) * row_bytes)
                    n = min(_ROWS, end - p)
                    if in_registers:  # a compile-time constant
                        if contiguous and width == _COLUMNS and n == _ROWS:
                            n = end - p - (end - p) % _ROWS
                            whole(a, b, axis, first, call, blocks, n)
                            p += n
                            continue
                    p += n
                    if partly:
                        if contiguous and width == _COLUMNS:
                            part(a, b, axis, first, call, blocks, n)
                            continue
                    draw(decision, first, row_step, blocks, call)
                    if needs_uniform:
                        if contiguous and width == _COLUMNS and n == _ROWS:
                            put(a, b, axis, decision, value)
                            continue
                    for j in range(width):
                        from_column, to_column = advance(a, j * x_column), advance(b, j * y_column)
                        apply(from_column, x_row, to_column, y_row, decision, j * _ROWS, n, value)

    return routine(f"{operation.name}-micro-tiles", micro_tiles, INNER)


@functools.cache
def _micro_tile_rows(operation: Operation, partial: bool) -> Any:
    """Routine ``(x, y, axis, index, call, carried, n)``: n rows, whole micro-tiles or part of one.

    It is not inlined, because LLVM would keep too many of the caller's values in registers.
    """
    treat = micro_tile(operation, partial)
    in_size, out_size = sizes(operation)
    x_bytes, y_bytes, carried_bytes = _ROWS * in_size, _ROWS * out_size, _ROWS * _CARRIED_BYTES

    def run(x: Any, y: Any, axis: Any, index: Any, call: Any, carried: Any, n: Any) -> None:
        wide_vectors()
        row_step = step_of(advance(axis, AXIS_BYTES), INDEX)
        for _ in range((n + _ROWS - _ONE) // _ROWS):
            treat(x, y, axis, index, call, carried, n)
            x, y = advance(x, x_bytes), advance(y, y_bytes)
            carried = advance(carried, carried_bytes)
            index += _ROWS * row_step

    signature = types.void(*[POINTER] * 3, U64, POINTER, POINTER, U64)
    return routine(f"{operation.name}-micro-tile{'-part' * partial}", run, signature)


@functools.cache
def _decision_loop(drawn: Operation) -> Any:
    """Routine ``(decision, index, row_step, carried, call)``: write a micro-tile's decisions."""
    tie_resolver()  # known by its symbol
    trace = draw_decisions(drawn)

    def draw(decision: Any, index: Any, row_step: Any, carried: Any, call: Any) -> None:
        wide_vectors()
        trace(decision, index, row_step, carried, call)

    signature = types.void(POINTER, U64, U64, POINTER, POINTER)
    return routine(f"{drawn.name}-micro-tile", draw, signature)


@functools.cache
def _tiles_loop(operation: Operation) -> Any:
    """Inner loop as `transposed_loop`, by the tile pipeline.

    There are a multiple of 8 columns, contiguous in x and y, and a multiple of `SEGMENT_ROWS` rows,
    or, if not in place, at least that many. A tile has 8 columns and at most `_TILE_ROWS` rows.
    """
    tie_resolver()  # known by its symbol
    advance_by: Any = _pipeline(operation, False)
    advance_aligned: Any = _pipeline(operation, True)
    drain: Any = _drain(operation)
    carry = carry_blocks(1)
    in_size, out_size = sizes(operation)
    tile_rows = min(_TILE_ROWS, _TILE_BYTES // int(out_size))
    mask_bytes = tile_rows // DRAWS * MASK_BYTES
    two_masks = scratch(2 * mask_bytes)
    tall, less_tall = np.uint64(tile_rows), np.uint64(min(tile_rows, _CARRIED_ROWS))
    one_mask = np.uint64(mask_bytes)

    def tiles(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        wide_vectors()
        inside = advance(axis, AXIS_BYTES)
        columns, x_column, y_column = length_of(axis), step_of(axis, X), step_of(axis, Y)
        rows, row_step = length_of(inside), step_of(inside, INDEX)
        new, carried = _two_tiles(), _carried_scratch()
        old = advance(new, _TILE_WORDS)
        store64(new, _BITS, address_of(two_masks()))
        store64(old, _BITS, load64(new, _BITS) + one_mask)
        store64(old, _SEGMENTS, _ZERO)
        aligned = (index | row_step) & _SEVEN == _ZERO
        # Tiles have about equally many rows, in whole segments.
        most = tall if aligned else less_tall
        bands = (rows + most - _ONE) // most
        most = (rows + bands - _ONE) // bands
        most += (_ZERO - most) % _SEGMENT_ROWS
        for begin in range(_ZERO, rows, most):
            height = min(most, rows - begin)
            back = (_ZERO - height) % _SEGMENT_ROWS
            segments = (height + back) // _SEGMENT_ROWS
            a, b = advance(x, begin * in_size), advance(y, begin * out_size)
            first = index + begin * row_step
            if not aligned:
                for p in range(_ZERO, height + back, _ROWS):
                    row = p - back if p + _SEGMENT_ROWS >= height + back else p
                    carry(
                        advance(carried, p * _CARRIED_BYTES), first + row * row_step, row_step, call
                    )
            if load64(old, _SEGMENTS) != segments or load64(old, _BACK) != back:
                if load64(old, _SEGMENTS):
                    drain(old, axis, call)
                # There is no previous tile: output goes to the mask buffer, which nobody reads.
                store64(old, _X, address_of(a))
                store64(old, _Y, load64(call, BUFFER))
                store64(old, _Y_STEP, _ZERO)
                store64(old, _SEGMENTS, segments)
                store64(old, _BACK, back)
            for column in range(_ZERO, columns, _COLUMNS):
                store64(new, _X, address_of(a) + column * x_column)
                store64(new, _Y, address_of(b) + column * y_column)
                store64(new, _Y_STEP, y_column)
                store64(new, _INDEX, first + column)
                store64(new, _SEGMENTS, segments)
                store64(new, _BACK, back)
                if aligned:
                    advance_aligned(old, new, axis, carried, call)
                else:
                    advance_by(old, new, axis, carried, call)
                old, new = new, old
        drain(old, axis, call)

    return routine(f"{operation.name}-tiles", tiles, INNER)


@functools.cache
def _pipeline(operation: Operation, aligned: bool) -> Any:
    """Routine ``(old, new, axis, carried, call)``: draw one tile, apply the operation to another.

    The two have equally many segments. A step draws a micro-tile of `new` and applies the operation
    to a segment of `old`. So memory is accessed column by column, as in C order, and drawing hides
    the latency of loads and stores. Micro-tiles access 8 columns at once, and if these are whole
    pages apart, they compete for the same cache sets.

    Rates of float32 over those of C order, 256 x 256 and 1024 x 1024, Zen 5, 2026-11: with AVX-512
    0.81 and 0.93, with AVX2 0.99 and 1.02. If round keys are computed for every micro-tile and not
    once: 0.75 and 0.85, 0.92 and 0.98. If, besides, AVX2 draws all four vectors of blocks at once:
    0.88 at 1024 x 1024.

    Keep bits lie in memory by micro-tiles, and inside these by columns. Slower, on earlier machines
    (2026-11): first all bits of a tile, then all its elements (0.53 to 0.67, the pipeline 0.91);
    any number of micro-tiles, so that a column may end among the 8 of a step (0.63 to 0.72),
    because scalar instructions take ports from vector instructions. As fast: keep bits gathered by
    ``pext`` from comparisons before the transposition.
    """
    tie_resolver()  # known by its symbol
    step = pipeline_step(operation, aligned)
    in_size, out_size = sizes(operation)
    x_segment, y_segment = _SEGMENT_ROWS * in_size, _SEGMENT_ROWS * out_size
    carried_bytes = _ROWS * _CARRIED_BYTES

    def pipeline(old: Any, new: Any, axis: Any, carried: Any, call: Any) -> None:
        wide_vectors()
        drawn, x_column, y_column = _drawn_words(), step_of(axis, X), load64(old, _Y_STEP)
        x, y = pointer_at(load64(old, _X)), pointer_at(load64(old, _Y))
        mask, draw_mask = pointer_at(load64(old, _BITS)), load64(new, _BITS)
        index, row_step = load64(new, _INDEX), step_of(advance(axis, AXIS_BYTES), INDEX)
        segments, back = load64(new, _SEGMENTS), load64(new, _BACK)
        store64(drawn, DRAWN_ROW_STEP, row_step)
        # Addresses are incremented, which is faster than computing them from counters: 0.83 to 0.90
        # of the rate of C order, not 0.70 to 0.76 (Cascade Lake, 2026-11).
        height, tile_step = segments * _SEGMENT_ROWS - back, _ROWS * row_step
        x_back, y_back, index_back = back * in_size, back * out_size, back * row_step
        x_jump, y_jump = x_column - height * in_size, y_column - height * out_size
        mask_jump = _KEPT - segments * _SEGMENT_MASK
        # Distances from the end of the last column to the tile that is applied next.
        x_far = load64(new, _X) - address_of(x) - _SEGMENT * x_column
        y_far = load64(new, _Y) - address_of(y) - _SEGMENT * y_column
        segment, tile, last = _ZERO, _ZERO, segments - _ONE
        first_back = last * _SEGMENT
        # Cache lines are prefetched two segments ahead, which may be in the next column or tile.
        segment_ahead, column_ahead = _AHEAD, _ZERO
        x_ahead, y_ahead = advance(x, _AHEAD * x_segment), advance(y, _AHEAD * y_segment)
        if segments <= _AHEAD:
            passed = _AHEAD // segments
            x_ahead, y_ahead = advance(x, passed * x_column), advance(y, passed * y_column)
            segment_ahead, column_ahead = _ZERO, passed
        for _ in range(segments * _SEGMENT):
            store64(drawn, DRAWN_MASK, draw_mask)
            store64(drawn, DRAWN_CARRIED, address_of(carried))
            store64(drawn, DRAWN_INDEX, index)
            step(x, y, mask, x_ahead, y_ahead, drawn, call)
            x, y = advance(x, x_segment), advance(y, y_segment)
            mask = advance(mask, _SEGMENT_MASK)
            segment += _ONE
            if segment == segments:
                segment = _ZERO
                x, y, mask = advance(x, x_jump), advance(y, y_jump), advance(mask, mask_jump)
            elif segment == last:
                x, y = advance(x, _ZERO - x_back), advance(y, _ZERO - y_back)
            index += tile_step
            tile += _ONE
            if tile == first_back:
                index -= index_back
            carried, draw_mask = advance(carried, carried_bytes), draw_mask + _MASK
            x_ahead, y_ahead = advance(x_ahead, x_segment), advance(y_ahead, y_segment)
            segment_ahead += _ONE
            if segment_ahead == segments:
                segment_ahead = _ZERO
                column_ahead += _ONE
                x_ahead = advance(x_ahead, x_jump - x_back)
                y_ahead = advance(y_ahead, y_jump - y_back)
                if column_ahead == _SEGMENT:
                    x_ahead, y_ahead = advance(x_ahead, x_far), advance(y_ahead, y_far)

    signature = types.void(*[POINTER] * 5)
    return routine(f"{operation.name}-pipeline{'-aligned' * aligned}", pipeline, signature)


@functools.cache
def _drain(operation: Operation) -> Any:
    """Routine ``(old, axis, call)``: apply the operation to the last tile."""
    apply = apply_segment(operation)
    in_size, out_size = sizes(operation)

    def drain(old: Any, axis: Any, call: Any) -> None:
        wide_vectors()
        x, y = pointer_at(load64(old, _X)), pointer_at(load64(old, _Y))
        mask, value = pointer_at(load64(old, _BITS)), pointer_at(load64(call, VALUE))
        x_column, y_column, segments = step_of(axis, X), step_of(axis, Y), load64(old, _SEGMENTS)
        for j in range(_COLUMNS):
            for s in range(segments):
                row = s * _SEGMENT_ROWS
                if s == segments - _ONE:
                    row -= load64(old, _BACK)
                a = advance(x, j * x_column + row * in_size)
                b = advance(y, j * y_column + row * out_size)
                apply(a, b, advance(mask, j * _KEPT + s * _SEGMENT_MASK), value)

    return routine(f"{operation.name}-drain", drain, types.void(*[POINTER] * 3))
