"""Nontemporal stores: whole cache lines of output, past the caches, for arrays larger than these.

An ordinary store makes the processor read a line before it is overwritten. A nontemporal one must
write a whole line at once, and lines of y do not begin where groups of draws do. So a line's keep
bits are made of the draws of two neighbouring vectors, by one permutation in registers, and wait
as bits until the next group is drawn, beside whose rounds the elements are written.

On a Zen 5 of two cores (32 MiB of L3), by 40 fresh processes on one thread, 16 Mi elements, as
times np.multiply, where ordinary stores (20 processes) take the second figure: float32 0.82, 1.08;
float64 1.02, 1.29; float16 1.65, 1.85 (float32 multiplied). None took over 1.13 times the median,
and no call more than 1.15 times it over 160 depths of the stack (16 MiB). On two threads 0.74 to
0.90 of the time of ordinary stores, float16 too.

Before, lines were put together in memory on the stack. That gave on Zen 5 0.78 of the time of
ordinary stores (float32; float64 0.77), on Cascade Lake 1.3, and on Zen 3 1.0 in the median of 40
processes, but 3 to 4 in four of them, for as long as these lived: it depends on where the stack
lies. These stores from registers have been timed on no other processor than Zen 5; see `target`
for where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    intrinsic,
    prefetch,
    scratch_in,
    store_fence,
    wide_vectors,
)
from ..codegen.target import VECTOR_BYTES
from ..codegen.vectors import BIT, I16, I32, I64, Lanes, align_lanes, load, make_nontemporal, store
from ..elements.operations import Operation
from ..elements.sampler import (
    DRAWS,
    GROUP,
    POINTER,
    ROUNDS,
    U64,
    Between,
    Sampler,
    group_at,
    tie_resolver,
)
from .apply import AHEAD_BYTES, LINE_BYTES, apply_vector, sizes, spread
from .call_descriptor import loaded

_GROUP, _LINE = np.uint64(GROUP), np.uint64(LINE_BYTES)
_ZERO, _ONE, _TWO, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 8))
# Rounds of Philox beside which the group before is written. Of 16 Mi float32, as times np.multiply:
# four 0.80, all nine 0.85, before the first 0.88. Lines are asked for a few at each round, in their
# order: if each round asks for every ninth, 0.95.
_WRITE_ROUNDS = 4


def _aligned_groups(operation: Operation) -> Any:
    """Intrinsic ``(x, y, shift, block, count, call)``.

    Write the elements of `count` groups, from `shift` elements before the second one on, by
    nontemporal stores. `block` is where the first one begins, x and y point to the first element
    that is written, where a cache line of y begins, and `shift` is less than a line's elements.
    """
    in_bytes, out_bytes = (GROUP * s.bits // 8 for s in (operation.source, operation.target))
    lines = range(0, in_bytes, LINE_BYTES)
    vectors, bit_bytes = range(GROUP // DRAWS), DRAWS // 8

    @intrinsic
    def aligned_groups(
        typingctx: Any, x: Any, y: Any, shift: Any, block: Any, count: Any, call: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, shift, block, count, call = args
            state = loaded(builder, call)
            sampler = Sampler(builder, state.seed, state.stream, state.threshold)
            parameters = operation.parameters(builder, state.value)
            begin = Lanes(builder, builder.sub(ir.Constant(I64, DRAWS), shift)).convert(I16)
            # The last draws of a group, and the keep bits of what is written while the next one is
            # drawn. LLVM holds both in registers, but for three or so, which it spills.
            last = scratch_in(builder, VECTOR_BYTES)
            bits = scratch_in(builder, GROUP // 8)

            def at_group(pointer: Any, number: Any, size: int) -> Any:
                return builder.gep(pointer, [builder.mul(number, ir.Constant(I64, size))])

            def draw(number: Any, between: Between) -> None:
                distance = builder.mul(number, ir.Constant(I64, GROUP // 8))
                group = sampler.group(group_at(builder, builder.add(block, distance)), between)
                before = load(builder, last, 0, I16, DRAWS)
                for k, draws in enumerate(group):
                    kept = align_lanes(before, draws, begin) >= sampler.bound
                    store(kept.as_integer(), bits, k * bit_bytes)
                    before = draws
                store(before, last, 0)

            def write(number: Any, vectors: Iterable[int]) -> None:
                source, target = at_group(x, number, in_bytes), at_group(y, number, out_bytes)
                first = len(builder.block.instructions)
                for k in vectors:
                    kept = load(builder, bits, k * bit_bytes, I32, 0).bitcast(BIT)
                    apply_vector(operation, kept, source, target, k, DRAWS, parameters)
                make_nontemporal(builder, first)

            with cgutils.for_range(builder, ir.Constant(I64, 2)) as loop:
                draw(loop.index, lambda r: None)
            rest = builder.sub(count, ir.Constant(I64, 1))
            with cgutils.for_range(builder, rest) as loop:
                source = at_group(x, loop.index, in_bytes)

                def between(r: int) -> None:
                    for at in spread(lines, ROUNDS - 1, r):
                        prefetch(builder, source, at + AHEAD_BYTES[0], False)
                    if r < _WRITE_ROUNDS:
                        write(loop.index, spread(vectors, _WRITE_ROUNDS, r))

                draw(builder.add(loop.index, ir.Constant(I64, 2)), between)
            write(rest, vectors)
            store_fence(builder)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64, U64, U64, POINTER), codegen

    return aligned_groups


def nontemporal_loop(operation: Operation, far: Any) -> Any:
    """Routine of `contiguous.contiguous_loop`, given the one with prefetches and ordinary stores.

    That one writes what is before and behind the whole lines. Lines of y and groups begin at
    different elements, but always as far apart, as a group's output is a whole number of lines.
    """
    aligned_groups = _aligned_groups(operation)
    tie_resolver()  # known by its symbol
    in_size, out_size = sizes(operation)

    def run_contiguous(x: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        wide_vectors()
        first = (_ZERO - index) % _GROUP
        begin = address_of(y) + first * out_size
        if n < first + _TWO * _GROUP or begin % out_size:
            far(x, y, n, index, call)
        else:
            shift, block = begin % _LINE // out_size, (index + first) // _EIGHT
            head, count = first + _GROUP - shift, (n - first) // _GROUP - _ONE
            far(x, y, head, index, call)
            source, target = advance(x, head * in_size), advance(y, head * out_size)
            aligned_groups(source, target, shift, block, count, call)
            done = head + count * _GROUP
            source, target = advance(x, done * in_size), advance(y, done * out_size)
            far(source, target, n - done, index + done, call)

    signature = types.void(POINTER, POINTER, U64, U64, POINTER)
    return routine(f"{operation.name}-span-nontemporal", run_contiguous, signature)
