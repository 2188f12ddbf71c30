"""Noise in memory: the marks or uniforms of a stretch of elements, drawn in whole groups.

What is walked over comes back to memory in pieces: rows, and tiles of rows. A *window* says of
which elements the noise is there, so that a piece that begins inside a group does not draw it
again, and rows that follow each other in the mask are drawn together.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, scratch
from ..elements.operations import Operation
from ..elements.sampler import GROUP, POINTER, U64, load64, store64
from .contiguous import NEAR, span_loop

TILE = 1024  # elements that are asked for at once, at most
# Of noise, with a group that is begun at either end; vectors may be loaded past the end.
NOISE_ELEMENTS = TILE + 2 * GROUP

_GROUP, _CAPACITY = np.uint64(GROUP), np.uint64(NOISE_ELEMENTS)
_ZERO, _EIGHT = np.uint64(0), np.uint64(8)
window_scratch = scratch(16)  # the first element, and the one behind the last


@device
def forget(window: Any) -> None:
    """Say that there is no noise: at first, and where another threshold has settled it."""
    store64(window, _ZERO, _ZERO)
    store64(window, _EIGHT, _ZERO)


@functools.cache
def noise_window(drawn: Operation) -> Any:
    """Routine ``(noise, window, element, m, reach, seed, stream, threshold)``.

    `drawn` is `MARKS` or `UNIFORMS`. After it, `noise` holds that of the m elements from `element`
    on, and window[0] is the first that it is of, a multiple of `GROUP`. Up to `reach` elements will
    be asked for soon.
    """
    draw, size = span_loop(drawn, NEAR), np.uint64(drawn.target.itemsize)

    def provide(
        noise: Any,
        window: Any,
        element: Any,
        m: Any,
        reach: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
    ) -> None:
        first, end = load64(window, _ZERO), load64(window, _EIGHT)
        if element >= first and element + m <= end:
            return
        begin = element - element % _GROUP
        if begin < first or begin >= end:
            end = begin
        for t in range(_ZERO, (end - begin) * size, _EIGHT):  # upwards: the places may overlap
            store64(noise, t, load64(noise, t + (begin - first) * size))
        wanted = max(element + m, min(element + reach, begin + _CAPACITY))
        n = wanted - end
        n += (_ZERO - n) % _GROUP
        n = min(n, begin + _CAPACITY - end)
        there = advance(noise, (end - begin) * size)
        draw(there, there, n, end, seed, stream, threshold, there)
        store64(window, _ZERO, begin)
        store64(window, _EIGHT, end + n)

    signature = types.void(POINTER, POINTER, *[U64] * 6)
    return routine(f"{drawn.name}-window", provide, signature)
