"""Tiles of tokens: their decisions as bits, and the vectors that move them.

`tokens` calls `decide` and then, when special tokens are out of the bits, `move`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ... import contract
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import intrinsic, wide_vectors
from ..codegen.target import VECTOR_BYTES
from ..codegen.vectors import BIT, I8, I16, I32, I64, Lanes, load, select, store
from ..elements.sampler import (
    DRAWS,
    FLIP,
    GROUP,
    POINTER,
    U64,
    Group,
    Sampler,
    group_loop,
    is_degenerate,
    load64,
    store64,
    tie_resolver,
)
from .draws import SECOND_DRAW

TILE = 1024  # tokens whose decisions are drawn at once, at most; a multiple of a group
# Memory for a tile's bits: up to a group of them is in front of the first token.
BITS_BYTES = TILE // 8 + 64
WORD = 64  # tokens of a word of bits
INTEGERS = {1: I8, 2: I16, 4: I32, 8: I64}

_SECOND_BLOCK = int(SECOND_DRAW) >> 3
_SECOND_LEVELS = int(contract.level_word(np.uint64(2)))
_ZERO, _ONE, _SIX, _EIGHT = (np.uint64(n) for n in (0, 1, 6, 8))
_SIXTY_THREE, _SIXTY_FOUR, _THIRTY_TWO = np.uint64(63), np.uint64(64), np.uint64(32)
_GROUP = np.uint64(GROUP)

# The signature of `decide`: (chosen, masked, replaced, thresholds, n, index, seed, stream).
_DECIDE = types.void(*[POINTER] * 4, *[U64] * 4)
# The signature of `move`: (ids, inputs, labels, chosen, masked, words, mask_id, ignored).
_MOVE = types.void(*[POINTER] * 5, *[U64] * 3)


def tile_of(size: int) -> int:
    """Return the number of tokens, of `size` bytes, of a tile.

    Draws of the next tile begin while the memory of this one is waited for. 1 Mi tokens of 64 bits
    take 0.76 to 0.89 ms with 512, 1.02 to 1.14 with 1024; of 32 bits 0.55 and 0.46 (CPU time, busy
    Zen 5, November 2026).
    """
    return TILE // 2 if size == 8 else TILE


@functools.cache
def decide() -> Any:
    """Routine, see `_DECIDE`: bits of n tokens, for each of three thresholds if it is above a draw.

    `chosen` is by draw 0 of the tokens from `index` on, the others by draw 1. The n tokens lie in
    one tile. The bits behind them are arbitrary.
    """
    tie_resolver()  # the generated code calls it by its symbol

    def run(
        chosen: Any,
        masked: Any,
        replaced: Any,
        thresholds: Any,
        n: Any,
        index: Any,
        seed: Any,
        stream: Any,
    ) -> None:
        wide_vectors()
        lane, words = index % _GROUP, (n + _SIXTY_THREE) // _SIXTY_FOUR
        block, groups = (index - lane) // _EIGHT, (lane + n + _GROUP - _ONE) // _GROUP
        _draw_bits(chosen, masked, replaced, thresholds, block, groups, seed, stream)
        if lane:
            _shift(chosen, lane, words)
            _shift(masked, lane, words)
            _shift(replaced, lane, words)
        _overrule(chosen, load64(thresholds, _ZERO), words)
        _overrule(masked, load64(thresholds, _EIGHT), words)
        _overrule(replaced, load64(thresholds, _EIGHT + _EIGHT), words)

    return routine("tokens-decide", run, _DECIDE)


@device
def _shift(bits: Any, by: Any, words: Any) -> None:
    """Move words of bits to the front by a number of bits."""
    skipped, rest = by >> _SIX, by & _SIXTY_THREE
    for w in range(_ZERO, words):
        low = load64(bits, _EIGHT * (w + skipped)) >> rest
        high = load64(bits, _EIGHT * (w + skipped + _ONE)) << (_SIXTY_FOUR - rest)
        store64(bits, _EIGHT * w, low | high if rest else low)


@device
def _overrule(bits: Any, threshold: Any, words: Any) -> None:
    """Write the bits of a threshold that is above all draws, or none."""
    if is_degenerate(threshold):
        for w in range(_ZERO, words):
            store64(bits, _EIGHT * w, _ZERO - (threshold >> _THIRTY_TWO))


@intrinsic
def _draw_bits(
    typingctx: Any,
    chosen: Any,
    masked: Any,
    replaced: Any,
    thresholds: Any,
    block: Any,
    groups: Any,
    seed: Any,
    stream: Any,
) -> Any:
    """Write the bits of whole groups from a block on, all in one tile.

    One draw serves the second and the third threshold. Prefetches between the rounds, of the memory
    that `move` needs, were slower: 1 Mi tokens of 64 bits in 0.91 ms, not 0.74, with those of the
    ids alone 0.76 (Zen 5, busy, November 2026).
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *bits, thresholds, block, groups, seed, stream = args
        samplers = [
            Sampler(builder, seed, stream, load(builder, thresholds, 8 * k, I64, 0).value)
            for k in range(3)
        ]
        with group_loop(builder, block, groups) as (number, group):
            first = samplers[0].draws(group, lambda r: None, FLIP)
            of_second = Group(
                builder.add(group.block, ir.Constant(I64, _SECOND_BLOCK)),
                [(c0, c1 + _SECOND_LEVELS) for c0, c1 in group.counters],
            )
            second = samplers[1].draws(of_second, lambda r: None, FLIP)
            place = builder.mul(number, ir.Constant(I64, GROUP // 8))
            for memory, sampler, drawn in zip(bits, samplers, (first, second, second), strict=True):
                _store_bits(builder.gep(memory, [place]), list(sampler.decisions(*drawn)))
        return context.get_dummy_value()

    return types.void(*[POINTER] * 4, *[U64] * 4), codegen


def _store_bits(memory: Any, kept: list[Lanes]) -> None:
    """Store whether elements are not kept, a bit for each."""
    # Narrowing 16-bit lanes takes two vectors as input, where comparisons do not return bits.
    together = [a.concat(b) for a, b in zip(kept[::2], kept[1::2], strict=True)]
    for k, vector in enumerate(together):
        store((~vector).as_integer(), memory, k * 2 * DRAWS // 8)


@functools.cache
def move(size: int) -> Any:
    """Routine, see `_MOVE`: move 64 tokens, of `size` bytes, for each word of bits.

    The input is the id, or `mask_id` where masked, and the label is the id where chosen.
    """
    moved = _moved(size)

    def run(
        ids: Any,
        inputs: Any,
        labels: Any,
        chosen: Any,
        masked: Any,
        words: Any,
        mask_id: Any,
        ignored: Any,
    ) -> None:
        wide_vectors()
        moved(ids, inputs, labels, chosen, masked, words, mask_id, ignored)

    return routine(f"tokens-move-{size}", run, _MOVE)


def vectors(size: int) -> tuple[int, int]:
    """Return the lanes of a vector of integers, and how many vectors are 64 of them."""
    count = max(8, VECTOR_BYTES // size)
    return count, WORD // count


def in_lane(builder: Any, number: Any, size: int) -> Lanes:
    """Return a uint64 as an integer of `size` bytes, modulo its range."""
    return Lanes(builder, number if size == 8 else builder.trunc(number, INTEGERS[size]))


def _moved(size: int) -> Any:
    count, parts = vectors(size)
    of_bits, steps = ir.IntType(count), (WORD * size,) * 3 + (WORD // 8,) * 2

    @intrinsic
    def moved(
        typingctx: Any,
        ids: Any,
        inputs: Any,
        labels: Any,
        chosen: Any,
        masked: Any,
        words: Any,
        mask_id: Any,
        ignored: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            *pointers, words, mask_id, ignored = args
            mask, ignore = (in_lane(builder, n, size).broadcast(count) for n in (mask_id, ignored))
            with cgutils.for_range(builder, words) as loop:
                ids, inputs, labels, *bits = (
                    builder.gep(pointer, [builder.mul(loop.index, ir.Constant(I64, step))])
                    for pointer, step in zip(pointers, steps, strict=True)
                )
                for k in range(parts):
                    at, of = k * count * size, k * count // 8
                    chosen, masked = (
                        load(builder, memory, of, of_bits, 0).bitcast(BIT) for memory in bits
                    )
                    found = load(builder, ids, at, INTEGERS[size], count)
                    store(select(masked, mask, found), inputs, at)
                    store(select(chosen, found, ignore), labels, at)
            return context.get_dummy_value()

        return _MOVE, codegen

    return moved
