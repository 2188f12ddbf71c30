"""Plans: an array's layout as a box of axes that a kernel can walk.

An axis is (length, input step, output step, index step): steps through memory in bytes and through
the mask in elements. Axes are ordered for memory, and merged wherever one continues another, so
that most arrays become a single line whatever their shape. Of inputs there may be none, or several.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Axis = tuple[int, ...]

# Of a plan, at most. NumPy takes no array of 2**63 elements, so at most 62 axes are longer than 1,
# and others are dropped; one of length 1 may be added to those.
MAX_AXES = 64

# What a kernel treats at once: so many innermost axes.
LINE = "line"  # index step 0 or 1, and any two outside; of any number of inputs any three
PANEL = "panel"  # index step 1, and more inside
AXES = {LINE: 3, PANEL: 2}

# Lines so short gain as panels even if they could be drawn together: columns of all but one take
# 2.7 ns an element and not 9.6 in lines of 4, and 2.2 and not 5.6 of 8.
_SHORT = 8
_STRIP = 32  # rows that are drawn at once, about
_FEW = 12  # rows, below which most of a strip would be drawn in vain
# But of no more columns than a strip has, a line uses even less of what it draws.
_FEWEST = 4


class Plan(NamedTuple):
    """A box of axes, outermost first, and what of the innermost a kernel treats at once."""

    axes: list[Axis]
    form: str
    table: npt.NDArray[np.uint64]  # the axes for the kernel, negative steps modulo 2**64
    elements: int


@functools.lru_cache(maxsize=512)  # planning takes 10 us, and loops come with the same arrays again
def plan(
    shape: tuple[int, ...],
    *strides: tuple[int, ...],
    panel_from: int | None = None,
    narrow: int = 0,
) -> Plan:
    """Order and merge the axes of an array that is not empty; `strides` as of `merged_axes`.

    With `panel_from`, it is made of lines, or of panels of at least so many rows. Lines of up to
    `narrow` elements go as panels where lines would draw far more bits than they use.
    """
    axes, form = _boxed(shape, *strides)
    rows = None
    if form == LINE:
        rows = _narrow_rows(axes, narrow)
    elif form == PANEL and narrow and axes[-1][0] < _FEW:
        axes[-2:] = axes[:-3:-1]  # the columns come last, as a line does
        rows = _rows(axes)
    if rows is not None:
        axes.append(axes.pop(rows))
        form = PANEL
    if panel_from is not None and not (
        form == PANEL and axes[-1][0] >= min(panel_from, _few(axes[-2][0]))
    ):
        if form == PANEL:  # the axis of index step 1 is the last but one
            axes[-2:] = axes[:-3:-1]
        form = LINE
    return _made(axes, form)


def _narrow_rows(axes: list[Axis], narrow: int) -> int | None:
    """Return the axis that makes a panel with lines of up to `narrow` elements, if one should.

    A line draws a group of bits, and a strip of a panel one for 32 rows. So the columns (1000, w)
    of a mask of 1,000 columns take, on a Cascade Lake in float32, 7.6 ns an element and not 66 for
    w = 2, 3.0 and not 17 for 8, and 2.2 and not 4.5 for 32.
    """
    if len(axes) < 2 or axes[-1][-1] != 1:
        return None
    n, step = axes[-1][0], axes[-2][-1]
    if n > narrow or step < n:  # where the lines of an axis share decisions, these are kept
        return None
    # Lines that follow each other closely are drawn together (see `box`).
    close = step - n <= n // 4
    if close and n > _SHORT:
        return None
    rows = _rows(axes)
    return rows if axes[rows][0] >= (_FEW if close else _few(n)) else None


def _rows(axes: list[Axis]) -> int:
    """Return the axis that makes the best rows of a panel with the last: near, or at least long."""
    outer = [a for a in range(len(axes) - 1) if axes[a][-1]]
    longest = max(reversed(outer), key=lambda a: axes[a][0])
    return next((a for a in reversed(outer) if axes[a][0] >= _STRIP), longest)


def _few(columns: int) -> int:
    """Return how many rows are worth a panel, where lines would not be drawn together."""
    return _FEW if columns > _SHORT else _FEWEST


def _made(axes: list[Axis], form: str) -> Plan:
    missing = AXES.get(form, 1) - len(axes)
    axes[:0] = [(1, *[0] * (len(axes[0]) - 1))] * missing
    assert len(axes) <= MAX_AXES
    table = np.array(axes, np.int64).view(np.uint64)
    table.flags.writeable = False
    return Plan(axes, form, table, math.prod(axis[0] for axis in axes))


def _alone(strides: tuple[tuple[int, ...], ...], index_step: int) -> Axis:
    """Return an axis of one element."""
    return (1, *[0] * (len(strides) - 1), index_step)


def _boxed(shape: tuple[int, ...], *strides: tuple[int, ...]) -> tuple[list[Axis], str]:
    merged = merged_axes(shape, *strides)
    if not merged:
        return [_alone(strides, 0)], LINE
    if merged[-1][-1] <= 1:
        return merged, LINE
    # The axis that is contiguous in memory jumps through the mask: a Fortran-ordered array. With
    # the axis along which the mask is contiguous it makes a panel, where a Philox call serves 8
    # elements again and not one.
    rows = merged.pop()
    columns = next((axis for axis in merged if axis[-1] == 1), None)
    if columns is None:
        columns = _alone(strides, 1)
    else:
        merged.remove(columns)
    return [*merged, columns, rows], PANEL


@functools.lru_cache(maxsize=512)
def rows_plan(shape: tuple[int, ...], *strides: tuple[int, ...], packed: bool = False) -> Plan:
    """Order and merge the axes of arrays of one shape; see `merged_axes`.

    Innermost is one along which decisions are consecutive or shared, if there is any; but if the
    output is packed, the one along which that is.
    """
    axes = merged_axes(shape, *strides)
    if axes and axes[-1][-1] > 1 and not packed:
        consecutive = next((axis for axis in axes if axis[-1] == 1), None)
        if consecutive is not None:
            axes.remove(consecutive)
            axes.append(consecutive)
    return _made(axes or [_alone(strides, 0)], LINE)


def merged_axes(shape: tuple[int, ...], *strides: tuple[int, ...]) -> list[Axis]:
    """Order and merge axes, outermost first: none where all lengths are 1.

    `strides` are those of the inputs, of the output and of the index, in this order.
    """
    axes = [axis for axis in zip(shape, *strides, strict=True) if axis[0] > 1]

    # By the output's distances, then the inputs', then the mask's. The sort is stable, so axes that
    # a broadcast view repeats keep their order.
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
    """Return the steps through the elements of an array in C order."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


@functools.lru_cache(maxsize=512)
def apart_from(
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    itemsize: int,
) -> tuple[int, int]:
    """Return how far an output's first element must lie from an input's for both to be apart.

    From the first distance on it lies behind all of the input, and up to the second, which is
    negative, in front of it. Both are counted in bytes; there is an element.
    """
    low, high = _reach(shape, input_strides, itemsize)
    first, last = _reach(shape, output_strides, itemsize)
    return high - first, low - last


def _reach(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Return where the first byte of an array lies, and what is behind the last.

    Both are counted from its first element.
    """
    far = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    return sum(min(f, 0) for f in far), sum(max(f, 0) for f in far) + itemsize
