"""Nontemporal stores: whole cache lines of output that bypass the caches, for large arrays.

An ordinary store makes the processor read a cache line before it is overwritten. A nontemporal one
must write a whole line at once, and cache lines of y do not begin where groups of draws do. So one
permutation in registers combines the draws of two neighbouring vectors into those of a line. They
become keep bits, which wait until the next group is drawn; the elements are written between its
rounds. `contiguous` calls `nontemporal_loop`, and `contiguous_operands` the loop of several inputs;
they call `elements.sampler` and `apply`.

Times on a Zen 5 of two cores (32 MiB of L3), November 2026: medians of 40 fresh processes, one
thread, 16 Mi elements, as times np.multiply, and those of ordinary stores (20 processes): float32
0.82 and 1.08; float64 1.02 and 1.29; float16 1.65 and 1.85 (float32 multiplied). No process took
over 1.13 times the median, and over 160 stack depths (16 MiB) no call took over 1.15 times it. On
two threads 0.74 to 0.90 of the time of ordinary stores, for float16 too.

With a second input, 16 Mi, one thread, ms, and those of ordinary stores (Zen 5, November 2026):
`masked_fill` from an array float32 4.1 (6.6), float64 12.5 (13.9), float16 1.9 (2.9), where np.add
of both arrays takes 4.7 and 10.0; 4 Mi float32 0.80 (1.44). Prefetch distances from 1.2 to 9.6 KiB
change float64 by less than 5%; without prefetches it takes 15.3.

An earlier version assembled cache lines in memory on the stack. It took 0.78 of the time of
ordinary stores on Zen 5 (float32; float64 0.77), 1.3 on Cascade Lake, and on Zen 3 1.0 in the
median of 40 processes, but 3 to 4 in four of them, as long as these ran: that depends on where the
stack is. This version has been timed on Zen 5 only; see `codegen.target` for where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    intrinsic,
    pointer_at,
    prefetch,
    scratch,
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
    load64,
    store64,
    tie_resolver,
)
from .apply import AHEAD_BYTES, LINE_BYTES, apply_vector, inputs_from, sizes, spread
from .call_descriptor import loaded

_GROUP, _LINE = np.uint64(GROUP), np.uint64(LINE_BYTES)
_ZERO, _ONE, _TWO, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 8))
# Philox rounds between which the previous group is written. 16 Mi float32, as times np.multiply:
# four rounds 0.80, all nine 0.85, before the first 0.88. Each round prefetches a few adjacent cache
# lines; if it prefetches every ninth, 0.95 (Zen 5, November 2026).
_WRITE_ROUNDS = 4


def _aligned_groups(operation: Operation) -> Any:
    """Intrinsic ``(inputs, done, y, shift, block, count, call)``: groups by nontemporal stores.

    `count` groups are written. The first begins at `block`; the first element written is `shift`
    elements before the second group. y points to that element, where a cache line begins. `inputs`
    points to the addresses of x and the operands, of which `done` elements are skipped. `shift` is
    less than the number of elements in a cache line.
    """
    kinds = operation.source, *operation.operands
    out_bytes = GROUP * operation.target.bits // 8
    lines = [
        (side, at)
        for side, kind in enumerate(kinds)
        for at in range(0, GROUP * kind.bits // 8, LINE_BYTES)
    ]
    vectors, bit_bytes = range(GROUP // DRAWS), DRAWS // 8

    @intrinsic
    def aligned_groups(
        typingctx: Any,
        inputs: Any,
        done: Any,
        y: Any,
        shift: Any,
        block: Any,
        count: Any,
        call: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            inputs, done, y, shift, block, count, call = args
            bases = inputs_from(builder, inputs, kinds, done)
            state = loaded(builder, call)
            sampler = Sampler(builder, state.seed, state.stream, state.threshold)
            parameters = operation.parameters(builder, state.value)
            begin = Lanes(builder, builder.sub(ir.Constant(I64, DRAWS), shift)).convert(I16)
            # The last draws of a group, and the keep bits of elements that are written while the
            # next group is drawn. LLVM keeps both in registers, but for about three that it spills.
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

            def inputs_at(number: Any) -> list[Any]:
                return [
                    at_group(base, number, GROUP * kind.bits // 8)
                    for base, kind in zip(bases, kinds, strict=True)
                ]

            def write(number: Any, vectors: Iterable[int]) -> None:
                (source, *others), target = inputs_at(number), at_group(y, number, out_bytes)
                first = len(builder.block.instructions)
                for k in vectors:
                    kept = load(builder, bits, k * bit_bytes, I32, 0).bitcast(BIT)
                    operands = [
                        kind.load(builder, other, k * DRAWS * kind.bits // 8, DRAWS, None)
                        for kind, other in zip(kinds[1:], others, strict=True)
                    ]
                    apply_vector(
                        operation, kept, source, target, k, DRAWS, parameters, None, operands
                    )
                make_nontemporal(builder, first)

            with cgutils.for_range(builder, ir.Constant(I64, 2)) as loop:
                draw(loop.index, lambda r: None)
            rest = builder.sub(count, ir.Constant(I64, 1))
            with cgutils.for_range(builder, rest) as loop:
                sources = inputs_at(loop.index)

                def between(r: int) -> None:
                    for side, at in spread(lines, ROUNDS - 1, r):
                        prefetch(builder, sources[side], at + AHEAD_BYTES[0], False)
                    if r < _WRITE_ROUNDS:
                        write(loop.index, spread(vectors, _WRITE_ROUNDS, r))

                draw(builder.add(loop.index, ir.Constant(I64, 2)), between)
            write(rest, vectors)
            store_fence(builder)
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, U64, U64, U64, POINTER), codegen

    return aligned_groups


def nontemporal_operands_loop(operation: Operation, prefetch_loop: Any) -> Any:
    """Routine of `contiguous_operands.operands_loop`; `prefetch_loop` is that of PREFETCH.

    It writes the elements before and after the whole cache lines. Lines of y and groups begin at
    different elements, but at a constant distance, as a group's output is a whole number of lines.
    """
    aligned_groups = _aligned_groups(operation)
    tie_resolver()  # the generated code calls it by its symbol
    _, out_size = sizes(operation)

    def run(inputs: Any, start: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        wide_vectors()
        first = (_ZERO - index) % _GROUP
        begin = address_of(y) + first * out_size
        if n < first + _TWO * _GROUP or begin % out_size:
            prefetch_loop(inputs, start, y, n, index, call)
        else:
            shift, block = begin % _LINE // out_size, (index + first) // _EIGHT
            head, count = first + _GROUP - shift, (n - first) // _GROUP - _ONE
            prefetch_loop(inputs, start, y, head, index, call)
            target = advance(y, head * out_size)
            aligned_groups(inputs, start + head, target, shift, block, count, call)
            done = head + count * _GROUP
            target = advance(y, done * out_size)
            prefetch_loop(inputs, start + done, target, n - done, index + done, call)

    signature = types.void(POINTER, U64, POINTER, U64, U64, POINTER)
    return routine(f"{operation.name}-contiguous-operands-nontemporal", run, signature)


def nontemporal_loop(operation: Operation, prefetch_loop: Any) -> Any:
    """Routine of `contiguous.contiguous_loop`; `prefetch_loop` is that of the policy PREFETCH."""
    in_size, _ = sizes(operation)
    memory = scratch(8)

    @device
    def of_x(inputs: Any, start: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        x = pointer_at(load64(inputs, _ZERO))
        prefetch_loop(advance(x, start * in_size), y, n, index, call)

    several = nontemporal_operands_loop(operation, of_x)

    def run_contiguous(x: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        inputs = memory()
        store64(inputs, _ZERO, address_of(x))
        several(inputs, _ZERO, y, n, index, call)

    signature = types.void(POINTER, POINTER, U64, U64, POINTER)
    return routine(f"{operation.name}-contiguous-nontemporal", run_contiguous, signature)
