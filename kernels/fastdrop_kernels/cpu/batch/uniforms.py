"""The uniforms of elements as an array: 32 bits each, in the order of the mask.

`fastdrop._tools.bits` streams them to other programs, and the tests of `bench` look at them. It
calls the contiguous loop by `draws`, and shares rows among threads.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from ...rows import Rows
from ...shielded import shielded
from ..codegen.intrinsics import advance, wide_vectors
from ..loops.loop_nest import Kernel
from .draws import call_state, set_key, uniforms
from .rows import array_at, row_kernel, run_rows

_ROW = 1 << 14  # elements that a thread takes at a time
_COST = 2.0  # relative to dropout, for both levels are drawn


def write_uniforms(y: npt.NDArray[np.uint32], seed: int, stream: int, first: int) -> None:
    """Write the uniforms of the elements from mask index `first` on to a contiguous array."""
    if y.dtype != np.uint32 or not y.flags.c_contiguous or not y.flags.writeable:
        raise ValueError("uniforms are written to a contiguous array of uint32")
    count = -(-y.size // _ROW)
    rows = Rows(count, _ROW, y.size - _ROW * (count - 1), first, _ROW)
    run_rows(_kernel(), rows, (y,), seed, stream, cost=_COST)


@functools.cache
@shielded
def _kernel() -> Kernel:
    """Kernel of `write_uniforms`."""
    draw, zero, row_bytes = uniforms(), np.uint64(0), np.uint64(4 * _ROW)

    def row(
        arrays: Any,
        words: Any,
        own: Any,
        r: Any,
        length: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        wide_vectors()
        call = call_state()
        set_key(call, seed, stream)
        y = advance(array_at(arrays, zero), r * row_bytes)
        draw(y, y, length, index, call)

    return row_kernel("uniforms", row)
