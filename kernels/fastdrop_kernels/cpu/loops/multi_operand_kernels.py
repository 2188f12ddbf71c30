"""Walks: kernels over arrays of any number and layout, rows by rows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ...shielded import made_apart
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import pointer_in, scratch
from ..elements.sampler import U64
from .contiguous_kernels import Kernel
from .loop_nest import length_of, odometer
from .mask_buffer import NOISE_ELEMENTS, forget, window_scratch
from .operand_rows import rows_loop
from .operand_tiles import COUNT, Form

_INNER = np.uint64(2)  # axes that are treated at once
_ONE = np.uint64(1)


@functools.cache
@made_apart
def walk(form: Form) -> Kernel:
    """Kernel over a box of axes of any steps, of any number of inputs.

    ``(tile, at, cursor, part, split, axes, n_axes, seed, stream, threshold, value)``: `tile`
    is the address of an operation's `tile_loop`, and `at` the slot of the addresses of the inputs,
    of y, and of the mask index of the first element. `axes` is that of a table of n_axes rows, at
    least 2 (see `odometer`), with the steps of what `at` says. The rest is as in
    `box`.
    """
    rows, columns = rows_loop(form), form.columns
    memory, set_up, axis_at, next_part, count_on, _ = odometer(columns)
    noise_bytes = (4 if form.exact else 2) * (NOISE_ELEMENTS + COUNT)
    noise_scratch = scratch(noise_bytes)

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
        rounding = round_by_default()
        begin, cursor, value = pointer_in(at_slot), pointer_in(cursor_slot), pointer_in(value_slot)
        table = pointer_in(axes_slot)
        at, noise, window = memory(), noise_scratch(), window_scratch()
        outer = n_axes - _INNER
        axes = set_up(at, table, n_axes, outer)
        length = length_of(axis_at(axes, split))
        rows_axis, row_axis = axis_at(axes, outer), axis_at(axes, outer + _ONE)
        forget(window)
        while next_part(at, begin, cursor, part, table, split) < length:
            finished = False
            while not finished:
                rows(tile, at, rows_axis, row_axis, seed, stream, threshold, value, noise, window)
                finished = count_on(at, outer)
        round_as_before(rounding)

    return kernel(f"{form.name}-walk", run, types.void(*[U64] * 11))
