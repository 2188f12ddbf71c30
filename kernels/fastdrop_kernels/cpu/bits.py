"""Bits: the 16-bit halves of many elements at once, and the rare ties among them settled.

Halves are settled before they are used: where level 0 equals the upper half of the threshold (one
element in 65,536), level 1 decides, and the half is replaced by 0 (drop) or 0xFFFF (keep). After
that one 16-bit comparison with `decision_bound` decides every element exactly. Thresholds here lie
strictly between 0 and 2**32: what is certain needs no bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from .. import contract
from .compiler import INLINED, routine
from .intrinsics import intrinsic, loader, scratch, scratch_in, storer, wide_vectors
from .lanes import I16, I64, Lanes, iota, load, select, store
from .target import REGISTERS, VECTOR_BYTES

U64 = types.uint64
POINTER = types.voidptr

# Philox chains that go round by round in step, each a vector of blocks wide. LLVM keeps the order
# in which it is given them, and a processor looks ahead about as far as one chain is long, so that
# chains one after the other leave the multiplier waiting. Gelem/s of bits on a Cascade Lake, whose
# ports allow 4.7: four in step 3.7; two pairs 3.3; four one after the other 3.0; one 2.7. Each
# takes four registers.
_CHAINS = 4 if REGISTERS == 32 else 2
_BLOCKS = VECTOR_BYTES // 8  # in a vector: a 64-bit lane for each word of the state
HALVES = VECTOR_BYTES // 2  # in a vector
_ROUNDS = 10
# Elements that are drawn together, from a multiple on.
GROUP = _CHAINS * _BLOCKS * contract.BLOCK
GROUP_BYTES = 2 * GROUP  # of halves
TILE = 2048  # the most elements whose halves are kept in memory; a multiple of the group

for _function in contract.COMPILED:
    register_jitable(**INLINED)(_function)

load8, store8 = loader(types.uint8), storer(types.uint8)
load16, store16 = loader(types.uint16), storer(types.uint16)
load64, store64 = loader(types.uint64), storer(types.uint64)
halves_scratch = scratch(2 * TILE + 128)  # 64 halves may be loaded at once past the end

_HALF = np.uint64(0xFFFF)
_HALF_BITS = np.uint64(16)
_HALF_BYTES = np.uint64(2)
_BLOCK = np.uint64(contract.BLOCK)
_GROUP = np.uint64(GROUP)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


def _bound(threshold: Lanes) -> Lanes:
    upper = threshold >> _HALF_BITS
    return select(upper >= 1, upper, 1).converted(I16)


@intrinsic
def decision_bound(typingctx: Any, threshold: Any) -> Any:
    """Settled halves at or above this are kept. Never 0, so that a settled drop can be below."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _bound(Lanes(builder, args[0])).value

    return types.uint16(U64), codegen


