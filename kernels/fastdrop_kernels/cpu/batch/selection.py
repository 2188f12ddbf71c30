"""Selection: which elements of a row have the k largest uniforms, and where they are.

`keep` calls `choose`, which writes the mask of a row, and `order`, which lists its positions. The
k-th largest uniform is searched for by counting how many uniforms reach a threshold. They are
uniform, so that each count says where to look next, and some four counts are enough.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    clear_bytes,
    copy_bytes,
    intrinsic,
    pointer_at,
    scratch,
    wide_vectors,
)
from ..codegen.target import IS_X86_64, MASKS, VECTOR_BYTES
from ..codegen.vectors import I8, I32, I64, Lanes, iota, load, select, store
from ..elements.sampler import POINTER, U64, load8, load32, load64, store8, store64
from .draws import outranks

# Uniforms are read in whole vectors: so many bytes behind the last are read and not used.
SLACK = 4 * VECTOR_BYTES
# Short rows, in which each element is compared with each, in vectors of one of these lengths. With
# 64 as well, rows of 64 take as long as by the search (Zen 5, November 2026).
SHORT = (16, 32)
_COUNTED = VECTOR_BYTES // 2  # uniforms that are counted at once: two registers, two sums
_MARKED = VECTOR_BYTES  # elements whose mask is written at once: a register of bytes
_NEWTON = np.uint64(12)  # steps before the search bisects; 5 are usual
# With AVX-512, the uniforms of a bracket are copied, and searched alone: 1 Mi in one row take 0.31
# ms and not 0.55, rows of 196 1.05 times less (Zen 5, November 2026). The bracket reaches so many
# standard deviations to either side.
_DEVIATIONS = 2.5
_GATHERED = 4096  # at most, which is enough for rows of 2 Mi
RANKED = 64  # so few are ranked by comparing each with each
_LANES = 16
_TIE = np.uint64(1 << 63)
_ALL = np.uint64(1 << 32)
_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZERO, _ONE, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 4, 8))
_SHORT, _LONGEST = map(np.uint64, SHORT)
_GATHERED_U64, _FEW, _RANKED_U64 = map(np.uint64, (_GATHERED, 32, RANKED))
_WORD, _WORD_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_MARKED_U64 = np.uint64(_MARKED)
HAS_COMPRESS = MASKS and IS_X86_64


def _each_vector(builder: Any, n: Any, lanes: int, body: Any) -> None:
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
        body(whole, iota(builder, I32, lanes) < _narrow(builder, rest, lanes))


def _uniforms_at(builder: Any, u: Any, first: Any, lanes: int) -> Lanes:
    here = builder.gep(u, [builder.shl(first, ir.Constant(I64, 2))])
    return load(builder, here, 0, I32, lanes)


def _narrow(builder: Any, threshold: Any, lanes: int) -> Lanes:
    return Lanes(builder, builder.trunc(threshold, I32)).broadcast(lanes)


def _reduced(vector: Lanes, how: str) -> Any:
    """Return the sum, least or largest lane ("add", "umin", "umax"), as a uint64."""
    ty = vector.value.type
    name = f"llvm.vector.reduce.{how}.v{vector.count}i32"
    fnty = ir.FunctionType(I32, [ty])
    reduce = cgutils.get_or_insert_function(vector.builder.module, fnty, name)
    return vector.builder.zext(vector.builder.call(reduce, [vector.value]), I64)


@intrinsic
def _count(typingctx: Any, u: Any, n: Any, threshold: Any) -> Any:
    """Count the uniforms that are at least a threshold, below ``2**32``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, threshold = args
        least = _narrow(builder, threshold, _COUNTED)
        nothing = Lanes(builder, ir.Constant(I32, 0)).broadcast(_COUNTED)
        sums = cgutils.alloca_once_value(builder, nothing.value)

        def add(first: Any, exists: Lanes | None) -> None:
            reached = _uniforms_at(builder, u, first, _COUNTED) >= least
            if exists is not None:
                reached = reached & exists
            before = Lanes(builder, builder.load(sums))
            builder.store(select(reached, before + 1, before).value, sums)

        _each_vector(builder, n, _COUNTED, add)
        return _reduced(Lanes(builder, builder.load(sums)), "add")

    return U64(POINTER, U64, U64), codegen


