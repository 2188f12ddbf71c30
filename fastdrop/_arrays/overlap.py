"""Overlap of arrays in memory: of an output with an input, and of an output with itself.

The backends call this module before a kernel runs. Only addresses matter; an array on a GPU is
represented by a NumPy array of the same addresses, which is never read or written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._check.arguments import Array


class _ArrayInterface:
    """An object with the array interface of an array at a given address."""

    def __init__(self, pointer: int, shape: tuple[int, ...], strides: Any, itemsize: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (pointer, True),
            "shape": shape,
            "strides": strides,
            "typestr": f"|V{itemsize}",
        }


def addresses(pointer: int, shape: tuple[int, ...], strides: Any, itemsize: int) -> Array:
    """Return a NumPy array at these addresses, which may be on a device: never dereference it."""
    return np.asarray(_ArrayInterface(pointer, shape, strides, itemsize))


def same(x: Array, y: Array) -> bool:
    """Return whether two arrays of the same shape have the same pointer and strides."""
    return (
        x.__array_interface__["data"][0] == y.__array_interface__["data"][0]
        and x.strides == y.strides
    )


def may_clobber(y: Array, x: Array) -> bool:
    """Return whether writing y element by element may change elements of x before they are read."""
    if not np.may_share_memory(x, y) or same(x, y):
        return False
    # Their bounds overlap. With max_work=1, NumPy still finds that interleaved views are disjoint.
    return np.may_share_memory(x, y, max_work=1)  # type: ignore[arg-type]


def overlaps_itself(x: Array) -> bool:
    """Return whether elements of an array may share memory, as in a view with stride 0."""
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
