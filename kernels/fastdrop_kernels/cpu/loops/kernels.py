"""All kernel entry points except softmax's: the contiguous kernel, and kernels made of loop nests.

`cpu.host` calls them without the GIL. All have the arguments ``(x, y, descriptor, index, seed,
stream, counter, chunk)``, all uint64. x, y and the counter are *slots*, addresses of memory that
holds a data pointer (see `ndarray_layout.slot`), so one kernel serves every shape and no array is
unpacked at a call. `index` is the mask index of the first element; `call_descriptor` explains the
others. Kernels are made on first use; they call the loops of the modules imported here.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...layout import AXES, STRIDED, TILED, TRANSPOSED
from ...shielded import shielded
from ..codegen.compiler import device, kernel
from ..codegen.fp_environment import restore_fp_env, set_default_fp_env
from ..codegen.intrinsics import address_of, advance, pointer_at, pointer_in
from ..elements.operations import Operation
from ..elements.sampler import GROUP, load64, store64
from ..elements.storage import Storage
from . import streams
from .apply import sizes, units_of
from .call_descriptor import (
    BUFFER,
    P,
    call_state,
    counter_in,
    counter_scratch,
    dispatch_table_in,
    length_in,
    p_in,
    set_coefficients,
    set_key,
    set_p,
    take_chunk,
    threshold_in,
    value_in,
)
from .contiguous import contiguous_loop
from .contiguous_operands import operands_loop
from .loop_nest import (
    COLUMNS,
    INDEX,
    KERNEL,
    Kernel,
    X,
    Y,
    keep_place,
    length_of,
    loop_nest,
    step_of,
)
from .mask_buffer import buffer_scratch
from .operands import tiles_loop
from .reduce import sum_line
from .tile_transpose import tiled_loop
from .transposed import transposed_loop

_ZERO, _ONE, _EIGHT, _GROUP = (np.uint64(n) for n in (0, 1, 8, GROUP))


@functools.cache
@shielded
def contiguous_kernel(operation: Operation, access: str) -> Kernel:
    """Kernel over elements that are contiguous in memory and in the mask, by an access policy.

    A chunk is a whole number of groups, and chunks end between groups, so no bits are drawn twice.
    """
    run_contiguous = contiguous_loop(operation, access)
    in_size, out_size = sizes(operation)
    units = units_of(operation)

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
        x, y, descriptor = pointer_in(x_slot), pointer_in(y_slot), pointer_at(descriptor_at)
        counter, call = counter_in(counter_slot, counter_scratch()), call_state()
        n = length_in(descriptor)
        set_key(call, seed, stream)
        set_coefficients(call, threshold_in(descriptor), value_in(descriptor))
        y = advance(y, (units - _ONE) * address_of(y))
        skew = index % _GROUP
        position = take_chunk(counter, chunk)
        while position < n + skew:
            start = position - min(position, skew)
            m = min(position + chunk - skew, n) - start
            run_contiguous(
                advance(x, start * in_size), advance(y, start * out_size), m, index + start, call
            )
            position = take_chunk(counter, chunk)
        restore_fp_env(rounding)

    return kernel(f"{operation.name}-{access}-contiguous", run, KERNEL)


def _first_place(units: np.uint64) -> Any:
    """Device function that writes the first element's address in x and y, and its mask index."""

    @device
    def begin_at(first: Any, x_slot: Any, y_slot: Any, index: Any, descriptor: Any) -> None:
        store64(first, _EIGHT * X, address_of(pointer_in(x_slot)))
        store64(first, _EIGHT * Y, address_of(pointer_in(y_slot)) * units)
        store64(first, _EIGHT * INDEX, index)

    return begin_at


@functools.cache
def layout_kernel(operation: Operation, schedule: str) -> Kernel:
    """Kernel over axes of any steps, by a schedule of `layout`.

    For STRIDED, one kernel serves all operations; the descriptor must have the dispatch table.
    """
    if schedule == STRIDED:
        return _lines(int(units_of(operation)))
    loop = {TRANSPOSED: transposed_loop, TILED: tiled_loop}[schedule](operation)

    @device
    def inner(at: Any, axes: Any, call: Any, descriptor: Any) -> None:
        x, y = pointer_at(load64(at, _EIGHT * X)), pointer_at(load64(at, _EIGHT * Y))
        loop(x, y, axes, load64(at, _EIGHT * INDEX), call)

    begin_at = _first_place(units_of(operation))
    return loop_nest(f"{operation.name}-{schedule}", COLUMNS, AXES[schedule], begin_at, inner)


@functools.cache
def _lines(units: int) -> Kernel:
    tiles = tiles_loop(1)

    @device
    def inner(at: Any, axes: Any, call: Any, descriptor: Any) -> None:
        tiles(at, axes, call, dispatch_table_in(descriptor))

    return loop_nest(
        f"strided-{units}", COLUMNS, AXES[STRIDED], _first_place(np.uint64(units)), inner
    )


