"""Where arrays of a GPU lie, and their memory as kernels are given it.

Kernels see an array as a line of elements that holds all of it, and walk there by steps that they
are told, so that one kernel serves all shapes and strides. Numba's simulator has its arrays in
NumPy's, which are described by the same words under another name.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda

from ..layout import c_strides

SIMULATED = bool(config.ENABLE_CUDASIM)


class Placed(NamedTuple):
    """An array's place in memory."""

    owner: Any
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in bytes
    stream: int | None  # which its content may still be written on

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)

    def is_c_contiguous(self, itemsize: int) -> bool:
        """Say whether its elements follow each other in memory, in C order."""
        return all(
            length == 1 or stride == step * itemsize
            for length, stride, step in zip(
                self.shape, self.strides, c_strides(self.shape), strict=True
            )
        )


def place(array: Any, itemsize: int) -> Placed:
    """Return where an array lies that has ``__cuda_array_interface__``."""
    if SIMULATED:
        described = np.asarray(getattr(array, "_ary", array)).__array_interface__
    else:
        described = array.__cuda_array_interface__
    shape = tuple(described["shape"])
    strides = described.get("strides")
    if strides is None:
        strides = tuple(step * itemsize for step in c_strides(shape))
    pointer = described["data"][0]
    return Placed(array, pointer, shape, tuple(strides), described.get("stream"))


class _Described:
    """What NumPy takes for an array, and which keeps the owner of its memory alive."""

    def __init__(self, description: dict[str, Any], owner: Any) -> None:
        self.__array_interface__ = description
        self._owner = owner


def line(placed: Placed, dtype: np.dtype[Any], stream: int) -> tuple[Any, int]:
    """Return all memory of an array, not empty, as a line; and where its first element is there.

    What another stream may still be writing is waited for, as the interface demands.
    """
    reaches = [
        (length - 1) * stride // dtype.itemsize
        for length, stride in zip(placed.shape, placed.strides, strict=True)
    ]
    first = -sum(min(reach, 0) for reach in reaches)
    length = first + sum(max(reach, 0) for reach in reaches) + 1
    description = {
        "shape": (length,),
        "typestr": dtype.str,
        "data": (placed.pointer - first * dtype.itemsize, False),
        "version": 3,
        "stream": placed.stream,
    }
    if SIMULATED:
        return np.asarray(_Described(description, placed.owner)), first
    legacy_default = 1  # as the interface names it
    elsewhere = placed.stream not in (None, stream or legacy_default)
    return cuda.from_cuda_array_interface(description, placed.owner, sync=elsewhere), first
