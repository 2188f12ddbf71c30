"""Walks: kernels over arrays of any number and layout, rows by rows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ...shielded import shielded
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, pointer_at, pointer_in, scratch
from ..elements.sampler import U64, store64
from .call_descriptor import (
    BUFFER,
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
from .contiguous_kernels import Kernel
from .loop_nest import length_of, odometer
from .mask_buffer import NOISE_ELEMENTS
from .operand_rows import rows_loop
from .operand_tiles import COUNT, Form

_INNER = np.uint64(2)  # axes that are treated at once


@functools.cache
@shielded
def walk(form: Form) -> Kernel:
    """Kernel over a box of axes of any steps, of any number of inputs.

    ``(tile, at, descriptor, seed, stream, counter, chunk)``: `tile` is the address of an
    operation's `tile_loop`, and `at` the slot of the addresses of the inputs, of y, and of the mask
    index of the first element. The descriptor's axes, at least 2, have the steps of what `at` says.
    The rest is as in `contiguous_kernels`.
    """
    rows, columns = rows_loop(form), form.columns
    memory, set_up, axis_at, next_part, count_on, _ = odometer(columns)
    noise_bytes = (4 if form.exact else 2) * (NOISE_ELEMENTS + COUNT)
    noise_scratch = scratch(noise_bytes)

    def run(
        tile: Any,
        at_slot: Any,
        descriptor_at: Any,
        seed: Any,
        stream: Any,
        counter_slot: Any,
        chunk: Any,
    ) -> None:
        rounding = round_by_default()
        begin, descriptor, call = pointer_in(at_slot), pointer_at(descriptor_at), call_state()
        counter = counter_in(counter_slot, counter_scratch())
        n_axes, split, table = length_in(descriptor), split_in(descriptor), axes_in(descriptor)
        set_key(call, seed, stream)
        set_law(call, threshold_in(descriptor), value_in(descriptor))
        store64(call, BUFFER, address_of(noise_scratch()))
        at, outer = memory(), n_axes - _INNER
        axes = set_up(at, table, n_axes, outer)
        length, axis = length_of(axis_at(axes, split)), axis_at(axes, outer)
        while next_part(at, begin, counter, chunk, table, split) < length:
            finished = False
            while not finished:
                rows(tile, at, axis, call)
                finished = count_on(at, outer)
        round_as_before(rounding)

    return kernel(f"{form.name}-walk", run, types.void(*[U64] * 7))
