"""Where blocks come from and go to: memory, a mapped file, or a store such as those of zarr, h5py.

`apply` makes a `Memory`, `File` or `Store` of a source or target. Arrays that are mapped from a
file (numpy.memmap) are read and written by `pread` and `pwrite`, into buffers that are used again:
faults of a mapping's pages take more time than copying them, and a read ahead of the kernel never
keeps the kernel waiting. On Linux both go through the page cache, so other views of the same file
see the same bytes at once.
"""

from __future__ import annotations

import math
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._check import arguments, detect, foreign, labels
from .._check.arguments import Array
from .cut import Region

# Bytes of one `pwrite`. The page cache takes pages as large as a write for it, and large ones may
# have to be found first. 512 MiB into a new file take so much time of a processor: 0.20 s in pieces
# of 16 KiB, 0.12 of 64 KiB, 0.10 of 256 KiB, 0.68 of 1 MiB, 0.77 of 4 MiB; shutil.copyfile takes
# 0.15 (Linux 6.18, ext4, in a busy virtual machine, Zen 5, 2026-11).
_PIECE = 256 << 10
_MAPS = Path("/proc/self/maps")  # Linux's list of what is mapped
_STORES = ("h5py", "zarr", "tables", "h5netcdf", "netCDF4")  # which other functions refuse


def checked(x: Any, name: str) -> Any:
    """Return x, an array in memory or on disk that is read by slices; raise if it is none."""
    if isinstance(x, np.ndarray):
        arguments.array(x, name)  # refuses masked arrays
        return x
    if x is None or isinstance(x, detect.ON_THE_HOST):
        arguments.reject_rng(name, x)
        raise TypeError(
            f"{detect.described(name, x)}: give an array, such as a numpy.memmap, or one of zarr's "
            "or h5py's"
        )
    if detect.is_dask(x):
        raise TypeError(
            f"{name} is a Dask array, which has blocks of its own: call the function itself, and "
            "write the result by dask.array.store"
        )
    if labels.has_labels(x):
        raise TypeError(f"{name} is {detect.a_kind_of(x)}: give {name}.to_numpy() or {name}.data")
    if detect.on_gpu(x):
        raise TypeError(f"{name} is {detect.a_kind_of(x)} on a GPU: call the function itself")
    if set(_STORES).isdisjoint(detect.roots(x)) and detect.is_tensor(x):
        foreign.reject(x, name)
    parts = ("shape", "dtype", "__getitem__")
    if not all(hasattr(x, part) for part in parts) or not isinstance(x.dtype, np.dtype):
        foreign.reject(x, name)
        raise TypeError(
            f"{name} is {detect.a_kind_of(x)}: give an array with shape, a NumPy dtype, and slices"
        )
    return x


def checked_target(x: Any, name: str = "target") -> Any:
    """Return x if it can be written to by slices."""
    x = checked(x, name)
    if isinstance(x, np.ndarray):
        frozen = not x.flags.writeable
    elif "h5py" in detect.roots(x):
        frozen = x.file.mode == "r"
    else:
        frozen = bool(getattr(x, "read_only", False))
    if frozen:
        raise ValueError(f"{name} is read-only: give an array that may be written to")
    if not hasattr(x, "__setitem__"):
        raise TypeError(f"{name} is {detect.a_kind_of(x)}, whose parts cannot be assigned to")
    return x


class Place(NamedTuple):
    """Where in a file an array that is mapped from it lies, first byte and last."""

    path: str
    device: str
    inode: int
    first: int
    last: int


