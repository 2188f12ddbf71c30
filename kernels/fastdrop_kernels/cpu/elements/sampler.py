"""The sampler: 16-bit draws of many elements at once, compared with a threshold, ties resolved.

An element is kept if its 32-bit uniform is at least the threshold. The high half of the uniform
decides alone unless it equals that of the threshold: a tie, which one element in 65,536 has. Then
the low half is drawn too, and the tie is resolved: the draw is replaced by 0 (drop) or 0xFFFF
(keep). After that, one 16-bit comparison with `Sampler.bound` decides every element. The loops use
these classes while they generate code; the bits come from `contract`.

A common threshold is below 2**32 here, because degenerate ones draw nothing. A per-element
threshold may be 2**32: its high half is taken as 0xFFFF, and the low half always drops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ... import contract
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import intrinsic, loader, scratch_in, storer
from ..codegen.target import IS_X86_64, REGISTERS, VECTOR_BYTES
from ..codegen.vectors import I16, I32, I64, Lanes, load, select, store
from .storage import Storage

U64 = types.uint64
POINTER = types.voidptr

# Number of Philox chains, each a vector of blocks, whose rounds are interleaved. LLVM keeps their
# order, and a processor looks ahead about as far as one chain is long, so with chains in sequence
# the multiplier waits. Gelem/s of bits on a Cascade Lake (November 2026), whose ports allow 4.7:
# four interleaved 3.7; two pairs 3.3; four in sequence 3.0; one 2.7. Each takes four registers.
# Four interleaved with AVX2, on a Zen 5, November 2026: 0.95 to 1.05 of the rate of two, and 1.05
# to 1.15 if every round key is an operand in memory (two chains: 0.98 to 1.00). But then 128
# elements are drawn at once, and by llvm-mca a Zen 3 takes 1.00 to 1.25 times as long for each.
_CHAINS = 4 if REGISTERS == 32 else 2
BLOCKS = VECTOR_BYTES // 8  # in a vector: a 64-bit lane for each word of the state
DRAWS = VECTOR_BYTES // 2  # 16-bit draws in a vector
ROUNDS = 10
# 16-bit draws are xored with this if vectors can only be compared as signed integers (x86-64
# before AVX-512): one instruction then compares them, not two. The last round key includes the xor.
FLIP = 0x8000 if IS_X86_64 and VECTOR_BYTES < 64 else 0
# Uniforms in a vector: four registers of them. 1 Mi normals on a Cascade Lake, one thread, November
# 2026: 2.1 ms; with two registers 3.0; with eight 2.0 and twice the code.
_UNIFORMS = VECTOR_BYTES
# Elements of a group, which are drawn together. Groups begin at multiples of it.
GROUP = _CHAINS * BLOCKS * contract.BLOCK

is_degenerate = device(contract.is_degenerate)

load8, store8 = loader(types.uint8), storer(types.uint8)
load16, store16 = loader(types.uint16), storer(types.uint16)
load32 = loader(types.uint32)
load64, store64 = loader(types.uint64), storer(types.uint64)

Between: TypeAlias = Callable[[int], None]
Pair: TypeAlias = tuple[Lanes, Lanes]
Run: TypeAlias = tuple[Any, Any, int]  # of elements: first index, index step, number

_HALF = np.uint64(0xFFFF)
_HALF_BITS = np.uint64(16)
_HALF_BYTES = np.uint64(2)
_SAME_HIGH_WORD = np.uint64(contract.BLOCK << 32)


def _half_at(level: int) -> Any:
    """Make ``half(seed, stream, index)``: an element's 16 bits at a level.

    Traced, because Numba takes a second to compile Philox (November 2026).
    """

    @intrinsic
    def half(typingctx: Any, seed: Any, stream: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            seed, stream, index = (Lanes(builder, a) for a in args)
            return contract.half(seed, stream, index, index.constant(level)).value

        return U64(U64, U64, U64), codegen

    return half


high_half, low_half = _half_at(0), _half_at(1)


@functools.cache
def tie_resolver() -> Any:
    """Return routine ``(draws, n, index, step, seed, stream, thresholds, apart)``: resolve ties.

    The n 16-bit draws are those of the elements from `index` on, `step` apart. Their thresholds,
    uint64, are `apart` bytes apart: 0 for one common threshold.
    """

    def resolve(
        draws: Any,
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
            if np.uint64(load16(draws, _HALF_BYTES * t)) == upper:
                second = low_half(seed, stream, index + t * step)
                dropped = second < threshold - (upper << _HALF_BITS)
                store16(draws, _HALF_BYTES * t, types.uint16(0 if dropped else 0xFFFF))

    return routine("resolve-ties", resolve, types.void(POINTER, *[U64] * 5, POINTER, U64))


def bound(upper: Lanes) -> Lanes:
    """Return the high half of a threshold, at least 1, so that a resolved drop (0) is below it."""
    return select(upper >= 1, upper, 1)


def at_second_level(c1: Lanes) -> Lanes:
    """Return counter word 1 of level 1, given that of level 0."""
    deeper: Lanes = c1 + contract.level_word(c1.constant(1))
    return deeper


class _Multiplied:
    """Counter word 0, of which only the product is known: the first round needs nothing else."""

    __array_ufunc__ = None  # as in `Lanes`

    def __init__(self, product: Lanes) -> None:
        self._product = product

    def __and__(self, word: Any) -> _Multiplied:
        return self

    def __rmul__(self, multiplier: Any) -> Lanes:
        if multiplier != contract.MULTIPLIER_0:
            raise ValueError(f"this is a product with {contract.MULTIPLIER_0}, not {multiplier}")
        return self._product


class Group(NamedTuple):
    """A group: the number of its first block, and counter words 0 and 1 of its chains."""

    block: Any
    counters: list[tuple[Any, Lanes]]


def _places(builder: Any) -> Lanes:
    """Return the number of each lane's block in its chain, as a vector.

    The two lanes of every 16 bytes have blocks that are half a vector apart. So a shuffle within 16
    bytes brings the words of a block together (see `Draw._in_order`), with the blocks in order.
    """
    places = [ir.Constant(I64, k // 2 + k % 2 * (BLOCKS // 2)) for k in range(BLOCKS)]
    return Lanes(builder, ir.Constant(ir.VectorType(I64, BLOCKS), places))


def group_at(builder: Any, block: Any) -> Group:
    """Return the group that begins at a block."""
    c0, c1 = contract.split(Lanes(builder, block))
    # Xor instead of plus, because a group begins at a multiple of its length.
    places = [_places(builder) + k * BLOCKS for k in range(_CHAINS)]
    return Group(block, [(c0 ^ place, c1) for place in places])


@contextmanager
def group_loop(builder: Any, block: Any, count: Any) -> Iterator[tuple[Any, Group]]:
    """Loop over groups from a block on; yield the number of each, from 0, and the group.

    The numbers of all blocks must have the same high word (see `with_one_high_word`). So one
    product of round 1 and one of round 2 are constants, computed before the loop, and the other of
    round 1 is a sum, known long before it is needed. On a Zen 5 with AVX2 and with AVX-512,
    November 2026, this draws bool masks at 1.08 and 1.05 times the rate, float32 at 1.06 times with
    both. The constants alone gain nothing: scalar instructions compute them beside the vectors.
    """
    high = Lanes(builder, builder.lshr(block, ir.Constant(I64, 32)))
    c0, _ = contract.split(Lanes(builder, block))
    first = contract.MULTIPLIER_0 * (c0 ^ _places(builder))
    product = cgutils.alloca_once_value(builder, first.value)
    chain = BLOCKS * int(contract.MULTIPLIER_0)
    with cgutils.for_range(builder, count) as loop:
        first = Lanes(builder, builder.load(product))
        builder.store((first + _CHAINS * chain).value, product)
        counters = [(_Multiplied(first + k * chain), high) for k in range(_CHAINS)]
        distance = builder.mul(loop.index, ir.Constant(I64, GROUP // contract.BLOCK))
        yield loop.index, Group(builder.add(block, distance), counters)


@device
def with_one_high_word(index: Any) -> Any:
    """Return how many elements from `index` on are in blocks with the same high word."""
    return _SAME_HIGH_WORD - index % _SAME_HIGH_WORD


def uniforms_of(high: Lanes, low: Lanes) -> Lanes:
    """Return the 32-bit uniforms of elements, given the high and the low half of each."""
    # In memory, and so in lanes, the low half of a number comes first.
    first, rest = (pair.bitcast(I32) for pair in low.interleave(high))
    return first.concat(rest)


def in_long_vectors(uniforms: list[Lanes]) -> list[Lanes]:
    """Join vectors of uniforms, up to the length that is fastest in polynomials.

    The steps of a polynomial depend on each other. LLVM splits each step of a long vector into one
    instruction per register, and these do not depend on each other.
    """
    while len(uniforms) > 1 and uniforms[0].count < _UNIFORMS:
        uniforms = [a.concat(b) for a, b in zip(uniforms[::2], uniforms[1::2], strict=True)]
    return uniforms


class Draw:
    """Draws bits in the code that is being generated, by a key."""

    def __init__(self, builder: Any, seed: Any, stream: Any) -> None:
        self.builder, self.seed, self.stream = builder, seed, stream

    def draws(self, group: Group, between: Between, flip: int = 0) -> tuple[list[Lanes], Run]:
        """Return the 16-bit draws of a group, vector by vector, and its run.

        `between` is called after each round, and may add instructions that run between the rounds.
        All draws are xored with `flip`, at no cost.
        """
        draws = self._in_order(group.counters, between, flip)
        index = self.builder.shl(group.block, ir.Constant(I64, 3))
        return draws, (index, ir.Constant(I64, 1), GROUP)

    def uniforms(self, group: Group, between: Between) -> list[Lanes]:
        """Return the 32-bit uniforms of a group, as `in_long_vectors` returns them."""
        second = [(c0, at_second_level(c1)) for c0, c1 in group.counters]
        upper = self._in_order(group.counters, between)
        lower = self._in_order(second, lambda r: None)
        return in_long_vectors([uniforms_of(*draws) for draws in zip(upper, lower, strict=True)])

    def _in_order(
        self, counters: list[tuple[Any, Lanes]], between: Between, flip: int = 0
    ) -> list[Lanes]:
        """Return the 16-bit draws of a group in element order."""
        # LLVM chooses the order of the rounds' xors: key and older word first nearly everywhere,
        # which is best. With fences: 1.00 of the rate (bool masks, AVX2, Zen 5, November 2026).
        flips = flip * 0x0001_0001_0001_0001
        draws: list[Lanes] = []
        for c0, c1, c2, c3, k0, k1 in self._before_last_round(counters, between, fenced=True):
            # Without fences, LLVM with AVX-512 uses a shifted multiplier, and 64-bit products.
            pair = contract.philox_last_round_swapped(
                c0,
                c1.arithmetic_fence(),
                c2,
                c3.arithmetic_fence(),
                (k0 << 32) ^ flips,
                (k1 << 32) ^ flips,
            )
            low, high = (word.bitcast(I32) for word in pair)
            # Words 0 to 3 of the first lane of each 16 bytes, then of the second.
            for lane in (0, 1):
                words = [2 * lane + 1, 2 * lane, low.count + 2 * lane + 1, low.count + 2 * lane]
                order = [word + at for at in range(0, low.count, 4) for word in words]
                draws.append(low.shuffle(order, high).bitcast(I16))
        return draws

    def drawn(self, counters: list[tuple[Any, Lanes]], between: Between) -> list[Pair]:
        """Return the bits of vectors of blocks: the first and the second 64-bit word of each."""
        states = self._before_last_round(counters, between)
        return [contract.philox_last_round(*state) for state in states]

    def _before_last_round(
        self, counters: list[tuple[Any, Lanes]], between: Between, fenced: bool = False
    ) -> list[contract.State]:
        """Do all rounds but the last.

        `fenced` is for counters of `group_loop`. Without fences, LLVM with AVX-512 masks loop
        invariants before the loop, does not know in the loop that they have 32 bits, and multiplies
        in 64 bits. Fortran order, with other counters, would have 0.97 of its rate with fences (Zen
        5, November 2026).
        """
        k0, k1 = contract.split(Lanes(self.builder, self.seed))
        c2, c3 = contract.split(Lanes(self.builder, self.stream))
        states = [(c0, c1, c2, c3, k0, k1) for c0, c1 in counters]
        for r in range(ROUNDS - 1):
            states = [contract.philox_round(*state) for state in states]
            if fenced and r in (1, 2):
                states = [
                    (c0.arithmetic_fence(), c1, c2.arithmetic_fence(), c3, k0, k1)
                    for c0, c1, c2, c3, k0, k1 in states
                ]
            between(r)
        return states

    def resolve_ties(
        self,
        draws: list[Lanes],
        uppers: Sequence[Lanes],
        runs: list[Run],
        thresholds: Callable[[], tuple[Any, Any]],
        flip: int = 0,
    ) -> list[Lanes]:
        """Resolve the ties of runs of elements, and return the draws.

        `uppers` are the high halves of the thresholds. ``thresholds()`` is called in a branch that
        is rarely taken, and returns their address and how many bytes they are apart. Draws and
        `uppers` are xored with `flip`.
        """
        builder = self.builder
        ties = draws[0].equals(uppers[0])
        for vector, upper in zip(draws[1:], uppers[1:], strict=True):
            ties = ties | vector.equals(upper)
        bits = ties.as_integer()
        tied = builder.icmp_unsigned("!=", bits.value, bits.constant(0).value)
        memory = scratch_in(builder, len(draws) * VECTOR_BYTES)
        before = builder.block
        with builder.if_then(tied, likely=False):
            for k, vector in enumerate(draws):
                store(vector ^ flip, memory, k * VECTOR_BYTES)
            begin, (first_threshold, apart) = memory, thresholds()
            for index, step, n in runs:
                sampler = self.seed, self.stream, first_threshold, apart
                arguments = begin, ir.Constant(I64, n), index, step, *sampler
                kinds = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
                resolve = cgutils.get_or_insert_function(
                    builder.module, kinds, tie_resolver().symbol
                )
                builder.call(resolve, arguments)
                begin = builder.gep(begin, [ir.Constant(I64, 2 * n)])
            again = [
                load(builder, memory, k * VECTOR_BYTES, I16, DRAWS) ^ flip
                for k in range(len(draws))
            ]
            inside = builder.block
        result = []
        for first, second in zip(draws, again, strict=True):
            phi = builder.phi(first.value.type)
            phi.add_incoming(first.value, before)
            phi.add_incoming(second.value, inside)
            result.append(Lanes(builder, phi))
        return result


class Sampler(Draw):
    """Decides by a key and one threshold for all elements."""

    def __init__(self, builder: Any, seed: Any, stream: Any, threshold: Any) -> None:
        super().__init__(builder, seed, stream)
        self.threshold = threshold
        self._upper = (Lanes(builder, threshold) >> _HALF_BITS).convert(I16)
        # Draws at or above this are kept, once ties are resolved.
        self.bound = bound(self._upper)

    def group(self, group: Group, between: Between) -> list[Lanes]:
        """Return the 16-bit draws of a group, ties resolved, vector by vector."""
        draws, run = self.draws(group, between)
        return self.resolved(draws, [run])

    def resolved(self, draws: list[Lanes], runs: list[Run]) -> list[Lanes]:
        """Resolve the ties of runs of elements, and return the draws."""
        return self.resolve_ties(draws, [self._upper] * len(draws), runs, self._in_memory)

    def _in_memory(self) -> tuple[Any, Any]:
        memory = scratch_in(self.builder, 8)
        store(Lanes(self.builder, self.threshold), memory, 0)
        return memory, ir.Constant(I64, 0)

    def decided(self, group: Group, between: Between, place: Any) -> Iterator[Lanes]:
        """Yield the keep masks of a group, vector by vector."""
        draws, run = self.draws(group, between, FLIP)
        return self.decisions(draws, run)

    def decisions(self, draws: list[Lanes], run: Run) -> Iterator[Lanes]:
        """Yield the keep masks of the draws of a run, which are xored with `FLIP`."""
        uppers = [self._upper ^ FLIP if FLIP else self._upper] * len(draws)
        resolved = self.resolve_ties(draws, uppers, [run], self._in_memory, FLIP)
        if not FLIP:
            return (vector >= self.bound for vector in resolved)
        highest_dropped = (self.bound - 1) ^ FLIP
        return (vector.signed_above(highest_dropped) for vector in resolved)

    def factors(self, kind: Storage | None, place: Any, k: int, count: int) -> list[Lanes]:
        """Return the per-element factors, as `StreamSampler` does: none."""
        return []