@intrinsic
def _nearest(typingctx: Any, u: Any, n: Any, threshold: Any) -> Any:
    """Find the least uniform that is at least a threshold, and the largest below it.

    They are the high and the low half of the result; 0xFFFFFFFF and 0 if there is none.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, threshold = args
        bound = _narrow(builder, threshold, _COUNTED)
        lowest = Lanes(builder, ir.Constant(I32, 0)).broadcast(_COUNTED)
        above = cgutils.alloca_once_value(builder, (~lowest).value)
        below = cgutils.alloca_once_value(builder, lowest.value)

        def take(first: Any, exists: Lanes | None) -> None:
            uniform = _uniforms_at(builder, u, first, _COUNTED)
            reached, short = uniform >= bound, uniform < bound
            if exists is not None:
                reached, short = reached & exists, short & exists
            least, most = (Lanes(builder, builder.load(place)) for place in (above, below))
            nearer = select(reached, uniform, least.constant(0xFFFFFFFF))
            builder.store(select(nearer < least, nearer, least).value, above)
            nearer = select(short, uniform, 0)
            builder.store(select(nearer > most, nearer, most).value, below)

        _each_vector(builder, n, _COUNTED, take)
        least = _reduced(Lanes(builder, builder.load(above)), "umin")
        most = _reduced(Lanes(builder, builder.load(below)), "umax")
        return builder.or_(builder.shl(least, ir.Constant(I64, 32)), most)

    return U64(POINTER, U64, U64), codegen


@intrinsic
def _mark(typingctx: Any, u: Any, n: Any, threshold: Any, y: Any, end: Any) -> Any:
    """Write to y, a byte for each element, whether its uniform is at least a threshold.

    Without masked stores, the last elements are written to `end`, for a caller to copy.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, threshold, y, end = args
        least = _narrow(builder, threshold, _MARKED)

        def write(first: Any, exists: Lanes | None) -> None:
            reached = _uniforms_at(builder, u, first, _MARKED) >= least
            here = builder.gep(y, [first]) if exists is None or MASKS else end
            store(reached.convert(I8), here, 0, exists if MASKS else None)

        _each_vector(builder, n, _MARKED, write)
        return context.get_dummy_value()

    return types.void(POINTER, U64, U64, POINTER, POINTER), codegen


