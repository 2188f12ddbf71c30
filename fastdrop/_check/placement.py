"""Placement: where an array lies in its mask, as a first index and a stride along each axis.

Functions call `placement_of` with their noise shape, offset and global shape, and pass the result
to the kernels. It calls the checks of `arguments`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import arguments, detect
from .arguments import NoiseShape, Offset, ShapeLike

INDEX_LIMIT = 1 << 63  # of the contract: mask indices are below it


class Placement(NamedTuple):
    """Where an array lies in its mask.

    Attributes
    ----------
    first : int
        Mask index of the first element.
    strides : tuple of int or None
        Mask index strides along the axes, 0 where a decision is shared. None means those of the
        array in C order.
    """

    first: int
    strides: tuple[int, ...] | None


_WHOLE = Placement(0, None)


def placement_of(
    shape: tuple[int, ...],
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    name: str = "x",
) -> Placement:
    """Return the placement of an array of a shape; errors call the array `name`."""
    if noise_shape is None and global_shape is None and type(offset) is int and offset == 0:
        return _WHOLE
    start, full = _shard(shape, offset, global_shape, name)
    noise = full if noise_shape is None else _noise(noise_shape, full)
    strides, index, step = [], 0, 1
    for length, first in zip(reversed(noise), reversed(start), strict=True):
        # A length of 1 shares the decision along the axis. For an axis of length 1, stride 0 makes
        # no difference.
        strides.append(0 if length == 1 else step)
        index += strides[-1] * first
        step *= length
    if global_shape is None:
        index = arguments.integer("offset", offset)
        if index < 0:
            raise ValueError(
                f"offset={detect.short(index)} is negative, and is added to the mask index: give 0 "
                "or more"
            )
        step += index
    if step > INDEX_LIMIT:
        raise ValueError(
            f"the mask index reaches {detect.short(step - 1)}, and must stay below 2**63: give a "
            "smaller offset or global_shape"
        )
    if noise_shape is None and global_shape is None:
        return Placement(index, None)
    return Placement(index, tuple(reversed(strides)))


def _shard(
    shape: tuple[int, ...], offset: Offset, global_shape: ShapeLike | None, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if global_shape is None:
        if not isinstance(offset, int | np.integer):
            arguments.reject_rng("offset", offset)
            raise TypeError(
                f"offset={detect.short(offset)} is not an integer: give one; starts along the axes "
                "need global_shape too"
            )
        return (0,) * len(shape), shape
    full = arguments.lengths("global_shape", global_shape)
    if len(full) != len(shape):
        raise ValueError(
            f"global_shape={detect.short(full)} has {len(full)} axes, and {name} has {len(shape)}: "
            "give it as many"
        )
    at_origin = (
        isinstance(offset, int | np.integer) and not isinstance(offset, bool) and offset == 0
    )
    start = (0,) * len(full) if at_origin else arguments.lengths("offset", offset)
    if len(start) != len(full):
        raise ValueError(
            f"offset={detect.short(offset)} does not say where {name} begins along each axis of "
            f"global_shape={full}: give {len(full)} integers"
        )
    for axis, (first, n, whole) in enumerate(zip(start, shape, full, strict=True)):
        if first + n > whole:
            raise ValueError(
                f"{name} does not fit: along axis {axis} it goes from {detect.short(first)} to "
                f"{detect.short(first + n)}, and global_shape={detect.short(full)} ends at "
                f"{detect.short(whole)}: give a larger global_shape, or another offset"
            )
    return start, full


def noise_shape(value: Any) -> tuple[int | None, ...] | None:
    """Return a noise shape as a tuple; the array's shape is not known yet."""
    entries = None if value is None else _entries(value)
    for axis, n in enumerate(entries or ()):
        if n is not None and n < 1:
            raise ValueError(
                f"noise_shape[{axis}]={detect.short(n)} is below 1: give the axis's length or None "
                "to draw along the axis, or 1 to share the decision"
            )
    return entries


def _entries(value: Any) -> tuple[int | None, ...]:
    arguments.reject_rng("noise_shape", value)
    given = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(given, tuple | list):
        raise TypeError(
            detect.described("noise_shape", value) + ": give a tuple of integers and None"
        )
    return tuple(
        [
            n if n is None else arguments.integer(f"noise_shape[{axis}]", n)
            for axis, n in enumerate(given)
        ]
    )


def _noise(given: Any, full: tuple[int, ...]) -> tuple[int, ...]:
    entries = _entries(given)
    if len(entries) > len(full):
        raise ValueError(
            f"noise_shape={detect.short(entries)} has more axes than the array's {full}: give at "
            f"most {len(full)}"
        )
    short = len(full) - len(entries)
    noise = [1] * short
    for axis, item in enumerate(entries):
        length = full[short + axis]
        n = length if item is None else item
        if n not in (1, length):
            raise ValueError(
                f"noise_shape[{axis}]={detect.short(n)} fits no axis of length {length} of {full}: "
                f"give {length} or None to draw along the axis, or 1 to share the decision"
            )
        noise.append(n)
    return tuple(noise)
