"""The first mask index of a call that differs from an earlier one in its offset only.

A call plan serves any offset. So a loop over the shards of an array needs one plan, and each call
takes 0.5 us to compute its first index. The element-wise functions and `dropout_mask` call
`index_of` when they make a plan, and `plain` on the arguments of each call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .placement import INDEX_LIMIT, Placement

# ``offset -> first mask index``; None for an offset that must go through the full checks.
IndexOf: TypeAlias = Callable[[Any], int | None]


def plain(numbers: Any) -> Any:
    """Return a list, array or tuple of integers and None as a tuple of Python objects.

    Anything else is returned as it is; the argument checks reject it later.
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
    placement: Placement,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
) -> IndexOf:
    """Return a function from an offset to the first mask index, for otherwise equal calls.

    The arguments have been checked, and `placement` is what `placement_of` returned for them.
    """
    if global_shape is None:
        elements = math.prod(shape)
        if placement.strides is not None:
            elements = math.prod(
                [n for n, step in zip(shape, placement.strides, strict=True) if step or n == 1]
            )
        last = INDEX_LIMIT - elements

        def of_scalar(offset: Any) -> int | None:
            return offset if 0 <= offset <= last else None

        return of_scalar
    if type(offset) is int and len(shape) != 1:  # 0, the origin: other integers were rejected
        return lambda offset: 0 if offset == 0 else None
    full: tuple[int, ...] = (global_shape,) if type(global_shape) is int else global_shape
    steps = placement.strides
    assert steps is not None, "a shard of a global shape has strides"
    if type(offset) is int:
        (step,), last = steps, full[0] - shape[0]
        return lambda offset: offset * step if 0 <= offset <= last else None
    if len(steps) == 2:  # the common case, unrolled
        down, along = steps
        rows, columns = full[0] - shape[0], full[1] - shape[1]

        def of_pair(offset: Any) -> int | None:
            if len(offset) != 2:
                return None
            i, j = offset
            if i is None or j is None or not (0 <= i <= rows and 0 <= j <= columns):
                return None
            return int(i * down + j * along)

        return of_pair
    largest = [m - n for m, n in zip(full, shape, strict=True)]

    def of_tuple(offset: Any) -> int | None:
        index = 0
        if len(offset) != len(largest):
            return None
        for begin, last, step in zip(offset, largest, steps, strict=True):
            if begin is None or not 0 <= begin <= last:
                return None
            index += begin * step
        return index

    return of_tuple
