"""Shards that move: the mask index of a call that is like an earlier one but for its offset.

What is prepared for a call holds for any offset, so that a loop over the shards of an array
prepares one call, and each takes 0.5 us to find where it begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .placement import INDEX_LIMIT, Place

# Returns the first mask index of a call with an offset; None for one that has to be looked at.
IndexOf: TypeAlias = Callable[[Any], int | None]


def plain(numbers: Any) -> Any:
    """Return integers and None in a list, an array or a tuple as a tuple of Python's.

    Anything else is returned as it is, for whoever checks it.
    """
    kind = type(numbers)
    if kind is np.ndarray:
        whole = numbers.dtype.kind in "iu" and numbers.ndim == 1
        return tuple(numbers.tolist()) if whole else numbers
    if kind is not tuple and kind is not list:
        return numbers
    for n in numbers:
        if type(n) is not int and n is not None:
            break
    else:
        return numbers if kind is tuple else tuple(numbers)
    made = [int(n) if isinstance(n, np.integer) else n for n in numbers]
    return tuple(made) if all(type(n) is int or n is None for n in made) else numbers


def index_of(
    shape: tuple[int, ...],
    place: Place,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
) -> IndexOf:
    """Return what finds the first index of calls that differ in the offset alone.

    The arguments have been checked, and `place` is where they put the array.
    """
    if global_shape is None:
        elements = math.prod(shape)
        if place.strides is not None:
            elements = math.prod(
                [n for n, step in zip(shape, place.strides, strict=True) if step or n == 1]
            )
        last = INDEX_LIMIT - elements

        def behind(offset: Any) -> int | None:
            return offset if 0 <= offset <= last else None

        return behind
    if type(offset) is int and len(shape) != 1:  # which is the origin, and no other place
        return lambda offset: 0 if offset == 0 else None
    full: tuple[int, ...] = (global_shape,) if type(global_shape) is int else global_shape
    steps = place.strides
    assert steps is not None, "a shard of a shape has steps"
    if type(offset) is int:
        (step,), last = steps, full[0] - shape[0]
        return lambda offset: offset * step if 0 <= offset <= last else None
    if len(steps) == 2:  # as most have
        down, along = steps
        rows, columns = full[0] - shape[0], full[1] - shape[1]

        def in_two(offset: Any) -> int | None:
            if len(offset) != 2:
                return None
            i, j = offset
            if i is None or j is None or not (0 <= i <= rows and 0 <= j <= columns):
                return None
            return int(i * down + j * along)

        return in_two
    rooms = [m - n for m, n in zip(full, shape, strict=True)]

    def in_many(offset: Any) -> int | None:
        index = 0
        if len(offset) != len(rooms):
            return None
        for begin, room, step in zip(offset, rooms, steps, strict=True):
            if begin is None or not 0 <= begin <= room:
                return None
            index += begin * step
        return index

    return in_many
