"""Rows: what a softmax needs of a whole row of neighbours, pass by pass, while it is in the cache.

A row is read as vectors; what is left at its end is copied into one more, filled up with elements
that change nothing. A sum is made in `LANES` lanes, then of the lanes pair by pair, and from part
to part in float64. That order depends on the length of the row alone, and not on the processor:
where a machine's vectors are narrower than the lanes, it goes through a part once for each group of
lanes that it can hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    advance,
    clear_bytes,
    copy_bytes,
    intrinsic,
    scratch,
    scratch_in,
    wide_vectors,
)
from ..codegen.vectors import BIT, DOUBLE, FLOAT, I64, Lanes, load, select, store
from ..elements.math import exp_flushed
from ..elements.sampler import DRAWS, POINTER, U64
from ..elements.storage import FLOAT64, Storage, computed_in

# Every machine adds element k to lane k % LANES; another number would give other sums.
LANES = 32
VECTOR = DRAWS  # elements that are computed at once: a group of lanes
_GROUPS = LANES // VECTOR
_LANES, _VECTOR = np.uint64(LANES), np.uint64(VECTOR)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
# Elements that are added up in a lane, and one more at the end of a row: a float32 sum of 65 terms
# is off by 64 roundings at most.
_PART = np.uint64(64)

Vectors: TypeAlias = Callable[[Any], Lanes]  # (index) -> that vector


def number_type(kind: Storage) -> Any:
    """Return the type of a number that is computed with, as Numba knows it."""
    return types.float64 if computed_in(kind) is FLOAT64 else types.float32


def _element(kind: Storage) -> Any:
    return DOUBLE if computed_in(kind) is FLOAT64 else FLOAT


def _vectors(builder: Any, kind: Storage, memory: Any) -> Vectors:
    """Return what loads a vector of a row, whose elements are in the order of memory."""
    size = ir.Constant(I64, VECTOR * kind.itemsize)

    def at(index: Any) -> Lanes:
        place = builder.gep(memory, [builder.mul(index, size)])
        return kind.natural(kind.load(builder, place, 0, VECTOR, None))

    return at


def _storing(builder: Any, kind: Storage, memory: Any) -> Callable[[Any, Lanes], None]:
    """Return what rounds a vector, whose elements are in the order of memory, and stores it."""
    size = ir.Constant(I64, VECTOR * kind.itemsize)
    all_of_them = Lanes(builder, ir.Constant(BIT, 1)).broadcast(VECTOR)

    def store_at(index: Any, numbers: Lanes) -> None:
        place = builder.gep(memory, [builder.mul(index, size)])
        kind.store(all_of_them, kind.arranged(numbers), 0, place, 0, None)

    return store_at


def _reduced(numbers: Lanes, both: Callable[[Lanes, Lanes], Lanes]) -> Lanes:
    """Return one number of all lanes of a vector, halved until there is one."""
    while numbers.count > 1:
        numbers = both(*numbers.split())
    return numbers.with_value(numbers.builder.extract_element(numbers.value, ir.Constant(I64, 0)))


def _accumulated(
    builder: Any,
    count: Any,
    start: Lanes,
    both: Callable[[Lanes, Lanes], Lanes],
    each: Vectors,
) -> Lanes:
    """Put vectors together lane by lane."""
    memory = scratch_in(builder, VECTOR * (8 if start.element == DOUBLE else 4))
    store(start, memory, 0)
    with cgutils.for_range(builder, count) as loop:
        so_far = load(builder, memory, 0, start.element, VECTOR)
        store(both(so_far, each(loop.index)), memory, 0)
    return load(builder, memory, 0, start.element, VECTOR)


def _summed(
    builder: Any, kind: Storage, count: Any, rest: Any, each: Vectors, last: Vectors
) -> Any:
    """Return the sum in float64 of `count` times `LANES` numbers, and of `rest` vectors more.

    ``each(index)`` is the vector of that index, and ``last(index)`` one of the `rest`, which are at
    most as many as there are groups of lanes.
    """
    nothing, size, nil = _zeros(builder, kind), computed_in(kind).itemsize, ir.Constant(I64, 0)
    sums = scratch_in(builder, LANES * size)

    def reduced(lanes: int) -> Lanes:
        return _reduced(load(builder, sums, 0, nothing.element, lanes), _sum)

    if _GROUPS == 1:
        so_far = _accumulated(builder, count, nothing, _sum, each)
        store(so_far, sums, 0)
        with builder.if_then(builder.icmp_unsigned("!=", rest, nil)):
            store(so_far + last(nil), sums, 0)
        return _in_float64(reduced(LANES))

    def group_at(index: Any) -> Any:
        return builder.gep(sums, [builder.mul(index, ir.Constant(I64, VECTOR * size))])

    store(nothing.broadcast(LANES), sums, 0)
    some, all_groups = builder.icmp_unsigned("!=", count, nil), ir.Constant(I64, _GROUPS)
    # The rest is added to two groups at once, and to four in a loop of its own: rows of 7 float32
    # with AVX2 in 0.94 of the time of the other way, and 1,030 float16 without in 0.94, on Zen 5.
    at_once = _GROUPS == 2
    groups = builder.select(some, all_groups, rest if at_once else nil)
    with cgutils.for_range(builder, groups) as group:

        def of_group(index: Any) -> Lanes:
            return each(builder.add(builder.mul(index, all_groups), group.index))

        so_far, place = _accumulated(builder, count, nothing, _sum, of_group), group_at(group.index)
        store(so_far, place, 0)
        if at_once:
            with builder.if_then(builder.icmp_unsigned("<", group.index, rest)):
                store(so_far + last(group.index), place, 0)
    if not at_once:
        with cgutils.for_range(builder, rest) as group:
            place = group_at(group.index)
            so_far = load(builder, place, 0, nothing.element, VECTOR)
            store(so_far + last(group.index), place, 0)
    # Of a short row only the first group: the others are zeros, and no sum is -0.0.
    one, made = builder.icmp_unsigned("==", rest, ir.Constant(I64, 1)), scratch_in(builder, 8)
    with builder.if_else(builder.and_(builder.not_(some), one)) as (if_short, if_long):
        for branch, lanes in ((if_short, VECTOR), (if_long, LANES)):
            with branch:
                store(reduced(lanes), made, 0)
    return _in_float64(load(builder, made, 0, nothing.element, 0))


def _larger(a: Lanes, b: Lanes) -> Lanes:
    return select(b > a, b, a)  # a NaN is never larger; the sum tells of it


def _sum(a: Lanes, b: Lanes) -> Lanes:
    return a + b


def _in_float64(number: Lanes) -> Any:
    return (number if number.element == DOUBLE else number.convert(DOUBLE)).value


def _zeros(builder: Any, kind: Storage) -> Lanes:
    return Lanes(builder, ir.Constant(_element(kind), 0.0)).broadcast(VECTOR)


def filled(kind: Storage, number: float) -> Any:
    """Intrinsic ``(memory)``: a vector of one number, as elements."""

    @intrinsic
    def fill(typingctx: Any, memory: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            numbers = _zeros(builder, kind).constant(number)
            _storing(builder, kind, args[0])(ir.Constant(I64, 0), numbers)
            return context.get_dummy_value()

        return types.void(POINTER), codegen

    return fill


def _largest(kind: Storage) -> Any:
    """Intrinsic ``(x, count, more) -> largest`` of some vectors, and of one more."""

    @intrinsic
    def largest(typingctx: Any, x: Any, count: Any, more: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, count, more = args
            first = _vectors(builder, kind, more)(ir.Constant(I64, 0))
            lanes = _accumulated(builder, count, first, _larger, _vectors(builder, kind, x))
            return _reduced(lanes, _larger).value

        return number_type(kind)(POINTER, U64, POINTER), codegen

    return largest


def _powers(kind: Storage) -> Any:
    """Intrinsic ``(x, more, e, count, rest, top) -> sum`` of ``exp(x - top)``, which goes to e.

    The last `rest` vectors, see `_summed`, are read at `more`.
    """

    @intrinsic
    def powers(typingctx: Any, x: Any, more: Any, e: Any, count: Any, rest: Any, top: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, more, e, count, rest, top = args
            given, rests = (_vectors(builder, kind, memory) for memory in (x, more))
            write, largest = _storing(builder, computed_in(kind), e), Lanes(builder, top)
            whole = builder.mul(count, ir.Constant(I64, _GROUPS))

            def power(index: Any, score: Lanes) -> Lanes:
                made = exp_flushed(score - largest)
                write(index, made)
                return made

            def each(index: Any) -> Lanes:
                return power(index, given(index))

            def last(index: Any) -> Lanes:
                return power(builder.add(whole, index), rests(index))

            return _summed(builder, kind, count, rest, each, last)

        arguments = POINTER, POINTER, POINTER, U64, U64, number_type(kind)
        return types.float64(*arguments), codegen

    return powers


@device
def _vectors_of(n: Any) -> Any:
    return (n + _VECTOR - _ONE) // _VECTOR


@functools.cache
def exponentials(name: str, kind: Storage) -> Any:
    """Routine ``(x, e, n) -> sum`` of ``exp(x - largest x)`` of n elements, which goes to e.

    At e there is room for whole vectors of what is computed with; behind the n-th, they are made
    zeros. Where all x are -inf, the sum and what goes to e are 0.
    """
    number, size = number_type(kind), np.uint64(kind.itemsize)
    in_bytes, out_bytes = np.uint64(LANES) * size, np.uint64(LANES * computed_in(kind).itemsize)
    largest, powers, fill = _largest(kind), _powers(kind), filled(kind, -math.inf)
    end, least = scratch(LANES * kind.itemsize), -math.inf

    def run(x: Any, e: Any, n: Any) -> Any:
        wide_vectors()
        whole, rest, more = n // _LANES, n % _LANES, end()
        last = advance(more, rest // _VECTOR * _VECTOR * size)
        fill(last)
        if rest:
            copy_bytes(more, advance(x, whole * in_bytes), rest * size)
        top = largest(x, n // _VECTOR, last)
        if top == least:
            top = number(0.0)  # of which -inf is as far away as of any other
        total = 0.0
        for k in range(_ZERO, max(whole, _ONE), _PART):
            count = min(_PART, whole - k)
            vectors = _vectors_of(rest) if k + count == whole else _ZERO
            here, made = advance(x, k * in_bytes), advance(e, k * out_bytes)
            total += powers(here, more, made, count, vectors, top)
        return total

    return routine(f"exponentials-{name}", run, types.float64(POINTER, POINTER, U64))


def _products(kind: Storage) -> Any:
    """Intrinsic ``(e, g, count, rest) -> sum`` of their products; see `_summed`."""

    @intrinsic
    def products(typingctx: Any, e: Any, g: Any, count: Any, rest: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e, g, count, rest = args
            a, b = (_vectors(builder, computed_in(kind), memory) for memory in (e, g))
            whole = builder.mul(count, ir.Constant(I64, _GROUPS))

            def each(index: Any) -> Lanes:
                return a(index) * b(index)

            def last(index: Any) -> Lanes:
                return each(builder.add(whole, index))

            return _summed(builder, kind, count, rest, each, last)

        return types.float64(POINTER, POINTER, U64, U64), codegen

    return products


def _gradients(kind: Storage) -> Any:
    """Intrinsic ``(e, g, y, count, factor, mean)``: ``e * factor * (g - mean)`` goes to y."""

    @intrinsic
    def gradients(
        typingctx: Any, e: Any, g: Any, y: Any, count: Any, factor: Any, mean: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e, g, y, count, factor, mean = args
            a, b = (_vectors(builder, computed_in(kind), memory) for memory in (e, g))
            write = _storing(builder, kind, y)
            scale, middle = Lanes(builder, factor), Lanes(builder, mean)
            with cgutils.for_range(builder, count) as loop:
                write(loop.index, a(loop.index) * scale * (b(loop.index) - middle))
            return context.get_dummy_value()

        number = number_type(kind)
        return types.void(POINTER, POINTER, POINTER, U64, number, number), codegen

    return gradients


@functools.cache
def softmax_gradient(name: str, kind: Storage) -> Any:
    """Routine ``(e, g, y, n, sum)``: the gradient of a softmax goes to y.

    e and sum are those of `exponentials`. g is the gradient of its result, with room as e has, and
    what is behind the n-th is lost. Of ``s = e / sum``, y is ``s * (g - sum of (g * s))``; where
    the sum is 0, y is 0 whatever g is.
    """
    number = number_type(kind)
    size, element = np.uint64(kind.itemsize), np.uint64(computed_in(kind).itemsize)
    lane_bytes, vector_bytes = np.uint64(LANES) * element, _VECTOR * element
    products, gradients = _products(kind), _gradients(kind)
    nothing = filled(computed_in(kind), 0.0)
    zeros, end = scratch(int(vector_bytes)), scratch(VECTOR * kind.itemsize)

    def run(e: Any, g: Any, y: Any, n: Any, total: Any) -> None:
        wide_vectors()
        if total == 0.0:
            clear_bytes(y, n * size)
            return
        vectors, rest = n // _VECTOR, n % _VECTOR
        if rest:
            clear = zeros()
            nothing(clear)
            copy_bytes(advance(g, n * element), clear, vector_bytes - rest * element)
        weighted = 0.0
        whole = n // _LANES
        for k in range(_ZERO, max(whole, _ONE), _PART):
            count, at = min(_PART, whole - k), k * lane_bytes
            more = _vectors_of(n % _LANES) if k + count == whole else _ZERO
            weighted += products(advance(e, at), advance(g, at), count, more)
        factor, mean = number(1.0 / total), number(weighted / total)
        gradients(e, g, y, vectors, factor, mean)
        if rest:
            at, made = vectors * vector_bytes, end()
            gradients(advance(e, at), advance(g, at), made, _ONE, factor, mean)
            copy_bytes(advance(y, vectors * _VECTOR * size), made, rest * size)

    signature = types.void(POINTER, POINTER, POINTER, U64, types.float64)
    return routine(f"softmax-gradient-{name}", run, signature)
