"""Sums of elements over axes of an array, in float64, in an order that does not depend on the CPU.

`kernels.sum_kernel` calls `sum_line` for one axis; it loads elements by their storage type.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, intrinsic, scratch, wide_vectors
from ..codegen.vectors import DOUBLE, I64, Lanes, load, store
from ..elements.sampler import DRAWS, POINTER, U64, store64
from ..elements.storage import Storage

# Terms of one sum are added in so many lanes on every processor: another number would give another
# sum. Terms of contiguous sums may be added in vectors of any length.
_LANES = 16
_NEIGHBOURS = DRAWS // 2
_MANY, _NEXT = np.uint64(_LANES), np.uint64(_NEIGHBOURS)
_ZERO, _ONE, _EIGHT = (np.uint64(n) for n in (0, 1, 8))
_lanes_scratch = scratch(8 * _LANES)


def _added(kind: Storage, count: int, size: int) -> Any:
    """Intrinsic ``(sums, terms, n, sum_step)``: n times, add `count` terms to `count` sums.

    After each, terms advance by `count` elements, sums by `sum_step` bytes. 0 means one, scalar.
    """

    @intrinsic
    def added(typingctx: Any, sums: Any, terms: Any, n: Any, sum_step: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums, terms, n, sum_step = args
            with cgutils.for_range(builder, n) as loop:
                place = builder.gep(sums, [builder.mul(loop.index, sum_step)])
                step = ir.Constant(I64, max(1, count) * size)
                given = builder.gep(terms, [builder.mul(loop.index, step)])
                term = kind.natural(kind.load(builder, given, 0, count, None))
                term = term if term.element == DOUBLE else term.convert(DOUBLE)
                store(load(builder, place, 0, DOUBLE, count) + term, place, 0)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64, U64), codegen

    return added


@intrinsic
def _folded(typingctx: Any, total: Any, lanes: Any) -> Any:
    """Add up `_LANES` lanes of float64 pairwise, and add the total to a number in memory."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, lanes = args
        vector: Lanes = load(builder, lanes, 0, DOUBLE, _LANES)
        while vector.count > 1:
            first, rest = vector.split()
            vector = first + rest
        one = Lanes(builder, builder.extract_element(vector.value, ir.Constant(I64, 0)))
        store(load(builder, total, 0, DOUBLE, 0) + one, total, 0)
        return context.get_dummy_value()

    return types.void(POINTER, POINTER), codegen


@functools.cache
def sum_line(name: str, kind: Storage) -> Any:
    """Routine ``(sums, sum_step, terms, term_step, n)``: add the terms of an axis of any steps."""
    counts, size = (_LANES, _NEIGHBOURS, 0), np.uint64(kind.itemsize)
    to_lanes, to_neighbours, one = (_added(kind, count, kind.itemsize) for count in counts)

    def line(sums: Any, sum_step: Any, terms: Any, term_step: Any, n: Any) -> None:
        wide_vectors()
        whole = _ZERO
        if term_step == size and sum_step == _EIGHT:
            whole = n - n % _NEXT
            to_neighbours(sums, terms, whole // _NEXT, _NEXT * _EIGHT)
        elif term_step == size and sum_step == _ZERO and n >= _MANY:
            whole = n - n % _MANY
            lanes = _lanes_scratch()
            for t in range(_MANY):
                store64(lanes, _EIGHT * t, _ZERO)  # which is +0.0
            to_lanes(lanes, terms, whole // _MANY, _ZERO)
            _folded(sums, lanes)
        for t in range(whole, n):
            one(advance(sums, t * sum_step), advance(terms, t * term_step), _ONE, _ZERO)

    return routine(f"sum-{name}-axis", line, types.void(POINTER, U64, POINTER, U64, U64))
