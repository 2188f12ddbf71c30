"""Kernels over arrays of any layout: strided, Fortran-ordered, broadcast, shared, sharded.

A kernel goes through a box of axes (see `layout`), and an inner loop treats the innermost one or
two at once. The host's driver calls it as the kernels of `contiguous_kernels`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...layout import AXES, LINE, PANEL, REPEATS, RUNS
from ...shielded import shielded
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, pointer_at, pointer_in, scratch
from ..elements.operations import Operation
from ..elements.sampler import load64, store64
from .apply import units_of
from .call_descriptor import (
    BUFFER,
    ONCE,
    REACH,
    axes_in,
    call_state,
    counter_in,
    counter_scratch,
    forget,
    length_in,
    set_key,
    set_law,
    split_in,
    threshold_in,
    value_in,
)
from .contiguous_kernels import KERNEL, Kernel
from .loop_nest import INDEX, LAW, X, Y, length_of, odometer, step_of
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
# Sentinel threshold: every row has its own (threshold, value) pair, stored consecutively.
LAWS = 1 << 33
_LAWS = np.uint64(LAWS)
_begin_scratch = scratch(8 * 4)
_memory, _set_up, _axis_at, _next_part, _count_on, _left = odometer(4)


@functools.cache
@shielded
def box(operation: Operation, form: str, way: str) -> Kernel:
    """Kernel over a box of axes of any steps, cut along the axis that the descriptor names.

    The innermost are treated at once, in a form of `layout`; lines and panels go in one of the ways
    of `span`. If the threshold is `LAWS`, threshold and value are what is found where the value
    points, and its steps lead to.
    """
    inner: Any
    if form == LINE:
        inner = line_loop(operation, way)
    elif form == PANEL:
        inner = panel_loop(operation, way)
    else:
        inner = {RUNS: runs_loop, REPEATS: repeats_loop}[form](operation)
    inner_axes = np.uint64(AXES[form])
    short = np.uint64(_SHORT[operation.target.bits])
    units = units_of(operation)  # packed bits have addresses too: a byte's times eight, and more

    def run(
        x_slot: Any,
        y_slot: Any,
        descriptor_at: Any,
        index: Any,
        seed: Any,
        stream: Any,
        counter_slot: Any,
        chunk: Any,
    ) -> None:
        rounding = round_by_default()
        begin, descriptor, call = _begin_scratch(), pointer_at(descriptor_at), call_state()
        counter = counter_in(counter_slot, counter_scratch())
        n_axes, split, table = length_in(descriptor), split_in(descriptor), axes_in(descriptor)
        threshold, value = threshold_in(descriptor), value_in(descriptor)
        set_key(call, seed, stream)
        set_law(call, threshold, value)
        store64(call, BUFFER, address_of(marks_scratch()))
        store64(begin, _EIGHT * LAW, value)
        store64(begin, _EIGHT * X, address_of(pointer_in(x_slot)))
        store64(begin, _EIGHT * Y, address_of(pointer_in(y_slot)) * units)
        store64(begin, _EIGHT * INDEX, index)
        at, outer = _memory(), n_axes - inner_axes
        axes = _set_up(at, table, n_axes, outer)
        length, axis = length_of(_axis_at(axes, split)), _axis_at(axes, outer)
        once = _ONE
        for a in range(outer):
            if step_of(_axis_at(axes, a), INDEX) == _SHARED:
                once = _ZERO
        store64(call, ONCE, once)
        step, n = _ZERO, length_of(_axis_at(axes, n_axes - _ONE))
        if outer:
            last = _axis_at(axes, outer - _ONE)
            if step_of(last, LAW) == _ZERO:  # one law for all
                step = joined_step(n, step_of(last, INDEX), short)
        own, law_before = threshold == _LAWS, _ZERO
        while _next_part(at, begin, counter, chunk, table, split) < length:
            finished = False
            while not finished:
                store64(call, REACH, step * _left(at, outer - _ONE) if step else _ZERO)
                law = load64(at, _EIGHT * LAW)
                if own and law != law_before:
                    law_before = law
                    set_law(call, load64(pointer_at(law), _ZERO), law + _EIGHT)
                    forget(call)
                x, y = load64(at, _EIGHT * X), load64(at, _EIGHT * Y)
                inner(pointer_at(x), pointer_at(y), axis, load64(at, _EIGHT * INDEX), call)
                finished = _count_on(at, outer)
        round_as_before(rounding)

    return kernel(f"{operation.name}-{form}-{way}-box", run, KERNEL)
