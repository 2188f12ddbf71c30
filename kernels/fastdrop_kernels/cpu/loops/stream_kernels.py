"""Kernels over arrays of any layout by an array of p, which has a step along every axis.

The host's driver calls them as the kernels of `contiguous_kernels`; their descriptor says where p
is. A kernel goes through a box of axes, and `streams` treats the two innermost at once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...shielded import shielded
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, pointer_at, pointer_in, scratch
from ..elements.operations import Operation
from ..elements.sampler import load64, store64
from .apply import units_of
from .call_descriptor import (
    P,
    axes_in,
    call_state,
    counter_in,
    counter_scratch,
    length_in,
    p_in,
    set_key,
    set_law,
    set_p,
    split_in,
    threshold_in,
    value_in,
)
from .contiguous_kernels import KERNEL, Kernel
from .loop_nest import length_of, odometer
from .streams import COLUMNS, INDEX, P_STEP, X, Y, stream_rows

_EIGHT = np.uint64(8)
_INNER = np.uint64(2)  # axes that are treated at once
_begin_scratch = scratch(8 * COLUMNS)
_memory, _set_up, _axis_at, _next_part, _count_on, _ = odometer(COLUMNS)


@functools.cache
@shielded
def by_streams(operation: Operation, way: str) -> Kernel:
    """Kernel over a box of at least two axes of any steps, in one of the ways of `span_loop`."""
    rows, units = stream_rows(operation, way), units_of(operation)

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
        set_key(call, seed, stream)
        set_law(call, threshold_in(descriptor), value_in(descriptor))
        set_p(call, descriptor)
        store64(begin, _EIGHT * P_STEP, p_in(descriptor))
        store64(begin, _EIGHT * X, address_of(pointer_in(x_slot)))
        store64(begin, _EIGHT * Y, address_of(pointer_in(y_slot)) * units)
        store64(begin, _EIGHT * INDEX, index)
        at, outer = _memory(), n_axes - _INNER
        axes = _set_up(at, table, n_axes, outer)
        length, axis = length_of(_axis_at(axes, split)), _axis_at(axes, outer)
        while _next_part(at, begin, counter, chunk, table, split) < length:
            finished = False
            while not finished:
                store64(call, P, load64(at, _EIGHT * P_STEP))
                x, y = load64(at, _EIGHT * X), load64(at, _EIGHT * Y)
                rows(pointer_at(x), pointer_at(y), axis, load64(at, _EIGHT * INDEX), call)
                finished = _count_on(at, outer)
        round_as_before(rounding)

    return kernel(f"{operation.name}-{way}-by-streams", run, KERNEL)
