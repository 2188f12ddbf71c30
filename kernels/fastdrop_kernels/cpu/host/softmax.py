"""The driver of the softmax kernels: it turns arrays of any layout into rows, shared by threads.

The public package calls it. Rows that are contiguous in memory and in the mask, at one stride, go
to the kernels of `loops.softmax` without a copy. Others go by slabs: some rows are copied to a
array of contiguous rows, a kernel computes their softmax in the compute type, and the results are
dropped and written (in the backward, they are dropped first). `driver.apply`, which has kernels for
every layout, does both copies. The result is the same bit for bit.
"""

from __future__ import annotations

import array
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...contract import ALWAYS
from ...layout import c_strides, merged_axes
from ...threads import run_together, without_team
from ..codegen.ndarray_layout import slot
from ..elements.operations import Operation
from ..elements.storage import FLOAT64, computed_in
from ..loops.call_descriptor import Descriptor
from ..loops.softmax import WORDS, Kind, gradient_kernel, kind_of, row_numbers, softmax_kernel
from . import driver
from .catalogue import FLOATS, operation
from .driver import Array
from .kernel_call import OwnMemory, run_kernel
from .work_sharing import shares

# Time of an element relative to dropout, so that threads are used sooner: rows of 512 take 5 times
# as long, and 7 in the backward (Cascade Lake, November 2026).
_COST = 5.0
# Elements of a slab: some hundred KiB, which fit in the second-level cache. And its minimal rows,
# which may be adjacent in memory element by element: at least a cache line of them.
_SLAB = 1 << 16
_LEAST_ROWS = 64
_SHORT = 64  # elements of a row; shorter ones are copied by NumPy, and lie side by side
_LINE = 64  # bytes of a cache line
_ALL_KEPT = 0  # the threshold that keeps all


class Coefficients(NamedTuple):
    """A key, a threshold, and the factor of kept elements."""

    seed: int
    stream: int
    threshold: int
    scale: Array


class _Rows(NamedTuple):
    """Arrays with the axis of the rows last, the output as the last array, and their placement."""

    arrays: tuple[Array, ...]
    first: int  # mask index of the first element
    index_strides: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.arrays[-1].shape
        return shape

    def part(self, places: tuple[slice, ...]) -> _Rows:
        """Return some of the rows."""
        starts = sum(p.start * step for p, step in zip(places, self.index_strides, strict=False))
        arrays = tuple(array[places] for array in self.arrays)
        return _Rows(arrays, self.first + starts, self.index_strides)

    def steps(self) -> list[int] | None:
        """Return number and strides of rows that a kernel can process without a copy, else None."""
        n = self.shape[-1]
        if n > 1 and not (
            all(array.strides[-1] == array.itemsize for array in self.arrays)
            and self.index_strides[-1] == 1
        ):
            return None
        strides = [array.strides[:-1] for array in self.arrays]
        axes = merged_axes(self.shape[:-1], *strides, self.index_strides[:-1])
        if len(axes) > 1:
            return None
        return list(axes[0]) if axes else [1, *[0 for _ in self.arrays], 0]


@functools.cache
def _kind(dtype: np.dtype[Any]) -> Kind:
    return kind_of(dtype.name, FLOATS[dtype.name], operation("drop", dtype))


@functools.cache
def _number(dtype: np.dtype[Any]) -> np.dtype[Any]:
    is_double = computed_in(_kind(dtype).storage) is FLOAT64
    return np.dtype(np.float64 if is_double else np.float32)


def prepare(dtype: np.dtype[Any], backward: bool) -> None:
    """Compile all that one of these functions may call, or load it from the cache."""
    kind, number = _kind(dtype), operation("drop", _number(dtype))
    make, treated = (
        (gradient_kernel, kind.dropped_in) if backward else (softmax_kernel, kind.dropped_out)
    )
    for each in {treated, number}:
        make(kind, each)
    driver.prepare(list({treated, operation("drop", dtype)}))  # for slabs


def softmax_dropout(
    x: Array,
    y: Array,
    axis: int,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    scale: Array,
) -> None:
    """Write the softmax of x along an axis, dropped and scaled; y may be x.

    `index_strides` None means those of C order. The scale is of the compute type.
    """
    coefficients = Coefficients(seed, stream, threshold, scale)
    _over_rows(_rows((x, y), axis, index, index_strides), coefficients, _forward, _slab_forward)


def softmax_dropout_backward(
    x: Array,
    dy: Array,
    dx: Array,
    axis: int,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    scale: Array,
) -> None:
    """Write the gradient of x to dx, given that of the result; dx may be x or dy."""
    coefficients = Coefficients(seed, stream, threshold, scale)
    _over_rows(
        _rows((x, dy, dx), axis, index, index_strides), coefficients, _backward, _slab_backward
    )


