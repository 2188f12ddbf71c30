"""The strided schedule: the three innermost axes of arrays of any layout, for any number of inputs.

Operations are applied to contiguous elements only. Other elements are gathered into the buffer of a
tile first, and scattered from one afterwards; short rows are joined to a tile. Elements with
consecutive mask indices, each used once, are left to the operation's row loop. For others the
decisions come from the mask buffer, and are put in memory order. `kernels` calls `tiles_loop`,
which is compiled once per number of inputs: it calls the routines in a dispatch table (see
`tiles`).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    advance,
    call_at,
    pointer_at,
    scratch,
)
from ..elements.sampler import DRAWS, GROUP, POINTER, U64, is_degenerate, load64, store64
from .call_descriptor import BUFFER, ONCE, REACH, THRESHOLD, VALUE
from .copy import gather
from .dispatch import (
    ALL_OR_NONE,
    DECISION_SIZE,
    GATHERS,
    MOST,
    OUT_SIZE,
    PROVIDE,
    ROW,
    SCATTER,
    SHORT,
    SIZES,
    TILE,
    TILE_BYTES,
)
from .loop_nest import length_of, step_of
from .mask_buffer import append, bits_at, close_step, ensure, repeat_bits, repeat_row, room
from .tiles import VECTOR, offsets, put_side

_GROUP, _VECTOR = np.uint64(GROUP), np.uint64(VECTOR)
_ZERO, _ONE, _THREE, _FOUR, _EIGHT, _TWO_WORDS = (np.uint64(n) for n in (0, 1, 3, 4, 8, 16))
_SHARED, _CONSECUTIVE = np.uint64(0), np.uint64(1)  # index steps
_ALL_ONES, _ENDLESS = np.uint64(2**64 - 1), np.uint64(1 << 62)
# Maximal lengths of rows that are joined to a tile: if memory and mask continue from row to row, if
# bits have to be put in order, if they are shared along rows, and if rows have to be gathered.
_JOINED, _ASSEMBLED, _ONE_DECISION, _GATHERED = (np.uint64(n) for n in (512, 128, 64, 48))
# Bytes of a tile's decisions. Repeated bits are written in whole vectors, up to 64 bits per lane.
_DECISION_BYTES = TILE_BYTES + 8 * DRAWS + 64
# Byte offsets in the description of rows for `_assembler`: the mask index of the first, elements of
# a row, the index step inside, rows of a block, and the index steps between rows and blocks.
_ROWS_FIRST, _ROWS_N, _ROWS_STEP, _ROWS_RUNS, _ROWS_APART, _BLOCKS_APART = (
    np.uint64(8 * k) for k in range(6)
)
_rows_scratch = scratch(8 * 6)


@device
def _set_bits(bits: Any, n: Any, kept: Any) -> None:
    """Set or clear n bits, and up to 64 bits after them."""
    for t in range(_ZERO, (n >> _THREE) + _EIGHT, _EIGHT):
        store64(bits, t, _ALL_ONES if kept else _ZERO)


@functools.cache
def _assembler() -> Any:
    """Routine ``(bits, rows, r, many, reach, call, dispatch_table)``.

    It writes the decisions of `many` rows, from the r-th on, in memory order.
    """
    fill, repeat_each, repeat = gather(4), repeat_bits(), repeat_row()

    def assemble(
        bits: Any, rows: Any, r: Any, many: Any, reach: Any, call: Any, dispatch_table: Any
    ) -> None:
        provide, decision_size = (
            load64(dispatch_table, PROVIDE),
            load64(dispatch_table, DECISION_SIZE),
        )
        buffer = pointer_at(load64(call, BUFFER))
        n, step, runs = load64(rows, _ROWS_N), load64(rows, _ROWS_STEP), load64(rows, _ROWS_RUNS)
        row_step, block_step = load64(rows, _ROWS_APART), load64(rows, _BLOCKS_APART)
        j = r % runs
        element = load64(rows, _ROWS_FIRST) + r // runs * block_step + j * row_step
        if (
            step == _SHARED
            and row_step == _ONE
            and (j + many <= runs or block_step == runs)
            and not decision_size
        ):
            repeat_each(bits, buffer, ensure(provide, element, many, reach, call), many, n)
            return
        t, behind = _ZERO, _ZERO
        while t < many:
            times = min(runs - j, many - t) if row_step == _ZERO else _ONE
            at = ensure(provide, element, n if step else _ONE, reach, call)
            if decision_size:
                for _ in range(times):
                    to, of = (
                        advance(bits, behind * decision_size),
                        advance(buffer, at * decision_size),
                    )
                    fill(to, of, step * decision_size, n)
                    behind += n
            elif step:
                behind = repeat(bits, behind, buffer, at, n, times)
            else:
                behind = repeat(bits, behind, buffer, at, _ONE, n * times)
            t += times
            j += times
            element += times * row_step
            if j == runs:
                j = _ZERO
                element += block_step - runs * row_step

    return routine("assemble", assemble, types.void(POINTER, POINTER, *[U64] * 3, POINTER, POINTER))


@functools.cache
def tiles_loop(inputs: int) -> Any:
    """Routine ``(at, axes, call, dispatch_table)``.

    `at` points to the addresses of the first element in the inputs and in y, and its mask index.
    `axes` points to three rows of the table of axes: a length, and the steps of these words. BUFFER
    of the call state is the mask buffer.
    """
    assemble, fill = _assembler(), gather(4)
    axis_bytes, count = np.uint64(8 * (inputs + 3)), np.uint64(inputs)
    out_column, index_column = count, count + _ONE
    places, alone = offsets([TILE_BYTES] * (inputs + 1)), inputs == 1
    made_place = places[inputs]
    sides_scratch, buffers_scratch = scratch(16 * inputs), scratch(int(places[-1]))
    decision_scratch = scratch(_DECISION_BYTES)
    kept_rows = np.uint64(room(False)), np.uint64(room(True))

    @device
    def goes_on(outer: Any, inner: Any, column: Any) -> Any:
        return step_of(outer, column) == length_of(inner) * step_of(inner, column)

    @device
    def rows_go_on(middle: Any, inner: Any, column: Any, size: Any) -> Any:
        n = length_of(inner)  # an axis of one element may have any steps
        return step_of(middle, column) == (n * step_of(inner, column) if n > _ONE else size)

    def tiles(at: Any, axes: Any, call: Any, dispatch_table: Any) -> None:
        outer, middle = axes, advance(axes, axis_bytes)
        inner = advance(middle, axis_bytes)
        sides, buffers, bits = sides_scratch(), buffers_scratch(), decision_scratch()
        shape = _rows_scratch()
        made, buffer = advance(buffers, made_place), pointer_at(load64(call, BUFFER))
        row, all_or_none = load64(dispatch_table, ROW), load64(dispatch_table, ALL_OR_NONE)
        provide, apply = load64(dispatch_table, PROVIDE), load64(dispatch_table, TILE)
        decision_size, most = load64(dispatch_table, DECISION_SIZE), load64(dispatch_table, MOST)
        size, out_size = load64(dispatch_table, SIZES), load64(dispatch_table, OUT_SIZE)
        value, threshold = pointer_at(load64(call, VALUE)), load64(call, THRESHOLD)
        n, runs, blocks = length_of(inner), length_of(middle), length_of(outer)
        step, row_step = step_of(inner, index_column), step_of(middle, index_column)
        block_step = step_of(outer, index_column)
        out_step = step_of(inner, out_column) if n > _ONE else out_size
        degenerate, kept = (
            decision_size == _ZERO and is_degenerate(threshold),
            U64(threshold == _ZERO),
        )
        if degenerate:
            step, row_step, block_step = _SHARED, _SHARED, _SHARED

        # Rows are joined along the middle axis, and along both outer axes if memory continues.
        whole = rows_go_on(middle, inner, _ZERO, size)
        whole = whole and rows_go_on(middle, inner, out_column, out_size)
        over_blocks = whole and goes_on(outer, middle, _ZERO) and goes_on(outer, middle, out_column)
        follows = row_step == n * step
        joined = runs > _ONE or (over_blocks and blocks > _ONE)
        joined = joined and step <= _CONSECUTIVE and n <= min(_JOINED, most)
        if joined and not (follows and whole):
            limit = _ASSEMBLED if step else _ONE_DECISION
            joined = n <= (limit if whole else _GATHERED)
        every_block = joined and over_blocks and blocks > _ONE
        rows, in_block = runs, _ENDLESS
        if every_block:
            follows = follows and block_step == runs * row_step
            rows, in_block, blocks = runs * blocks, runs, _ONE
        same_rows = row_step == _ZERO and (block_step == _ZERO or not every_block)
        # Whether all decisions are used once. If not, the buffer keeps as much of a row as it can.
        once = load64(call, ONCE) != _ZERO and (row_step != _ZERO or runs == _ONE)
        once = once and (block_step != _ZERO or length_of(outer) == _ONE)
        direct = row != _ZERO and (degenerate or (step == _CONSECUTIVE and once))
        direct = direct and (follows or not joined)
        part = n
        if step == _CONSECUTIVE and not once and not joined:
            part = min(n, kept_rows[1] if decision_size else kept_rows[0])
        # The index step between rows whose bits are drawn together, or 0.
        close = _ZERO
        if step == _CONSECUTIVE:
            close = close_step(
                n, row_step if row_step else block_step, load64(dispatch_table, SHORT)
            )
            aligned = (n | row_step | load64(at, _EIGHT * index_column)) % _GROUP == _ZERO
            if (direct and aligned) or not (row_step or every_block):
                close = _ZERO
        if degenerate and row == _ZERO:
            _set_bits(bits, most, kept)
        near = whole or not joined
        in_near = near and (n == _ONE or step_of(inner, _ZERO) == size)
        out_near = near and out_step == out_size
        in_place = alone and in_near and out_near
        tile_rows = max(_ONE, most // n) if joined else _ONE
        store64(shape, _ROWS_N, n)
        store64(shape, _ROWS_STEP, step)
        store64(shape, _ROWS_RUNS, in_block)
        store64(shape, _ROWS_APART, row_step)
        store64(shape, _BLOCKS_APART, block_step)

        for block in range(blocks):
            first_index = load64(at, _EIGHT * index_column) + block * block_step
            first_y = load64(at, _EIGHT * out_column) + block * step_of(outer, out_column)
            store64(shape, _ROWS_FIRST, first_index)
            if in_place and not joined and (direct or (step == _SHARED and all_or_none != _ZERO)):
                # Whole rows, without buffers.
                x = pointer_at(load64(at, _ZERO) + block * step_of(outer, _ZERO))
                y, element = pointer_at(first_y), first_index
                for r in range(rows):
                    if direct:
                        store64(call, REACH, close * (rows - r))
                        call_at(row, (x, y, n, element, call))
                    else:
                        its = ensure(provide, element, _ONE, (rows - r) * row_step, call)
                        one = bits_at(buffer, its, _ONE)
                        call_at(all_or_none, (x, y, one, n, value))
                    x = advance(x, step_of(middle, _ZERO))
                    y = advance(y, step_of(middle, out_column))
                    element += row_step
                continue
            for begin in range(_ZERO, n, part):
                stop, r = min(begin + part, n), _ZERO
                while r < rows:
                    its_rows = min(tile_rows, rows - r)
                    b, j = r // in_block, r % in_block
                    row_index = first_index + b * block_step + j * row_step
                    if not once and not joined and step == _CONSECUTIVE:
                        ensure(provide, row_index + begin, stop - begin, _ZERO, call)
                    done = begin
                    while done < stop:
                        element, m = row_index + done * step, stop - done
                        reach = _ZERO
                        if close:
                            left = rows - r if row_step else (rows - r) // in_block
                            reach = max(close * left, done) - done
                        if joined:
                            m = its_rows * n
                        elif m > most and not (in_place and not once):
                            m = most
                            if direct and not reach:
                                m -= (element + m) % _GROUP

                        # Decisions in memory order, from the element `place` on.
                        decision, place, one = bits, _ZERO, kept
                        if direct or degenerate:
                            pass
                        elif joined and not follows:
                            if not same_rows or r == _ZERO:
                                ahead = reach if step else (rows - r) * row_step
                                assemble(bits, shape, r, its_rows, ahead, call, dispatch_table)
                        elif step == _CONSECUTIVE:
                            decision, place = buffer, ensure(provide, element, m, reach, call)
                        elif step == _SHARED:
                            its = ensure(provide, element, _ONE, (rows - r) * row_step, call)
                            if decision_size:
                                fill(bits, advance(buffer, its * decision_size), _ZERO, m)
                            else:
                                one = bits_at(buffer, its, _ONE)
                                if not all_or_none:
                                    _set_bits(bits, m, one)
                        else:
                            held = _ZERO
                            for t in range(m):
                                its = ensure(provide, element + t * step, _ONE, _ZERO, call)
                                if decision_size:
                                    of = advance(buffer, its * decision_size)
                                    fill(advance(bits, t * decision_size), of, _ZERO, _ONE)
                                else:
                                    held = append(bits, t, held, bits_at(buffer, its, _ONE), _ONE)
                        of_one = (
                            all_or_none != _ZERO
                            and step == _SHARED
                            and not (joined and not follows)
                        )

                        # Inputs, read directly or gathered.
                        for k in range(count):
                            column, words = k, _TWO_WORDS * k
                            its_size = load64(dispatch_table, SIZES + words)
                            its_gather = load64(dispatch_table, GATHERS + words)
                            in_step = step_of(inner, column) if n > _ONE else its_size
                            row_apart = step_of(middle, column)
                            apart, into = step_of(outer, column), advance(buffers, places[k])
                            base = load64(at, _EIGHT * column) + block * apart
                            x = pointer_at(base + b * apart + j * row_apart + done * in_step)
                            side, side_step = x, its_size
                            if of_one and not one:
                                pass  # dropped elements are not read
                            elif joined and not (
                                rows_go_on(middle, inner, column, its_size)
                                and (not every_block or goes_on(outer, middle, column))
                            ):
                                # An input that all rows share stays in its buffer.
                                if r == _ZERO or row_apart or (every_block and apart):
                                    t_b, t_j = b, j
                                    for t in range(its_rows):
                                        of = pointer_at(base + t_b * apart + t_j * row_apart)
                                        to = advance(into, t * n * its_size)
                                        call_at(its_gather, (to, of, in_step, n))
                                        t_j += _ONE
                                        if t_j == in_block:
                                            t_b, t_j = t_b + _ONE, _ZERO
                                side = into
                            elif in_step == _ZERO and its_size and not (direct or of_one):
                                call_at(its_gather, (into, x, in_step, _VECTOR))
                                side, side_step = into, _ZERO
                            elif in_step != its_size:
                                call_at(its_gather, (into, x, in_step, m))
                                side = into
                            put_side(sides, k, side, side_step)

                        # Apply the operation, and write y.
                        x = pointer_at(load64(sides, _ZERO))
                        y_apart, y_base = step_of(outer, out_column), first_y + done * out_step
                        row_out = step_of(middle, out_column)
                        y = pointer_at(y_base + b * y_apart + j * row_out)
                        target = y if out_near else made
                        if of_one:
                            call_at(all_or_none, (x, target, one, m, value))
                        elif direct:
                            store64(call, REACH, reach)
                            call_at(row, (x, target, m, element, call))
                        else:
                            call_at(apply, (sides, target, decision, place, m, value))
                        if not out_near:
                            its_scatter = load64(dispatch_table, SCATTER)
                            if near:
                                call_at(its_scatter, (y, out_step, made, m))
                            else:
                                t_b, t_j = b, j
                                for t in range(its_rows):
                                    to = pointer_at(y_base + t_b * y_apart + t_j * row_out)
                                    of = advance(made, t * n * out_size)
                                    call_at(its_scatter, (to, out_step, of, n))
                                    t_j += _ONE
                                    if t_j == in_block:
                                        t_b, t_j = t_b + _ONE, _ZERO
                        done = stop if joined else done + m
                    r += its_rows

    return routine(f"operand-tiles-{inputs}", tiles, types.void(*[POINTER] * 4))