def place_of(x: Any) -> Place | None:
    """Return where in a file an array lies, if it is mapped from one and shared with it."""
    if not isinstance(x, np.ndarray) or not x.size or not _MAPS.exists():
        return None
    low, high = np.lib.array_utils.byte_bounds(x)
    found: list[tuple[str, str, int, int]] = []
    with _MAPS.open(encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            begin, _, end = fields[0].partition("-")
            for address in (low, high - 1):
                if int(begin, 16) <= address < int(end, 16):
                    if len(fields) < 6 or fields[1][3] != "s":  # private, or of no file
                        return None
                    at = int(fields[2], 16) + address - int(begin, 16)
                    found.append((fields[5], fields[3], int(fields[4]), at))
    if len(found) != 2 or found[0][:3] != found[1][:3]:
        return None
    (path, device, inode, first), (*_, last) = found
    return Place(path, device, inode, first, last) if last - first == high - 1 - low else None


def overlap_in_part(x: Any, y: Any) -> bool:
    """Return whether two arrays share bytes, of memory or of a file, but are not the same.

    Of two mappings of a file only the first and last bytes are compared.
    """
    if x is y or not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
        return False
    same = x.strides == y.strides and x.shape == y.shape
    if np.may_share_memory(x, y):
        begins = x.__array_interface__["data"][0] == y.__array_interface__["data"][0]
        return not (same and begins) and np.shares_memory(x, y)
    a, b = place_of(x), place_of(y)
    if a is None or b is None or a[1:3] != b[1:3]:
        return False
    return a.first <= b.last and b.first <= a.last and not (same and a.first == b.first)


class Memory:
    """An array in memory: blocks are views of it."""

    buffered = False

    def __init__(self, array: Array) -> None:
        self.array = array

    def read(self, region: Region, into: Array) -> Array:
        """Return a block; nothing is copied."""
        where: Any = (*region, ...)  # which gives a view of an array of no axes, too
        view: Array = self.array[where]
        return view

    def write(self, region: Region, values: Array) -> None:
        """Do nothing: the block's view has been written to."""

    def close(self) -> None:
        """Do nothing."""


class File:
    """A contiguous array in a file, of whose blocks each is one stretch."""

    buffered = True

    def __init__(self, number: int, first: int, strides: Sequence[int]) -> None:
        self._number, self._first, self._strides = number, first, tuple(strides)

    def _position(self, region: Region) -> int:
        steps = zip(region, self._strides, strict=True)
        first: int = self._first + sum([at.start * stride for at, stride in steps])
        return first

    def read(self, region: Region, into: Array) -> Array:
        """Return a block, read into a buffer of its shape."""
        position, rest = self._position(region), _bytes(into)
        while rest:
            count = _read_at(self._number, rest, position)
            if not count:
                raise EOFError(
                    f"the file of source ends at byte {position}: it was cut short since it was "
                    "mapped"
                )
            position, rest = position + count, rest[count:]
        return into

    def write(self, region: Region, values: Array) -> None:
        """Write a block."""
        position, rest = self._position(region), _bytes(values)
        while rest:
            count = _write_at(self._number, rest[:_PIECE], position)
            position, rest = position + count, rest[count:]

    def close(self) -> None:
        """Close the file, once."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


class Store:
    """An array of another library, which is read and assigned by slices."""

    buffered = True

    def __init__(self, store: Any, name: str) -> None:
        self._store, self._name = store, name
        self._reads_into = hasattr(store, "read_direct") and "h5py" in detect.roots(store)

    def read(self, region: Region, into: Array | None) -> Array:
        """Return a block: `into`, if the library can read into an array."""
        if into is not None and self._reads_into and region and into.flags.c_contiguous:
            self._store.read_direct(into, region)
            return into
        block = arguments.array(self._store[region], f"a block of {self._name}")
        shape = tuple([at.stop - at.start for at in region])
        if block.shape != shape or block.dtype != self._store.dtype:
            raise ValueError(
                f"a block of {self._name} has shape {block.shape} and dtype {block.dtype}, and "
                f"{self._name} says {shape} and {self._store.dtype}: give an array whose slices "
                "are as NumPy's"
            )
        return block

    def write(self, region: Region, values: Array) -> None:
        """Assign a block."""
        self._store[region] = values

    def close(self) -> None:
        """Do nothing: the user closes it."""


def opened_file(x: Array, for_writing: bool) -> File | None:
    """Return the file that an array is mapped from, opened again; None if it cannot be."""
    place = place_of(x) if x.flags.forc else None
    if sys.platform == "linux" and place is not None:
        try:
            number = os.open(place.path, (os.O_RDWR if for_writing else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError:  # it has no name any more, or may not be opened again
            return None
        found = os.fstat(number)
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
        if stat.S_ISREG(found.st_mode) and (device, found.st_ino) == place[1:3]:
            # 1 GiB that is not in the page cache is read in 0.4 to 2.1 s, instead of 1.3 to 3.3.
            # Asking for the next block by WILLNEED was no faster, and took 0.17 s where all of it
            # is in the page cache (Zen 5, 2026-11).
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            return File(number, place.first, x.strides)
        os.close(number)  # another file has got its name
    return None


def buffer_of(buffer: Array, shape: tuple[int, ...], dtype: np.dtype[Any], order: Any) -> Array:
    """Return the begin of a buffer of bytes as an array of a shape."""
    flat = buffer[: math.prod(shape) * dtype.itemsize].view(dtype)
    block: Array = flat.reshape(shape, order=order)
    return block


def _bytes(block: Array) -> memoryview:
    """Return the bytes of a contiguous array, in the order of its memory."""
    flat = block.reshape(-1, order="C" if block.flags.c_contiguous else "F")
    return flat.view(np.uint8).data


def _read_at(number: int, part: memoryview, position: int) -> int:
    if sys.platform == "win32":
        raise NotImplementedError("no file is opened there")
    else:  # for mypy, which takes what follows for unreachable
        return os.preadv(number, [part], position)


def _write_at(number: int, part: memoryview, position: int) -> int:
    if sys.platform == "win32":
        raise NotImplementedError("no file is opened there")
    else:
        return os.pwritev(number, [part], position)
