"""Softmax and dropout: kernels over rows, each of which is made while it lies in the cache.

What `softmax_rows` makes of a row is a row of numbers that are computed with, and `line` drops and
scales them on the way out (in the backward, on the way in), as it does any other line. Nothing is
rounded in between.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ... import contract
from ...shielded import made_apart
from ..codegen.compiler import device, kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import advance, loader, pointer_in, scratch, storer, take
from ..codegen.vectors import Lanes
from ..elements.operations import Operation
from ..elements.sampler import GROUP, U64
from ..elements.storage import Storage
from .contiguous import NEAR
from .contiguous_kernels import Kernel
from .mask_buffer import forget, window_scratch
from .softmax_rows import VECTOR, computed, exponentials, number_type, softmax_gradient
from .strided import joined_step, line_loop, marks_scratch

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
    number = computed(storage)
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
    """Return `joined_step`, but 0 where groups of bits end where rows do: none is drawn twice."""
    whole = n % _GROUP == _ZERO and step % _GROUP == _ZERO
    return _ZERO if whole else joined_step(n, step, _SHORT)


@functools.cache
@made_apart
def softmax_kernel(kind: Kind, out: Operation) -> Kernel:
    """Kernel over rows of neighbours, whose mask indices are consecutive.

    ``(x, y, e, cursor, part, rows, n, x_step, y_step, index, index_step, seed, stream, threshold,
    scale)``: y becomes what `out` makes of the softmax of x times the scale. Threads share the
    rows by a cursor as in `flat`; `e` has `row_numbers` for each thread alone. Steps are those from
    row to row, modulo 2**64.
    """
    storage = kind.storage
    number, size = number_type(storage), np.uint64(computed(storage).itemsize)
    load_number, store_number = loader(number), storer(number)
    out_size = np.uint64(out.target.itemsize)
    powers, line = exponentials(kind.name, storage), line_loop(out, NEAR)

    def run(
        x_slot: Any,
        y_slot: Any,
        e_slot: Any,
        cursor_slot: Any,
        part: Any,
        rows: Any,
        n: Any,
        x_step: Any,
        y_step: Any,
        first: Any,
        step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        scale_slot: Any,
    ) -> None:
        rounding = round_by_default()
        marks, window, factor = marks_scratch(), window_scratch(), _factor_scratch()
        x, y, e = pointer_in(x_slot), pointer_in(y_slot), pointer_in(e_slot)
        cursor = pointer_in(cursor_slot)
        scale = types.float64(load_number(pointer_in(scale_slot), _ZERO))
        store_number(factor, _ZERO, number(scale))
        forget(window)
        together = _row_step(n, step)
        start = take(cursor, part)
        while start < rows:
            stop = min(start + part, rows)
            for r in range(start, stop):
                if threshold != _ALWAYS:
                    total = powers(advance(x, r * x_step), e, n)
                    # Of nothing but -inf, e is 0 already, and 0 * inf would be NaN.
                    store_number(factor, _ZERO, number(scale / total if total != 0.0 else 0.0))
                line(
                    e,
                    size,
                    advance(y, r * y_step),
                    out_size,
                    n,
                    first + r * step,
                    _ONE,
                    seed,
                    stream,
                    threshold,
                    factor,
                    marks,
                    window,
                    _ONE,
                    together * (stop - r),
                )
            start = take(cursor, part)
        round_as_before(rounding)

    return kernel(f"softmax-{kind.name}-{out.name}", run, types.void(*[U64] * 15))


@functools.cache
@made_apart
def gradient_kernel(kind: Kind, into: Operation) -> Kernel:
    """Kernel over rows of neighbours, whose mask indices are consecutive.

    ``(x, dy, y, e, cursor, part, rows, n, x_step, dy_step, y_step, index, index_step, seed, stream,
    threshold, scale)``: y becomes the gradient of x, and `into` drops and scales dy. `e` has twice
    the `row_numbers` for each thread alone. The rest as in `softmax_kernel`.
    """
    storage = kind.storage
    size, dy_size = np.uint64(computed(storage).itemsize), np.uint64(into.source.itemsize)
    powers, line = exponentials(kind.name, storage), line_loop(into, NEAR)
    gradient = softmax_gradient(kind.name, storage)

    def run(
        x_slot: Any,
        dy_slot: Any,
        y_slot: Any,
        e_slot: Any,
        cursor_slot: Any,
        part: Any,
        rows: Any,
        n: Any,
        x_step: Any,
        dy_step: Any,
        y_step: Any,
        first: Any,
        step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        scale_slot: Any,
    ) -> None:
        rounding = round_by_default()
        marks, window = marks_scratch(), window_scratch()
        x, dy, y = pointer_in(x_slot), pointer_in(dy_slot), pointer_in(y_slot)
        e, scale, cursor = pointer_in(e_slot), pointer_in(scale_slot), pointer_in(cursor_slot)
        vector = np.uint64(VECTOR)
        g = advance(e, (n + vector - _ONE) // vector * vector * size)
        forget(window)
        together = _row_step(n, step)
        start = take(cursor, part)
        while start < rows:
            stop = min(start + part, rows)
            for r in range(start, stop):
                line(
                    advance(dy, r * dy_step),
                    dy_size,
                    g,
                    size,
                    n,
                    first + r * step,
                    _ONE,
                    seed,
                    stream,
                    threshold,
                    scale,
                    marks,
                    window,
                    _ONE,
                    together * (stop - r),
                )
                total = powers(advance(x, r * x_step), e, n)
                gradient(e, g, advance(y, r * y_step), n, total)
            start = take(cursor, part)
        round_as_before(rounding)

    return kernel(f"softmax-{kind.name}-{into.name}-backward", run, types.void(*[U64] * 17))
