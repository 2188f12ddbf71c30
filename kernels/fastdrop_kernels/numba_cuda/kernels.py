"""Kernels: one for neighbours in memory and mask, one for every other layout, one for packed masks.

Each is bits, decide, apply, around an operation. Whatever is counted is of one type, and converted
in the open: Numba gives a float64 to ``uint64 + int64``, and its simulator follows NumPy.
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
TILE = THREADS * BLOCK  # elements that a thread block of `tiles` treats

_ONE = np.uint64(1)
_LANE_BITS = np.uint64(3)
_LANE = np.uint64(BLOCK - 1)


@device.compiled
def _read(x: Any, at: Any, by: Any) -> Any:
    """Return 8 elements, in steps."""
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
    """Return the kernel for `n` elements that are neighbours in memory and mask.

    A thread draws one block, and what it decides goes through shared memory, so that neighbouring
    threads then read and write neighbouring elements. Were each to treat the 8 it has drawn for, a
    warp's every access would touch 8 times the memory it needs. Nothing has to be aligned for that.
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
        # Of the array, and not of the mask. The first of all tiles may begin before the array.
        first = tile * TILE - np.int64(index & _LANE)
        whole = first >= 0 and first + TILE <= n
        # All reading is under way before anything is drawn. Elsewhere nothing of it is used.
        ahead = _read(x, first + thread, np.int64(THREADS)) if whole else _read(x, 0, 0)
        if first + thread * BLOCK < n:
            decided[thread] = device.keep_block(seed, stream, block, threshold)
        cuda.syncthreads()
        # Eight threads share a byte, and each finds its own bit in every byte that it comes to.
        byte, lane = np.uint64(thread) >> _LANE_BITS, np.uint64(thread) & _LANE
        for step in range(BLOCK):
            i = np.uint64(first + thread + step * THREADS)  # huge before the array's beginning
            bits = np.uint64(decided[byte + np.uint64(step * (THREADS // BLOCK))])
            kept = (bits >> lane) & _ONE != 0
            if whole:
                y[i] = apply(kept, ahead[step], value)
            elif i < np.uint64(n):
                y[i] = apply(kept, x[i], value)

    return kernel  # type: ignore[no-any-return]


def _walked(count: Any) -> Callable[..., Any]:
    """Return a function that says where element `i` of a box of axes is, along some steps."""

    @device.compiled
    def walked(i: Any, lengths: Any, steps: Any, start: Any) -> Any:
        rest, place = count(i), start
        for back in range(len(lengths)):
            axis = len(lengths) - 1 - back
            length = count(lengths[axis])
            place += np.int64(rest % length) * steps[axis]
            rest = count(rest // length)
        return place

    return walked


# Dividing by lengths in 32 bits takes a fraction of the instructions.
_WALKED = {np.uint32: _walked(np.uint32), np.uint64: _walked(np.uint64)}


@functools.cache
def elements(operation: Operation, count: Any) -> Callable[..., Any]:
    """Return the kernel for `n` elements of a box of axes, `n` below the end of the type `count`.

    Each thread treats one element. They are numbered with the last axis innermost; steps are those
    through the memory of x and of y, and through the mask.
    """
    apply, walked = operation.apply, _WALKED[count]

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
            at = np.uint64(walked(i, lengths, index_steps, index))
            kept = device.keep_one(seed, stream, at, threshold)
            x_at = np.uint64(walked(i, lengths, x_steps, x_first))
            y_at = np.uint64(walked(i, lengths, y_steps, y_first))
            y[y_at] = apply(kept, x[x_at], value)

    return kernel  # type: ignore[no-any-return]


@functools.cache
def packed(count: Any) -> Callable[..., Any]:
    """Return the kernel that writes decisions on `n` elements of a box of axes, 8 to a byte.

    Each thread writes one byte, and the bits behind the last element are 0.
    """
    walked = _WALKED[count]

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
                    at = np.uint64(walked(i, lengths, index_steps, index))
                    kept = np.uint64(device.keep_one(seed, stream, at, threshold))
                    bits |= kept << np.uint64(lane)
            y[np.uint64(byte)] = np.uint8(bits)

    return kernel  # type: ignore[no-any-return]


@functools.cache
def packed_blocks() -> Callable[..., Any]:
    """Return the kernel of `packed` where bytes are blocks: neighbours, from an index of 8 * n."""

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
