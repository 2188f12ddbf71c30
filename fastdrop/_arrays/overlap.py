"""Overlap: whether writing to one array can be seen in another, or twice in itself.

Both questions are about addresses alone. Arrays of a GPU are asked for as NumPy arrays of the same
addresses, which nothing reads or writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._check.arguments import Array


class _Somewhere:
    """What NumPy asks an object that says where its elements lie."""

    def __init__(self, pointer: int, shape: tuple[int, ...], strides: Any, itemsize: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (pointer, True),
            "shape": shape,
            "strides": strides,
            "typestr": f"|V{itemsize}",
        }


def addresses(pointer: int, shape: tuple[int, ...], strides: Any, itemsize: int) -> Array:
    """Return an array of these addresses, wherever they are: only to be asked where it lies."""
    return np.asarray(_Somewhere(pointer, shape, strides, itemsize))


def same(x: Array, y: Array) -> bool:
    """Say whether two arrays of one shape have their elements at the same places."""
    return (
        x.__array_interface__["data"][0] == y.__array_interface__["data"][0]
        and x.strides == y.strides
    )


def disturbs(y: Array, x: Array) -> bool:
    """Say whether writing y element by element may change elements of x that are yet to be read."""
    if not np.may_share_memory(x, y) or same(x, y):
        return False
    # Their bounds overlap. A little work shows that interleaved views still do not meet.
    return np.may_share_memory(x, y, max_work=1)  # type: ignore[arg-type]


def within(x: Array) -> bool:
    """Say whether elements of an array may share memory, as in a view with a stride of 0."""
    if x.flags.forc or x.size < 2:
        return False
    reach = x.itemsize
    for stride, length in sorted(
        (abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1
    ):
        if stride < reach:
            return True
        reach = stride * (length - 1) + reach
    return False
