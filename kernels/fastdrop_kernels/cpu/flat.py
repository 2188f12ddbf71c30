"""The compiled kernels: serial, without the GIL, each over a part of one array.

Every argument is a uint64. An array is named by its *slot*, the address of the place that holds its
data pointer (see `memory.slot`), so that one kernel serves every shape and nothing has to be
unpacked at a call. Kernels are made when first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numba import types

from .bits import (
    GRANULE,
    TILE,
    U64,
    decision_bound,
    drawer,
    halves_scratch,
    load8,
    load64,
    store8,
    store64,
)
from .compiler import kernel
from .intrinsics import (
    address_of,
    advance,
    pointer_in,
    prefetch,
    scratch,
    store_fence,
    stream_line,
)
from .loops import apart_loop, contiguous_loop
from .operations import Operation

Kernel: TypeAlias = Callable[..., None]

_TILE, _GRANULE = np.uint64(TILE), np.uint64(GRANULE)
_HALF_BYTES = np.uint64(2)
_LINE = np.uint64(64)  # bytes of a cache line
_PIECE = np.uint64(512)  # elements treated at once past the caches
_AHEAD = np.uint64(4096)  # elements that are prefetched ahead
_FAR = np.uint64(1 << 19)  # bytes of output from which they are
_ZERO, _ONE, _TWO, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 8))


@functools.cache
def flat(operation: Operation) -> Kernel:
    """Kernel over contiguous elements with consecutive mask indices.

    ``(x, y, start, stop, index, seed, stream, threshold, value)`` treats elements start to stop of
    the array, whose element 0 has the mask index `index`.
    """
    draw, apply = drawer(), contiguous_loop(operation)
    in_size, out_size = np.uint64(operation.source.itemsize), np.uint64(operation.target.itemsize)

    def run(
        x_slot: Any,
        y_slot: Any,
        start: Any,
        stop: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value_slot: Any,
    ) -> None:
        halves = halves_scratch()
        x, y, value = pointer_in(x_slot), pointer_in(y_slot), pointer_in(value_slot)
        bound = decision_bound(threshold)
        # Past the second-level cache, draw less at once and ask for the input that comes later:
        # the hardware's prefetcher falls behind while bits are drawn. 16 Mi on a Cascade Lake: 1.47
        # times np.multiply, not 1.73. Asking for the output too, at other distances (1 to 16 Ki
        # elements), into the second level, or in smaller pieces: all within 3% of that. Written
        # past the caches (`streamed`): 1.9.
        far = (stop - start) * out_size > _FAR
        most = _PIECE if far else _TILE
        while start < stop:
            element = index + start
            n = min(most - element % most, stop - start)
            source, target = advance(x, start * in_size), advance(y, start * out_size)
            if far:
                for ahead in range(_ZERO, n * in_size, _LINE):
                    prefetch(source, ahead + _AHEAD * in_size)
            lane = element % _GRANULE
            draw(halves, element - lane, lane + n, seed, stream, threshold)
            bits = advance(halves, _HALF_BYTES * lane)
            apply(source, target, bits, n, bound, value)
            start += n

    return kernel(f"{operation.name}-flat", run, types.void(*[U64] * 9))


@functools.cache
def streamed(operation: Operation) -> Kernel:
    """As `flat`, writing whole cache lines past the caches. Not for use in place.

    For outputs that no cache can hold: a line that is written whole is then not read first, a
    third of all traffic. The input is prefetched, because the hardware's prefetcher falls behind
    while bits are drawn.
    """
    draw, apply = drawer(), apart_loop(operation)
    in_size, out_size = np.uint64(operation.source.itemsize), np.uint64(operation.target.itemsize)
    stage_scratch = scratch(int(_PIECE) * operation.target.itemsize + 128)

    def run(
        x_slot: Any,
        y_slot: Any,
        start: Any,
        stop: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value_slot: Any,
    ) -> None:
        halves, stage = halves_scratch(), stage_scratch()
        x, y, value = pointer_in(x_slot), pointer_in(y_slot), pointer_in(value_slot)
        bound = decision_bound(threshold)
        target = advance(y, start * out_size)
        # The stage collects bytes until they are whole lines of the target. Where that begins
        # inside a line, so does the stage, and the first line is written like the last, bytewise.
        skip = address_of(target) % _LINE
        target = advance(target, _ZERO - skip)
        filled = skip
        bits = halves
        left = _ZERO  # elements whose halves are drawn and not yet used
        while start < stop:
            element = index + start
            if left == _ZERO:
                left = min(_TILE - element % _TILE, stop - start)
                lane = element % _GRANULE
                draw(halves, element - lane, lane + left, seed, stream, threshold)
                bits = advance(halves, _HALF_BYTES * lane)
            n = min(_PIECE, left)
            source = advance(x, start * in_size)
            for ahead in range(_ZERO, n * in_size, _LINE):
                prefetch(source, ahead + _AHEAD * in_size)
            apply(source, advance(stage, filled), bits, n, bound, value)
            bits = advance(bits, _HALF_BYTES * n)
            start += n
            left -= n
            filled += n * out_size
            if filled < _LINE:
                continue
            whole = filled // _LINE * _LINE
            first = _ZERO
            if skip != _ZERO:
                for at in range(skip, _LINE):
                    store8(target, at, load8(stage, at))
                first, skip = _LINE, _ZERO
            for at in range(first, whole, _LINE):
                stream_line(advance(target, at), advance(stage, at))
            target = advance(target, whole)
            filled -= whole
            for at in range(_ZERO, _LINE, _EIGHT):
                store64(stage, at, load64(stage, whole + at))
        for at in range(skip, filled):
            store8(target, at, load8(stage, at))
        store_fence()

    return kernel(f"{operation.name}-streamed", run, types.void(*[U64] * 9))
