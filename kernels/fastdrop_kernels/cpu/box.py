"""Kernels over arrays of any layout: strided, Fortran-ordered, broadcast, shared, sharded.

A kernel walks a box of axes (see `plan`), and treats the innermost one or two at once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..plan import AXES, LINE, MAX_AXES, PANEL, REPEATS, RUNS
from .bits import U64, load64, store64
from .compiler import device, kernel
from .flat import Kernel
from .intrinsics import address_of, advance, copy_bytes, pointer_in, scratch, take
from .line import line_loop
from .loops import units_of
from .operations import Operation
from .panel import panel_loop
from .shared import MOST, repeats_loop, runs_loop

_ZERO, _ONE, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 4, 8))
_SHARED = np.uint64(0)  # an index step
_marks_scratch = scratch(2 * MOST + 128)  # 64 marks may be loaded at once past the end

# Elements of a line, up to which many lines' marks are drawn at once. So float32 shards have 0.49
# of the rate of C order in lines of 256, and 0.47 of 512, not 0.43 as if drawn one by one. Of 1,024
# they would have 0.47 and not 0.60, of 4,096 0.39 and not 0.82: memory is not read while marks are
# drawn.
_SHORT = np.uint64(768)
_AXIS_BYTES = np.uint64(8 * 5)  # length, law step, input step, output step, index step
_axes_scratch = scratch(8 * 5 * MAX_AXES)
# As a threshold, it says that there are laws: a threshold each, and behind it its value.
LAWS = 1 << 33
_LAWS = np.uint64(LAWS)
_counters_scratch = scratch(8 * MAX_AXES)
_window_scratch = scratch(16)


@device
def _length(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES)


@device
def _law_step(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES + np.uint64(8))


@device
def _input_step(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES + np.uint64(16))


@device
def _output_step(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES + np.uint64(24))


@device
def _index_step(axes: Any, a: Any) -> Any:
    return load64(axes, a * _AXIS_BYTES + np.uint64(32))


@functools.cache
def box(operation: Operation, form: str, way: str) -> Kernel:
    """Kernel over a box of axes of any steps.

    ``(x, y, cursor, part, split, axes, n_axes, index, seed, stream, threshold, value)`` treats the
    box whose first element has the mask index `index`, cut along the axis `split` into parts so
    long, as in `flat`. `axes` is the slot of an array of n_axes rows: length, law step, input
    step, output step, index step, all uint64 and the steps modulo 2**64. The innermost are treated
    at once, in a form of `plan`; lines and panels go in one of the ways of `span`. If the threshold
    is `LAWS`, that and the value are what is found where `value` points, and its steps lead to.
    """
    if form == LINE:
        treat = _line_form(operation, way)
    else:
        loops = {
            PANEL: lambda: panel_loop(operation, way),
            RUNS: lambda: runs_loop(operation),
            REPEATS: lambda: repeats_loop(operation),
        }
        treat = _pair_form(loops[form]())
    inner_axes = np.uint64(AXES[form])
    units = units_of(operation)  # packed bits have addresses too: a byte's times eight, and more

    def run(
        x_slot: Any,
        y_slot: Any,
        cursor_slot: Any,
        part: Any,
        split: Any,
        axes_slot: Any,
        n_axes: Any,
        first: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value_slot: Any,
    ) -> None:
        counters, marks, window = _counters_scratch(), _marks_scratch(), _window_scratch()
        cursor, first_law = pointer_in(cursor_slot), pointer_in(value_slot)
        x_base, y_base = pointer_in(x_slot), pointer_in(y_slot)
        y_base = advance(y_base, (units - _ONE) * address_of(y_base))
        axes = _axes_scratch()
        copy_bytes(axes, pointer_in(axes_slot), n_axes * _AXIS_BYTES)
        length = _length(axes, split)
        outer = n_axes - inner_axes
        store64(window, _ZERO, _ZERO)
        store64(window, _EIGHT, _ZERO)
        once = _ONE
        for a in range(outer):
            store64(counters, a * _EIGHT, _ZERO)
            if _index_step(axes, a) == _SHARED:
                once = _ZERO
        # Short lines whose decisions follow each other closely, of which many are drawn at once.
        step, n = _ZERO, _length(axes, n_axes - _ONE)
        if outer:
            step = _index_step(axes, outer - _ONE)
            one_law = _law_step(axes, outer - _ONE) == _ZERO
            if step < n or step - n > n // _FOUR or n > _SHORT or not one_law:
                step = _ZERO
        own, value, law_before = threshold == _LAWS, first_law, _ZERO
        start = take(cursor, part)
        while start < length:
            store64(axes, split * _AXIS_BYTES, min(part, length - start))
            x = advance(x_base, start * _input_step(axes, split))
            y = advance(y_base, start * _output_step(axes, split))
            index = first + start * _index_step(axes, split)
            law = advance(first_law, start * _law_step(axes, split))
            finished = False
            while not finished:
                reach = _ZERO
                if step:
                    last = outer - _ONE
                    reach = step * (_length(axes, last) - load64(counters, last * _EIGHT))
                if own and address_of(law) != law_before:
                    law_before = address_of(law)
                    threshold, value = load64(law, _ZERO), advance(law, _EIGHT)
                    # The noise that is kept in memory was settled by another threshold.
                    store64(window, _ZERO, _ZERO)
                    store64(window, _EIGHT, _ZERO)
                treat(
                    x,
                    y,
                    axes,
                    n_axes - _ONE,
                    index,
                    seed,
                    stream,
                    threshold,
                    value,
                    marks,
                    window,
                    once,
                    reach,
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
                    law = advance(law, steps * _law_step(axes, a))
            start = take(cursor, part)

    return kernel(f"{operation.name}-{form}-{way}-box", run, types.void(*[U64] * 12))


def _line_form(operation: Operation, way: str) -> Any:
    line = line_loop(operation, way)

    @device
    def treat(
        x: Any,
        y: Any,
        axes: Any,
        last: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        marks: Any,
        window: Any,
        once: Any,
        reach: Any,
    ) -> None:
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
            marks,
            window,
            once,
            reach,
        )

    return treat


def _pair_form(loop: Any) -> Any:
    """Return what treats the two innermost axes at once."""

    @device
    def treat(
        x: Any,
        y: Any,
        axes: Any,
        last: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        marks: Any,
        window: Any,
        once: Any,
        reach: Any,
    ) -> None:
        outer = last - _ONE
        loop(
            x,
            _input_step(axes, outer),
            _input_step(axes, last),
            y,
            _output_step(axes, outer),
            _output_step(axes, last),
            _length(axes, outer),
            _length(axes, last),
            index,
            _index_step(axes, last),
            seed,
            stream,
            threshold,
            value,
            marks,
        )

    return treat