def _rows(
    arrays: tuple[Array, ...], axis: int, index: int, index_strides: tuple[int, ...] | None
) -> _Rows:
    """Move the axis of the rows to the end, and order the others by the output's strides."""
    y = arrays[-1]
    steps = c_strides(y.shape) if index_strides is None else index_strides
    outer = [a for a in range(y.ndim) if a != axis]
    order = [*sorted(outer, key=lambda a: -abs(y.strides[a])), axis]
    return _Rows(tuple(a.transpose(order) for a in arrays), index, tuple(steps[a] for a in order))


# (rows, number and strides of rows, coefficients, whether to use one thread only)
_Direct = Callable[[_Rows, list[int], Coefficients, bool], None]
_Slab = Callable[[_Rows, Coefficients, list[Array]], None]


def _over_rows(rows: _Rows, coefficients: Coefficients, direct: _Direct, copied: _Slab) -> None:
    if not rows.arrays[-1].size:
        return
    if (steps := rows.steps()) is not None:
        direct(rows, steps, coefficients, False)
        return
    count, size, places = _slabs(rows.shape)
    n = rows.shape[-1]
    numbers = list(range(count))
    memory: list[list[Array]] = []

    def work() -> None:
        own = memory.pop()  # atomic, too
        while True:
            try:
                part = rows.part(places(numbers.pop()))  # an atomic pop
            except IndexError:
                return
            if (steps := part.steps()) is not None:
                direct(part, steps, coefficients, True)
            else:
                copied(part, coefficients, own)

    with without_team():  # which runs compiled code only
        _, threads = shares(count, int(_COST * math.prod(rows.shape)), 1)
        # Before anything is written. The arrays of a slab are of the types of x and of the output,
        # and of the type computed in.
        dtypes = rows.arrays[0].dtype, rows.arrays[-1].dtype, _number(rows.arrays[-1].dtype)
        memory += ([_slab_rows(size, n, dtype) for dtype in dtypes] for _ in range(threads))
        run_together(work, threads)


