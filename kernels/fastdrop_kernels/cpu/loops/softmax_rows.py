"""Softmax over contiguous rows: exponentials and their sum, and the gradient, in several passes.

The kernels in `softmax` call this for each row; it calls `elements.math`. A row is read as vectors;
the rest at its end is copied and padded with elements that do not change the result. Sums are made
in `LANES` lanes, which are added pairwise, and those of parts of a row are added in float64. So the
order depends on the row's length only, not on the processor: if `VECTOR` is less than `LANES`, a
part is read once for each group of lanes.
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

# Every processor adds element k to lane k % LANES; another number would give other sums.
LANES = 32
VECTOR = DRAWS  # elements that are computed at once; a group of lanes in what follows
_GROUPS = LANES // VECTOR
_LANES, _VECTOR = np.uint64(LANES), np.uint64(VECTOR)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
# Elements of a part that are added in one lane; at the end of a row, one more. So a float32 sum has
# at most 65 terms and 64 rounding errors.
_PART = np.uint64(64)

Vectors: TypeAlias = Callable[[Any], Lanes]  # (index) -> that vector


def number_type(kind: Storage) -> Any:
    """Return Numba's type of the numbers that a storage type is computed in."""
    return types.float64 if computed_in(kind) is FLOAT64 else types.float32


def _element(kind: Storage) -> Any:
    return DOUBLE if computed_in(kind) is FLOAT64 else FLOAT


def _vectors(builder: Any, kind: Storage, memory: Any) -> Vectors:
    """Return a function that loads a vector of a row, its lanes in the order of memory."""
    size = ir.Constant(I64, VECTOR * kind.itemsize)

    def at(index: Any) -> Lanes:
        place = builder.gep(memory, [builder.mul(index, size)])
        return kind.natural(kind.load(builder, place, 0, VECTOR, None))

    return at


def _storing(builder: Any, kind: Storage, memory: Any) -> Callable[[Any, Lanes], None]:
    """Return a function that rounds and stores a vector, its lanes in the order of memory."""
    size = ir.Constant(I64, VECTOR * kind.itemsize)
    all_of_them = Lanes(builder, ir.Constant(BIT, 1)).broadcast(VECTOR)

    def store_at(index: Any, numbers: Lanes) -> None:
        place = builder.gep(memory, [builder.mul(index, size)])
        kind.store(all_of_them, kind.arranged(numbers), 0, place, 0, None)

    return store_at


def _reduced(numbers: Lanes, both: Callable[[Lanes, Lanes], Lanes]) -> Lanes:
    """Reduce the lanes of a vector to one number, by halves."""
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
    """Reduce `count` vectors lane by lane, from `start` on."""
    memory = scratch_in(builder, VECTOR * (8 if start.element == DOUBLE else 4))
    store(start, memory, 0)
    with cgutils.for_range(builder, count) as loop:
        so_far = load(builder, memory, 0, start.element, VECTOR)
        store(both(so_far, each(loop.index)), memory, 0)
    return load(builder, memory, 0, start.element, VECTOR)


def _summed(
    builder: Any, kind: Storage, count: Any, rest: Any, each: Vectors, last: Vectors
) -> Any:
    """Return the sum in float64 of `count` times `LANES` numbers and of `rest` more vectors.

    ``each(index)`` returns a vector of the former, ``last(index)`` one of the `rest`, which are at
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
    # The rest is added in the same loop with two groups, in a separate one with four: 0.94 of the
    # time of the reverse for 7 float32 with AVX2, and 1,030 float16 without (Zen 5, 2026-11).
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
    # For a row of one vector, only the first group: the others are +0.0, and no sum is -0.0.
    one, made = builder.icmp_unsigned("==", rest, ir.Constant(I64, 1)), scratch_in(builder, 8)
    with builder.if_else(builder.and_(builder.not_(some), one)) as (if_short, if_long):
        for branch, lanes in ((if_short, VECTOR), (if_long, LANES)):
            with branch:
                store(reduced(lanes), made, 0)
    return _in_float64(load(builder, made, 0, nothing.element, 0))


def _larger(a: Lanes, b: Lanes) -> Lanes:
    return select(b > a, b, a)  # a NaN is never larger; it shows in the sum


def _sum(a: Lanes, b: Lanes) -> Lanes:
    return a + b


def _in_float64(number: Lanes) -> Any:
    return (number if number.element == DOUBLE else number.convert(DOUBLE)).value


def _zeros(builder: Any, kind: Storage) -> Lanes:
    return Lanes(builder, ir.Constant(_element(kind), 0.0)).broadcast(VECTOR)


def filled(kind: Storage, number: float) -> Any:
    """Intrinsic ``(memory)``: store a vector whose elements are all one number."""

    @intrinsic
    def fill(typingctx: Any, memory: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            numbers = _zeros(builder, kind).constant(number)
            _storing(builder, kind, args[0])(ir.Constant(I64, 0), numbers)
            return context.get_dummy_value()

        return types.void(POINTER), codegen

    return fill


def _largest(kind: Storage) -> Any:
    """Intrinsic ``(x, count, more) -> largest`` of `count` vectors at x and one at `more`."""

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
    """Intrinsic ``(x, more, e, count, rest, top) -> sum`` of ``exp(x - top)``, stored at e.

    The last `rest` vectors (see `_summed`) are read at `more`.
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
    """Routine ``(x, e, n) -> sum`` of ``exp(x - largest x)`` of n elements, stored at e.

    e must have room for whole vectors of the compute type; zeros are stored after the n-th number.
    If all x are -inf, the sum and all of e are 0.
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
            top = number(0.0)  # -inf - 0 is -inf, where -inf - -inf would be NaN
        total = 0.0
        for k in range(_ZERO, max(whole, _ONE), _PART):
            count = min(_PART, whole - k)
            vectors = _vectors_of(rest) if k + count == whole else _ZERO
            here, made = advance(x, k * in_bytes), advance(e, k * out_bytes)
            total += powers(here, more, made, count, vectors, top)
        return total

    return routine(f"exponentials-{name}", run, types.float64(POINTER, POINTER, U64))


def _products(kind: Storage) -> Any:
    """Intrinsic ``(e, g, count, rest) -> sum`` of e * g; see `_summed`."""

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
    """Intrinsic ``(e, g, y, count, factor, mean)``: ``e * factor * (g - mean)``, stored at y."""

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
    """Routine ``(e, g, y, n, sum)``: the gradient of a softmax, stored at y.

    e and sum are those of `exponentials`. g is the gradient of the softmax, with room as at e; what
    follows its n-th number is overwritten. With ``s = e / sum``, y is ``s * (g - sum of (g * s))``;
    if the sum is 0, y is 0 for any g.
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