def _rank_in(lanes: int) -> Any:
    """Make ``rank(uniforms, n, k, y, end)`` for rows of up to so many elements.

    It writes the mask to y, without masked stores to `end`, for a caller to copy; and returns how
    many elements are kept: those for which fewer than k uniforms are larger. They are more than k
    where equal uniforms are in the way.
    """

    @intrinsic
    def rank(typingctx: Any, u: Any, n: Any, k: Any, y: Any, end: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            u, n, k, y, end = args
            uniform = load(builder, u, 0, I32, lanes)
            nothing = Lanes(builder, ir.Constant(I32, 0)).broadcast(lanes)
            larger = cgutils.alloca_once_value(builder, nothing.value)
            with cgutils.for_range(builder, n) as loop:
                other = _uniforms_at(builder, u, loop.index, 0).broadcast(lanes)
                before = Lanes(builder, builder.load(larger))
                builder.store(select(other > uniform, before + 1, before).value, larger)
            ranks = Lanes(builder, builder.load(larger))
            exists = iota(builder, I32, lanes) < _narrow(builder, n, lanes)
            kept = (ranks < _narrow(builder, k, lanes)) & exists
            store(kept.convert(I8), y if MASKS else end, 0, exists if MASKS else None)
            number = builder.ctpop(kept.as_integer().value)
            return builder.zext(number, I64)

        return U64(POINTER, U64, U64, POINTER, POINTER), codegen

    return rank


def _moved(what: str, vector: Lanes, where: Lanes, otherwise: Lanes) -> Lanes:
    """Compress the lanes that `where` holds for, or expand the first lanes to these; AVX-512."""
    ty, builder = vector.value.type, vector.builder
    arguments = [vector.value, otherwise.value, where.value]
    fnty = ir.FunctionType(ty, [argument.type for argument in arguments])
    name = f"llvm.x86.avx512.mask.{what}.v16i32"
    move = cgutils.get_or_insert_function(builder.module, fnty, name)
    return vector.with_value(builder.call(move, arguments))


@intrinsic
def _gather(typingctx: Any, u: Any, n: Any, low: Any, high: Any, found: Any) -> Any:
    """Copy the uniforms in [low, high) to `found`, and zeros behind them; with AVX-512.

    Returns how many they are, and in the high half how many uniforms are at least `high`. The first
    `_GATHERED` have room.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        u, n, low, high, found = args
        least, bound = (_narrow(builder, t, _LANES) for t in (low, high))
        zero = ir.Constant(I64, 0)
        none = iota(builder, I32, _LANES).constant(0)
        above, inside = (cgutils.alloca_once_value(builder, zero) for _ in range(2))

        def place(number: Any) -> Any:
            most = ir.Constant(I64, _GATHERED)
            bounded = builder.select(builder.icmp_unsigned("<", number, most), number, most)
            return builder.gep(found, [builder.shl(bounded, ir.Constant(I64, 2))])

        def take(first: Any, exists: Lanes | None) -> None:
            uniform = _uniforms_at(builder, u, first, _LANES)
            beyond, reached = uniform >= bound, uniform >= least
            if exists is not None:
                beyond, reached = beyond & exists, reached & exists
            wanted = reached & ~beyond
            number = builder.load(inside)
            store(_moved("compress", uniform, wanted, none), place(number), 0)
            for where, total in ((beyond, above), (wanted, inside)):
                more = builder.zext(builder.ctpop(where.as_integer().value), I64)
                builder.store(builder.add(builder.load(total), more), total)

        _each_vector(builder, n, _LANES, take)
        behind = place(builder.load(inside))
        for k in range(RANKED // _LANES):
            store(none, behind, 4 * _LANES * k)
        upper = builder.shl(builder.load(above), ir.Constant(I64, 32))
        return builder.or_(upper, builder.load(inside))

    return U64(POINTER, U64, U64, U64, POINTER), codegen


def _ranked(lanes: int) -> Any:
    """Make ``find(uniforms, k)``: the k-th largest of up to so many uniforms, with zeros behind.

    It is `_NONE` if it is not the only one, and so no threshold that k uniforms reach.
    """

    @intrinsic
    def find(typingctx: Any, u: Any, k: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            u, k = args
            uniform = load(builder, u, 0, I32, lanes)
            nothing = Lanes(builder, ir.Constant(I32, 0)).broadcast(lanes)
            larger = cgutils.alloca_once_value(builder, nothing.value)
            with cgutils.for_range(builder, ir.Constant(I64, lanes)) as loop:
                other = _uniforms_at(builder, u, loop.index, 0).broadcast(lanes)
                before = Lanes(builder, builder.load(larger))
                builder.store(select(other > uniform, before + 1, before).value, larger)
            chosen = Lanes(builder, builder.load(larger)) < _narrow(builder, k, lanes)
            number = builder.ctpop(chosen.as_integer().value)
            if lanes < 64:
                number = builder.zext(number, I64)
            least = _reduced(select(chosen, uniform, 0xFFFFFFFF), "umin")
            unique = builder.icmp_unsigned("==", number, k)
            return builder.select(unique, least, ir.Constant(I64, -1))

        return U64(POINTER, U64), codegen

    return find


_ranked32, _ranked64 = _ranked(32), _ranked(RANKED)

# Byte offsets in what `choose` is given of a row: the key, the mask index of the first element and
# the step to the next; and of `prepare`, the mean distance of uniforms and a bracket in which the
# k-th largest is likely to be.
_SEED, _STREAM, _INDEX, _STEP, _DISTANCE, _LOW, _HIGH = (np.uint64(8 * k) for k in range(7))
row_state = scratch(8 * 7)


@device
def set_row(state: Any, seed: Any, stream: Any, index: Any, step: Any) -> None:
    """Write what `choose` needs of a row to its state."""
    store64(state, _SEED, seed)
    store64(state, _STREAM, stream)
    store64(state, _INDEX, index)
    store64(state, _STEP, step)


@device
def prepare(state: Any, n: Any, k: Any) -> None:
    """Write what `choose` needs for rows of n elements of which k are kept."""
    distance = _ALL // n
    likely = (n - k) * distance
    # The number of uniforms above that is binomial.
    deviation = math.sqrt(float(k) * float(n - k) / float(n))
    width = np.uint64((_DEVIATIONS * deviation + 1.0) * float(distance))
    store64(state, _DISTANCE, distance)
    store64(state, _LOW, max(likely, width + _ONE) - width)
    store64(state, _HIGH, min(likely + width, _WORD))


def _search(u: Any, n: Any, k: Any, distance: Any, low: Any, high: Any) -> Any:
    """Return a threshold that k of n uniforms reach; or their tie, with `_TIE`.

    More than k uniforms reach `low`, and fewer `high`. They are `distance` apart on average. With
    `_TIE`, more than k uniforms are at least the result, and fewer than k above it.
    """
    threshold, steps = low + (high - low) // n * (n - k), _ZERO
    while True:
        threshold = max(low + _ONE, min(threshold, high - _ONE))
        count = _count(u, n, threshold)
        if count == k:
            return threshold
        if count > k:
            low = threshold
        else:
            high = threshold
        if high - low == _ONE:
            return low | _TIE
        steps += _ONE
        if count == k + _ONE:
            threshold = (_nearest(u, n, threshold) >> _WORD_BITS) + _ONE
        elif count + _ONE == k:
            threshold = _nearest(u, n, threshold) & _WORD
        elif steps > _NEWTON:
            threshold = low + ((high - low) >> _ONE)
        elif count > k:
            threshold += (count - k) * distance
        else:
            threshold -= min(threshold, (k - count) * distance)


@functools.cache
@shielded
def choose() -> Any:
    """Routine ``(uniforms, n, k, y, state)``: write the mask of a row, in bytes.

    `SLACK` bytes behind the uniforms can be read. The state is a `row_state` after `prepare` and
    `set_row`.
    """
    search, is_first = device(_search), outranks()
    rank16, rank32 = map(_rank_in, SHORT)
    end_memory, found_memory = scratch(max(_MARKED, *SHORT)), scratch(4 * _GATHERED + SLACK)

    @device
    def mark(u: Any, n: Any, threshold: Any, y: Any, end: Any) -> None:
        _mark(u, n, threshold, y, end)
        if not MASKS:
            rest = n % _MARKED_U64
            copy_bytes(advance(y, n - rest), end, rest)

    @device
    def threshold_of(u: Any, n: Any, k: Any, state: Any, found: Any) -> Any:
        """Return what `search` does; with AVX-512 among the uniforms of the bracket."""
        distance = load64(state, _DISTANCE)
        if HAS_COMPRESS:
            low, high = load64(state, _LOW), load64(state, _HIGH)
            counts = _gather(u, n, low, high, found)
            above, inside = counts >> _WORD_BITS, counts & _WORD
            if above < k and k < above + inside and inside <= _GATHERED_U64:
                rest, threshold = k - above, _NONE
                if inside <= _FEW:
                    threshold = _ranked32(found, rest)
                elif inside <= _RANKED_U64:
                    threshold = _ranked64(found, rest)
                else:
                    return search(found, inside, rest, distance, low, high)
                if threshold != _NONE:
                    return threshold
        return search(u, n, k, distance, _ZERO, _ALL)

    def best(u: Any, n: Any, tie: Any, state: Any, before: Any) -> Any:
        """Return the first in rank of the elements that tie, among those behind `before`."""
        seed, stream = load64(state, _SEED), load64(state, _STREAM)
        index, step, found = load64(state, _INDEX), load64(state, _STEP), _NONE
        for j in range(n):
            if np.uint64(load32(u, _FOUR * j)) == tie:
                at = index + j * step
                if before != _NONE and (at == before or is_first(seed, stream, before, at) == 0):
                    continue
                if found == _NONE or is_first(seed, stream, at, found) != 0:
                    found = at
        return found

    best_of_tie = device(best)

    def run(u: Any, n: Any, k: Any, y: Any, state: Any) -> None:
        wide_vectors()
        if k == _ZERO:
            clear_bytes(y, n)
            return
        if k == n:
            for j in range(n):
                store8(y, j, types.uint8(1))
            return
        end = end_memory()
        if n <= _LONGEST:
            if n <= _SHORT:
                count = rank16(u, n, k, y, end)
            else:
                count = rank32(u, n, k, y, end)
            if not MASKS:
                copy_bytes(y, end, n)
            if count == k:
                return
        threshold = threshold_of(u, n, k, state, found_memory())
        if threshold < _TIE:
            mark(u, n, threshold, y, end)
            return
        tie, kept = threshold ^ _TIE, _ZERO
        for j in range(n):
            larger = np.uint64(load32(u, _FOUR * j)) > tie
            store8(y, j, types.uint8(larger))
            kept += np.uint64(larger)
        last, index, step = _NONE, load64(state, _INDEX), load64(state, _STEP)
        while kept < k:
            last = best_of_tie(u, n, tie, state, last)
            store8(y, (last - index) // step, types.uint8(1))
            kept += _ONE

    return routine("choose", run, types.void(POINTER, U64, U64, POINTER, POINTER))


@intrinsic
def _list_positions(
    typingctx: Any, y: Any, n: Any, k: Any, kept: Any, dropped: Any, restore: Any
) -> Any:
    """List the positions of a mask with AVX-512; see `order`."""
    lanes = _LANES

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
                found = _moved("compress", positions, where, none).convert(I64)
                store(found, at(target, place), 0, numbers < count)
                spread = numbers + Lanes(builder, builder.trunc(rank, I32))
                ranks = _moved("expand", spread, where, ranks)
                if where is mask:
                    builder.store(builder.add(before, builder.zext(number, I64)), counted)
            store(ranks.convert(I64), at(restore, first), 0, exists)

        _each_vector(builder, n, lanes, write)
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
