"""Views of GPU arrays for kernels: the memory of an array as a 1-D array, and its strides.

The driver calls `describe` and `flat_memory`. Kernels index the 1-D array by strides that they get
as arguments, so that one kernel serves all shapes and strides. Arrays of Numba's simulator wrap
NumPy arrays, whose ``__array_interface__`` has the same fields.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda

from ..layout import c_strides

SIMULATED = bool(config.ENABLE_CUDASIM)


class ArrayDescription(NamedTuple):
    """An array in memory: pointer, shape and strides."""

    owner: Any
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in bytes
    stream: int | None  # a stream that may still be writing to it

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def is_c_contiguous(self, itemsize: int) -> bool:
        """Return whether the array is C-contiguous."""
        return all(
            length == 1 or stride == step * itemsize
            for length, stride, step in zip(
                self.shape, self.strides, c_strides(self.shape), strict=True
            )
        )


def describe(array: Any, itemsize: int) -> ArrayDescription:
    """Describe an array with ``__cuda_array_interface__``."""
    if SIMULATED:
        interface = np.asarray(getattr(array, "_ary", array)).__array_interface__
    else:
        interface = array.__cuda_array_interface__
    shape = tuple(interface["shape"])
    strides = interface.get("strides")
    if strides is None:
        strides = tuple(step * itemsize for step in c_strides(shape))
    pointer = interface["data"][0]
    return ArrayDescription(array, pointer, shape, tuple(strides), interface.get("stream"))


class _ArrayInterface:
    """An object with an array interface that keeps the owner of the memory alive."""

    def __init__(self, interface: dict[str, Any], owner: Any) -> None:
        self.__array_interface__ = interface
        self._owner = owner


def flat_memory(array: ArrayDescription, dtype: np.dtype[Any], stream: int) -> tuple[Any, int]:
    """Return the memory of a non-empty array as a 1-D array, and the index of its first element.

    If another stream may still be writing to it, that is synchronised, as the interface demands.
    """
    extents = [
        (length - 1) * stride // dtype.itemsize
        for length, stride in zip(array.shape, array.strides, strict=True)
    ]
    first = -sum(min(extent, 0) for extent in extents)
    length = first + sum(max(extent, 0) for extent in extents) + 1
    interface = {
        "shape": (length,),
        "typestr": dtype.str,
        "data": (array.pointer - first * dtype.itemsize, False),
        "version": 3,
        "stream": array.stream,
    }
    if SIMULATED:
        return np.asarray(_ArrayInterface(interface, array.owner)), first
    legacy_default = 1  # its number in the interface
    other_stream = array.stream not in (None, stream or legacy_default)
    return cuda.from_cuda_array_interface(interface, array.owner, sync=other_stream), first
