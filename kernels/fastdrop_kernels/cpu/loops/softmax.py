"""Softmax and dropout: kernels over rows, each of which is made while it lies in the cache.

What `softmax_rows` makes of a row is a row of numbers that are computed with, and `row_loop` drops
and scales them on the way out (in the backward, on the way in). Nothing is rounded in between.
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
from .loop_nest import Kernel
from .mask_buffer import buffer_scratch, close_step
from .softmax_rows import VECTOR, exponentials, number_type, softmax_gradient
from .tiles import row_loop

_GROUP = np.uint64(GROUP)
_ZERO, _ONE, _EIGHT = (np.uint64(n) for n in (0, 1, 8))
_ALWAYS = np.uint64(contract.ALWAYS)
# Elements of a row, up to which many rows' marks are drawn at once: from there on it is no gain.
_SHORT = np.uint64(1024)
_factor_scratch = scratch(8)


class Kind(NamedTuple):
    """A dtype's elements, and how they meet the numbers that are computed with."""

    name: str
    storage: Storage
    dropped_out: Operation  # of numbers, as elements
    dropped_in: Operation  # of elements, as numbers


def kind_of(name: str, storage: Storage, plain: Operation) -> Kind:
    """Return the kind of a dtype, whose dropout is `plain`."""
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
    """Return how many numbers have room in memory for a row."""
    return -(-n // VECTOR) * VECTOR


@device
def _row_step(n: Any, step: Any) -> Any:
    """Return `close_step`, but 0 where groups of bits end where rows do: none is drawn twice."""
    whole = n % _GROUP == _ZERO and step % _GROUP == _ZERO
    return _ZERO if whole else close_step(n, step, _SHORT)


# Byte offsets in a descriptor of rows: how many, elements of each, the mask index of the first, the
# step from row to row through the mask, the threshold, the slot of the scale, and the steps through
# the arrays (the output last).
_ROWS, _N, _INDEX, _INDEX_STEP, _THRESHOLD, _SCALE, *_STEPS = (np.uint64(8 * k) for k in range(9))
WORDS = 9


@device
def _set_rows(call: Any, buffer: Any, seed: Any, stream: Any) -> None:
    """Prepare a call state, with memory for a mask buffer."""
    set_key(call, seed, stream)
    store64(call, BUFFER, address_of(buffer))


@functools.cache
@shielded
def softmax_kernel(kind: Kind, out: Operation) -> Kernel:
    """Kernel over rows of neighbours, whose mask indices are consecutive.

    ``(x, y, e, descriptor, seed, stream, counter, chunk)``: y becomes what `out` makes of the
    softmax of x times the scale. Arrays are slots; `e` has `row_numbers` for each thread alone.
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
                    # Of nothing but -inf, e is 0 already, and 0 * inf would be NaN.
                    store_number(factor, _ZERO, number(scale / total if total != 0.0 else 0.0))
                store64(call, REACH, together * (stop - r))
                row(e, advance(y, r * y_step), n, first + r * step, call)
            start = take_chunk(counter, chunk)
        restore_fp_env(rounding)

    return kernel(f"softmax-{kind.name}-{out.name}", run, types.void(*[U64] * 8))


@functools.cache
@shielded
def gradient_kernel(kind: Kind, into: Operation) -> Kernel:
    """Kernel over rows of neighbours, whose mask indices are consecutive.

    ``(arrays, e, descriptor, seed, stream, counter, chunk)``: y becomes the gradient of x, and
    `into` drops and scales dy. `arrays` is the slot of the slots of x, dy and y, and `e` has twice
    the `row_numbers` for each thread alone. The rest as in `softmax_kernel`.
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
