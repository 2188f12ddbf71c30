"""Views of GPU arrays for kernels: the memory of an array as a 1-D array, its strides and stream.

The driver calls `describe`, `flat_memory` and `ordered`. Kernels index the 1-D array by strides
that they get as arguments, so that one kernel serves all shapes and strides. Arrays of Numba's
simulator wrap NumPy arrays, whose ``__array_interface__`` has the same fields.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda

from ..layout import c_strides

SIMULATED = bool(config.ENABLE_CUDASIM)
_LEGACY = 1  # the default stream in the interface


class ArrayDescription(NamedTuple):
    """An array in memory: pointer, shape and strides."""

    owner: Any
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in bytes
    stream: int | None  # on which it is used, as the interface numbers it; None if not said

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


def flat_memory(array: ArrayDescription, dtype: np.dtype[Any]) -> tuple[Any, int]:
    """Return the memory of a non-empty array as a 1-D array, and the index of its first element."""
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
        "stream": None,  # see `ordered`
    }
    if SIMULATED:
        return np.asarray(_ArrayInterface(interface, array.owner)), first
    return cuda.from_cuda_array_interface(interface, array.owner, sync=False), first


@contextlib.contextmanager
def ordered(arrays: tuple[ArrayDescription, ...], stream: int) -> Iterator[None]:
    """Launch on a stream after what the streams of arrays were told, and before what follows there.

    `stream` is a handle, 0 for the default stream. Arrays that name none are used on that one.
    """
    own = _handle(stream)
    others = [] if SIMULATED else [s for s in {_handle(a.stream): a for a in arrays} if s != own]
    for other in others:
        _wait(own, other)
    yield
    for other in others:
        _wait(other, own)


def _handle(stream: int | None) -> int:
    return stream if stream is not None and stream != _LEGACY else 0


def _wait(later: int, earlier: int) -> None:
    """Let what comes on one stream wait for what was launched on another so far."""
    event = cuda.event(timing=False)
    event.record(_stream(earlier))
    event.wait(_stream(later))


def _stream(handle: int) -> Any:
    return cuda.external_stream(handle) if handle else 0
