"""What `selection` does with vectors of uniforms: count, find the nearest, mark, gather, rank.

Each is an intrinsic, for kernels that have `wide_vectors`. Uniforms are 32-bit integers in memory,
and are read in whole vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.intrinsics import intrinsic
from ..codegen.target import IS_X86_64, MASKS, VECTOR_BYTES
from ..codegen.vectors import I8, I32, I64, Lanes, iota, load, select, store
from ..elements.sampler import POINTER, U64

SLACK = 4 * VECTOR_BYTES  # bytes behind the last uniform that are read, and not used
MARKED = VECTOR_BYTES  # elements whose mask is written at once: a register of bytes
LANES = 16  # of a vector that is compressed
GATHERED = 4096  # uniforms that `gather` copies at most
RANKED = 64  # uniforms that `largest_in` ranks at most
HAS_COMPRESS = MASKS and IS_X86_64  # instructions of AVX-512
NONE = np.uint64(0xFFFFFFFFFFFFFFFF)
_COUNTED = VECTOR_BYTES // 2  # uniforms that are counted at once: two registers, two sums


def each_vector(builder: Any, n: Any, lanes: int, body: Any) -> None:
    """Call ``body(first, exists)`` in a loop over vectors of elements, and for the last elements.

    `first` is the number of a vector's first element, `exists` None or which lanes there are.
    """
    whole = builder.and_(n, ir.Constant(I64, -lanes))
    with cgutils.for_range_slice(
        builder, ir.Constant(I64, 0), whole, ir.Constant(I64, lanes), inc=True
    ) as (first, _):
        body(first, None)
    rest = builder.sub(n, whole)
    with builder.if_then(builder.icmp_unsigned("!=", rest, ir.Constant(I64, 0))):
        body(whole, iota(builder, I32, lanes) < narrow(builder, rest, lanes))


def uniforms_at(builder: Any, u: Any, first: Any, lanes: int) -> Lanes:
    """Load a vector of uniforms, from the first one on; 0 lanes are a scalar."""
    here = builder.gep(u, [builder.shl(first, ir.Constant(I64, 2))])
    return load(builder, here, 0, I32, lanes)


def narrow(builder: Any, threshold: Any, lanes: int) -> Lanes:
    """Broadcast a uint64 below ``2**32`` as 32-bit lanes."""
    return Lanes(builder, builder.trunc(threshold, I32)).broadcast(lanes)


def _reduced(vector: Lanes, how: str) -> Any:
    """Return the sum, least or largest lane ("add", "umin", "umax"), as a uint64."""
    ty = vector.value.type
    name = f"llvm.vector.reduce.{how}.v{vector.count}i32"
    fnty = ir.FunctionType(I32, [ty])
    reduce = cgutils.get_or_insert_function(vector.builder.module, fnty, name)
    return vector.builder.zext(vector.builder.call(reduce, [vector.value]), I64)


@intrinsic
def count_from(typingctx: Any, u: Any, n: Any, threshold: Any) -> Any:
    """Count the uniforms that are at least a threshold, below ``2**32``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, threshold = args
        least = narrow(builder, threshold, _COUNTED)
        nothing = Lanes(builder, ir.Constant(I32, 0)).broadcast(_COUNTED)
        sums = cgutils.alloca_once_value(builder, nothing.value)

        def add(first: Any, exists: Lanes | None) -> None:
            reached = uniforms_at(builder, u, first, _COUNTED) >= least
            if exists is not None:
                reached = reached & exists
            before = Lanes(builder, builder.load(sums))
            builder.store(select(reached, before + 1, before).value, sums)

        each_vector(builder, n, _COUNTED, add)
        return _reduced(Lanes(builder, builder.load(sums)), "add")

    return U64(POINTER, U64, U64), codegen


@intrinsic
def nearest(typingctx: Any, u: Any, n: Any, threshold: Any) -> Any:
    """Find the least uniform that is at least a threshold, and the largest below it.

    They are the high and the low half of the result; 0xFFFFFFFF and 0 if there is none.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, threshold = args
        bound = narrow(builder, threshold, _COUNTED)
        lowest = Lanes(builder, ir.Constant(I32, 0)).broadcast(_COUNTED)
        above = cgutils.alloca_once_value(builder, (~lowest).value)
        below = cgutils.alloca_once_value(builder, lowest.value)

        def take(first: Any, exists: Lanes | None) -> None:
            uniform = uniforms_at(builder, u, first, _COUNTED)
            reached, short = uniform >= bound, uniform < bound
            if exists is not None:
                reached, short = reached & exists, short & exists
            least, most = (Lanes(builder, builder.load(place)) for place in (above, below))
            nearer = select(reached, uniform, least.constant(0xFFFFFFFF))
            builder.store(select(nearer < least, nearer, least).value, above)
            nearer = select(short, uniform, 0)
            builder.store(select(nearer > most, nearer, most).value, below)

        each_vector(builder, n, _COUNTED, take)
        least = _reduced(Lanes(builder, builder.load(above)), "umin")
        most = _reduced(Lanes(builder, builder.load(below)), "umax")
        return builder.or_(builder.shl(least, ir.Constant(I64, 32)), most)

    return U64(POINTER, U64, U64), codegen


@intrinsic
def mark_from(typingctx: Any, u: Any, n: Any, threshold: Any, y: Any, end: Any) -> Any:
    """Write to y, a byte for each element, whether its uniform is at least a threshold.

    Without masked stores, the last elements are written to `end`, for a caller to copy.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, threshold, y, end = args
        least = narrow(builder, threshold, MARKED)

        def write(first: Any, exists: Lanes | None) -> None:
            reached = uniforms_at(builder, u, first, MARKED) >= least
            here = builder.gep(y, [first]) if exists is None or MASKS else end
            store(reached.convert(I8), here, 0, exists if MASKS else None)

        each_vector(builder, n, MARKED, write)
        return context.get_dummy_value()

    return types.void(POINTER, U64, U64, POINTER, POINTER), codegen