def _slabs(shape: tuple[int, ...]) -> tuple[int, int, Callable[[int], tuple[slice, ...]]]:
    """Cut rows into slabs in C order; return number, rows of one, and ``place(n)`` of the n-th.

    Slabs at the ends may have fewer rows.
    """
    *outer, n = shape
    lengths, room = [], max(_LEAST_ROWS, _SLAB // n)
    for length in reversed(outer):
        lengths.append(max(1, min(length, room)))
        room //= length
    lengths.reverse()
    counts = [-(-whole // part) for whole, part in zip(outer, lengths, strict=True)]

    def places(number: int) -> tuple[slice, ...]:
        at: tuple[Any, ...] = np.unravel_index(number, counts) if counts else ()
        starts = [int(k) * part for k, part in zip(at, lengths, strict=True)]
        return tuple(
            slice(start, min(start + part, whole))
            for start, part, whole in zip(starts, lengths, outer, strict=True)
        )

    return math.prod(counts), math.prod(lengths), places


def _slab_rows(count: int, n: int, dtype: np.dtype[Any]) -> Array:
    """Return memory of contiguous rows; long ones are an odd number of cache lines apart.

    Rows a power of two apart would share few sets of the first-level cache, and a copy that goes
    across them would miss it at each element (2,048 x 1,024 in float32 took 5 times as long).
    """
    lines = -(-n * dtype.itemsize // _LINE) | 1
    step = n if n < _SHORT else lines * _LINE // dtype.itemsize
    rows: Array = np.empty((count, step), dtype)[:, :n]
    return rows


def _of_shape(memory: Array, shape: tuple[int, ...]) -> Array:
    """Return the first rows of a slab's memory in a shape."""
    rows: Array = memory[: math.prod(shape[:-1])].reshape(shape)
    return rows


def _copy(x: Array, rows: Array) -> None:
    """Copy rows of any layout to a slab.

    NumPy goes along what it writes. That is slow where rows lie across, if they are long.
    """
    if rows.shape[-1] < _SHORT:
        np.copyto(rows, x)
        return
    drop, one = operation("drop", x.dtype), np.ones((), _number(x.dtype))
    driver.apply(drop, x, rows, 0, c_strides(rows.shape), 0, 0, _ALL_KEPT, one)


def _shared(steps: list[int], rows: _Rows, alone: bool) -> tuple[int, int]:
    n = rows.shape[-1]
    return (steps[0], 1) if alone else shares(steps[0], int(_COST * steps[0] * n), 1)


def _descriptor(rows: _Rows, steps: list[int], coefficients: Coefficients) -> Descriptor:
    """Return the descriptor of rows; see `loops.softmax`."""
    count, *through, index_step = steps
    scale_slot = slot(coefficients.scale)
    words = [count, rows.shape[-1], rows.first, index_step, coefficients.threshold, scale_slot]
    words += [step % 2**64 for step in through]
    memory = array.array("Q", words + [0] * (WORDS - len(words)))
    return Descriptor(memory.buffer_info()[0], (memory, coefficients.scale, scale_slot))


def _forward(rows: _Rows, steps: list[int], coefficients: Coefficients, alone: bool) -> None:
    x, y = rows.arrays
    kind = _kind(y.dtype)
    _run_softmax(kind, kind.dropped_out, rows, steps, coefficients, alone)


def _run_softmax(
    kind: Kind,
    out: Operation,
    rows: _Rows,
    steps: list[int],
    coefficients: Coefficients,
    alone: bool,
) -> None:
    x, y = rows.arrays
    kernel = softmax_kernel(kind, out)
    chunk, threads = _shared(steps, rows, alone)
    descriptor = _descriptor(rows, steps, coefficients)
    seed, stream, _, scale = coefficients
    e = OwnMemory(2, row_numbers(rows.shape[-1]), scale.dtype)
    arguments = slot(x), slot(y), 0, descriptor.at, seed, stream
    run_kernel(kernel, arguments, chunk, threads, (x, y, descriptor), e)


def _backward(rows: _Rows, steps: list[int], coefficients: Coefficients, alone: bool) -> None:
    kind = _kind(rows.arrays[-1].dtype)
    _run_gradient(kind, kind.dropped_in, rows, steps, coefficients, alone)


def _run_gradient(
    kind: Kind,
    into: Operation,
    rows: _Rows,
    steps: list[int],
    coefficients: Coefficients,
    alone: bool,
) -> None:
    x, dy, dx = rows.arrays
    kernel = gradient_kernel(kind, into)
    chunk, threads = _shared(steps, rows, alone)
    descriptor, slots = _descriptor(rows, steps, coefficients), [slot(x), slot(dy), slot(dx)]
    arrays = np.array(slots, np.uint64)
    seed, stream, _, scale = coefficients
    e = OwnMemory(1, 2 * row_numbers(rows.shape[-1]), scale.dtype)
    arguments = slot(arrays), 0, descriptor.at, seed, stream
    alive = x, dy, dx, slots, arrays, descriptor
    run_kernel(kernel, arguments, chunk, threads, alive, e)


def _together(*arrays: Array) -> _Rows:
    """Return slabs as rows with mask indices from 0 on, for calls that keep all."""
    return _Rows(arrays, 0, c_strides(arrays[-1].shape))


def _steps(rows: _Rows) -> list[int]:
    steps = rows.steps()
    assert steps is not None
    return steps


def _slab_forward(rows: _Rows, coefficients: Coefficients, memory: list[Array]) -> None:
    x, y = rows.arrays
    kind, number = _kind(y.dtype), _number(y.dtype)
    given, _, made = (_of_shape(rows, y.shape) for rows in memory)
    given = made if number == x.dtype else given
    _copy(x, given)
    between = _together(given, made)
    kept = coefficients._replace(threshold=_ALL_KEPT)
    # If everything is dropped, the softmax is not needed.
    if coefficients.threshold != ALWAYS:
        _run_softmax(kind, operation("drop", number), between, _steps(between), kept, True)
    one = np.ones((), number)
    seed, stream, threshold, _ = coefficients
    place = rows.first, rows.index_strides
    driver.apply(kind.dropped_out, made, y, *place, seed, stream, threshold, one)


def _slab_backward(rows: _Rows, coefficients: Coefficients, memory: list[Array]) -> None:
    x, dy, dx = rows.arrays
    kind, number = _kind(dx.dtype), _number(dx.dtype)
    given, other, g = (_of_shape(rows, dx.shape) for rows in memory)
    _copy(x, given)
    seed, stream, threshold, scale = coefficients
    place = rows.first, rows.index_strides
    driver.apply(kind.dropped_in, dy, g, *place, seed, stream, threshold, scale)
    made = g if number == dx.dtype else other
    between = _together(given, g, made)
    kept = Coefficients(seed, stream, _ALL_KEPT, np.ones((), number))
    _run_gradient(kind, operation("drop", number), between, _steps(between), kept, True)
    np.copyto(dx, made)
