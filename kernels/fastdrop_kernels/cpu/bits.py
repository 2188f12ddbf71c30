"""Bits: the 16-bit halves of many elements at once, and the rare ties among them settled.

Halves are settled before they are used: where level 0 equals the upper half of the threshold (one
element in 65,536), level 1 decides, and the half is replaced by 0 (drop) or 0xFFFF (keep). After
that one 16-bit comparison with `Law.bound` decides every element exactly. Thresholds here are below
2**32: that all are dropped cannot be said in 16 bits, and needs none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .. import contract
from .compiler import device, routine
from .intrinsics import intrinsic, loader, scratch_in, storer
from .lanes import I16, I32, I64, Lanes, iota, load, select, store
from .target import REGISTERS, VECTOR_BYTES

U64 = types.uint64
POINTER = types.voidptr

# Philox chains that go round by round in step, each a vector of blocks wide. LLVM keeps the order
# in which it is given them, and a processor looks ahead about as far as one chain is long, so that
# chains one after the other leave the multiplier waiting. Gelem/s of bits on a Cascade Lake, whose
# ports allow 4.7: four in step 3.7; two pairs 3.3; four one after the other 3.0; one 2.7. Each
# takes four registers.
_CHAINS = 4 if REGISTERS == 32 else 2
BLOCKS = VECTOR_BYTES // 8  # in a vector: a 64-bit lane for each word of the state
HALVES = VECTOR_BYTES // 2  # in a vector
ROUNDS = 10
# Uniforms in a vector: four registers of them. 1 Mi normals on a Cascade Lake, one thread: 2.1 ms,
# with two registers 3.0, with eight 2.0 and twice the code.
_UNIFORMS = VECTOR_BYTES
# Elements that are drawn together, from a multiple on.
GROUP = _CHAINS * BLOCKS * contract.BLOCK

is_certain = device(contract.is_certain)

load8, store8 = loader(types.uint8), storer(types.uint8)
load16, store16 = loader(types.uint16), storer(types.uint16)
load32, store32 = loader(types.uint32), storer(types.uint32)
load64, store64 = loader(types.uint64), storer(types.uint64)

Between: TypeAlias = Callable[[int], None]
Pair: TypeAlias = tuple[Lanes, Lanes]

_HALF = np.uint64(0xFFFF)
_HALF_BITS = np.uint64(16)
_HALF_BYTES = np.uint64(2)


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


def at_second_level(c1: Lanes) -> Lanes:
    """Return counter word 1 of level 1, given that of level 0."""
    deeper: Lanes = c1 + contract.level_word(c1.constant(1))
    return deeper


def uniforms_of(high: Lanes, low: Lanes) -> Lanes:
    """Return the 32-bit uniforms of elements whose halves at both levels are known."""
    # In memory, and so in lanes, the lower half of a number comes first.
    first, rest = (pair.seen_as(I32) for pair in low.interleaved(high))
    return first.joined(rest)


def in_long_vectors(uniforms: list[Lanes]) -> list[Lanes]:
    """Join vectors of uniforms, as far as is good for the arithmetic that follows.

    A polynomial's steps wait for each other, and LLVM, which makes as many instructions of each as
    a long vector has registers, lets them wait together.
    """
    while len(uniforms) > 1 and uniforms[0].count < _UNIFORMS:
        uniforms = [a.joined(b) for a, b in zip(uniforms[::2], uniforms[1::2], strict=True)]
    return uniforms


class Law:
    """What decides, as values of the code that is being generated: a key and a threshold."""

    def __init__(self, builder: Any, seed: Any, stream: Any, threshold: Any) -> None:
        self.builder, self.seed, self.stream, self.threshold = builder, seed, stream, threshold
        self._tie = (Lanes(builder, threshold) >> _HALF_BITS).converted(I16)
        upper = Lanes(builder, threshold) >> _HALF_BITS
        # Settled halves at or above this are kept. Never 0, so that a settled drop can be below.
        self.bound = select(upper >= 1, upper, 1).converted(I16)

    def group(self, block: Any, between: Between) -> list[Lanes]:
        """Return the settled halves of the group that begins at a block, vector by vector.

        `between` is called after each round, and may write code that is to run beside it.
        """
        c0, c1 = contract.split(Lanes(self.builder, block))
        # Xor, not plus: a group begins at a multiple of its length.
        blocks = [c0 ^ (iota(self.builder, I64, BLOCKS) + k * BLOCKS) for k in range(_CHAINS)]
        halves: list[Lanes] = []
        for low, high in self.drawn([(c0, c1) for c0 in blocks], between):
            halves += [half.seen_as(I16) for half in low.interleaved(high)]
        index = self.builder.shl(block, ir.Constant(I64, 3))
        return self.settled(halves, [(index, ir.Constant(I64, 1), GROUP)])

    def uniforms(self, block: Any, between: Between) -> list[Lanes]:
        """Return the 32-bit uniforms of the group that begins at a block.

        See `in_long_vectors`.
        """
        builder = self.builder
        c0, c1 = contract.split(Lanes(builder, block))
        chains = [c0 ^ (iota(builder, I64, BLOCKS) + k * BLOCKS) for k in range(_CHAINS)]
        upper = self.drawn([(chain, c1) for chain in chains], between)
        second = at_second_level(c1)
        lower = self.drawn([(chain, second) for chain in chains], lambda r: None)
        uniforms = []
        for uppers, lowers in zip(upper, lower, strict=True):
            high = [word.seen_as(I16) for word in uppers[0].interleaved(uppers[1])]
            low = [word.seen_as(I16) for word in lowers[0].interleaved(lowers[1])]
            uniforms += [uniforms_of(*halves) for halves in zip(high, low, strict=True)]
        return in_long_vectors(uniforms)

    def drawn(self, counters: list[tuple[Lanes, Lanes]], between: Between) -> list[Pair]:
        """Return the bits of some vectors of blocks: of each, its lower and its upper word."""
        k0, k1 = contract.split(Lanes(self.builder, self.seed))
        c2, c3 = contract.split(Lanes(self.builder, self.stream))
        states = [(c0, c1, c2, c3, k0, k1) for c0, c1 in counters]
        for r in range(ROUNDS - 1):
            states = [contract.philox_round(*state) for state in states]
            between(r)
        return [contract.philox_last_round(*state) for state in states]

    def settled(self, halves: list[Lanes], runs: list[tuple[Any, Any, int]]) -> list[Lanes]:
        """Settle the halves of runs of elements: of each its first index, index step and length."""
        builder = self.builder
        ties = halves[0].equals(self._tie)
        for vector in halves[1:]:
            ties = ties | vector.equals(self._tie)
        bits = ties.as_number()
        tied = builder.icmp_unsigned("!=", bits.value, bits.constant(0).value)
        memory = scratch_in(builder, len(halves) * VECTOR_BYTES)
        before = builder.block
        with builder.if_then(tied, likely=False):
            for k, vector in enumerate(halves):
                store(vector, memory, k * VECTOR_BYTES)
            begin = memory
            for index, step, n in runs:
                count = ir.Constant(I64, n)
                arguments = (begin, count, index, step, self.seed, self.stream, self.threshold)
                kinds = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
                settle = cgutils.get_or_insert_function(builder.module, kinds, settler().symbol)
                builder.call(settle, arguments)
                begin = builder.gep(begin, [ir.Constant(I64, 2 * n)])
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