def _ranks(builder: Any, u: Any, n: Any, lanes: int) -> tuple[Lanes, Lanes]:
    """Return a vector of uniforms, and how many of the first n are larger than each."""
    uniform = load(builder, u, 0, I32, lanes)
    nothing = Lanes(builder, ir.Constant(I32, 0)).broadcast(lanes)
    larger = cgutils.alloca_once_value(builder, nothing.value)
    with cgutils.for_range(builder, n) as loop:
        other = uniforms_at(builder, u, loop.index, 0).broadcast(lanes)
        before = Lanes(builder, builder.load(larger))
        builder.store(select(other > uniform, before + 1, before).value, larger)
    return uniform, Lanes(builder, builder.load(larger))


def rank_in(lanes: int) -> Any:
    """Make ``rank(uniforms, n, k, y, end)`` for rows of up to so many elements.

    It writes the mask to y, without masked stores to `end`, for a caller to copy; and returns how
    many elements are kept: those for which fewer than k uniforms are larger. They are more than k
    where equal uniforms are in the way.
    """

    @intrinsic
    def rank(typingctx: Any, u: Any, n: Any, k: Any, y: Any, end: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            u, n, k, y, end = args
            _, ranks = _ranks(builder, u, n, lanes)
            exists = iota(builder, I32, lanes) < narrow(builder, n, lanes)
            kept = (ranks < narrow(builder, k, lanes)) & exists
            store(kept.convert(I8), y if MASKS else end, 0, exists if MASKS else None)
            number = builder.ctpop(kept.as_integer().value)
            return builder.zext(number, I64)

        return U64(POINTER, U64, U64, POINTER, POINTER), codegen

    return rank


def moved(what: str, vector: Lanes, where: Lanes, otherwise: Lanes) -> Lanes:
    """Compress the lanes that `where` holds for, or expand the first lanes to these; AVX-512."""
    ty, builder = vector.value.type, vector.builder
    arguments = [vector.value, otherwise.value, where.value]
    fnty = ir.FunctionType(ty, [argument.type for argument in arguments])
    name = f"llvm.x86.avx512.mask.{what}.v16i32"
    move = cgutils.get_or_insert_function(builder.module, fnty, name)
    return vector.with_value(builder.call(move, arguments))


@intrinsic
def gather(typingctx: Any, u: Any, n: Any, low: Any, high: Any, found: Any) -> Any:
    """Copy the uniforms in [low, high) to `found`, and zeros behind them; with AVX-512.

    Returns how many they are, and in the high half how many uniforms are at least `high`. The first
    `GATHERED` have room.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, low, high, found = args
        least, bound = (narrow(builder, t, LANES) for t in (low, high))
        zero = ir.Constant(I64, 0)
        none = iota(builder, I32, LANES).constant(0)
        above, inside = (cgutils.alloca_once_value(builder, zero) for _ in range(2))

        def place(number: Any) -> Any:
            most = ir.Constant(I64, GATHERED)
            bounded = builder.select(builder.icmp_unsigned("<", number, most), number, most)
            return builder.gep(found, [builder.shl(bounded, ir.Constant(I64, 2))])

        def take(first: Any, exists: Lanes | None) -> None:
            uniform = uniforms_at(builder, u, first, LANES)
            beyond, reached = uniform >= bound, uniform >= least
            if exists is not None:
                beyond, reached = beyond & exists, reached & exists
            wanted = reached & ~beyond
            number = builder.load(inside)
            store(moved("compress", uniform, wanted, none), place(number), 0)
            for where, total in ((beyond, above), (wanted, inside)):
                more = builder.zext(builder.ctpop(where.as_integer().value), I64)
                builder.store(builder.add(builder.load(total), more), total)

        each_vector(builder, n, LANES, take)
        behind = place(builder.load(inside))
        for k in range(RANKED // LANES):
            store(none, behind, 4 * LANES * k)
        upper = builder.shl(builder.load(above), ir.Constant(I64, 32))
        return builder.or_(upper, builder.load(inside))

    return U64(POINTER, U64, U64, U64, POINTER), codegen


def largest_in(lanes: int) -> Any:
    """Make ``find(uniforms, k)``: the k-th largest of up to so many uniforms, with zeros behind.

    It is `NONE` if it is not the only one, and so no threshold that k uniforms reach.
    """

    @intrinsic
    def find(typingctx: Any, u: Any, k: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            u, k = args
            uniform, ranks = _ranks(builder, u, ir.Constant(I64, lanes), lanes)
            chosen = ranks < narrow(builder, k, lanes)
            number = builder.ctpop(chosen.as_integer().value)
            if lanes < 64:
                number = builder.zext(number, I64)
            least = _reduced(select(chosen, uniform, 0xFFFFFFFF), "umin")
            unique = builder.icmp_unsigned("==", number, k)
            return builder.select(unique, least, ir.Constant(I64, -1))

        return U64(POINTER, U64), codegen

    return find


ranked32, ranked64 = largest_in(32), largest_in(RANKED)
