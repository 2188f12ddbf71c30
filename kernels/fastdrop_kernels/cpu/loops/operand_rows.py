"""Rows: two axes of an array of several inputs, as tiles.

Where x, y and mask go on from row to row, short rows make one long line, and only the operands that
do not go on (a bias, say) are laid out beside it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, pointer_at, scratch, wide_vectors
from ..elements.operations import MARKS, UNIFORMS
from ..elements.sampler import POINTER, U64, is_degenerate, load64, store16
from .call_descriptor import BUFFER, FIRST, THRESHOLD, VALUE
from .copy import mover
from .loop_nest import length_of, step_of
from .mask_buffer import TILE, noise_window
from .operand_tiles import COUNT, Form, call_tile, offsets, put_side
from .strided import joined_step

_TILE, _COUNT = np.uint64(TILE), np.uint64(COUNT)
# Rows up to so long are joined where that can be.
_SHORT = np.uint64(TILE // 2)
_ZERO, _ONE, _EIGHT = (np.uint64(n) for n in (0, 1, 8))
_SHARED, _CONSECUTIVE = np.uint64(0), np.uint64(1)  # index steps
_ALL_KEPT = np.uint64(0xFFFF)  # a mark


@functools.cache
def rows_loop(form: Form) -> Any:
    """Routine ``(tile, at, axes, call)``.

    `tile` is the address of an operation's `tile_loop`. `at` says where the rows begin: the
    addresses of the inputs, of y, and the mask index; the two axes are the rows at `axes` of a
    table. The mask buffer of the call state has room for `NOISE_ELEMENTS`.
    """
    drawn_as = UNIFORMS if form.exact else MARKS
    move, provide = mover(), noise_window(drawn_as)
    sizes = tuple([np.uint64(size) for size in form.inputs])
    inputs, decides = np.uint64(len(sizes)), not form.exact
    out_column, index_column = inputs, inputs + _ONE
    out_size, noise_size = np.uint64(form.output), np.uint64(drawn_as.target.itemsize)
    places = offsets(form.inputs, TILE)
    sides_scratch, alike_scratch = scratch(16 * len(sizes)), scratch(4 * COUNT)
    buffers_scratch = scratch(int(places[-1]) + TILE * form.output)
    made_place, axis_bytes = places[-1], np.uint64(8 * (form.columns + 1))

    @device
    def goes_on(outer: Any, inner: Any, column: Any) -> Any:
        return step_of(outer, column) == length_of(inner) * step_of(inner, column)

    def rows(tile: Any, at: Any, outer: Any, call: Any) -> None:
        wide_vectors()
        inner, noise = advance(outer, axis_bytes), pointer_at(load64(call, BUFFER))
        threshold, value = load64(call, THRESHOLD), pointer_at(load64(call, VALUE))
        sides, alike, buffers = sides_scratch(), alike_scratch(), buffers_scratch()
        made = advance(buffers, made_place)
        n, runs, most = length_of(inner), length_of(outer), _TILE
        joined = (
            n <= _SHORT
            and goes_on(outer, inner, _ZERO)
            and goes_on(outer, inner, out_column)
            and goes_on(outer, inner, index_column)
            and step_of(inner, index_column) <= _CONSECUTIVE  # else tiles are shorter than rows
        )
        row = n
        if joined:
            most -= _TILE % n
            n, runs = n * runs, _ONE
        index_step, row_step = step_of(inner, index_column), step_of(outer, index_column)
        out_step = step_of(inner, out_column)
        # Rows of any length: what is drawn at once has an end of its own.
        together = joined_step(n, row_step, n) if index_step == _CONSECUTIVE else _ZERO
        if index_step > _CONSECUTIVE:
            most = _COUNT
        certain = decides and is_degenerate(threshold)
        if certain:
            mark = _ALL_KEPT if threshold == _ZERO else _ZERO
            for t in range(_COUNT):
                store16(alike, t * noise_size, types.uint16(mark))
        for r in range(runs):
            done = _ZERO
            while done < n:
                m = min(most, n - done)
                for k in range(inputs):
                    size, step, row_apart = sizes[k], step_of(inner, k), step_of(outer, k)
                    begin = pointer_at(load64(at, _EIGHT * k) + r * row_apart)
                    place, buffer = advance(begin, done * step), advance(buffers, places[k])
                    if joined and not goes_on(outer, inner, k):
                        # What is repeated for all rows stays there from tile to tile.
                        if done == _ZERO or row_apart != _ZERO:
                            for t in range(_ZERO, m, row):
                                begun = advance(begin, (done + t) // row * row_apart)
                                move(advance(buffer, t * size), size, begun, step, row, size)
                        put_side(sides, k, buffer, size)
                    elif step == size:
                        put_side(sides, k, place, size)
                    elif step == _ZERO:
                        move(buffer, size, place, step, _COUNT, size)
                        put_side(sides, k, buffer, step)
                    else:
                        move(buffer, size, place, step, m, size)
                        put_side(sides, k, buffer, size)
                drawn, drawn_step = alike, _ZERO
                element = load64(at, _EIGHT * index_column) + r * row_step + done * index_step
                if index_step == _CONSECUTIVE and not certain:
                    reach = (runs - r) * together
                    provide(element, m, reach, call)
                    drawn = advance(noise, (element - load64(call, FIRST)) * noise_size)
                    drawn_step = noise_size
                elif not certain:
                    many, copies = (m, _ONE) if index_step else (_ONE, _COUNT)
                    for t in range(many):
                        one = element + t * index_step
                        provide(one, _ONE, _ZERO, call)
                        its = advance(noise, (one - load64(call, FIRST)) * noise_size)
                        copy = advance(alike, t * noise_size)
                        move(copy, noise_size, its, _ZERO, copies, noise_size)
                    drawn_step = noise_size if index_step else _ZERO
                target = pointer_at(
                    load64(at, _EIGHT * out_column)
                    + r * step_of(outer, out_column)
                    + done * out_step
                )
                if out_step == out_size:
                    call_tile(tile, sides, drawn, drawn_step, target, m, value)
                else:
                    call_tile(tile, sides, drawn, drawn_step, made, m, value)
                    move(target, out_step, made, out_size, m, out_size)
                done += m

    signature = types.void(U64, POINTER, POINTER, POINTER)
    return routine(f"{form.name}-rows", rows, signature)
