"""Layout plans: the axes of arrays, ordered and merged for iteration by kernels.

An axis is (length, input stride..., output stride, index stride): strides in memory in bytes, and
in the mask in elements. There may be no input, or several. Axes are ordered for memory access, and
adjacent axes are merged where possible, so that most arrays become a single contiguous axis. The
host code of the CPU kernels and the drivers of the GPU kernels call these functions.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Axis = tuple[int, ...]

# Maximal number of axes of a plan. NumPy has no arrays of 2**63 elements, so at most 62 axes are
# longer than 1; others are dropped, and an axis of length 1 may be added.
MAX_AXES = 64

# The schedule of a plan: the index strides of the innermost axes, those of a kernel's inner loop.
STRIDED = "strided"  # 0 or 1, and any in two axes outside; for any number of inputs any in three
TRANSPOSED = "transposed"  # 1, and larger than 1 in the innermost axis: a transposed tile
# 1, and larger than 1: one array is contiguous along the first axis, the other along the second
TILED = "tiled"
AXES = {STRIDED: 3, TRANSPOSED: 2, TILED: 2}

# Rows of at most this length are faster as transposed tiles even if they could be drawn together:
# 2.7 instead of 9.6 ns per element for rows of 4, 2.2 instead of 5.6 for 8 (Cascade Lake, 2026-11).
_SHORT = 8
_TILE_ROWS = 32  # rows of a transposed tile that are drawn at once, about
_MIN_ROWS = 12  # with fewer rows, most of the bits drawn for a transposed tile would be unused
_MIN_ROWS_IF_SHORT = 4  # the same for short rows, which alone use even less of the bits they draw
# Minimal rows and columns for TILED, and minimal columns if rows are consecutive in the mask.
_TILED_ROWS, _TILED_COLUMNS, _TILED_JOINED = 16, 64, 16


class Plan(NamedTuple):
    """Axes, outermost first, and the schedule of the innermost."""

    axes: list[Axis]
    schedule: str  # a key of `AXES`
    table: npt.NDArray[np.uint64]  # the axes for the kernel, negative strides modulo 2**64
    elements: int


@functools.lru_cache(maxsize=512)  # planning takes 10 us (Cascade Lake, 2026-11); layouts repeat
def plan(
    shape: tuple[int, ...],
    *strides: tuple[int, ...],
    transposed_from: int | None = None,
    narrow: int = 0,
    itemsize: int = 0,
) -> Plan:
    """Plan the axes of a non-empty array; `strides` as for `merged_axes`.

    With `transposed_from`, the schedule is STRIDED, or TRANSPOSED with at least that many rows.
    Rows of up to `narrow` elements become transposed tiles where rows would draw many more bits
    than they use. With `itemsize`, arrays whose elements have so many bytes may become TILED.
    """
    axes, schedule = _ordered(shape, *strides)
    tiled = _tiled(axes, schedule, itemsize) if itemsize else None
    if tiled:
        return _made(tiled, TILED)
    rows = None
    if schedule == STRIDED:
        rows = _narrow_rows(axes, narrow)
    elif schedule == TRANSPOSED and narrow and axes[-1][0] < _MIN_ROWS:
        axes[-2:] = axes[:-3:-1]  # the axis of index stride 1 last, as for STRIDED
        rows = _rows(axes)
    if rows is not None:
        axes.append(axes.pop(rows))
        schedule = TRANSPOSED
    if transposed_from is not None and not (
        schedule == TRANSPOSED and axes[-1][0] >= min(transposed_from, _min_rows(axes[-2][0]))
    ):
        if schedule == TRANSPOSED:  # the axis of index stride 1 is the last but one
            axes[-2:] = axes[:-3:-1]
        schedule = STRIDED
    return _made(axes, schedule)


def _tiled(axes: list[Axis], schedule: str, itemsize: int) -> list[Axis] | None:
    """Return the axes for TILED, columns and rows last, or None if it does not apply."""
    if schedule == TRANSPOSED:  # the output is contiguous along rows
        columns, rows = axes[-2:]
        outer = axes[:-2]
        if (columns[-3], rows[-2]) != (itemsize, itemsize):
            return None
    else:
        columns, outer = axes[-1], axes[:-1]
        if schedule != STRIDED or (columns[-2], columns[-1]) != (itemsize, 1):
            return None
        found = [axis for axis in outer if axis[-3] == itemsize and axis[-1]]
        if not found or columns[-3] == itemsize:
            return None
        rows = found[0]
        outer.remove(rows)
    least = _TILED_JOINED if rows[-1] == columns[0] else _TILED_COLUMNS
    if rows[0] < _TILED_ROWS or columns[0] < least:
        return None
    return [*outer, columns, rows]


def _narrow_rows(axes: list[Axis], narrow: int) -> int | None:
    """Return the axis along which rows of up to `narrow` elements form tiles, if that is faster.

    A single row draws a whole group of bits; a transposed tile draws one group for 32 rows. w
    columns of a float32 mask of shape (1000, 1000) take 7.6 instead of 66 ns per element for w = 2,
    3.0 instead of 17 for 8, and 2.2 instead of 4.5 for 32 (Cascade Lake, 2026-11).
    """
    if len(axes) < 2 or axes[-1][-1] != 1:
        return None
    n, step = axes[-1][0], axes[-2][-1]
    if n > narrow or step < n:  # rows that share decisions remain STRIDED
        return None
    # Rows that are close in the mask are drawn together.
    close = step - n <= n // 4
    if close and n > _SHORT:
        return None
    rows = _rows(axes)
    return rows if axes[rows][0] >= (_MIN_ROWS if close else _min_rows(n)) else None


def _rows(axes: list[Axis]) -> int:
    """Return the axis of a tile's rows: the innermost one with enough rows, or the longest."""
    outer = [a for a in range(len(axes) - 1) if axes[a][-1]]
    longest = max(reversed(outer), key=lambda a: axes[a][0])
    return next((a for a in reversed(outer) if axes[a][0] >= _TILE_ROWS), longest)


