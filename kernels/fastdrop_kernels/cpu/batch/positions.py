"""Positions of the kept and of the dropped elements of a mask, and the order that restores."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...shielded import shielded
from ..codegen.compiler import routine
from ..codegen.intrinsics import address_of, intrinsic, pointer_at, wide_vectors
from ..codegen.vectors import I8, I32, I64, Lanes, iota, load, store
from ..elements.sampler import POINTER, U64, load8, store64
from .counting import HAS_COMPRESS, LANES, each_vector, moved

_ZERO, _EIGHT = np.uint64(0), np.uint64(8)


@intrinsic
def _list_positions(
    typingctx: Any, y: Any, n: Any, k: Any, kept: Any, dropped: Any, restore: Any
) -> Any:
    """List the positions of a mask with AVX-512; see `order`."""
    lanes = LANES

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        y, n, k, kept, dropped, restore = args
        numbers = iota(builder, I32, lanes)
        none = numbers.constant(0)
        counted = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))

        def at(pointer: Any, place: Any) -> Any:
            return builder.gep(pointer, [builder.shl(place, ir.Constant(I64, 3))])

        def write(first: Any, exists: Lanes | None) -> None:
            here = builder.gep(y, [first])
            inside = exists
            mask = load(builder, here, 0, I8, lanes, inside) >= 1
            rest = ~mask if exists is None else ~mask & exists
            before = builder.load(counted)
            positions = numbers + Lanes(builder, builder.trunc(first, I32))
            behind = builder.add(k, builder.sub(first, before))  # place of a dropped element
            ranks = none
            for where, target, place, rank in (
                (mask, kept, before, before),
                (rest, dropped, builder.sub(first, before), behind),
            ):
                number = builder.ctpop(where.as_integer().value)
                count = Lanes(builder, builder.zext(number, I32)).broadcast(lanes)
                found = moved("compress", positions, where, none).convert(I64)
                store(found, at(target, place), 0, numbers < count)
                spread = numbers + Lanes(builder, builder.trunc(rank, I32))
                ranks = moved("expand", spread, where, ranks)
                if where is mask:
                    builder.store(builder.add(before, builder.zext(number, I64)), counted)
            store(ranks.convert(I64), at(restore, first), 0, exists)

        each_vector(builder, n, lanes, write)
        return context.get_dummy_value()

    return types.void(POINTER, U64, U64, POINTER, POINTER, POINTER), codegen


@functools.cache
@shielded
def order() -> Any:
    """Routine ``(y, n, k, kept, dropped, restore)``: list the positions of a mask that keeps k.

    As int64: those of kept and of dropped elements, ascending, and for each element its place among
    the kept ones, followed by the dropped ones.
    """
    signature = types.void(POINTER, U64, U64, POINTER, POINTER, POINTER)

    def run(y: Any, n: Any, k: Any, kept: Any, dropped: Any, restore: Any) -> None:
        wide_vectors()
        if HAS_COMPRESS:
            _list_positions(y, n, k, kept, dropped, restore)
            return
        first, second, found = address_of(kept), address_of(dropped), _ZERO
        for j in range(n):
            is_kept = load8(y, j) != 0
            missed = j - found
            place = first + _EIGHT * found if is_kept else second + _EIGHT * missed
            store64(pointer_at(place), _ZERO, j)
            store64(restore, _EIGHT * j, found if is_kept else k + missed)
            found += np.uint64(is_kept)

    return routine("order-of-mask", run, signature)
