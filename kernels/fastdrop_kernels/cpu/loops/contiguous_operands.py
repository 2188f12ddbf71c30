"""The contiguous loop for operations that read further arrays, all contiguous as x is.

`kernels` calls `operands_loop`. Whole groups are drawn and applied in registers, as in
`contiguous`; incomplete ones at the ends go through the mask buffer, as in `operands`. Code is
compiled for each operation, and four vectors of it, so only for those that `Operation.in_registers`
names.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, intrinsic, pointer_at, prefetch, scratch, wide_vectors
from ..codegen.vectors import I64
from ..elements.operations import Operation, buffer_draw
from ..elements.sampler import (
    GROUP,
    POINTER,
    ROUNDS,
    U64,
    Sampler,
    group_loop,
    load64,
    tie_resolver,
    with_one_high_word,
)
from .apply import AHEAD_BYTES, LINE_BYTES, apply_vector, inputs_from, spread
from .call_descriptor import BUFFER, FIRST, VALUE, loaded
from .contiguous import NONTEMPORAL, PREFETCH
from .mask_buffer import buffer_routine
from .nontemporal import nontemporal_operands_loop
from .tiles import put_side, tile_loop

_GROUP = np.uint64(GROUP)
_ZERO, _ONE, _EIGHT = (np.uint64(n) for n in (0, 1, 8))


def _groups(operation: Operation, access: str) -> Any:
    """Intrinsic ``(inputs, done, y, block, count, call)``: `count` whole groups, from a block on.

    Copying the inputs between the rounds, as `contiguous` does with its one, is slower here: 1 Mi
    float64 0.42 to 0.53 ns an element, float32 0.166 to 0.178; 16 Mi 0.54 to 0.65 and 0.27 to 0.28.
    Twice or half the prefetch distance, and none for the output, change less than 3% from 4 Mi on
    (`masked_fill` from an array, one thread, Zen 5, busy, November 2026).

    `inputs` points to the addresses of x and the operands, of which `done` elements are skipped.
    All block numbers must have the same high word.
    """
    kinds = operation.source, *operation.operands
    lines = []
    for side, storage in enumerate((*kinds, operation.target)):
        if access == PREFETCH:
            lines += [(side, at) for at in range(0, GROUP * storage.bits // 8, LINE_BYTES)]

    @intrinsic
    def groups(
        typingctx: Any, inputs: Any, done: Any, y: Any, block: Any, count: Any, call: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            inputs, done, y, block, count, call = args
            state = loaded(builder, call)
            sampler = Sampler(builder, state.seed, state.stream, state.threshold)
            parameters = operation.parameters(builder, state.value)
            bases = inputs_from(builder, inputs, kinds, done)
            with group_loop(builder, block, count) as (number, group):
                sides = [
                    builder.gep(p, [builder.mul(number, ir.Constant(I64, GROUP * s.bits // 8))])
                    for p, s in zip((*bases, y), (*kinds, operation.target), strict=True)
                ]

                def between(r: int) -> None:
                    for side, at in spread(lines, ROUNDS - 1, r):
                        writes = side == len(kinds)
                        prefetch(builder, sides[side], at + AHEAD_BYTES[writes], writes)

                for k, kept in enumerate(sampler.decided(group, between, state.place)):
                    n = kept.count
                    operands = [
                        kind.load(builder, side, k * n * kind.bits // 8, n, None)
                        for kind, side in zip(kinds[1:], sides[1:-1], strict=True)
                    ]
                    apply_vector(
                        operation, kept, sides[0], sides[-1], k, n, parameters, None, operands
                    )
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, U64, U64, POINTER), codegen

    return groups


@functools.cache
def operands_loop(operation: Operation, access: str) -> Any:
    """Routine ``(inputs, start, y, n, index, call)``: n elements, with consecutive mask indices.

    `inputs` points to the addresses of x and the operands, whose elements from `start` on are read;
    y is where the first is written, and `index` its mask index. The call state has a mask buffer.
    """
    if access == NONTEMPORAL:
        return nontemporal_operands_loop(operation, operands_loop(operation, PREFETCH))
    tie_resolver()  # the generated code calls it by its symbol
    groups, apply = _groups(operation, access), tile_loop(operation)
    provide = buffer_routine(buffer_draw(operation))
    kinds = operation.source, *operation.operands
    item = np.uint64(operation.target.itemsize)  # that of all inputs, too
    assert all(kind is operation.target for kind in kinds)
    count, sides_scratch = np.uint64(len(kinds)), scratch(16 * len(kinds))

    def run(inputs: Any, start: Any, y: Any, n: Any, index: Any, call: Any) -> None:
        wide_vectors()
        sides, done = sides_scratch(), _ZERO
        while done < n:
            at, left = index + done, n - done
            lane, whole = at % _GROUP, min(left, with_one_high_word(at)) // _GROUP
            to = advance(y, done * item)
            if lane == _ZERO and whole:
                groups(inputs, start + done, to, at // _EIGHT, whole, call)
                done += whole * _GROUP
            else:
                m = min(_GROUP - lane, left)
                provide(at, m, _ZERO, call)
                for k in range(count):
                    address = load64(inputs, _EIGHT * k) + (start + done) * item
                    put_side(sides, k, pointer_at(address), item)
                decision, value = pointer_at(load64(call, BUFFER)), pointer_at(load64(call, VALUE))
                apply(sides, to, decision, at - load64(call, FIRST), m, value)
                done += m

    signature = types.void(POINTER, U64, POINTER, U64, U64, POINTER)
    return routine(f"{operation.name}-contiguous-operands-{access}", run, signature)
