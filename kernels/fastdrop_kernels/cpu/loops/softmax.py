"""Kernels for softmax and dropout, forward and backward: each row is processed while it is cached.

`host.softmax` calls the kernels. They call `softmax_rows`, which computes in float32 or float64,
and `tiles.row_loop`, which drops and scales on output (in the backward, on input). Nothing is
rounded to the dtype in between.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ... import contract
from ...shielded import shielded
from ..codegen.compiler import device, kernel
from ..codegen.fp_environment import restore_fp_env, set_default_fp_env
from ..codegen.intrinsics import (
    address_of,
    advance,
    loader,
    pointer_at,
    pointer_in,
    scratch,
    storer,
)
from ..codegen.vectors import Lanes
from ..elements.operations import Operation
from ..elements.sampler import GROUP, U64, load64, store64
from ..elements.storage import Storage, computed_in
from .call_descriptor import (
    BUFFER,
    REACH,
    call_state,
    counter_in,
    counter_scratch,
    set_coefficients,
    set_key,
    take_chunk,
)
from .contiguous import CACHED
from .dispatch import row_loop
from .loop_nest import Kernel
from .mask_buffer import buffer_scratch, close_step
from .softmax_rows import VECTOR, exponentials, number_type, softmax_gradient

_GROUP = np.uint64(GROUP)
_ZERO, _ONE, _EIGHT = (np.uint64(n) for n in (0, 1, 8))
_ALWAYS = np.uint64(contract.ALWAYS)
# The longest rows whose bits are drawn for many rows at once; for longer rows it gains nothing.
_SHORT = np.uint64(1024)
_factor_scratch = scratch(8)


class Kind(NamedTuple):
    """A dtype: its storage type, and dropout from and to the compute type."""

    name: str
    storage: Storage
    dropped_out: Operation  # from the compute type to the dtype
    dropped_in: Operation  # from the dtype to the compute type


def kind_of(name: str, storage: Storage, plain: Operation) -> Kind:
    """Return the `Kind` of a dtype, whose dropout is `plain`."""
    number = computed_in(storage)
    if number is storage:
        return Kind(name, storage, plain, plain)

    def load_number(
        builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None
    ) -> Lanes:
        return storage.arranged(number.load(builder, pointer, offset, count, where))

    def load_element(
        builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None
    ) -> Lanes:
        return storage.natural(storage.load(builder, pointer, offset, count, where))

    going, coming = number._replace(load=load_number), storage._replace(load=load_element)
    out = Operation(f"drop-to-{name}", going, storage, plain.kept, plain.dropped)
    back = Operation(f"drop-from-{name}", coming, number, plain.kept, plain.dropped)
    return Kind(name, storage, out, back)


def row_numbers(n: int) -> int:
    """Return the length of a buffer for a row of n elements: a whole number of vectors."""
    return -(-n // VECTOR) * VECTOR


@device
def _row_step(n: Any, step: Any) -> Any:
    """Return `close_step`, or 0 if all rows end at group boundaries: no bits are drawn twice."""
    whole = n % _GROUP == _ZERO and step % _GROUP == _ZERO
    return _ZERO if whole else close_step(n, step, _SHORT)


# Byte offsets in a descriptor of rows: number of rows, elements of a row, first mask index, index
# step from row to row, threshold, slot of the scale, and row strides of the arrays (output last).
_ROWS, _N, _INDEX, _INDEX_STEP, _THRESHOLD, _SCALE, *_STEPS = (np.uint64(8 * k) for k in range(9))
WORDS = 9


@device
def _set_rows(call: Any, buffer: Any, seed: Any, stream: Any) -> None:
    """Write the key and the address of a mask buffer to a call state."""
    set_key(call, seed, stream)
    store64(call, BUFFER, address_of(buffer))


@functools.cache
@shielded
def softmax_kernel(kind: Kind, out: Operation) -> Kernel:
    """Kernel over rows that are contiguous in memory and in the mask.

    ``(x, y, e, descriptor, seed, stream, counter, chunk)``: y is the result of the dropout `out` on
    the softmax of x. Arrays are slots. `e` is each thread's own buffer, of `row_numbers` numbers.
    """
    storage = kind.storage
    number = number_type(storage)
    load_number, store_number = loader(number), storer(number)
    powers, row = exponentials(kind.name, storage), row_loop(out, CACHED)
    x_word, y_word = _STEPS[0], _STEPS[1]

    def run(
        x_slot: Any,
        y_slot: Any,
        e_slot: Any,
        descriptor_at: Any,
        seed: Any,
        stream: Any,
        counter_slot: Any,
        chunk: Any,
    ) -> None:
        rounding = set_default_fp_env()
        descriptor, call, factor = pointer_at(descriptor_at), call_state(), _factor_scratch()
        _set_rows(call, buffer_scratch(), seed, stream)
        x, y, e = pointer_in(x_slot), pointer_in(y_slot), pointer_in(e_slot)
        counter = counter_in(counter_slot, counter_scratch())
        rows, n = load64(descriptor, _ROWS), load64(descriptor, _N)
        first, step = load64(descriptor, _INDEX), load64(descriptor, _INDEX_STEP)
        x_step, y_step = load64(descriptor, x_word), load64(descriptor, y_word)
        threshold = load64(descriptor, _THRESHOLD)
        scale = types.float64(load_number(pointer_in(load64(descriptor, _SCALE)), _ZERO))
        store_number(factor, _ZERO, number(scale))
        set_coefficients(call, threshold, address_of(factor))
        together = _row_step(n, step)
        start = take_chunk(counter, chunk)
        while start < rows:
            stop = min(start + chunk, rows)
            for r in range(start, stop):
                if threshold != _ALWAYS:
                    total = powers(advance(x, r * x_step), e, n)
                    # If all x are -inf, e is 0 already, and 0 * inf would be NaN.
                    store_number(factor, _ZERO, number(scale / total if total != 0.0 else 0.0))
                store64(call, REACH, together * (stop - r))
                row(e, advance(y, r * y_step), n, first + r * step, call)
            start = take_chunk(counter, chunk)
        restore_fp_env(rounding)

    return kernel(f"softmax-{kind.name}-{out.name}", run, types.void(*[U64] * 8))


@functools.cache
@shielded
def gradient_kernel(kind: Kind, into: Operation) -> Kernel:
    """Kernel over rows that are contiguous in memory and in the mask.

    ``(arrays, e, descriptor, seed, stream, counter, chunk)``: y is the gradient of x; `into` drops
    and scales dy. `arrays` is the slot of an array with the slots of x, dy and y. `e` is each
    thread's own buffer, of twice `row_numbers`. Other arguments are as in `softmax_kernel`.
    """
    storage = kind.storage
    size = np.uint64(computed_in(storage).itemsize)
    powers, row = exponentials(kind.name, storage), row_loop(into, CACHED)
    gradient = softmax_gradient(kind.name, storage)
    x_word, dy_word, y_word = _STEPS

    def run(
        arrays_slot: Any,
        e_slot: Any,
        descriptor_at: Any,
        seed: Any,
        stream: Any,
        counter_slot: Any,
        chunk: Any,
    ) -> None:
        rounding = set_default_fp_env()
        descriptor, call, arrays = pointer_at(descriptor_at), call_state(), pointer_in(arrays_slot)
        _set_rows(call, buffer_scratch(), seed, stream)
        x, dy = pointer_in(load64(arrays, _ZERO)), pointer_in(load64(arrays, _EIGHT))
        y, e = pointer_in(load64(arrays, _EIGHT + _EIGHT)), pointer_in(e_slot)
        counter = counter_in(counter_slot, counter_scratch())
        rows, n = load64(descriptor, _ROWS), load64(descriptor, _N)
        first, step = load64(descriptor, _INDEX), load64(descriptor, _INDEX_STEP)
        x_step, dy_step = load64(descriptor, x_word), load64(descriptor, dy_word)
        y_step, scale = load64(descriptor, y_word), pointer_in(load64(descriptor, _SCALE))
        set_coefficients(call, load64(descriptor, _THRESHOLD), address_of(scale))
        vector = np.uint64(VECTOR)
        g = advance(e, (n + vector - _ONE) // vector * vector * size)
        together = _row_step(n, step)
        start = take_chunk(counter, chunk)
        while start < rows:
            stop = min(start + chunk, rows)
            for r in range(start, stop):
                store64(call, REACH, together * (stop - r))
                row(advance(dy, r * dy_step), g, n, first + r * step, call)
                total = powers(advance(x, r * x_step), e, n)
                gradient(e, g, advance(y, r * y_step), n, total)
            start = take_chunk(counter, chunk)
        restore_fp_env(rounding)

    return kernel(f"softmax-{kind.name}-{into.name}-backward", run, types.void(*[U64] * 7))
