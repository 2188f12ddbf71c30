"""Bits: the 16-bit halves of many elements at once, and the rare ties among them settled.

Halves are settled before they are used: where level 0 equals the upper half of the threshold (one
element in 65,536), level 1 decides, and the half is replaced by 0 (drop) or 0xFFFF (keep). After
that one 16-bit comparison with `Law.bound` decides every element exactly. A threshold for all is
below 2**32 here: that all are dropped cannot be said in 16 bits, and needs none. But one of an
element's own may be 2**32: then its upper half is taken for 0xFFFF, and level 1 always drops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ... import contract
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import intrinsic, loader, scratch_in, storer
from ..codegen.target import REGISTERS, VECTOR_BYTES
from ..codegen.vectors import I16, I32, I64, Lanes, iota, load, select, store
from .storage import Storage

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

is_degenerate = device(contract.is_degenerate)

load8, store8 = loader(types.uint8), storer(types.uint8)
load16, store16 = loader(types.uint16), storer(types.uint16)
load32, store32 = loader(types.uint32), storer(types.uint32)
load64, store64 = loader(types.uint64), storer(types.uint64)

Between: TypeAlias = Callable[[int], None]
Pair: TypeAlias = tuple[Lanes, Lanes]
Run: TypeAlias = tuple[Any, Any, int]  # of elements: the first index, the index step, how many

_HALF = np.uint64(0xFFFF)
_HALF_BITS = np.uint64(16)
_HALF_BYTES = np.uint64(2)


def _half_of(level: int) -> Any:
    """Make ``half(seed, stream, index)``: an element's 16 bits at a level.

    Traced, not compiled by Numba, which takes a second for Philox.
    """

    @intrinsic
    def half(typingctx: Any, seed: Any, stream: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            seed, stream, index = (Lanes(builder, a) for a in args)
            return contract.half(seed, stream, index, index.constant(level)).value

        return U64(U64, U64, U64), codegen

    return half


first_half, second_half = _half_of(0), _half_of(1)


@functools.cache
def settler() -> Any:
    """Routine ``(halves, n, index, step, seed, stream, thresholds, apart)``: settle n halves.

    They belong to the elements from `index` on, `step` apart, and so do the thresholds, uint64 that
    lie `apart` bytes apart: 0 where one is that of all.
    """

    def settle(
        halves: Any,
        n: Any,
        index: Any,
        step: Any,
        seed: Any,
        stream: Any,
        thresholds: Any,
        apart: Any,
    ) -> None:
        for t in range(n):
            threshold = load64(thresholds, apart * t)
            upper = min(threshold >> _HALF_BITS, _HALF)
            if np.uint64(load16(halves, _HALF_BYTES * t)) == upper:
                second = second_half(seed, stream, index + t * step)
                dropped = second < threshold - (upper << _HALF_BITS)
                store16(halves, _HALF_BYTES * t, types.uint16(0 if dropped else 0xFFFF))

    return routine("settle", settle, types.void(POINTER, *[U64] * 5, POINTER, U64))


def bound(upper: Lanes) -> Lanes:
    """Return the upper half of a threshold, but never 0, so that a settled drop can be below."""
    return select(upper >= 1, upper, 1)


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


class Draw:
    """What draws, as values of the code that is being generated: a key."""

    def __init__(self, builder: Any, seed: Any, stream: Any) -> None:
        self.builder, self.seed, self.stream = builder, seed, stream

    def halves(self, block: Any, between: Between) -> tuple[list[Lanes], Run]:
        """Return the halves of the group that begins at a block, vector by vector, and its run.

        `between` is called after each round, and may write code that is to run beside it.
        """
        c0, c1 = contract.split(Lanes(self.builder, block))
        # Xor, not plus: a group begins at a multiple of its length.
        blocks = [c0 ^ (iota(self.builder, I64, BLOCKS) + k * BLOCKS) for k in range(_CHAINS)]
        halves: list[Lanes] = []
        for low, high in self.drawn([(c0, c1) for c0 in blocks], between):
            halves += [half.seen_as(I16) for half in low.interleaved(high)]
        index = self.builder.shl(block, ir.Constant(I64, 3))
        return halves, (index, ir.Constant(I64, 1), GROUP)

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

    def settled_by(
        self,
        halves: list[Lanes],
        uppers: Sequence[Lanes],
        runs: list[Run],
        thresholds: Callable[[], tuple[Any, Any]],
    ) -> list[Lanes]:
        """Settle the halves of runs of elements.

        `uppers` are the upper halves of thresholds, and ``thresholds()`` says where these lie, for
        code that is seldom come to, and how many bytes apart.
        """
        builder = self.builder
        ties = halves[0].equals(uppers[0])
        for vector, upper in zip(halves[1:], uppers[1:], strict=True):
            ties = ties | vector.equals(upper)
        bits = ties.as_number()
        tied = builder.icmp_unsigned("!=", bits.value, bits.constant(0).value)
        memory = scratch_in(builder, len(halves) * VECTOR_BYTES)
        before = builder.block
        with builder.if_then(tied, likely=False):
            for k, vector in enumerate(halves):
                store(vector, memory, k * VECTOR_BYTES)
            begin, (first_threshold, apart) = memory, thresholds()
            for index, step, n in runs:
                law = self.seed, self.stream, first_threshold, apart
                arguments = begin, ir.Constant(I64, n), index, step, *law
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


class Law(Draw):
    """What decides: a key, and a threshold for all."""

    def __init__(self, builder: Any, seed: Any, stream: Any, threshold: Any) -> None:
        super().__init__(builder, seed, stream)
        self.threshold = threshold
        self._upper = (Lanes(builder, threshold) >> _HALF_BITS).converted(I16)
        # Settled halves at or above this are kept.
        self.bound = bound(self._upper)

    def group(self, block: Any, between: Between) -> list[Lanes]:
        """Return the settled halves of the group that begins at a block, vector by vector."""
        halves, run = self.halves(block, between)
        return self.settled(halves, [run])

    def settled(self, halves: list[Lanes], runs: list[Run]) -> list[Lanes]:
        """Settle the halves of runs of elements."""
        return self.settled_by(halves, [self._upper] * len(halves), runs, self._in_memory)

    def _in_memory(self) -> tuple[Any, Any]:
        memory = scratch_in(self.builder, 8)
        store(Lanes(self.builder, self.threshold), memory, 0)
        return memory, ir.Constant(I64, 0)

    def decided(self, block: Any, between: Between, place: Any) -> Iterator[Lanes]:
        """Yield what is kept of the group that begins at a block, vector by vector."""
        return (vector >= self.bound for vector in self.group(block, between))

    def factors(self, kind: Storage | None, place: Any, k: int, count: int) -> list[Lanes]:
        """Return the factors that threshold streams give elements of their own: none."""
        return []
