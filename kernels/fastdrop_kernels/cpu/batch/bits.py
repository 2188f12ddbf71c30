"""Sets of positions as bits in memory: membership, ranges, order, and masks of a byte each.

The functions on batches keep the chosen positions of a row here: 64 words hold 4,096 of them, which
stay in the L1 cache. Words are aligned, because a load that overlaps two recent stores waits.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, intrinsic, wide_vectors
from ..codegen.target import VECTOR_BYTES
from ..codegen.vectors import BIT, I8, I64, Lanes, store
from ..elements.sampler import POINTER, U64, load64, store8, store64

_ZERO, _ONE, _SIX, _EIGHT, _WORD, _LAST = (np.uint64(n) for n in (0, 1, 6, 8, 64, 63))
_ALL = np.uint64(2**64 - 1)


def words_of(positions: int) -> int:
    """Return how many words a set of positions takes, with one behind it that may be written."""
    return -(-positions // 64) + 1


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Count the zeros below the lowest bit that is set, of a word that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return U64(U64), codegen


@intrinsic
def population(typingctx: Any, word: Any) -> Any:
    """Count the bits that are set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return U64(U64), codegen


@device
def lowest(n: Any) -> Any:
    """Return a word whose n lowest bits are set, 1 <= n <= 64."""
    return _ALL >> (_WORD - n)


@device
def has(bits: Any, at: Any) -> Any:
    """Return whether a position is in a set, as 0 or 1."""
    return load64(bits, (at >> _SIX) * _EIGHT) >> (at & _LAST) & _ONE


@device
def add(bits: Any, at: Any) -> None:
    """Add a position to a set."""
    place = (at >> _SIX) * _EIGHT
    store64(bits, place, load64(bits, place) | _ONE << (at & _LAST))


@device
def window(bits: Any, at: Any, n: Any) -> Any:
    """Return which of n positions from `at` on are in a set, as bits of a word, 1 <= n <= 64."""
    place, bit = (at >> _SIX) * _EIGHT, at & _LAST
    # << 1 << (63 - bit) is << (64 - bit), which may not be a shift by 64.
    upper = load64(bits, place + _EIGHT) << _ONE << (_LAST - bit)
    return (load64(bits, place) >> bit | upper) & lowest(n)


@device
def add_few(bits: Any, at: Any, n: Any) -> None:
    """Add n positions from `at` on, 1 <= n <= 64."""
    place, bit, few = (at >> _SIX) * _EIGHT, at & _LAST, lowest(n)
    store64(bits, place, load64(bits, place) | few << bit)
    next_place = place + _EIGHT
    store64(bits, next_place, load64(bits, next_place) | few >> _ONE >> (_LAST - bit))


@device
def add_range(bits: Any, at: Any, n: Any) -> None:
    """Add n positions from `at` on."""
    while n > _WORD:
        add_few(bits, at, _WORD)
        at += _WORD
        n -= _WORD
    if n:
        add_few(bits, at, n)


@device
def word_of(bits: Any, k: Any) -> Any:
    """Return the k-th word: the positions from 64 * k on."""
    return load64(bits, k * _EIGHT)


@intrinsic
def _kept_64(typingctx: Any, word: Any, y: Any) -> Any:
    """Write 64 bytes: 0 where a bit is set, else 1."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, y = args
        kept = builder.not_(word)
        for first in range(0, 64, VECTOR_BYTES):
            part = builder.lshr(kept, ir.Constant(I64, first))
            few = Lanes(builder, builder.trunc(part, ir.IntType(VECTOR_BYTES))).bitcast(BIT)
            store(few.convert(I8), y, first)
        return context.get_dummy_value()

    return types.void(U64, POINTER), codegen


@functools.cache
@shielded
def write_kept() -> Any:
    """Routine ``(bits, y, n)``: write n bytes, 0 for positions in the set, else 1."""

    def run(bits: Any, y: Any, n: Any) -> None:
        wide_vectors()
        whole = n >> _SIX
        for k in range(_ZERO, whole):
            _kept_64(load64(bits, k * _EIGHT), advance(y, k * _WORD))
        if n & _LAST:
            if whole:  # the last 64, some of which are written again
                _kept_64(window(bits, n - _WORD, _WORD), advance(y, n - _WORD))
            else:
                word = load64(bits, _ZERO)
                for k in range(_ZERO, n):
                    store8(y, k, types.uint8((word >> k & _ONE) ^ _ONE))

    return routine("write-kept", run, types.void(POINTER, POINTER, U64))
