"""Contiguous loops: elements that are contiguous in memory and in the mask.

Draws, keep masks and elements of a group are processed in registers. `kernels` and the loops over
rows and tiles call `contiguous_loop`, which calls `elements.sampler` and `apply` for its code.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    cleared,
    copy_bytes,
    intrinsic,
    prefetch,
    scratch,
    scratch_in,
    wide_vectors,
)
from ..codegen.target import IS_X86_64, MASKS, VECTOR_BYTES
from ..codegen.vectors import I16, I64, Lanes, iota, load, store
from ..elements.operations import Operation
from ..elements.sampler import (
    DRAWS,
    GROUP,
    POINTER,
    ROUNDS,
    U64,
    Sampler,
    group_at,
    group_loop,
    load64,
    store64,
    tie_resolver,
    with_one_high_word,
)
from ..elements.storage import BITS, BOOL
from ..elements.threshold_streams import StreamSampler
from .apply import AHEAD_BYTES, LINE_BYTES, apply_vector, bit_copier, sizes
from .apply import spread as spread
from .call_descriptor import PERIOD, PLACE, State, loaded
from .nontemporal import nontemporal_loop

_GROUP = np.uint64(GROUP)
# Packed bits that begin inside a byte are drawn to scratch memory, so many groups at once, and
# copied: 1 Mi in rows of 4,096 at 0.84 of C order's rate; one by one 0.55 (Cascade Lake, 2026-11).
_BITS_GROUPS = 64
_MOST_GROUPS = np.uint64(_BITS_GROUPS)
_ZERO, _ONE, _THREE, _SEVEN, _EIGHT = (np.uint64(n) for n in (0, 1, 3, 7, 8))

# Access policies.
CACHED = "cached"  # arrays are in the caches, or the hardware prefetches them
# The largest output without prefetches. They cost 4% at 256 KiB, save 7% at 384 KiB, and 28% at 512
# KiB, where the L2 cache just holds input and output (float64, Cascade Lake, 2026-11).
CACHED_BYTES = 1 << 18
PREFETCH = "prefetch"  # cache lines are prefetched by instructions
READ = "read"  # those of the input only (see `tiles`)
NONTEMPORAL = "nontemporal"  # and stores bypass the caches (see `nontemporal`); not in place


def _wanted(operation: Operation, access: str) -> list[tuple[int, int]]:
    """Return the cache lines that a group prefetches: 0 (input) or 1 (output), and the offset."""
    wanted = []
    for side, storage in enumerate((operation.source, operation.target)):
        if access == PREFETCH:
            wanted += [(side, at) for at in range(0, GROUP * storage.bits // 8, LINE_BYTES)]
    return wanted


def _memory_for_input(operation: Operation, access: str, builder: Any) -> Any:
    """Allocate memory for a group's input if it is copied there between the rounds; else None.

    It is loaded when the draws are ready. 256 Ki float32 take 1.06 times np.multiply, not 1.35,
    1 Mi 0.99, not 1.07; float64 214 us, not 274, and 1.39 ms, not 1.43. In place it gains nothing.

    CACHED would gain too where arrays begin inside a cache line: 64 Ki float32 in 21.4 us, not
    24.3, as fast as aligned arrays. But bfloat16, in 23.5 and not 24.6, would take 1.09 times as
    long as float32, and must not be slower in the caches. (All on Cascade Lake, November 2026.)
    """
    source = operation.source
    if access == CACHED or operation.needs_uniform or not source.copied:
        return None
    return scratch_in(builder, GROUP * source.bits // 8)


def sampler_of(
    operation: Operation, streams: bool, builder: Any, state: State
) -> Sampler | StreamSampler:
    """Return the sampler: with one threshold for all elements, or with threshold streams."""
    key = builder, state.seed, state.stream
    if streams:
        return StreamSampler(*key, state.streams, state.step)
    return Sampler(*key, state.threshold)


def _factors(
    operation: Operation, sampler: Sampler | StreamSampler, place: Any, k: int, count: int
) -> list[Lanes]:
    """Return the k-th `count` elements' factors from streams, in the input's lane order."""
    return [
        operation.source.arranged(factors)
        for factors in sampler.factors(operation.factor, place, k, count)
    ]


def _paired(vectors: Iterable[Lanes]) -> Iterator[Lanes]:
    """Yield vectors concatenated in pairs."""
    remaining = iter(vectors)
    return (a.concat(b) for a, b in zip(remaining, remaining, strict=True))


def _groups(operation: Operation, access: str, streams: bool) -> Any:
    """Intrinsic ``(x, y, block, count, call)``: `count` whole groups, from a block on.

    All their block numbers must have the same high word.
    """
    in_bytes, out_bytes = (GROUP * s.bits // 8 for s in (operation.source, operation.target))
    wanted = _wanted(operation, access)
    # Narrowing 16-bit lanes to bytes, for packed bits too, takes two vectors as input.
    # With AVX-512, comparisons return bits.
    two_together = operation.target in (BOOL, BITS) and not operation.needs_uniform and not MASKS

    @intrinsic
    def groups(typingctx: Any, x: Any, y: Any, block: Any, count: Any, call: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, block, count, call = args
            state = loaded(builder, call)
            sampler = sampler_of(operation, streams, builder, state)
            parameters = operation.parameters(builder, state.value)
            fetched = _memory_for_input(operation, access, builder)
            next_place = cgutils.alloca_once_value(builder, state.place)
            with group_loop(builder, block, count) as (number, group):

                def behind(pointer: Any, size: int) -> Any:
                    return builder.gep(pointer, [builder.mul(number, ir.Constant(I64, size))])

                sides = behind(x, in_bytes), behind(y, out_bytes)

                def between(r: int) -> None:
                    for side, at in spread(wanted, ROUNDS - 1, r):
                        prefetch(builder, sides[side], at + AHEAD_BYTES[side], side == 1)
                    if fetched:
                        for at in spread(range(0, in_bytes, VECTOR_BYTES), ROUNDS - 1, r):
                            vector = load(builder, sides[0], at, I64, VECTOR_BYTES // 8)
                            store(vector, fetched, at, align=VECTOR_BYTES)

                place = builder.load(next_place)
                # Lazily, so that the code for a vector is complete before that of the next.
                decision: Iterable[Lanes]
                if operation.needs_uniform:
                    decision = map(operation.of_uniform, sampler.uniforms(group, between))
                else:
                    decision = sampler.decided(group, between, place)
                if two_together:
                    decision = _paired(decision)
                source, target = fetched or sides[0], sides[1]
                for k, vector in enumerate(decision):
                    n = vector.count
                    own = _factors(operation, sampler, place, k, n) or parameters
                    apply_vector(operation, vector, source, target, k, n, own)
                if streams:
                    builder.store(_after_group(builder, state, place), next_place)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64, U64, POINTER), codegen

    return groups


def _after_group(builder: Any, state: State, place: Any) -> Any:
    """Return the position in the streams after a group, less a period if it reaches its end."""
    after = builder.add(place, ir.Constant(I64, GROUP))
    over = builder.icmp_signed(">=", after, state.period)
    return builder.select(over, builder.sub(after, state.period), after)


def _part(operation: Operation, access: str, streams: bool) -> Any:
    """Intrinsic ``(x, y, lane, n, block, call)``: n elements of a group.

    They begin at element `lane` of the group at `block`; no others are accessed. All cache lines of
    the group are prefetched: 1 Mi float32 in rows of 4,096 of a wider array have 0.94 of the rate
    of C order, of 1,024 0.80; without these prefetches 0.90 and 0.70 (Cascade Lake, 2026-11).
    """
    wanted = _wanted(operation, access)

    @intrinsic
    def part(typingctx: Any, x: Any, y: Any, lane: Any, n: Any, block: Any, call: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, lane, n, block, call = args
            state = loaded(builder, call)
            sampler = sampler_of(operation, streams, builder, state)
            parameters = operation.parameters(builder, state.value)

            def before(pointer: Any, size: int) -> Any:
                distance = builder.mul(lane, ir.Constant(I64, size))
                return builder.gep(pointer, [builder.neg(distance)])

            source = before(x, operation.source.itemsize)
            target = before(y, operation.target.itemsize)
            begin, length = (Lanes(builder, a).convert(I16) for a in (lane, n))

            def between(r: int) -> None:
                for side, at in spread(wanted, ROUNDS - 1, r):
                    prefetch(builder, (x, y)[side], at + AHEAD_BYTES[side], side == 1)

            place = builder.sub(state.place, lane)
            for k, kept in enumerate(sampler.decided(group_at(builder, block), between, place)):
                there = iota(builder, I16, DRAWS) + k * DRAWS - begin < length
                own = _factors(operation, sampler, place, k, DRAWS) or parameters
                apply_vector(operation, kept, source, target, k, DRAWS, own, there)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64, U64, U64, POINTER), codegen

    return part


# The signature of contiguous loops, (x, y, n, index, call): n elements whose mask indices are
# consecutive from `index` on. The key and the coefficients are in a call state, `call`.
CONTIGUOUS = types.void(POINTER, POINTER, U64, U64, POINTER)


@functools.cache
def contiguous_loop(operation: Operation, access: str, streams: bool = False) -> Any:
    """Routine over contiguous elements, see `CONTIGUOUS`.

    With threshold streams, the call state has their address and the first element's position in
    them (PLACE), which the routine advances.
    """
    if access == CACHED:
        return _cached_loop(operation, streams)
    if operation.target is BITS:  # it reads nothing and writes little
        return contiguous_loop(operation, CACHED, streams)
    if access == NONTEMPORAL:
        return nontemporal_loop(operation, contiguous_loop(operation, PREFETCH))
    if uses_masks(operation):
        return _masked_loop(operation, PREFETCH, streams)
    return _prefetch_loop(operation, streams)


def uses_masks(operation: Operation) -> bool:
    """Whether partial vectors use masked loads and stores, which few processors have."""
    return MASKS and operation.target is not BITS and not operation.needs_uniform


def has_nontemporal(operation: Operation) -> bool:
    """Whether there is a nontemporal loop: where 16-bit draws are compared with one threshold.

    Not for elements of one byte, where drawing takes as long as the memory accesses.
    """
    return uses_masks(operation) and IS_X86_64 and operation.target.bits > 8


def _movers(streams: bool) -> tuple[Any, Any]:
    """Two inlined ``(call, n)``: move the position in threshold streams back by n, and forward."""
    if not streams:

        @device
        def stay(call: Any, n: Any) -> None:
            pass

        return stay, stay

    @device
    def back(call: Any, n: Any) -> None:  # possibly before element 0
        store64(call, PLACE, load64(call, PLACE) - n)

    @device
    def on(call: Any, n: Any) -> None:
        store64(call, PLACE, (load64(call, PLACE) + n) % load64(call, PERIOD))

    return back, on


def _named(operation: Operation, streams: bool) -> str:
    return f"{operation.name}-streams" if streams else operation.name


def _cached_loop(operation: Operation, streams: bool) -> Any:
    tie_resolver()  # the generated code calls it by its symbol
    groups, (back, move) = _groups(operation, CACHED, streams), _movers(streams)
    in_size, out_size = sizes(operation)
    packed = operation.target is BITS
    # `uses_masks` excludes operations that need the uniform: they draw so long that copies cost
    # little, and the masked loop would compile them twice.
    if uses_masks(operation):
        return _masked_loop(operation, CACHED, streams)
    # A partial group is copied to scratch memory, padded with zeros, and results are copied out.
    in_bytes, out_bytes = (GROUP * s.bits // 8 for s in (operation.source, operation.target))
    most = _BITS_GROUPS if packed else 1
    group_in, clear = scratch(in_bytes), cleared(in_bytes)
    group_out = scratch(most * out_bytes + 16)

    @device
    def copy_elements(y: Any, made: Any, lane: Any, m: Any) -> None:
        copy_bytes(y, advance(made, lane * out_size), m * out_size)

    copy_out = bit_copier() if packed else copy_elements

    def run_contiguous(x: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        wide_vectors()
        given, made = group_in(), group_out()
        while n:
            lane = index % _GROUP
            whole = lane == _ZERO and n >= _GROUP
            source, target, m = x, y, n
            count = min(n, with_one_high_word(index)) // _GROUP
            there = whole
            if packed:
                bit = address_of(y)
                target = advance(y, (bit >> _THREE) - bit)
                there = whole and bit & _SEVEN == _ZERO
            if there:
                m = count * _GROUP
            else:
                if whole:
                    count = min(count, _MOST_GROUPS)
                    m = count * _GROUP
                else:
                    count = _ONE
                    m = min(_GROUP - lane, n)
                if in_bytes:
                    clear(given)
                    copy_bytes(advance(given, lane * in_size), x, m * in_size)
                source, target = given, made
            back(call, lane)
            groups(source, target, (index - lane) // _EIGHT, count, call)
            if not there:
                copy_out(y, made, lane, m)
            x, y = advance(x, m * in_size), advance(y, m * out_size)
            move(call, lane + m)
            index += m
            n -= m

    return routine(f"{_named(operation, streams)}-contiguous", run_contiguous, CONTIGUOUS)


def _masked_loop(operation: Operation, access: str, streams: bool) -> Any:
    tie_resolver()  # the generated code calls it by its symbol
    groups, part = _groups(operation, access, streams), _part(operation, access, streams)
    _, move = _movers(streams)
    in_size, out_size = sizes(operation)

    def run_contiguous(x: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        wide_vectors()
        while n:
            lane, m = index % _GROUP, min(n - n % _GROUP, with_one_high_word(index))
            block = (index - lane) // _EIGHT
            if lane or n < _GROUP:
                m = min(_GROUP - lane, n)
                part(x, y, lane, m, block, call)
            else:
                groups(x, y, block, m // _GROUP, call)
            x, y = advance(x, m * in_size), advance(y, m * out_size)
            move(call, m)
            index += m
            n -= m

    return routine(f"{_named(operation, streams)}-contiguous-{access}", run_contiguous, CONTIGUOUS)


def _prefetch_loop(operation: Operation, streams: bool) -> Any:
    cached, groups = (
        contiguous_loop(operation, CACHED, streams),
        _groups(operation, PREFETCH, streams),
    )
    _, move = _movers(streams)
    in_size, out_size = sizes(operation)

    def run_contiguous(x: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        wide_vectors()
        first = min((_ZERO - index) % _GROUP, n)
        cached(x, y, first, index, call)
        done = first
        while n - done >= _GROUP:
            at = index + done
            source, target = advance(x, done * in_size), advance(y, done * out_size)
            count = min(n - done, with_one_high_word(at)) // _GROUP
            groups(source, target, at // _EIGHT, count, call)
            move(call, count * _GROUP)
            done += count * _GROUP
        cached(
            advance(x, done * in_size), advance(y, done * out_size), n - done, index + done, call
        )

    return routine(
        f"{_named(operation, streams)}-contiguous-{PREFETCH}", run_contiguous, CONTIGUOUS
    )
