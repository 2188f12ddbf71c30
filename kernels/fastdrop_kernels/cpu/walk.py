"""Walks: kernels over arrays of any number and layout, rows by rows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..plan import MAX_AXES
from .bits import U64, load64, store64
from .compiler import device, kernel
from .flat import Kernel
from .intrinsics import advance, copy_bytes, pointer_in, scratch, take
from .noise import NOISE_ELEMENTS
from .rows import length_of, rows_loop, step_of
from .tiles import COUNT, Form

_INNER = np.uint64(2)  # axes that are treated at once
_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)


@functools.cache
def odometer(columns: int) -> Any:
    """Inlined ``(axes, outer, counters, at) -> finished``: step to the next place of outer axes.

    `axes` is a table of a length and so many steps for each axis, and `at` what the steps add to.
    """
    each, axis_bytes = np.uint64(columns), np.uint64(8 * (columns + 1))

    @device
    def count_on(axes: Any, outer: Any, counters: Any, at: Any) -> Any:
        a = outer
        finished = True
        while finished and a > _ZERO:
            a -= _ONE
            axis = advance(axes, a * axis_bytes)
            moved, steps = load64(counters, a * _EIGHT) + _ONE, _ONE
            finished = moved == length_of(axis)
            if finished:
                moved, steps = _ZERO, _ONE - moved
            store64(counters, a * _EIGHT, moved)
            for c in range(each):
                store64(at, _EIGHT * c, load64(at, _EIGHT * c) + steps * step_of(axis, c))
        return finished

    return count_on


@functools.cache
def walk(form: Form) -> Kernel:
    """Kernel over a box of axes of any steps, of any number of inputs.

    ``(tile, at, cursor, part, split, axes, n_axes, seed, stream, threshold, value)``: `tile`
    is the address of an operation's `tile_loop`, and `at` the slot of the addresses of the inputs,
    of y, and of the mask index of the first element. `axes` is that of an array of n_axes rows, at
    least 2: a length, and the steps of what `at` says, all uint64 modulo 2**64. The rest is as in
    `box`.
    """
    rows, columns = rows_loop(form), np.uint64(form.columns)
    axis_bytes, count_on = _EIGHT * (columns + _ONE), odometer(form.columns)
    axes_scratch = scratch(int(axis_bytes) * MAX_AXES)
    noise_bytes = (4 if form.exact else 2) * (NOISE_ELEMENTS + COUNT)
    noise_scratch, window_scratch = scratch(noise_bytes), scratch(16)
    at_scratch, counters_scratch = scratch(int(_EIGHT * columns)), scratch(8 * MAX_AXES)

    def run(
        tile: Any,
        at_slot: Any,
        cursor_slot: Any,
        part: Any,
        split: Any,
        axes_slot: Any,
        n_axes: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value_slot: Any,
    ) -> None:
        begin, cursor, value = pointer_in(at_slot), pointer_in(cursor_slot), pointer_in(value_slot)
        axes, at, counters = axes_scratch(), at_scratch(), counters_scratch()
        noise, window = noise_scratch(), window_scratch()
        copy_bytes(axes, pointer_in(axes_slot), n_axes * axis_bytes)
        cut, outer = advance(axes, split * axis_bytes), n_axes - _INNER
        rows_axis = advance(axes, outer * axis_bytes)
        row_axis = advance(rows_axis, axis_bytes)
        length = length_of(cut)
        store64(window, _ZERO, _ZERO)
        store64(window, _EIGHT, _ZERO)
        for a in range(outer):
            store64(counters, a * _EIGHT, _ZERO)
        start = take(cursor, part)
        while start < length:
            store64(cut, _ZERO, min(part, length - start))
            for c in range(columns):
                place = load64(begin, _EIGHT * c) + start * step_of(cut, c)
                store64(at, _EIGHT * c, place)
            finished = False
            while not finished:
                rows(tile, at, rows_axis, row_axis, seed, stream, threshold, value, noise, window)
                finished = count_on(axes, outer, counters, at)
            start = take(cursor, part)

    return kernel(f"{form.name}-walk", run, types.void(*[U64] * 11))
