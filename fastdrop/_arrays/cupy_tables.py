"""Tables of numbers in the GPU's memory, such as ids of special tokens, that stay there.

`CupyBackend.table` calls `table` and `captured`. A call reads the tables that calls like it have
read, so nothing is copied for it, and a CUDA graph that has captured it finds them at each replay.
"""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import cupy

from .._check.arguments import Array
from . import cupy_streams

_Key: TypeAlias = tuple[int, str, tuple[int, ...], bytes]  # of a table, by device and contents

_MOST, _EVICTED = 256, 64  # tables, and how many of the oldest make room at once
_LARGEST = 1 << 20  # bytes of a table that is kept
_kept: dict[_Key, Any] = {}
# What graphs have captured. When they are destroyed is not known.
_captured: dict[_Key | int, Any] = {}
_changing = threading.Lock()


def table(value: Array, device: int) -> Any:
    """Return a copy of an array on a device; equal ones share it.

    It is ready for all streams, and is never written to.
    """
    key = device, value.dtype.str, value.shape, value.tobytes()
    captures = is_capturing()
    with _changing:
        found = _captured.get(key)
        if found is None:
            found = _kept.get(key)
        if found is None:
            if len(_kept) >= _MOST and not captures:
                for old in [*_kept][:_EVICTED]:
                    wait_for(old[0])  # kernels on any stream may read it
                    del _kept[old]
            found = uploaded(value, device)
            if value.nbytes <= _LARGEST:
                _kept[key] = found
        if captures:
            _captured[key] = found
        return found


def captured(value: Array, device: int) -> Any:
    """Return a copy of an array for a call that a graph captures."""
    made = uploaded(value, device)
    with _changing:
        _captured[id(made)] = made
    return made


def is_capturing() -> bool:
    """Say whether CuPy's current stream is captured in a graph."""
    return cupy_streams.is_capturing(cupy.cuda.get_current_stream())


def uploaded(value: Array, device: int) -> Any:
    """Copy an array to a device, outside of any graph, and wait for it."""
    with cupy.cuda.Device(device), cupy.cuda.Stream(non_blocking=True) as stream:
        made = cupy.array(value)
        stream.synchronize()
    return made


def wait_for(device: int) -> None:
    """Wait for all work on a device."""
    cupy.cuda.Device(device).synchronize()
