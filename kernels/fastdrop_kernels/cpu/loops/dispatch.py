"""Rows of elements, and the table of the addresses of an operation's routines.

`row_loop` is for a row with consecutive mask indices; it calls those of `contiguous`, `tiles` and
`mask_buffer`. The loops in `operands` find the routines in a *dispatch table*, and are compiled
once for all operations. `softmax` calls `row_loop` directly.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt

from ...shielded import shielded
from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, pointer_at, scratch
from ..elements.operations import Operation, buffer_draw
from ..elements.sampler import U64, is_degenerate, load64
from ..elements.storage import BITS
from .apply import sizes
from .call_descriptor import BUFFER, FIRST, REACH, THRESHOLD, VALUE
from .contiguous import CACHED, CONTIGUOUS, contiguous_loop
from .copy import gather, scatter
from .mask_buffer import AHEAD, buffer_routine
from .tiles import all_or_none_loop, put_side, tile_loop

_ZERO, _EIGHT = np.uint64(0), np.uint64(8)

# Byte offsets in a dispatch table: addresses of routines (the first two only for one input), bytes
# of an element of y (1 if it is a bit) and the routine that scatters y, bytes of a decision (0 if
# it is a bit), elements of a tile, length up to which rows are drawn together; and for every input
# the bytes of an element and the routine that gathers it.
ROW, ALL_OR_NONE, TILE, PROVIDE, OUT_SIZE, SCATTER = (np.uint64(8 * k) for k in range(6))
DECISION_SIZE, MOST, SHORT, SIZES = (np.uint64(8 * k) for k in range(6, 10))
GATHERS = SIZES + _EIGHT
TILE_BYTES = 4096  # of an input, or of the output
# SHORT, by output bits. Rates over C order for rows of a wider array drawn one by one (together):
# 256 Ki float32, rows of 128: 0.30 (0.53), 256: 0.47 (0.59), 512: 0.63 (0.63); float16, 512: 0.51
# (0.68), 1,024: 0.66 (0.65); bits, 1,024: 0.48 (0.60), 2,048: 0.61 (0.58); Cascade Lake, 2026-11.
_SHORT_ROWS = {1: 1536, 8: 896, 16: 896, 32: 448, 64: 448, 128: 448}


@functools.cache
def row_loop(operation: Operation, access: str) -> Any:
    """Routine over contiguous elements with consecutive mask indices, see `contiguous.CONTIGUOUS`.

    If REACH of the call state is not 0, that many mask elements, from the first on, belong to rows
    that are close in the mask, and are drawn together. A row of 1,024 drawn alone costs 5 groups of
    draws and two copies. At a degenerate threshold nothing is drawn.
    """
    run_contiguous, provide, apply = (
        contiguous_loop(operation, access),
        buffer_routine(buffer_draw(operation)),
        tile_loop(operation),
    )
    decides, ahead = not operation.needs_uniform, AHEAD[operation.needs_uniform]
    all_or_none: Any = all_or_none_loop(operation) if decides else None
    in_size, out_size = sizes(operation)
    sides_scratch = scratch(16)

    def row(x: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        sides = sides_scratch()
        threshold, reach = load64(call, THRESHOLD), load64(call, REACH)
        value = pointer_at(load64(call, VALUE))
        if decides and is_degenerate(threshold):
            all_or_none(x, y, U64(threshold == _ZERO), n, value)
            return
        if not reach:
            run_contiguous(x, y, n, index, call)
            return
        done = _ZERO
        while done < n:
            m = min(n - done, ahead)
            provide(index + done, m, reach - done, call)
            put_side(sides, _ZERO, advance(x, done * in_size), in_size)
            at, decision = index + done - load64(call, FIRST), pointer_at(load64(call, BUFFER))
            apply(sides, advance(y, done * out_size), decision, at, m, value)
            done += m

    return routine(f"{operation.name}-{access}-row", row, CONTIGUOUS)


def _address(found: Any) -> int:
    address: int = llvm.address_of_symbol(found.symbol)
    return address


@functools.cache
@shielded
def dispatch_table(operation: Operation, access: str) -> npt.NDArray[np.uint64]:
    """Return an operation's dispatch table, which lives as long as the process."""
    kinds = operation.source, *operation.operands
    alone, packed = not operation.operands, operation.target is BITS
    decision_size = 4 if operation.needs_uniform else 0
    itemsizes = [kind.itemsize for kind in (*kinds, operation.target)]
    words = [
        _address(row_loop(operation, access)) if alone else 0,
        _address(all_or_none_loop(operation)) if alone and not operation.needs_uniform else 0,
        _address(tile_loop(operation)),
        _address(buffer_routine(buffer_draw(operation))),
        1 if packed else operation.target.itemsize,
        0 if packed else _address(scatter(operation.target.itemsize, access == CACHED)),
        decision_size,
        TILE_BYTES // max(1, decision_size, *itemsizes),
        _SHORT_ROWS[operation.target.bits] if alone else 1 << 62,
    ]
    for kind in kinds:
        words += kind.itemsize, _address(gather(kind.itemsize)) if kind.bits else 0
    return np.array(words, np.uint64)
