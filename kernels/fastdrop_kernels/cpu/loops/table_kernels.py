"""Lines of neighbours whose laws are in tables."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ...shielded import made_apart
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, advance, pointer_at, pointer_in, scratch
from ..elements.operations import Operation
from ..elements.sampler import U64, load64, store64
from .apply import sizes
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
from .contiguous import span_loop
from .contiguous_kernels import Kernel
from .loop_nest import length_of, odometer

_ONE, _EIGHT = np.uint64(1), np.uint64(8)
_PLACE, _X, _Y, _INDEX = (np.uint64(c) for c in range(4))  # columns of the table of axes
_begin_scratch = scratch(8 * 4)
_memory, _set_up, _axis_at, _next_part, _count_on, _ = odometer(4)


@functools.cache
@made_apart
def along(operation: Operation, way: str) -> Kernel:
    """Kernel over a box of axes of any steps, of which the last has neighbours only.

    ``(x, y, cursor, part, record, seed, stream)`` is called as `box` is. The first steps are those
    through the operation's tables, which the value of the record tells (see `tables`), and its
    threshold is their period.
    """
    span = span_loop(operation, way)
    in_size, out_size = sizes(operation)

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
        begin, told = _begin_scratch(), pointer_at(told_at)
        cursor = cursor_in(cursor_slot, cursor_scratch())
        n_axes, split, table = length_in(told), split_in(told), axes_in(told)
        period, tables = threshold_in(told), value_in(told)
        store64(begin, _EIGHT * _PLACE, np.uint64(0))
        store64(begin, _EIGHT * _X, address_of(pointer_in(x_slot)))
        store64(begin, _EIGHT * _Y, address_of(pointer_in(y_slot)))
        store64(begin, _EIGHT * _INDEX, index_in(told))
        at, outer = _memory(), n_axes - _ONE
        axes = _set_up(at, table, n_axes, outer)
        length, line = length_of(_axis_at(axes, split)), _axis_at(axes, outer)
        while _next_part(at, begin, cursor, part, table, split) < length:
            finished = False
            while not finished:
                x = pointer_at(load64(at, _EIGHT * _X))
                y = pointer_at(load64(at, _EIGHT * _Y))
                index, left = load64(at, _EIGHT * _INDEX), length_of(line)
                place = load64(at, _EIGHT * _PLACE) % period
                while left:
                    m = min(period - place, left)
                    span(x, y, m, index, seed, stream, place, tables)
                    x, y = advance(x, m * in_size), advance(y, m * out_size)
                    index += m
                    left -= m
                    place = np.uint64(0)
                finished = _count_on(at, outer)
        round_as_before(rounding)

    return kernel(f"{operation.name}-{way}-along", run, types.void(*[U64] * 7))
