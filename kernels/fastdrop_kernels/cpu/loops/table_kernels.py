"""Kernels over arrays of any layout whose innermost axis is contiguous, with threshold tables."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...shielded import made_apart
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, advance, pointer_at, pointer_in, scratch
from ..elements.operations import Operation
from ..elements.sampler import load64, store64
from .apply import sizes
from .call_descriptor import (
    PLACE,
    axes_in,
    call_state,
    counter_in,
    counter_scratch,
    length_in,
    set_key,
    set_law,
    split_in,
    threshold_in,
    value_in,
)
from .contiguous import span_loop
from .contiguous_kernels import KERNEL, Kernel
from .loop_nest import length_of, odometer

_ZERO, _ONE, _EIGHT = (np.uint64(n) for n in (0, 1, 8))
_TABLE, _X, _Y, _INDEX = (np.uint64(c) for c in range(4))  # columns of the table of axes
_begin_scratch = scratch(8 * 4)
_memory, _set_up, _axis_at, _next_part, _count_on, _ = odometer(4)


@functools.cache
@made_apart
def along(operation: Operation, way: str) -> Kernel:
    """Kernel over a box of axes of any steps, of which the last is contiguous.

    The first steps are those through the operation's threshold tables, which the value of the
    descriptor tells (see `threshold_tables`), and its threshold is their period.
    """
    span = span_loop(operation, way)
    in_size, out_size = sizes(operation)

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
        n_axes, split = length_in(descriptor), split_in(descriptor)
        table, period = axes_in(descriptor), threshold_in(descriptor)
        set_key(call, seed, stream)
        set_law(call, period, value_in(descriptor))
        store64(begin, _EIGHT * _TABLE, _ZERO)
        store64(begin, _EIGHT * _X, address_of(pointer_in(x_slot)))
        store64(begin, _EIGHT * _Y, address_of(pointer_in(y_slot)))
        store64(begin, _EIGHT * _INDEX, index)
        at, outer = _memory(), n_axes - _ONE
        axes = _set_up(at, table, n_axes, outer)
        length, line = length_of(_axis_at(axes, split)), _axis_at(axes, outer)
        while _next_part(at, begin, counter, chunk, table, split) < length:
            finished = False
            while not finished:
                x = pointer_at(load64(at, _EIGHT * _X))
                y = pointer_at(load64(at, _EIGHT * _Y))
                element, left = load64(at, _EIGHT * _INDEX), length_of(line)
                place = load64(at, _EIGHT * _TABLE) % period
                while left:
                    m = min(period - place, left)
                    store64(call, PLACE, place)
                    span(x, y, m, element, call)
                    x, y = advance(x, m * in_size), advance(y, m * out_size)
                    element += m
                    left -= m
                    place = _ZERO
                finished = _count_on(at, outer)
        round_as_before(rounding)

    return kernel(f"{operation.name}-{way}-along", run, KERNEL)
