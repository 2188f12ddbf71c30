"""Rows: what a softmax needs of a whole row of neighbours, pass by pass, while it is in the cache.

A row is read as vectors; what is left at its end is copied into one more, filled up with elements
that change nothing. Sums are made lane by lane, and from part to part in float64, always in the
same order: they depend on nothing but the row.
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

from .bits import HALVES, POINTER, U64
from .compiler import routine
from .elementary import faded
from .intrinsics import advance, copy_bytes, intrinsic, scratch, scratch_in, wide_vectors
from .lanes import BIT, DOUBLE, FLOAT, I64, Lanes, load, select, store
from .storage import FLOAT32, FLOAT64, Storage

VECTOR = HALVES  # elements
_VECTOR = np.uint64(VECTOR)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
# Vectors that are summed lane by lane: a float32 sum of 64 terms is off by 64 roundings at most.
_PART = np.uint64(64)

Vectors: TypeAlias = Callable[[Any], Lanes]  # (index) -> that vector


def computed(kind: Storage) -> Storage:
    """Return what elements of a type are computed in."""
    return FLOAT64 if kind is FLOAT64 else FLOAT32


def number_type(kind: Storage) -> Any:
    """Return the type of a number that is computed with, as Numba knows it."""
    return types.float64 if computed(kind) is FLOAT64 else types.float32


def _element(kind: Storage) -> Any:
    return DOUBLE if computed(kind) is FLOAT64 else FLOAT


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
    all_of_them = Lanes(builder, ir.Constant(BIT, 1)).repeated(VECTOR)

    def store_at(index: Any, numbers: Lanes) -> None:
        place = builder.gep(memory, [builder.mul(index, size)])
        kind.store(all_of_them, kind.arranged(numbers), 0, place, 0, None)

    return store_at


def _reduced(numbers: Lanes, both: Callable[[Lanes, Lanes], Lanes]) -> Lanes:
    """Return one number of all lanes of a vector, halved until there is one."""
    while numbers.count > 1:
        numbers = both(*numbers.parted())
    return numbers.made(numbers.builder.extract_element(numbers.value, ir.Constant(I64, 0)))


def _gathered(
    builder: Any,
    count: Any,
    start: Lanes,
    both: Callable[[Lanes, Lanes], Lanes],
    each: Vectors,
) -> Lanes:
    """Put vectors together lane by lane, and then the lanes."""
    memory = scratch_in(builder, VECTOR * (8 if start.element == DOUBLE else 4))
    store(start, memory, 0)
    with cgutils.for_range(builder, count) as loop:
        so_far = load(builder, memory, 0, start.element, VECTOR)
        store(both(so_far, each(loop.index)), memory, 0)
    return _reduced(load(builder, memory, 0, start.element, VECTOR), both)


def _larger(a: Lanes, b: Lanes) -> Lanes:
    return select(b > a, b, a)  # a NaN is never larger; the sum tells of it


def _sum(a: Lanes, b: Lanes) -> Lanes:
    return a + b


def _in_float64(number: Lanes) -> Any:
    return (number if number.element == DOUBLE else number.converted(DOUBLE)).value


def _zeros(builder: Any, kind: Storage) -> Lanes:
    return Lanes(builder, ir.Constant(_element(kind), 0.0)).repeated(VECTOR)


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
            return _gathered(builder, count, first, _larger, _vectors(builder, kind, x)).value

        return number_type(kind)(POINTER, U64, POINTER), codegen

    return largest


def _powers(kind: Storage) -> Any:
    """Intrinsic ``(x, e, count, top) -> sum`` of ``exp(x - top)``, which goes to e."""

    @intrinsic
    def powers(typingctx: Any, x: Any, e: Any, count: Any, top: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, e, count, top = args
            given, write = _vectors(builder, kind, x), _storing(builder, computed(kind), e)
            largest = Lanes(builder, top)

            def each(index: Any) -> Lanes:
                power = faded(given(index) - largest)
                write(index, power)
                return power

            return _in_float64(_gathered(builder, count, _zeros(builder, kind), _sum, each))

        return types.float64(POINTER, POINTER, U64, number_type(kind)), codegen

    return powers


@functools.cache
def exponentials(name: str, kind: Storage) -> Any:
    """Routine ``(x, e, n) -> sum`` of ``exp(x - largest x)`` of n elements, which goes to e.

    At e there is room for whole vectors of what is computed with; behind the n-th, they are made
    zeros.
    """
    size = np.uint64(kind.itemsize)
    in_bytes, out_bytes = np.uint64(VECTOR) * size, np.uint64(VECTOR * computed(kind).itemsize)
    largest, powers, fill = _largest(kind), _powers(kind), filled(kind, -math.inf)
    end = scratch(VECTOR * kind.itemsize)

    def run(x: Any, e: Any, n: Any) -> Any:
        wide_vectors()
        more = end()
        fill(more)
        whole, rest = n // _VECTOR, n % _VECTOR
        if rest:
            copy_bytes(more, advance(x, whole * in_bytes), rest * size)
        top = largest(x, whole, more)
        total = 0.0
        for k in range(_ZERO, whole, _PART):
            count = min(_PART, whole - k)
            total += powers(advance(x, k * in_bytes), advance(e, k * out_bytes), count, top)
        if rest:
            total += powers(more, advance(e, whole * out_bytes), _ONE, top)
        return total

    return routine(f"exponentials-{name}", run, types.float64(POINTER, POINTER, U64))


def _products(kind: Storage) -> Any:
    """Intrinsic ``(e, g, count) -> sum`` of their products."""

    @intrinsic
    def products(typingctx: Any, e: Any, g: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, b = (_vectors(builder, computed(kind), memory) for memory in args[:2])
            total = _gathered(
                builder, args[2], _zeros(builder, kind), _sum, lambda index: a(index) * b(index)
            )
            return _in_float64(total)

        return types.float64(POINTER, POINTER, U64), codegen

    return products


def _gradients(kind: Storage) -> Any:
    """Intrinsic ``(e, g, y, count, factor, mean)``: ``e * factor * (g - mean)`` goes to y."""

    @intrinsic
    def gradients(
        typingctx: Any, e: Any, g: Any, y: Any, count: Any, factor: Any, mean: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e, g, y, count, factor, mean = args
            a, b = (_vectors(builder, computed(kind), memory) for memory in (e, g))
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
    what is behind the n-th is lost. Of ``s = e / sum``, y is ``s * (g - sum of (g * s))``.
    """
    number = number_type(kind)
    size = np.uint64(kind.itemsize)
    out_bytes, vector_bytes = (np.uint64(VECTOR * k.itemsize) for k in (kind, computed(kind)))
    element = np.uint64(computed(kind).itemsize)
    products, gradients = _products(kind), _gradients(kind)
    nothing = filled(computed(kind), 0.0)
    zeros, end = scratch(int(vector_bytes)), scratch(int(out_bytes))

    def run(e: Any, g: Any, y: Any, n: Any, total: Any) -> None:
        wide_vectors()
        whole, rest = n // _VECTOR, n % _VECTOR
        if rest:
            clear = zeros()
            nothing(clear)
            copy_bytes(advance(g, n * element), clear, vector_bytes - rest * element)
        weighted = 0.0
        vectors = whole + U64(rest > _ZERO)
        for k in range(_ZERO, vectors, _PART):
            count = min(_PART, vectors - k)
            at = k * vector_bytes
            weighted += products(advance(e, at), advance(g, at), count)
        factor, mean = number(1.0 / total), number(weighted / total)
        gradients(e, g, y, whole, factor, mean)
        if rest:
            at, made = whole * vector_bytes, end()
            gradients(advance(e, at), advance(g, at), made, _ONE, factor, mean)
            copy_bytes(advance(y, whole * out_bytes), made, rest * size)

    signature = types.void(POINTER, POINTER, POINTER, U64, types.float64)
    return routine(f"softmax-gradient-{name}", run, signature)
