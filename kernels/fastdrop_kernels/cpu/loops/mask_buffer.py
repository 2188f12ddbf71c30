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

from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, pointer_at
from ..elements.operations import Operation
from ..elements.sampler import GROUP, POINTER, U64, load64, store64
from .call_descriptor import BUFFER, END, FIRST
from .contiguous import NEAR, span_loop

TILE = 1024  # elements that are asked for at once, at most
# Of noise, with a group that is begun at either end; vectors may be loaded past the end.
NOISE_ELEMENTS = TILE + 2 * GROUP

_GROUP, _CAPACITY = np.uint64(GROUP), np.uint64(NOISE_ELEMENTS)
_ZERO, _EIGHT = np.uint64(0), np.uint64(8)


@functools.cache
def noise_window(drawn: Operation) -> Any:
    """Routine ``(element, m, reach, call)``.

    `drawn` is `MARKS` or `UNIFORMS`. After it, the buffer of the call state holds that of the m
    elements from `element` on, and FIRST is the first that it is of, a multiple of `GROUP`. Up to
    `reach` elements will be asked for soon.
    """
    draw, size = span_loop(drawn, NEAR), np.uint64(drawn.target.itemsize)

    def provide(element: Any, m: Any, reach: Any, call: Any) -> None:
        first, end = load64(call, FIRST), load64(call, END)
        if element >= first and element + m <= end:
            return
        noise = pointer_at(load64(call, BUFFER))
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
        draw(there, there, n, end, call)
        store64(call, FIRST, begin)
        store64(call, END, end + n)

    return routine(f"{drawn.name}-window", provide, types.void(U64, U64, U64, POINTER))
