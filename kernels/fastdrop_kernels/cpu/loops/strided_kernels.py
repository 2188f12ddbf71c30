"""Kernels over arrays of any layout: strided, Fortran-ordered, broadcast, shared, sharded.

A kernel walks a box of axes (see `plan`), and treats the innermost one or two at once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ...layout import AXES, LINE, PANEL, REPEATS, RUNS
from ...shielded import made_apart
from ..codegen.compiler import device, kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, pointer_at, pointer_in, scratch
from ..elements.operations import Operation
from ..elements.sampler import U64, load64, store64
from .apply import units_of
from .call_descriptor import (
    axes_in,
    cursor_in,
    cursor_scratch,
    index_in,
    length_in,
    split_in,
    threshold_in,
    value_in,
)
from .contiguous_kernels import Kernel
from .loop_nest import length_of, odometer, step_of
from .mask_buffer import forget, window_scratch
from .shared import repeats_loop, runs_loop
from .strided import joined_step, line_loop, marks_scratch
from .transposed import panel_loop

_ZERO, _ONE, _EIGHT = (np.uint64(n) for n in (0, 1, 8))
_SHARED = np.uint64(0)  # an index step

# Elements of a line, by bits of one, up to which many lines' marks are drawn at once. Drawn
# one by one, 256 Ki float32 in rows of a wider array have 0.30 of the rate of C order in lines of
# 128 (all at once: 0.53), 0.47 of 256 (0.59), 0.63 of 512 (0.63), 0.75 of 1,024; float16 0.51 of
# 512 (0.68) and 0.66 of 1,024 (0.65), packed bits 0.48 of 1,024 (0.60) and 0.61 of 2,048 (0.58).
_SHORT = {1: 1536, 8: 896, 16: 896, 32: 448, 64: 448, 128: 448}
# As a threshold, it says that there are laws: a threshold each, and behind it its value.
LAWS = 1 << 33
_LAWS = np.uint64(LAWS)
_LAW, _X, _Y, _INDEX = (np.uint64(c) for c in range(4))  # columns of the table of axes
_begin_scratch = scratch(8 * 4)
_memory, _set_up, _axis_at, _next_part, _count_on, _left = odometer(4)


@functools.cache
@made_apart
def box(operation: Operation, form: str, way: str) -> Kernel:
    """Kernel over a box of axes of any steps.

    ``(x, y, cursor, part, record, seed, stream)`` treats the box of a record (see `shares`), cut
    along the axis that it names into parts so long. Its table of axes (see `odometer`) has length,
    law step, input step, output step and index step. The innermost are treated at once, in a form
    of `plan`; lines and panels go in one of the ways of `span`. If the threshold is `LAWS`, that
    and the value are what is found where the value points, and its steps lead to.
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
    short = np.uint64(_SHORT[operation.target.bits])
    units = units_of(operation)  # packed bits have addresses too: a byte's times eight, and more

    def run(
        x_slot: Any,
        y_slot: Any,
        cursor_slot: Any,
        part: Any,
        told_at: Any,
        seed: Any,
        stream: Any,
    ) -> None:
        rounding = round_by_default()
        marks, window = marks_scratch(), window_scratch()
        begin, told = _begin_scratch(), pointer_at(told_at)
        cursor = cursor_in(cursor_slot, cursor_scratch())
        n_axes, split, table = length_in(told), split_in(told), axes_in(told)
        threshold, value = threshold_in(told), value_in(told)
        y_base = address_of(pointer_in(y_slot))
        store64(begin, _EIGHT * _LAW, address_of(value))
        store64(begin, _EIGHT * _X, address_of(pointer_in(x_slot)))
        store64(begin, _EIGHT * _Y, y_base * units)
        store64(begin, _EIGHT * _INDEX, index_in(told))
        at, outer = _memory(), n_axes - inner_axes
        axes = _set_up(at, table, n_axes, outer)
        length, inner = length_of(_axis_at(axes, split)), _axis_at(axes, outer)
        forget(window)
        once = _ONE
        for a in range(outer):
            if step_of(_axis_at(axes, a), _INDEX) == _SHARED:
                once = _ZERO
        step, n = _ZERO, length_of(_axis_at(axes, n_axes - _ONE))
        if outer:
            last = _axis_at(axes, outer - _ONE)
            if step_of(last, _LAW) == _ZERO:  # one law for all
                step = joined_step(n, step_of(last, _INDEX), short)
        own, law_before = threshold == _LAWS, _ZERO
        while _next_part(at, begin, cursor, part, table, split) < length:
            finished = False
            while not finished:
                reach = step * _left(at, outer - _ONE) if step else _ZERO
                law = load64(at, _EIGHT * _LAW)
                if own and law != law_before:
                    law_before = law
                    threshold, value = load64(pointer_at(law), _ZERO), pointer_at(law + _EIGHT)
                    forget(window)
                treat(
                    pointer_at(load64(at, _EIGHT * _X)),
                    pointer_at(load64(at, _EIGHT * _Y)),
                    inner,
                    load64(at, _EIGHT * _INDEX),
                    seed,
                    stream,
                    threshold,
                    value,
                    marks,
                    window,
                    once,
                    reach,
                )
                finished = _count_on(at, outer)
        round_as_before(rounding)

    return kernel(f"{operation.name}-{form}-{way}-box", run, types.void(*[U64] * 7))


def _line_form(operation: Operation, way: str) -> Any:
    line = line_loop(operation, way)

    @device
    def treat(
        x: Any,
        y: Any,
        axis: Any,
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
            step_of(axis, _X),
            y,
            step_of(axis, _Y),
            length_of(axis),
            index,
            step_of(axis, _INDEX),
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
        outer: Any,
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
        inner = _axis_at(outer, _ONE)
        loop(
            x,
            step_of(outer, _X),
            step_of(inner, _X),
            y,
            step_of(outer, _Y),
            step_of(inner, _Y),
            length_of(outer),
            length_of(inner),
            index,
            step_of(inner, _INDEX),
            seed,
            stream,
            threshold,
            value,
            marks,
        )

    return treat
