"""Moves: elements that are only copied, from and to places any steps apart."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, copy_bytes, wide_vectors
from ..elements.sampler import (
    POINTER,
    U64,
    load8,
    load16,
    load32,
    load64,
    store8,
    store16,
    store32,
    store64,
)

_ZERO = np.uint64(0)
_SIZES = {1: (load8, store8), 2: (load16, store16), 4: (load32, store32), 8: (load64, store64)}


@functools.cache
def mover() -> Any:
    """Routine ``(target, target_step, source, source_step, n, size)``: n elements of any size.

    Steps are bytes; a source step of 0 repeats one element. The places do not overlap.
    """
    one, two, four, eight = (_mover_of(size) for size in _SIZES)

    def move(target: Any, ts: Any, source: Any, ss: Any, n: Any, size: Any) -> None:
        if size == ts and size == ss:
            copy_bytes(target, source, n * size)
        elif size == np.uint64(4):
            four(target, ts, source, ss, n)
        elif size == np.uint64(8):
            eight(target, ts, source, ss, n)
        elif size == np.uint64(2):
            two(target, ts, source, ss, n)
        elif size == np.uint64(1):
            one(target, ts, source, ss, n)
        else:
            for t in range(n):
                copy_bytes(advance(target, t * ts), advance(source, t * ss), size)

    return routine("move", move, types.void(POINTER, U64, POINTER, *[U64] * 3))


def _mover_of(itemsize: int) -> Any:
    (load, store), size = _SIZES[itemsize], np.uint64(itemsize)

    @device
    def move(target: Any, ts: Any, source: Any, ss: Any, n: Any) -> None:
        wide_vectors()
        if ss == _ZERO and ts == size:
            number = load(source, _ZERO)
            for t in range(n):
                store(target, t * size, number)
        else:
            for t in range(n):
                store(target, t * ts, load(source, t * ss))

    return move