@functools.cache
def multi_operand_kernel(inputs: int) -> Kernel:
    """Kernel over axes of any steps, for a number of inputs.

    x is the slot of an array: the addresses of the inputs and of y, and the first mask index. The
    table of axes has the steps of each. y and `index` are 0. The descriptor has a dispatch table.
    """
    tiles, columns = tiles_loop(inputs), inputs + 2
    words = np.uint64(columns)

    @device
    def begin_at(first: Any, x_slot: Any, y_slot: Any, index: Any, descriptor: Any) -> None:
        for c in range(words):
            store64(first, _EIGHT * c, load64(pointer_in(x_slot), _EIGHT * c))

    @device
    def inner(at: Any, axes: Any, call: Any, descriptor: Any) -> None:
        tiles(at, axes, call, dispatch_table_in(descriptor))

    return loop_nest(f"operands-{inputs}", columns, AXES[STRIDED], begin_at, inner)


@functools.cache
@shielded
def contiguous_operands_kernel(operation: Operation, access: str) -> Kernel:
    """Kernel for several inputs that are contiguous as y and the mask are.

    The arguments are those of `multi_operand_kernel`, and the length in the descriptor that of the
    arrays.
    """
    run_contiguous = operands_loop(operation, access)
    item, column = np.uint64(operation.target.itemsize), np.uint64(1 + len(operation.operands))

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
        inputs, descriptor = pointer_in(x_slot), pointer_at(descriptor_at)
        counter, call = counter_in(counter_slot, counter_scratch()), call_state()
        n, y = length_in(descriptor), pointer_at(load64(inputs, _EIGHT * column))
        index = load64(inputs, _EIGHT * column + _EIGHT)
        set_key(call, seed, stream)
        set_coefficients(call, threshold_in(descriptor), value_in(descriptor))
        store64(call, BUFFER, address_of(buffer_scratch()))
        skew = index % _GROUP
        position = take_chunk(counter, chunk)
        while position < n + skew:
            start = position - min(position, skew)
            m = min(position + chunk - skew, n) - start
            run_contiguous(inputs, start, advance(y, start * item), m, index + start, call)
            position = take_chunk(counter, chunk)
        restore_fp_env(rounding)

    return kernel(f"{operation.name}-{access}-contiguous-operands", run, KERNEL)


@functools.cache
def per_element_kernel(operation: Operation, access: str) -> Kernel:
    """Kernel over axes of any steps with per-element p; the descriptor has the address of p.

    The first column of steps in the table of axes is that of p.
    """
    rows, units = streams.stream_rows(operation, access), units_of(operation)

    @device
    def begin_at(first: Any, x_slot: Any, y_slot: Any, index: Any, descriptor: Any) -> None:
        store64(first, _EIGHT * streams.P_STEP, p_in(descriptor))
        store64(first, _EIGHT * streams.X, address_of(pointer_in(x_slot)))
        store64(first, _EIGHT * streams.Y, address_of(pointer_in(y_slot)) * units)
        store64(first, _EIGHT * streams.INDEX, index)

    @device
    def inner(at: Any, axes: Any, call: Any, descriptor: Any) -> None:
        set_p(call, descriptor)
        store64(call, P, load64(at, _EIGHT * streams.P_STEP))
        x = pointer_at(load64(at, _EIGHT * streams.X))
        y = pointer_at(load64(at, _EIGHT * streams.Y))
        rows(x, y, axes, load64(at, _EIGHT * streams.INDEX), call)

    name = f"{operation.name}-{access}-by-streams"
    return loop_nest(name, streams.COLUMNS, 2, begin_at, inner, keep_place, counter_scratch)


@functools.cache
def sum_kernel(name: str, storage: Storage) -> Kernel:
    """Kernel that adds elements to sums.

    x is the slot of the addresses of the first sum and of the first term. If the split axis is
    summed over, its chunks have separate sums, y bytes apart; else y is 0, as are `index`, `seed`
    and `stream` always.
    """
    line = sum_line(name, storage)

    @device
    def begin_at(first: Any, x_slot: Any, y_slot: Any, index: Any, descriptor: Any) -> None:
        for c in range(_ONE + _ONE):
            store64(first, _EIGHT * c, load64(pointer_in(x_slot), _EIGHT * c))

    @device
    def begin_chunk(at: Any, start: Any, chunk: Any, y_slot: Any) -> None:
        store64(at, _ZERO, load64(at, _ZERO) + start // chunk * y_slot)

    @device
    def inner(at: Any, axes: Any, call: Any, descriptor: Any) -> None:
        sums, terms = pointer_at(load64(at, _ZERO)), pointer_at(load64(at, _EIGHT))
        line(sums, step_of(axes, _ZERO), terms, step_of(axes, _ONE), length_of(axes))

    return loop_nest(f"sum-{name}", 2, 1, begin_at, inner, begin_chunk)