def _min_rows(columns: int) -> int:
    """Return the minimal number of rows of a transposed tile, if rows are not drawn together."""
    return _MIN_ROWS if columns > _SHORT else _MIN_ROWS_IF_SHORT


def _made(axes: list[Axis], schedule: str) -> Plan:
    missing = AXES.get(schedule, 1) - len(axes)
    axes[:0] = [(1, *[0] * (len(axes[0]) - 1))] * missing
    assert len(axes) <= MAX_AXES
    table = np.array(axes, np.int64).view(np.uint64)
    table.flags.writeable = False
    return Plan(axes, schedule, table, math.prod(axis[0] for axis in axes))


def _alone(strides: tuple[tuple[int, ...], ...], index_step: int) -> Axis:
    """Return an axis of one element."""
    return (1, *[0] * (len(strides) - 1), index_step)


def _ordered(shape: tuple[int, ...], *strides: tuple[int, ...]) -> tuple[list[Axis], str]:
    merged = merged_axes(shape, *strides)
    if not merged:
        return [_alone(strides, 0)], STRIDED
    if merged[-1][-1] <= 1:
        return merged, STRIDED
    # The axis that is contiguous in memory is not contiguous in the mask, as in Fortran order. With
    # the axis that is contiguous in the mask it forms a transposed tile, in which a Philox call
    # serves 8 elements instead of one.
    rows = merged.pop()
    columns = next((axis for axis in merged if axis[-1] == 1), None)
    if columns is None:
        columns = _alone(strides, 1)
    else:
        merged.remove(columns)
    return [*merged, columns, rows], TRANSPOSED


@functools.lru_cache(maxsize=512)
def rows_plan(shape: tuple[int, ...], *strides: tuple[int, ...], packed: bool = False) -> Plan:
    """Plan the axes of arrays of one shape; see `merged_axes`.

    The innermost axis is one with index stride 1 or 0, if there is any. For a packed output, it is
    the axis along which the output is contiguous.
    """
    axes = merged_axes(shape, *strides)
    if axes and axes[-1][-1] > 1 and not packed:
        consecutive = next((axis for axis in axes if axis[-1] == 1), None)
        if consecutive is not None:
            axes.remove(consecutive)
            axes.append(consecutive)
    return _made(axes or [_alone(strides, 0)], STRIDED)


def merged_axes(shape: tuple[int, ...], *strides: tuple[int, ...]) -> list[Axis]:
    """Order and merge axes, outermost first; axes of length 1 are dropped.

    `strides` are those of the inputs, of the output and of the mask index, in this order.
    """
    axes = [axis for axis in zip(shape, *strides, strict=True) if axis[0] > 1]

    # By the output's strides, then the inputs', then the mask's. The sort is stable, so axes of
    # stride 0 keep their order.
    def distances(axis: Axis) -> tuple[int, ...]:
        return (abs(axis[-2]), *map(abs, axis[1:-2]), axis[-1])

    axes.sort(key=distances, reverse=True)
    merged: list[Axis] = []
    for axis in axes:
        if merged and _continues(merged[-1], axis):
            outer = merged.pop()
            axis = (outer[0] * axis[0], *axis[1:])
        merged.append(axis)
    return merged


def _continues(outer: Axis, inner: Axis) -> bool:
    return all(o == inner[0] * i for o, i in zip(outer[1:], inner[1:], strict=True))


@functools.lru_cache(maxsize=512)
def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of an array in C order."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


@functools.lru_cache(maxsize=512)
def disjoint_distances(
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    itemsize: int,
) -> tuple[int, int]:
    """Return the distances in bytes at which an output is disjoint from a non-empty input.

    The distance of the first elements must be at least the first number (output after the input),
    or at most the second, which is negative (output before the input).
    """
    low, high = _byte_bounds(shape, input_strides, itemsize)
    first, last = _byte_bounds(shape, output_strides, itemsize)
    return high - first, low - last


def _byte_bounds(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> tuple[int, int]:
    """Return the offsets of an array's first byte and of the end, from its first element."""
    extents = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    return sum(min(e, 0) for e in extents), sum(max(e, 0) for e in extents) + itemsize
