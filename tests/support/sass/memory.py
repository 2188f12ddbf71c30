"""Memory of a launch: its arrays in global memory, shared and local memory, and their bounds.

`movement` loads and stores through it. An access that is not aligned to its size, or that leaves
the arrays that the launch was given, raises an `AccessError`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

SHARED_BASE = 1024  # bytes of shared memory before a kernel's own, on sm_90
UNDEFINED = 0xDEADBEEF  # what registers and memory hold before they are written
_WIDEST = 16  # bytes


class AccessError(Exception):
    """A memory access that the hardware refuses, or that is out of bounds."""


class Extent(NamedTuple):
    """The bytes from `start` up to `stop` that an array of the launch occupies."""

    start: int
    stop: int
    writable: bool


def _views(raw: Array) -> dict[int, Array]:
    """Return bytes as words by the size of an access; wide accesses are rows of 32-bit words."""
    words = raw.view(np.uint32)
    views = {1: raw, 2: raw.view(np.uint16), 4: words}
    return views | {size: words.reshape(-1, size // 4) for size in (8, 16)}


def _check_alignment(address: Array, size: int) -> None:
    wrong = address % np.uint64(size) != 0
    if wrong.any():
        raise AccessError(f"misaligned: {size} bytes at {int(address[wrong][0]):#x}")


class Global:
    """Global memory: the arrays of a launch, and nothing else."""

    def __init__(self, extents: Iterable[Extent]) -> None:
        self._arrays = []
        for extent in extents:
            # Whole units of the widest access, of which only bytes of the array are accessed.
            base = extent.start // _WIDEST * _WIDEST
            length = -(-(extent.stop - base) // _WIDEST) * _WIDEST
            raw = np.ctypeslib.as_array((ctypes.c_ubyte * length).from_address(base))
            self._arrays.append((extent, base, _views(raw)))

    def load(self, address: Array, size: int) -> Array:
        """Return a word per address, or a row of 32-bit words for more than 4 bytes."""
        located = list(self._locate(address, size, writes=False))
        if len(located) == 1:
            _, words, index = located[0]
            return words[index]
        result = np.empty((len(address), *located[0][1].shape[1:]), located[0][1].dtype)
        for where, words, index in located:
            result[where] = words[index]
        return result

    def store(self, address: Array, size: int, values: Array) -> None:
        """Store what `load` returns."""
        for where, words, index in list(self._locate(address, size, writes=True)):
            words[index] = values[where]

    def _locate(
        self, address: Array, size: int, *, writes: bool
    ) -> Iterator[tuple[slice | Array, Array, Array]]:
        """Yield, for each array, which addresses lie in it, its words, and the words' indices."""
        _check_alignment(address, size)
        usable = [array for array in self._arrays if array[0].writable or not writes]
        low, high = int(address.min()), int(address.max()) + size
        for (start, stop, _), base, views in usable:
            if start <= low and high <= stop:  # the usual case: all lie in one
                index = ((address - np.uint64(base)) // np.uint64(size)).astype(np.intp)
                yield slice(None), views[size], index
                return
        left = np.ones(len(address), bool)
        for (start, stop, _), base, views in usable:
            inside = left & (address >= start) & (address <= stop - size)
            left &= ~inside
            if inside.any():
                index = ((address[inside] - np.uint64(base)) // np.uint64(size)).astype(np.intp)
                yield inside, views[size], index
        if left.any():
            what = "written" if writes else "read"
            bounds = ", ".join(f"{a.start:#x} to {a.stop:#x}" for a, _, _ in usable)
            raise AccessError(
                f"out of bounds: {size} bytes {what} at {int(address[left][0]):#x}; "
                f"arrays: {bounds or 'none'}"
            )


class Private:
    """Memory of which every owner has its own: a block's shared, a thread's local memory."""

    def __init__(self, name: str, owners: int, bounds: range) -> None:
        self._name, self._bounds = name, bounds
        self._stride = -(-bounds.stop // _WIDEST) * _WIDEST
        words = np.full(owners * self._stride // 4, UNDEFINED, np.uint32)
        self._views = _views(words.view(np.uint8))

    def load(self, owner: Array, address: Array, size: int) -> Array:
        """Return a word per address, or a row of 32-bit words for more than 4 bytes."""
        return self._views[size][self._index(owner, address, size)]

    def store(self, owner: Array, address: Array, size: int, values: Array) -> None:
        """Store what `load` returns."""
        self._views[size][self._index(owner, address, size)] = values

    def _index(self, owner: Array, address: Array, size: int) -> Array:
        _check_alignment(address, size)
        start, stop = self._bounds.start, self._bounds.stop
        wrong = (address < start) | (address + np.uint64(size) > stop)
        if wrong.any():
            what = f"{size} bytes at {int(address[wrong][0]):#x} of {self._name} memory"
            raise AccessError(f"out of bounds: {what}, which has {start:#x} to {stop:#x}")
        return (owner * self._stride + address.astype(np.intp)) // size
