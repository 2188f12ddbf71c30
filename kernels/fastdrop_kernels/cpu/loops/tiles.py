"""Routines that apply an operation to contiguous elements that have been decided.

`tile_loop` is for elements whose keep bits are in memory, `all_or_none_loop` for elements that
share one decision. They call `apply`. The loops in `operands` find them in a dispatch table, see
`dispatch`; those of functions on batches, `streams` and others call them directly.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    copy_bytes,
    intrinsic,
    pointer_at,
    scratch,
    store_fence,
    wide_vectors,
)
from ..codegen.target import MASKS
from ..codegen.vectors import BIT, I16, I32, I64, Lanes, iota, load, make_nontemporal
from ..elements.operations import Operation
from ..elements.sampler import DRAWS, POINTER, U64, load64, store64
from ..elements.storage import BITS
from .apply import LINE_BYTES, apply_vector, ask_ahead, bit_copier, sizes, write_bits
from .contiguous import NONTEMPORAL, PREFETCH
from .copy import gather, scatter

VECTOR = DRAWS  # elements that are computed at once
_VECTOR, _SIDE = np.uint64(VECTOR), np.uint64(16)  # bytes of an input's pointer and step
_ZERO, _EIGHT, _WORD, _LINE = (np.uint64(n) for n in (0, 8, 64, LINE_BYTES))
_ALL = np.uint64(2**64 - 1)


@device
def put_side(sides: Any, k: Any, pointer: Any, step: Any) -> None:
    """Write the pointer of the k-th input, and its step in bytes."""
    store64(sides, _SIDE * k, address_of(pointer))
    store64(sides, _SIDE * k + _EIGHT, step)


def _kept_in(
    operation: Operation, builder: Any, decision: Any, at: Any, done: Any, count: int
) -> Lanes:
    """Load the decisions of `count` elements from the mask buffer, from its element at + done on.

    They are keep bits, or 32-bit numbers if the operation needs the uniform. `done` is a multiple
    of `count`. Up to 8 bytes past the end are read.
    """
    if operation.needs_uniform:
        place = builder.mul(builder.add(at, done), ir.Constant(I64, 4))
        return load(builder, builder.gep(decision, [place]), 0, I32, count)
    if count:  # `done` is a whole number of bytes, so the shift is the same for all vectors
        begin = builder.gep(decision, [builder.lshr(at, ir.Constant(I64, 3))])
        byte, bit = builder.lshr(done, ir.Constant(I64, 3)), at
    else:
        element = builder.add(at, done)
        begin, byte, bit = decision, builder.lshr(element, ir.Constant(I64, 3)), element
    word = load(builder, builder.gep(begin, [byte]), 0, I64, 0)
    bits = word >> Lanes(builder, builder.and_(bit, ir.Constant(I64, 7)))
    cut = Lanes(builder, builder.trunc(bits.value, ir.IntType(max(1, count))))
    return cut.bitcast(BIT) if count else cut


def _elements(
    operation: Operation, count: int, partial: bool = False, access: str = PREFETCH
) -> Any:
    """Intrinsic ``(sides, y, decision, at, n, value)``: n elements, in vectors (0: one by one).

    Whole vectors, or part of one if `partial`. `at` is the first element's place in `decision`.
    What is prefetched, and how stores are made, says `access`, see `tile_loop`.
    """
    kinds = operation.source, *operation.operands
    each, out_size = max(1, count), operation.target.itemsize

    @intrinsic
    def elements(
        typingctx: Any, sides: Any, y: Any, decision: Any, at: Any, n: Any, value: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sides, y, decision, at, n, value = args
            numbers = builder.bitcast(sides, I64.as_pointer())

            def number(k: int) -> Any:
                return builder.load(builder.gep(numbers, [ir.Constant(I64, k)]))

            inputs = [
                (builder.inttoptr(number(2 * k), y.type), number(2 * k + 1))
                for k in range(len(kinds))
            ]
            parameters = operation.parameters(builder, value)

            def put(done: Any, where: Lanes | None) -> None:
                x, *others = (
                    builder.gep(pointer, [builder.mul(done, step)]) for pointer, step in inputs
                )
                kept = _kept_in(operation, builder, decision, at, done, count)
                operands = [
                    kind.load(builder, pointer, 0, count, where)
                    for kind, pointer in zip(operation.operands, others, strict=True)
                ]
                target = builder.gep(y, [builder.mul(done, ir.Constant(I64, out_size))])
                if count and not operands and not partial:
                    asked = target if access == PREFETCH else None
                    ask_ahead(operation, builder, x, asked, count)
                first = len(builder.block.instructions)
                apply_vector(operation, kept, x, target, 0, count, parameters, where, operands)
                if access == NONTEMPORAL:
                    make_nontemporal(builder, first)

            if partial:
                length = Lanes(builder, n).convert(I16)
                put(ir.Constant(I64, 0), iota(builder, I16, count) < length)
            else:
                whole = builder.udiv(n, ir.Constant(I64, each))
                with cgutils.for_range(builder, whole) as loop:
                    put(builder.mul(loop.index, ir.Constant(I64, each)), None)
                if access == NONTEMPORAL:
                    store_fence(builder)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, POINTER, U64, U64, POINTER), codegen

    return elements


def offsets(bytes_of: Sequence[int]) -> tuple[np.uint64, ...]:
    """Return the offsets of consecutive buffers of these sizes, and the end of the last."""
    return tuple([np.uint64(sum(bytes_of[:k])) for k in range(len(bytes_of) + 1)])


def tile_loop(operation: Operation, access: str = PREFETCH) -> Any:
    """Routine ``(sides, y, decision, at, n, value)`` over contiguous elements.

    `sides` holds pointers and steps of the inputs. A step is an element's bytes, or 0. `decision`
    holds the decisions, from its element `at` on. With `READ`, cache lines of y are not prefetched.
    With `NONTEMPORAL` they are written by nontemporal stores: of elements of 2, 4 or 8 bytes, which
    are aligned, where there are masked stores.
    """
    sizes_that_fit = MASKS and operation.target.bits in (16, 32, 64)
    assert access != NONTEMPORAL or sizes_that_fit
    return _tile_loop(operation, access)


@functools.cache
def _tile_loop(operation: Operation, access: str) -> Any:
    signature = types.void(POINTER, POINTER, POINTER, U64, U64, POINTER)
    if operation.target is BITS:
        copy_bits = bit_copier()

        def copy(sides: Any, y: Any, decision: Any, at: Any, n: Any, value: Any) -> None:
            copy_bits(y, decision, at, n)

        return routine(f"{operation.name}-tile", copy, signature)
    many = _elements(operation, VECTOR, access=access)
    if not MASKS and operation.operands:
        return _copying_tile_loop(operation, many, signature)
    rest = _elements(operation, VECTOR, True) if MASKS else _elements(operation, 0)
    out_size, inputs = sizes(operation)[1], np.uint64(1 + len(operation.operands))
    own_sides, is_aligned = scratch(16 * (1 + len(operation.operands))), access == NONTEMPORAL

    def tile(sides: Any, y: Any, decision: Any, at: Any, n: Any, value: Any) -> None:
        wide_vectors()
        if is_aligned:  # a compile-time constant: whole cache lines are written
            there = own_sides()
            head = min(n, (_ZERO - address_of(y)) % _LINE // out_size)
            rest(sides, y, decision, at, head, value)
            for k in range(inputs):
                start, step = load64(sides, _SIDE * k), load64(sides, _SIDE * k + _EIGHT)
                put_side(there, k, pointer_at(start + head * step), step)
            sides, y, at, n = there, advance(y, head * out_size), at + head, n - head
        left = n % _VECTOR
        whole = n - left
        many(sides, y, decision, at, whole, value)
        if left:
            last = own_sides()
            for k in range(inputs):
                start, step = load64(sides, _SIDE * k), load64(sides, _SIDE * k + _EIGHT)
                put_side(last, k, pointer_at(start + whole * step), step)
            rest(last, advance(y, whole * out_size), decision, at + whole, left, value)

    name = "tile" if access == PREFETCH else f"tile-{access}"
    return routine(f"{operation.name}-{name}", tile, signature)


def _copying_tile_loop(operation: Operation, many: Any, signature: Any) -> Any:
    """Return a `tile_loop` that computes an incomplete last vector as a whole one, from a copy.

    For single elements, the code of activations would be compiled once more.
    """
    kinds = operation.source, *operation.operands
    places = offsets([VECTOR * kind.itemsize for kind in kinds])
    inputs, out_size = np.uint64(len(kinds)), np.uint64(operation.target.itemsize)
    last_sides, last_inputs = scratch(16 * len(kinds)), scratch(int(places[-1]))
    made_scratch = scratch(VECTOR * operation.target.itemsize)

    def tile(sides: Any, y: Any, decision: Any, at: Any, n: Any, value: Any) -> None:
        wide_vectors()
        left = n % _VECTOR
        whole = n - left
        many(sides, y, decision, at, whole, value)
        if left:
            last, given, made = last_sides(), last_inputs(), made_scratch()
            for k in range(inputs):
                start, step = load64(sides, _SIDE * k), load64(sides, _SIDE * k + _EIGHT)
                if step:
                    copied = advance(given, places[k])
                    copy_bytes(copied, pointer_at(start + whole * step), left * step)
                    put_side(last, k, copied, step)
                else:
                    put_side(last, k, pointer_at(start), step)
            many(last, made, decision, at + whole, _VECTOR, value)
            copy_bytes(advance(y, whole * out_size), made, left * out_size)

    return routine(f"{operation.name}-tile", tile, signature)


def column_loop(operation: Operation) -> Any:
    """Inlined ``(x, xs, y, ys, decision, at, n, value)``: up to `VECTOR` elements, strided.

    From one to the next it is xs bytes in x, and ys in y.
    """
    tile, (in_size, out_size) = tile_loop(operation), sizes(operation)
    reads, writes = operation.source.bits > 0, operation.target is not BITS  # always contiguous
    load: Any = gather(operation.source.itemsize) if reads else None
    store: Any = scatter(operation.target.itemsize, False) if writes else None
    sides_scratch = scratch(16)
    inputs, outputs = (scratch(VECTOR * s.itemsize) for s in (operation.source, operation.target))

    @device
    def column(
        x: Any, xs: Any, y: Any, ys: Any, decision: Any, at: Any, n: Any, value: Any
    ) -> None:
        sides, source, target = sides_scratch(), x, y
        if reads:  # a compile-time constant, as the next
            if xs != in_size:
                source = inputs()
                load(source, x, xs, n)
        if writes:
            if ys != out_size:
                target = outputs()
        put_side(sides, _ZERO, source, in_size)
        tile(sides, target, decision, at, n, value)
        if writes:
            if ys != out_size:
                store(y, ys, target, n)

    return column


def _all_or_none(operation: Operation, kept: bool, count: int, partial: bool = False) -> Any:
    """Intrinsic ``(x, y, n, value)``: n elements in vectors of `count`, all kept or all dropped."""
    each, (in_size, out_size) = max(1, count), map(int, sizes(operation))

    @intrinsic
    def all_or_none(typingctx: Any, x: Any, y: Any, n: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, n, value = args
            all_kept = Lanes(builder, ir.Constant(BIT, int(kept)))
            parameters = operation.parameters(builder, value)

            def put(done: Any, where: Lanes | None) -> None:
                source, target = (
                    builder.gep(pointer, [builder.mul(done, ir.Constant(I64, size))])
                    for pointer, size in ((x, in_size), (y, out_size))
                )
                if not partial and count:
                    ask_ahead(operation, builder, source if kept else None, target, count)
                decided = all_kept.broadcast(count)
                apply_vector(operation, decided, source, target, 0, count, parameters, where)

            if partial:
                length = Lanes(builder, n).convert(I16)
                put(ir.Constant(I64, 0), iota(builder, I16, count) < length)
            else:
                with cgutils.for_range(builder, builder.udiv(n, ir.Constant(I64, each))) as loop:
                    put(builder.mul(loop.index, ir.Constant(I64, each)), None)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64, POINTER), codegen

    return all_or_none


@functools.cache
def all_or_none_loop(operation: Operation) -> Any:
    """Routine ``(x, y, kept, n, value)``: contiguous elements that are all kept, or all dropped.

    If they are dropped, x is not read.
    """
    signature = types.void(POINTER, POINTER, U64, U64, POINTER)
    if operation.target is BITS:

        def pack(x: Any, y: Any, kept: Any, n: Any, value: Any) -> None:
            if kept:
                for t in range(_ZERO, n, _WORD):
                    m = min(_WORD, n - t)
                    write_bits(advance(y, t), _ALL >> (_WORD - m), m)

        return routine("pack-all-or-none", pack, signature)
    keep, drop = _all_or_none(operation, True, VECTOR), _all_or_none(operation, False, VECTOR)
    rest = (VECTOR, True) if MASKS else (0, False)
    keep_rest, drop_rest = (
        _all_or_none(operation, True, *rest),
        _all_or_none(operation, False, *rest),
    )
    in_size, out_size = sizes(operation)

    def all_or_none(x: Any, y: Any, kept: Any, n: Any, value: Any) -> None:
        wide_vectors()
        left = n % _VECTOR
        whole = n - left
        source, target = advance(x, whole * in_size), advance(y, whole * out_size)
        if kept:
            keep(x, y, whole, value)
            if left:
                keep_rest(source, target, left, value)
        else:
            drop(x, y, whole, value)
            if left:
                drop_rest(source, target, left, value)

    return routine(f"{operation.name}-all-or-none", all_or_none, signature)
