"""The loop nest: a kernel's iteration over axes of any steps, one of which threads share.

`kernels` calls `loop_nest` for all its kernels but the contiguous one, and passes an inner loop for
the innermost axes. The table of axes has a row for each axis, outermost first: a length, and the
steps along it of every address and of the mask index, all uint64 modulo 2**64. The positions where
the inner loop begins, one for each column of steps, are updated by addition along the outer axes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import types

from ...layout import MAX_AXES
from ...shielded import shielded
from ..codegen.compiler import device, kernel
from ..codegen.fp_environment import restore_fp_env, set_default_fp_env
from ..codegen.intrinsics import address_of, advance, copy_bytes, pointer_at, scratch
from ..elements.sampler import POINTER, U64, load64, store64
from .call_descriptor import (
    BUFFER,
    ONCE,
    axes_in,
    call_state,
    counter_in,
    counter_scratch,
    length_in,
    set_coefficients,
    set_key,
    split_in,
    take_chunk,
    threshold_in,
    value_in,
)
from .mask_buffer import buffer_scratch

_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)


@device
def length_of(axis: Any) -> Any:
    """Return the length of an axis."""
    return load64(axis, _ZERO)


@device
def step_of(axis: Any, column: Any) -> Any:
    """Return the step of an axis in one column of the table."""
    return load64(axis, _EIGHT * column + _EIGHT)


# Columns of steps in the table of axes of kernels with one input: x, y and the mask index.
X, Y, INDEX = (np.uint64(c) for c in range(3))
COLUMNS = 3
AXIS_BYTES = np.uint64(8 * (COLUMNS + 1))  # of a row of that table
# The signature of inner loops, (x, y, axis, index, call): process the one or two axes whose rows of
# that table begin at `axis`. x, y and `index` are those of the first element; `call` is the state.
INNER = types.void(POINTER, POINTER, POINTER, U64, POINTER)


class OuterLoops(NamedTuple):
    """Functions that a kernel inlines. The memory at `at` begins with the current positions."""

    memory: Any  # () -> at
    set_up: Any  # (at, table, n_axes, outer) -> axes: copy the table, reset the `outer` counters
    axis_at: Any  # (axes, a) -> axis
    # (at, begin, counter, chunk, table, split) -> start: take the next chunk of the axis `split`.
    # Positions become those at `begin`, `start` steps further, unless `start` is past the axis.
    next_chunk: Any
    next_place: Any  # (at, outer) -> finished: advance to the next positions in the chunk


Kernel: TypeAlias = Callable[..., None]
# The signature of all kernels: (x, y, descriptor, index, seed, stream, counter, chunk).
KERNEL = types.void(*[U64] * 8)


@functools.cache
def outer_loops(columns: int) -> OuterLoops:
    """Return the outer loops over a table of axes with so many columns of steps."""
    each, axis_bytes = np.uint64(columns), np.uint64(8 * (columns + 1))
    counters_place, axes_place = _EIGHT * each, _EIGHT * (each + np.uint64(MAX_AXES))

    @device
    def axis_at(axes: Any, a: Any) -> Any:
        return advance(axes, a * axis_bytes)

    @device
    def set_up(at: Any, table: Any, n_axes: Any, outer: Any) -> Any:
        counters, axes = advance(at, counters_place), advance(at, axes_place)
        copy_bytes(axes, table, n_axes * axis_bytes)
        for a in range(outer):
            store64(counters, a * _EIGHT, _ZERO)
        return axes

    @device
    def next_chunk(at: Any, begin: Any, counter: Any, chunk: Any, table: Any, split: Any) -> Any:
        whole, cut = axis_at(table, split), axis_at(advance(at, axes_place), split)
        start, length = take_chunk(counter, chunk), length_of(whole)
        if start < length:
            store64(cut, _ZERO, min(chunk, length - start))
            for c in range(each):
                store64(at, _EIGHT * c, load64(begin, _EIGHT * c) + start * step_of(cut, c))
        return start

    @device
    def next_place(at: Any, outer: Any) -> Any:
        counters, axes = advance(at, counters_place), advance(at, axes_place)
        a = outer
        finished = True
        while finished and a > _ZERO:
            a -= _ONE
            axis = axis_at(axes, a)
            moved, steps = load64(counters, a * _EIGHT) + _ONE, _ONE
            finished = moved == length_of(axis)
            if finished:
                moved, steps = _ZERO, _ONE - moved
            store64(counters, a * _EIGHT, moved)
            for c in range(each):
                store64(at, _EIGHT * c, load64(at, _EIGHT * c) + steps * step_of(axis, c))
        return finished

    memory = scratch(int(axes_place + axis_bytes * np.uint64(MAX_AXES)))
    return OuterLoops(memory, set_up, axis_at, next_chunk, next_place)


@device
def keep_place(at: Any, start: Any, chunk: Any, y_slot: Any) -> None:
    """Leave the positions at the beginning of a chunk unchanged."""


@shielded
def loop_nest(
    name: str,
    columns: int,
    inner_axes: int,
    begin_at: Any,
    inner: Any,
    begin_chunk: Any = keep_place,
    buffer: Any = buffer_scratch,
) -> Kernel:
    """Compile a kernel over axes with so many columns of steps, the last through the mask.

    Device functions: ``begin_at(first, x_slot, y_slot, index, descriptor)`` writes the positions of
    the first element; ``inner(at, axes, call, descriptor)`` processes the innermost axes, whose
    rows of the table begin at `axes`, from the positions at `at` on; ``begin_chunk(at, start,
    chunk, y_slot)`` may change the positions at the beginning of a chunk. `buffer` allocates the
    mask buffer. The kernel has the signature `KERNEL`; `call_descriptor` explains its arguments.
    """
    memory, set_up, axis_at, next_chunk, next_place = outer_loops(columns)
    first_scratch, innermost = scratch(8 * columns), np.uint64(inner_axes)
    index_column = np.uint64(columns - 1)

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
        rounding = set_default_fp_env()
        first, descriptor, call = first_scratch(), pointer_at(descriptor_at), call_state()
        counter = counter_in(counter_slot, counter_scratch())
        n_axes, split, table = length_in(descriptor), split_in(descriptor), axes_in(descriptor)
        set_key(call, seed, stream)
        set_coefficients(call, threshold_in(descriptor), value_in(descriptor))
        store64(call, BUFFER, address_of(buffer()))
        begin_at(first, x_slot, y_slot, index, descriptor)
        at, outer = memory(), n_axes - innermost
        axes = set_up(at, table, n_axes, outer)
        length, innermost_axes = length_of(axis_at(axes, split)), axis_at(axes, outer)
        once = _ONE
        for a in range(outer):
            if step_of(axis_at(axes, a), index_column) == _ZERO:
                once = _ZERO
        store64(call, ONCE, once)
        start = next_chunk(at, first, counter, chunk, table, split)
        while start < length:
            begin_chunk(at, start, chunk, y_slot)
            finished = False
            while not finished:
                inner(at, innermost_axes, call, descriptor)
                finished = next_place(at, outer)
            start = next_chunk(at, first, counter, chunk, table, split)
        restore_fp_env(rounding)

    return kernel(name, run, KERNEL)
