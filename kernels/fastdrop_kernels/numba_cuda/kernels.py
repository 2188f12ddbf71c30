"""Kernels: for arrays contiguous in memory and mask, for all other layouts, and for packed masks.

Each kernel draws bits, decides, and applies an operation; the driver launches them. All integers
are converted explicitly: in Numba, ``uint64 + int64`` is a float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, types

from .. import device
from ..contract import BLOCK
from .operations import Operation

THREADS = 128  # of a thread block
TILE = THREADS * BLOCK  # elements of a thread block of `tiles`

_ONE = np.uint64(1)
_LANE_BITS = np.uint64(3)
_LANE = np.uint64(BLOCK - 1)


@device.compiled
def _read(x: Any, at: Any, by: Any) -> Any:
    """Return 8 elements at a stride."""
    return (
        x[np.uint64(at)],
        x[np.uint64(at + by)],
        x[np.uint64(at + 2 * by)],
        x[np.uint64(at + 3 * by)],
        x[np.uint64(at + 4 * by)],
        x[np.uint64(at + 5 * by)],
        x[np.uint64(at + 6 * by)],
        x[np.uint64(at + 7 * by)],
    )


@functools.cache
def tiles(operation: Operation) -> Callable[..., Any]:
    """Return the kernel for `n` elements that are contiguous in memory and in the mask.

    A thread draws one Philox block and writes the decisions to shared memory. Then adjacent threads
    read and write adjacent elements, so that accesses coalesce; no alignment is needed. If each
    thread processed the 8 elements that it has drawn for, each access of a warp would touch 8 times
    as much memory.
    """
    apply = operation.apply

    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(
        x: Any, y: Any, n: Any, index: Any, seed: Any, stream: Any, threshold: Any, value: Any
    ) -> None:
        decided = cuda.shared.array(THREADS, types.uint8)
        thread = np.int64(cuda.threadIdx.x)
        tile = np.int64(cuda.blockIdx.x)
        block = (index >> _LANE_BITS) + np.uint64(tile * THREADS + thread)
        # Position in the array. The first tile may begin before the array.
        first = tile * TILE - np.int64(index & _LANE)
        full = first >= 0 and first + TILE <= n
        # All loads are issued before anything is drawn. In a partial tile they are not used.
        loaded = _read(x, first + thread, np.int64(THREADS)) if full else _read(x, 0, 0)
        if first + thread * BLOCK < n:
            decided[thread] = device.keep_block(seed, stream, block, threshold)
        cuda.syncthreads()
        # Eight threads share a byte; each reads the bit of its lane.
        byte, lane = np.uint64(thread) >> _LANE_BITS, np.uint64(thread) & _LANE
        for step in range(BLOCK):
            i = np.uint64(first + thread + step * THREADS)  # above n before the array's beginning
            bits = np.uint64(decided[byte + np.uint64(step * (THREADS // BLOCK))])
            kept = (bits >> lane) & _ONE != 0
            if full:
                y[i] = apply(kept, loaded[step], value)
            elif i < np.uint64(n):
                y[i] = apply(kept, x[i], value)

    return kernel  # type: ignore[no-any-return]


def _make_offset_of(count: Any) -> Callable[..., Any]:
    """Return a function that computes the offset of element `i`, with indices of type `count`."""

    @device.compiled
    def offset_of(i: Any, lengths: Any, strides: Any, start: Any) -> Any:
        rest, offset = count(i), start
        for back in range(len(lengths)):
            axis = len(lengths) - 1 - back
            length = count(lengths[axis])
            offset += np.int64(rest % length) * strides[axis]
            rest = count(rest // length)
        return offset

    return offset_of


# Divisions in 32 bits take a fraction of the instructions.
_OFFSET_OF = {np.uint32: _make_offset_of(np.uint32), np.uint64: _make_offset_of(np.uint64)}


@functools.cache
def elements(operation: Operation, count: Any) -> Callable[..., Any]:
    """Return the kernel for `n` elements of any layout; `n` must fit the type `count`.

    Each thread processes one element. Elements are numbered with the last axis innermost; there
    are strides for x, for y, and for the mask.
    """
    apply, offset_of = operation.apply, _OFFSET_OF[count]

    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(
        x: Any,
        y: Any,
        n: Any,
        lengths: Any,
        x_steps: Any,
        y_steps: Any,
        index_steps: Any,
        x_first: Any,
        y_first: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
    ) -> None:
        i = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        if i < n:
            at = np.uint64(offset_of(i, lengths, index_steps, index))
            kept = device.keep_one(seed, stream, at, threshold)
            x_at = np.uint64(offset_of(i, lengths, x_steps, x_first))
            y_at = np.uint64(offset_of(i, lengths, y_steps, y_first))
            y[y_at] = apply(kept, x[x_at], value)

    return kernel  # type: ignore[no-any-return]


@functools.cache
def packed(count: Any) -> Callable[..., Any]:
    """Return the kernel that writes the packed mask of `n` elements with any index strides.

    Each thread writes one byte; bits after the last element are 0.
    """
    offset_of = _OFFSET_OF[count]

    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(
        y: Any,
        n: Any,
        lengths: Any,
        index_steps: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
    ) -> None:
        byte = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        if byte * BLOCK < n:
            bits = np.uint64(0)
            for lane in range(BLOCK):
                i = byte * BLOCK + lane
                if i < n:
                    at = np.uint64(offset_of(i, lengths, index_steps, index))
                    kept = np.uint64(device.keep_one(seed, stream, at, threshold))
                    bits |= kept << np.uint64(lane)
            y[np.uint64(byte)] = np.uint8(bits)

    return kernel  # type: ignore[no-any-return]


@functools.cache
def packed_blocks() -> Callable[..., Any]:
    """Return the kernel of `packed` for consecutive indices from a multiple of 8 on.

    Each byte is one Philox block.
    """

    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(y: Any, n: Any, index: Any, seed: Any, stream: Any, threshold: Any) -> None:
        byte = np.int64(cuda.blockIdx.x) * THREADS + np.int64(cuda.threadIdx.x)
        left = n - byte * BLOCK
        if left > 0:
            block = (index >> _LANE_BITS) + np.uint64(byte)
            bits = device.keep_block(seed, stream, block, threshold)
            unused = np.uint64(max(BLOCK - left, 0))
            y[np.uint64(byte)] = np.uint8(bits & (np.uint64(0xFF) >> unused))

    return kernel  # type: ignore[no-any-return]
