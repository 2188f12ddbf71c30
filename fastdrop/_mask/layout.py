"""Layouts of masks: which elements of a whole mask a view has, as NumPy's strides say it of memory.

A view of a mask is a first element index and a step through the index along each axis. Basic
indexing, transposition and (of contiguous elements) reshaping only change these numbers.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastdrop_kernels.layout import c_strides


class Layout(NamedTuple):
    """The elements of a mask: the index of the first, and steps through the index, by axis.

    Steps are 0 along axes of length 1, and in a mask without elements, so that equal layouts are
    layouts of equal elements.
    """

    shape: tuple[int, ...]
    first: int
    strides: tuple[int, ...]
    # The whole mask that this is a view of, and the index of its first element: for `repr` alone.
    grid: tuple[int, ...]
    origin: int

    @property
    def is_contiguous(self) -> bool:
        """Say whether indices follow each other in C order."""
        return _follow_each_other(self.shape, self.strides)


@functools.lru_cache(maxsize=512)
def _follow_each_other(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    return strides == _normal(shape, c_strides(shape))


@functools.lru_cache(maxsize=512)
def whole(shape: tuple[int, ...], origin: int = 0) -> Layout:
    """Return the layout of a mask that is no view."""
    return _layout(shape, origin, c_strides(shape), shape, origin)


def _normal(shape: tuple[int, ...], strides: Sequence[int]) -> tuple[int, ...]:
    if 0 in shape:
        return (0,) * len(shape)
    return tuple([0 if n == 1 else step for n, step in zip(shape, strides, strict=True)])


def _layout(
    shape: tuple[int, ...], first: int, strides: Sequence[int], grid: tuple[int, ...], origin: int
) -> Layout:
    first = 0 if 0 in shape else first
    return Layout(shape, first, _normal(shape, strides), grid, origin)


def indexed(layout: Layout, index: Any) -> Layout | None:
    """Return the view that basic indexing gives; None for any other kind of index.

    Raises
    ------
    IndexError
        As an array of that shape would.
    """
    if layout.shape and (short := _along_first_axis(layout, index)):
        return short
    items = index if type(index) is tuple else (index,)
    if not all(map(_is_basic, items)):
        return None
    axes, taken = len(layout.shape), sum(item is not None and item is not ... for item in items)
    if taken > axes:
        raise IndexError(
            f"too many indices for a mask: it is {axes}-dimensional, but {taken} were indexed"
        )
    ellipses = sum(item is ... for item in items)
    if ellipses > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if not ellipses:
        items = (*items, ...)
    shape, strides, first, axis = [], [], layout.first, 0
    for item in items:
        if item is None:
            shape.append(1)
            strides.append(0)
            continue
        if item is ...:
            rest = axis + axes - taken
            shape.extend(layout.shape[axis:rest])
            strides.extend(layout.strides[axis:rest])
            axis = rest
            continue
        n, step = layout.shape[axis], layout.strides[axis]
        if isinstance(item, slice):
            chosen = range(n)[item]
            if chosen:
                first += chosen[0] * step
            shape.append(len(chosen))
            strides.append(chosen.step * step)
        else:
            at = operator.index(item)
            if not -n <= at < n:
                raise IndexError(f"index {at} is out of bounds for axis {axis} with size {n}")
            first += at % n * step
        axis += 1
    return _layout(tuple(shape), first, strides, layout.grid, layout.origin)


def _along_first_axis(layout: Layout, index: Any) -> Layout | None:
    """Return the view of an index that loops have most, in a fifth of the time, or None."""
    (n, *_), (step, *_) = shape, strides = layout[0], layout[2]
    if type(index) is int and -n <= index < n:
        return Layout(shape[1:], layout[1] + index % n * step, strides[1:], *layout[3:])
    if type(index) is slice and index.step is None:
        start, stop, _ = index.indices(n)
        if stop - start > 1:
            return Layout(
                (stop - start, *shape[1:]), layout[1] + start * step, strides, *layout[3:]
            )
    return None


def is_integer(item: Any) -> bool:
    """Say whether an index is one integer, for NumPy too: a bool is a mask of its own."""
    return not isinstance(item, bool | np.bool_ | np.ndarray) and hasattr(item, "__index__")


def _is_basic(item: Any) -> bool:
    return item is None or item is ... or isinstance(item, slice) or is_integer(item)


def transposed(layout: Layout, axes: Sequence[int] | None) -> Layout:
    """Return the view with its axes in another order: reversed, or as `axes` says.

    Raises
    ------
    ValueError
        If `axes` does not name each axis once.
    """
    count = len(layout.shape)
    order = [*reversed(range(count))] if axes is None else [operator.index(a) for a in axes]
    if axes is not None:
        if any(not -count <= a < count for a in order):
            wrong = next(a for a in order if not -count <= a < count)
            raise np.exceptions.AxisError(wrong, count)
        order = [a % count for a in order]
        if sorted(order) != list(range(count)):
            raise ValueError(f"axes={tuple(axes)} do not name each axis of {layout.shape} once")
    shape, strides = ([numbers[a] for a in order] for numbers in (layout.shape, layout.strides))
    return _layout(tuple(shape), layout.first, strides, layout.grid, layout.origin)


def reshaped(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """Return the view of another shape, where indices follow each other; otherwise None.

    Raises
    ------
    ValueError
        If the number of elements is another.
    """
    size, known = math.prod(layout.shape), math.prod(n for n in shape if n >= 0)
    unknown = sum(n < 0 for n in shape)
    if unknown == 1 and known and size % known == 0:
        shape = tuple([size // known if n < 0 else n for n in shape])
    elif unknown or known != size:
        raise ValueError(f"cannot reshape a mask of shape {layout.shape} into shape {shape}")
    return whole(shape, layout.first) if layout.is_contiguous else None


def as_expression(layout: Layout) -> tuple[tuple[int, ...], str]:
    """Return the shape of a mask, and what is written behind it to make a layout of it."""
    if 0 in layout.shape or layout == whole(layout.shape):
        return layout.shape, ""
    shape, grid, behind = layout.grid, layout.grid, ""
    if layout.origin:
        end = layout.origin + math.prod(grid)
        shape = (end,)
        behind = f"[{layout.origin}:]"
        if grid != (end - layout.origin,):
            behind += f".reshape({_tuple(grid)})"
    if layout == whole(grid, layout.origin):
        return shape, behind
    of_axis = [_axis_of(step, grid) for step in layout.strides]
    # Indexing leaves the axes in their order; a transposition follows.
    ordered = iter(sorted([axis for axis in of_axis if axis is not None]))
    positions = [axis if axis is None else next(ordered) for axis in of_axis]
    index = _index(layout, positions, of_axis)
    order = [a if of_axis[a] is None else positions.index(of_axis[a]) for a in range(len(of_axis))]
    if order != sorted(order):
        reverse = order == sorted(order, reverse=True)
        index += ".T" if reverse else f".transpose({', '.join(map(str, order))})"
    return shape, behind + index


def _axis_of(step: int, grid: tuple[int, ...]) -> int | None:
    """Return the axis of a whole mask that a step other than 0 runs along."""
    axes = zip(range(len(grid)), grid, c_strides(grid), strict=True)
    return next((a for a, n, unit in axes if step and n > 1 and unit <= abs(step) < n * unit), None)


def _index(layout: Layout, positions: list[int | None], of_axis: list[int | None]) -> str:
    """Return the index that takes a layout, but for the order of its axes, from its grid."""
    grid, units = layout.grid, c_strides(layout.grid)
    starts, rest = [], layout.first - layout.origin
    for unit in units:
        start, rest = divmod(rest, unit)
        starts.append(start)
    entries: list[str] = []
    at = 0
    for axis in positions:
        if axis is None and (at in positions or at == len(grid)):
            entries.append("None")
            continue
        if axis is None:
            entries.append(":" if grid[at] == 1 else f"{starts[at]}:{starts[at] + 1}")
        else:
            entries.extend(map(str, starts[at:axis]))
            at, source = axis, of_axis.index(axis)
            step = layout.strides[source] // units[at]
            entries.append(_slice(starts[at], step, layout.shape[source], grid[at]))
        at += 1
    entries.extend(map(str, starts[at:]))
    while entries and entries[-1] == ":":
        entries.pop()
    if not entries:
        return ""
    # Integers alone would give a number.
    if all(entry.isdigit() for entry in entries) and not layout.shape:
        entries.append("...")
    return f"[{', '.join(entries)}]"


def _slice(start: int, step: int, length: int, n: int) -> str:
    last = start + (length - 1) * step
    if step > 0:
        begin = str(start) if start else ""
        end = str(last + 1) if last + step < n else ""
    else:
        begin = str(start) if start < n - 1 else ""
        end = str(last - 1) if last + step >= 0 else ""
    return f"{begin}:{end}" + (f":{step}" if step != 1 else "")


def _tuple(numbers: tuple[int, ...]) -> str:
    return repr(numbers) if len(numbers) != 1 else str(numbers[0])
