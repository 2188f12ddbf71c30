"""Copies between contiguous memory and elements any step apart.

The loops in `operands`, `streams` and `tile_transpose` gather elements of strided arrays into
scratch memory and scatter results from there, so that operations are applied to contiguous elements
only. Elements are copied as bytes, whatever their dtype.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, intrinsic, wide_vectors
from ..codegen.target import MASKS, VECTOR_BYTES
from ..codegen.vectors import BIT, I8, I16, I32, I64, Lanes, load, store
from ..elements.sampler import POINTER, U64

_ZERO, _TWO = np.uint64(0), np.uint64(2)
_ELEMENTS = {1: I8, 2: I16, 4: I32, 8: I64, 16: ir.IntType(128)}
# Unrolling of loops over single elements: that many distances are kept in registers.
_AT_ONCE = 4


def _vector(itemsize: int) -> int:
    """Return how many elements a vector has; those of 16 bytes are copied one by one."""
    return VECTOR_BYTES // itemsize if itemsize < 16 else 1 << 62


def _singly(itemsize: int) -> Any:
    """Intrinsic ``(target, target_step, source, source_step, n)``: copy elements one by one."""
    element = _ELEMENTS[itemsize]

    @intrinsic
    def singly(typingctx: Any, target: Any, ts: Any, source: Any, ss: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, ts, source, ss, n = args

            def copy(first: Any, many: int) -> None:
                def at(pointer: Any, step: Any, k: int) -> Any:
                    begin = builder.gep(pointer, [builder.mul(first, step)])
                    return builder.gep(begin, [builder.mul(step, ir.Constant(I64, k))])

                loaded = [load(builder, at(source, ss, k), 0, element, 0) for k in range(many)]
                if itemsize < 16:
                    # Hidden from LLVM's vectoriser, whose gathers took 2.4 times as long in the L1
                    # cache, and 12 times past it (Zen 5, 2026-11).
                    kind = ir.FunctionType(element, [element])
                    loaded = [
                        Lanes(builder, builder.asm(kind, "", "=r,0", [one.value], False))
                        for one in loaded
                    ]
                for k, number in enumerate(loaded):
                    store(number, at(target, ts, k), 0)

            at_once = ir.Constant(I64, _AT_ONCE)
            whole = builder.udiv(n, at_once)
            with cgutils.for_range(builder, whole) as loop:
                copy(builder.mul(loop.index, at_once), _AT_ONCE)
            done = builder.mul(whole, at_once)
            with cgutils.for_range(builder, builder.urem(n, at_once)) as loop:
                copy(builder.add(done, loop.index), 1)
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, U64, U64), codegen

    return singly


def _by_vectors(itemsize: int, step: int, scatter: bool, uses_masks: bool = False) -> Any:
    """Intrinsic ``(target, source, n)``: copy whole vectors, with a step of 1, 2 or -1 elements.

    The step is that of the target if `scatter` is true, else of the source. A gather with step 2
    reads one element past the last.
    """
    count, element = _vector(itemsize), _ELEMENTS[itemsize]
    size, away = ir.Constant(I64, itemsize), ir.Constant(I64, step * itemsize)

    @intrinsic
    def by_vectors(typingctx: Any, target: Any, source: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, source, n = args
            vectors = builder.udiv(n, ir.Constant(I64, count))
            with cgutils.for_range(builder, vectors) as loop:
                done = builder.mul(loop.index, ir.Constant(I64, count))
                steps = (away, size) if scatter else (size, away)
                to, of = (
                    builder.gep(pointer, [builder.mul(done, apart)])
                    for pointer, apart in zip((target, source), steps, strict=True)
                )
                back = (1 - count) * itemsize if step < 0 else 0
                if step == 2 and scatter and not uses_masks:
                    for k in range(count):
                        store(load(builder, of, k * itemsize, element, 0), to, 2 * k * itemsize)
                elif step == 2 and scatter:
                    even = [ir.Constant(BIT, 1 - k % 2) for k in range(count)]
                    where = Lanes(builder, ir.Constant(ir.VectorType(BIT, count), even))
                    for part, half in enumerate(load(builder, of, 0, element, count).split()):
                        store(half.repeat_each(2), to, part * count * itemsize, where)
                else:
                    behind = 0 if scatter else back
                    given = load(builder, of, behind, element, count * max(1, step))
                    order = range(count - 1, -1, -1) if step < 0 else range(0, given.count, step)
                    store(given.shuffle(order), to, back if scatter else 0)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64), codegen

    return by_vectors


@functools.cache
def gather(itemsize: int) -> Any:
    """Routine ``(target, source, step, n)``: copy n elements, `step` bytes apart, to be contiguous.

    A step of 0 repeats one element.
    """
    singly = _singly(itemsize)
    adjacent, second, turned = (_by_vectors(min(8, itemsize), step, False) for step in (1, 2, -1))
    size, count = np.uint64(itemsize), np.uint64(_vector(itemsize))

    def copy(target: Any, source: Any, step: Any, n: Any) -> None:
        wide_vectors()
        done = n - n % count
        if step == size:
            adjacent(target, source, done)
        elif step == _TWO * size:
            if done == n and n:
                done -= count  # memory after the last element may not be readable
            second(target, source, done)
        elif step == _ZERO - size:
            turned(target, source, done)
        else:
            done = _ZERO
        rest = advance(source, done * step)
        singly(advance(target, done * size), size, rest, step, n - done)

    return routine(f"gather-{itemsize}", copy, types.void(POINTER, POINTER, U64, U64))


@functools.cache
def scatter(itemsize: int, is_cached: bool) -> Any:
    """Routine ``(target, step, source, n)``: copy n contiguous elements to places `step` apart.

    Bytes between them are not written. If the target is in the caches (`is_cached`), a step of two
    elements uses masked stores, where available: 64 Ki float32 in 17 us and not 23. In memory they
    are slower: 16 Mi in 17 ms and not 11, 1 Mi float64 in 1.4 ms and not 0.8 (Zen 5, 2026-11).
    """
    uses_masks = MASKS and is_cached
    singly = _singly(itemsize)
    next_one, second, turned = (
        _by_vectors(min(8, itemsize), step, True, uses_masks) for step in (1, 2, -1)
    )
    size, count = np.uint64(itemsize), np.uint64(_vector(itemsize))

    def copy(target: Any, step: Any, source: Any, n: Any) -> None:
        wide_vectors()
        done = n - n % count
        if step == size:
            next_one(target, source, done)
        elif step == _TWO * size:
            second(target, source, done)
        elif step == _ZERO - size:
            turned(target, source, done)
        else:
            done = _ZERO
        rest = advance(source, done * size)
        singly(advance(target, done * step), step, rest, size, n - done)

    return routine(f"scatter-{itemsize}-{uses_masks}", copy, types.void(POINTER, U64, POINTER, U64))
