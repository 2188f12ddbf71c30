"""Kernels over arrays of any layout: strided, Fortran-ordered, broadcast, shared, sharded.

A kernel walks a box of axes (see `plan`), and treats the innermost one (a *line*) or two (a
*panel*) at once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from .bits import (
    GROUP,
    POINTER,
    TILE,
    U64,
    decision_bound,
    drawer,
    halves_scratch,
    load16,
    load64,
    scattered_drawer,
    store64,
)
from .compiler import device, kernel, routine
from .flat import Kernel
from .intrinsics import address_of, advance, pointer_in, scratch
from .loops import any_loop, shared_loop, sizes
from .operations import Operation
from .panel import COLUMN_BYTES, PANEL_COLUMNS, PANEL_ROWS, panel_drawer, panel_scratch
from .span import NEAR, span_loop
from .storage import BITS

_TILE, _GROUP = np.uint64(TILE), np.uint64(GROUP)
_HALF_BYTES = np.uint64(2)
_ZERO, _ONE, _TWO, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 8))

_NEVER_DROPS = np.uint64(0)
_ALWAYS_DROPS = np.uint64(1 << 32)
_SHARED, _CONSECUTIVE = np.uint64(0), np.uint64(1)  # index steps


@functools.cache
def _line(operation: Operation) -> Any:
    """Routine over one axis of any steps.

    `halves` holds the halves of some elements, and `window` (two uint64 in memory) says of which:
    of those from window[0] on and below window[1]. So a row of decisions that is shared by many
    rows of the array is drawn once; where no row is (`once`), they need not go through memory.
    """
    draw, draw_scattered = drawer(), scattered_drawer()
    apply, apply_shared = any_loop(operation), shared_loop(operation)
    span = span_loop(operation, NEAR)
    in_size, out_size = sizes(operation)

    def line(
        x: Any,
        xs: Any,
        y: Any,
        ys: Any,
        n: Any,
        index: Any,
        step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        halves: Any,
        window: Any,
        once: Any,
    ) -> None:
        if threshold == _NEVER_DROPS or threshold == _ALWAYS_DROPS:
            apply_shared(x, xs, y, ys, n, U64(threshold == _NEVER_DROPS), value)
            return
        if once and step == _CONSECUTIVE and xs == in_size and ys == out_size:
            span(x, y, n, index, seed, stream, threshold, value)
            return
        bound = decision_bound(threshold)
        start = _ZERO
        while start < n:
            element = index + start * step
            if step > _CONSECUTIVE:
                m = min(_TILE, n - start)
                draw_scattered(halves, m, element, step, seed, stream, threshold)
                store64(window, _EIGHT, _ZERO)
                bits = halves
            else:
                m = min(_TILE - element % _TILE, n - start if step else _GROUP)
                first = load64(window, _ZERO)
                if element < first or element + (m if step else _ONE) > load64(window, _EIGHT):
                    first = element - element % _GROUP
                    draw(halves, first, element + m - first, seed, stream, threshold)
                    store64(window, _ZERO, first)
                    store64(window, _EIGHT, element + m)
                bits = advance(halves, _HALF_BYTES * (element - first))
                if step == _SHARED:
                    kept = U64(load16(bits, _ZERO) >= bound)
                    apply_shared(x, xs, y, ys, n, kept, value)
                    return
            apply(advance(x, start * xs), xs, advance(y, start * ys), ys, bits, m, bound, value)
            start += m

    signature = types.void(POINTER, U64, POINTER, *[U64] * 7, POINTER, POINTER, POINTER, U64)
    return routine(f"{operation.name}-line", line, signature)


@functools.cache
def _panel(operation: Operation) -> Any:
    """Routine over two axes: index step 1 along columns, memory contiguous along rows."""
    draw, apply = panel_drawer(), any_loop(operation)

    def panel(
        x: Any,
        x_row: Any,
        x_column: Any,
        y: Any,
        y_row: Any,
        y_column: Any,
        rows: Any,
        columns: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        halves: Any,
    ) -> None:
        bound = decision_bound(threshold)
        for column in range(_ZERO, columns, PANEL_COLUMNS):
            width = min(PANEL_COLUMNS, columns - column)
            for row in range(_ZERO, rows, PANEL_ROWS):
                height = min(PANEL_ROWS, rows - row)
                first = index + row * row_step + column
                # Prefetching the panel's input here was tried: 5% slower from 1 Mi elements up.
                draw(halves, height, width, first, row_step, seed, stream, threshold)
                for j in range(width):
                    source = advance(x, row * x_row + (column + j) * x_column)
                    target = advance(y, row * y_row + (column + j) * y_column)
                    bits = advance(halves, j * COLUMN_BYTES)
                    apply(source, x_row, target, y_row, bits, height, bound, value)

    signature = types.void(POINTER, U64, U64, POINTER, *[U64] * 9, POINTER, POINTER)
    return routine(f"{operation.name}-panel", panel, signature)


MAX_AXES = 64
_AXIS_BYTES = np.uint64(8 * 4)  # length, input step, output step, index step
_counters_scratch = scratch(8 * MAX_AXES)
_window_scratch = scratch(16)


@device
def _length(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES)


@device
def _input_step(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES + np.uint64(8))


@device
def _output_step(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES + np.uint64(16))


@device
def _index_step(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES + np.uint64(24))


@functools.cache
def box(operation: Operation) -> Kernel:
    """Kernel over a box of axes of any steps.

    ``(x, y, x_start, y_start, axes, n_axes, inner, index, seed, stream, threshold, value)`` treats
    the box whose first element lies x_start and y_start behind the arrays' own first, and has the
    mask index `index`. `axes` is the slot of an array of n_axes rows: length, input step, output
    step, index step, all uint64 and the steps modulo 2**64. The innermost axes are treated at once:
    `inner` of them, 1 (a line) or 2 (a panel: columns, then rows).
    """
    line, panel = _line(operation), _panel(operation)
    # Packed bits have addresses too: a byte's times eight, plus the bit's place.
    unit = np.uint64(8 if operation.target is BITS else 1)

    def run(
        x_slot: Any,
        y_slot: Any,
        x_start: Any,
        y_start: Any,
        axes_slot: Any,
        n_axes: Any,
        inner: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value_slot: Any,
    ) -> None:
        halves, panel_halves = halves_scratch(), panel_scratch()
        counters, window = _counters_scratch(), _window_scratch()
        axes, value = pointer_in(axes_slot), pointer_in(value_slot)
        x = advance(pointer_in(x_slot), x_start)
        y = pointer_in(y_slot)
        y = advance(y, (unit - _ONE) * address_of(y) + y_start)
        outer = n_axes - inner
        last = n_axes - _ONE
        for a in range(outer):
            store64(counters, a * _EIGHT, _ZERO)
        store64(window, _EIGHT, _ZERO)
        once = _ONE
        for a in range(outer):
            if _index_step(axes, a) == _SHARED:
                once = _ZERO
        finished = False
        while not finished:
            if inner == _ONE:
                line(
                    x,
                    _input_step(axes, last),
                    y,
                    _output_step(axes, last),
                    _length(axes, last),
                    index,
                    _index_step(axes, last),
                    seed,
                    stream,
                    threshold,
                    value,
                    halves,
                    window,
                    once,
                )
            else:
                panel(
                    x,
                    _input_step(axes, last),
                    _input_step(axes, outer),
                    y,
                    _output_step(axes, last),
                    _output_step(axes, outer),
                    _length(axes, last),
                    _length(axes, outer),
                    index,
                    _index_step(axes, last),
                    seed,
                    stream,
                    threshold,
                    value,
                    panel_halves,
                )
            # Count on, as an odometer does, from the last of the outer axes.
            a = outer
            finished = True
            while finished and a > _ZERO:
                a -= _ONE
                moved = load64(counters, a * _EIGHT) + _ONE
                steps = _ONE
                finished = moved == _length(axes, a)
                if finished:
                    moved, steps = _ZERO, _ONE - moved
                store64(counters, a * _EIGHT, moved)
                x = advance(x, steps * _input_step(axes, a))
                y = advance(y, steps * _output_step(axes, a))
                index += steps * _index_step(axes, a)

    return kernel(f"{operation.name}-box", run, types.void(*[U64] * 12))