@intrinsic
def _second_half(typingctx: Any, seed: Any, stream: Any, index: Any) -> Any:
    """Draw an element's 16 bits at level 1.

    Traced, not compiled by Numba, which takes a second for Philox.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        seed, stream, index = (Lanes(builder, a) for a in args)
        return contract.half(seed, stream, index, index.constant(1)).value

    return U64(U64, U64, U64), codegen


@functools.cache
def settler() -> Any:
    """Routine ``(halves, n, index, step, seed, stream, threshold)``: settle n halves.

    They belong to the elements from `index` on, `step` apart.
    """

    def settle(
        halves: Any, n: Any, index: Any, step: Any, seed: Any, stream: Any, threshold: Any
    ) -> None:
        for t in range(n):
            if np.uint64(load16(halves, _HALF_BYTES * t)) == threshold >> _HALF_BITS:
                second = _second_half(seed, stream, index + t * step)
                dropped = second < (threshold & _HALF)
                store16(halves, _HALF_BYTES * t, types.uint16(0 if dropped else 0xFFFF))

    return routine("settle", settle, types.void(POINTER, *[U64] * 6))


class Law:
    """What decides, as values of the code that is being generated: a key and a threshold."""

    def __init__(self, builder: Any, seed: Any, stream: Any, threshold: Any) -> None:
        self.builder, self.seed, self.stream, self.threshold = builder, seed, stream, threshold
        self._tie = (Lanes(builder, threshold) >> _HALF_BITS).converted(I16)
        self.bound = _bound(Lanes(builder, threshold))

    def group(self, block: Any, between: Callable[[int], None]) -> list[Lanes]:
        """Return the halves of the group that begins at a block, settled, vector by vector.

        `between` is called after each round, and may write code that is to run beside it.
        """
        halves = self._drawn(block, between)
        ties = halves[0].equals(self._tie)
        for vector in halves[1:]:
            ties = ties | vector.equals(self._tie)
        builder = self.builder
        bits = ties.as_number()
        tied = builder.icmp_unsigned("!=", bits.value, bits.constant(0).value)
        memory = scratch_in(builder, GROUP_BYTES)
        before = builder.block
        with builder.if_then(tied, likely=False):
            for k, vector in enumerate(halves):
                store(vector, memory, k * VECTOR_BYTES)
            index = builder.shl(block, ir.Constant(I64, 3))
            n, step = ir.Constant(I64, GROUP), ir.Constant(I64, 1)
            arguments = (memory, n, index, step, self.seed, self.stream, self.threshold)
            kinds = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
            settle = cgutils.get_or_insert_function(builder.module, kinds, settler().symbol)
            builder.call(settle, arguments)
            again = [
                load(builder, memory, k * VECTOR_BYTES, I16, HALVES) for k in range(len(halves))
            ]
            inside = builder.block
        result = []
        for first, second in zip(halves, again, strict=True):
            phi = builder.phi(first.value.type)
            phi.add_incoming(first.value, before)
            phi.add_incoming(second.value, inside)
            result.append(Lanes(builder, phi))
        return result

    def _drawn(self, block: Any, between: Callable[[int], None]) -> list[Lanes]:
        builder = self.builder
        k0, k1 = contract.split(Lanes(builder, self.seed))
        c2, c3 = contract.split(Lanes(builder, self.stream))
        c0, c1 = contract.split(Lanes(builder, block))
        # Xor, not plus: a group begins at a multiple of its length.
        blocks = [c0 ^ (iota(builder, I64, _BLOCKS) + k * _BLOCKS) for k in range(_CHAINS)]
        states = [(b, c1, c2, c3, k0, k1) for b in blocks]
        for r in range(_ROUNDS - 1):
            states = [contract.philox_round(*state) for state in states]
            between(r)
        halves: list[Lanes] = []
        for state in states:
            low, high = contract.philox_last_round(*state)
            halves += [half.seen_as(I16) for half in low.interleaved(high)]
        return halves


@intrinsic
def _draw_groups(
    typingctx: Any,
    halves: Any,
    block: Any,
    count: Any,
    seed: Any,
    stream: Any,
    threshold: Any,
) -> Any:
    """Write the settled halves of `count` groups, the first of which begins at `block`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memory, block, count, *law = args
        law = Law(builder, *law)
        with cgutils.for_range(builder, count) as loop:
            first = builder.add(block, builder.mul(loop.index, ir.Constant(I64, GROUP // 8)))
            at = builder.gep(memory, [builder.mul(loop.index, ir.Constant(I64, GROUP_BYTES))])
            for k, vector in enumerate(law.group(first, lambda r: None)):
                store(vector, at, k * VECTOR_BYTES)
        return context.get_dummy_value()

    return types.void(POINTER, *[U64] * 5), codegen


@functools.cache
def drawer() -> Any:
    """Routine ``(halves, first, n, seed, stream, threshold)``: the settled halves of n elements.

    They begin at a multiple of ``GROUP``. Up to ``GROUP - 1`` more are written.
    """
    settler()

    def draw(halves: Any, first: Any, n: Any, seed: Any, stream: Any, threshold: Any) -> None:
        wide_vectors()
        count = (n + (_GROUP - _ONE)) // _GROUP
        _draw_groups(halves, first // _BLOCK, count, seed, stream, threshold)

    return routine("draw", draw, types.void(POINTER, *[U64] * 5))


@functools.cache
def scattered_drawer() -> Any:
    """Routine ``(halves, n, index, step, seed, stream, threshold)``: elements `step` apart.

    A Philox call for each element: the way that always works, for index steps above 1 without a
    panel.
    """
    settle = settler()

    def draw_scattered(
        halves: Any, n: Any, index: Any, step: Any, seed: Any, stream: Any, threshold: Any
    ) -> None:
        wide_vectors()
        for t in range(n):
            half = contract.half(seed, stream, index + t * step, _ZERO)
            store16(halves, _HALF_BYTES * t, types.uint16(half))
        settle(halves, n, index, step, seed, stream, threshold)

    return routine("draw-scattered", draw_scattered, types.void(POINTER, *[U64] * 6))
