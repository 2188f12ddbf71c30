"""Bits: the 16-bit halves of many elements at once, and the rare ties among them settled.

Halves stay in the first-level cache until they are compared. They are settled before they are used:
where level 0 equals the upper half of the threshold (one element in 65,536), level 1 decides, and
the half is replaced by 0 (drop) or 0xFFFF (keep). After that one 16-bit comparison with
`decision_bound` decides every element exactly. Thresholds here lie strictly between 0 and 2**32:
what is certain needs no bits.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from .. import contract
from .compiler import INLINED, device, routine
from .intrinsics import loader, scratch, storer, wide_vectors

# The most elements drawn at once, and never past a multiple of it; 4 KiB of halves. The larger, the
# less it matters that a call sets up twenty round keys (512: 3.1 Gelem/s, 2048: 3.3).
TILE = 2048
# Four Philox chains go round by round in step. LLVM keeps the order in which it is given them, and
# a processor looks ahead about as far as one chain is long, so that chains one after the other
# leave the multiplier waiting. Gelem/s of bits: 3.7; two pairs 3.3; four chains one after the other
# 3.0; one chain 2.7 (Cascade Lake, whose ports allow 4.7).
_CHAINS = np.uint64(4)
_CHAIN_BLOCKS = np.uint64(16)  # of each chain; LLVM leaves shorter loops scalar
_CHAIN_1, _CHAIN_2, _CHAIN_3 = _CHAIN_BLOCKS, np.uint64(2) * _CHAIN_BLOCKS, np.uint64(3 * 16)
_GRANULE_BLOCKS = _CHAINS * _CHAIN_BLOCKS
_BLOCK_BYTES = np.uint64(16)  # of halves
_CHAIN_BYTES = _CHAIN_BLOCKS * _BLOCK_BYTES
GRANULE = 512  # elements: what is drawn begins at a multiple, and is rounded up to one

for _function in contract.COMPILED:
    register_jitable(**INLINED)(_function)

load8, store8 = loader(types.uint8), storer(types.uint8)
load16, store16 = loader(types.uint16), storer(types.uint16)
load64, store64 = loader(types.uint64), storer(types.uint64)
halves_scratch = scratch(2 * TILE + 128)  # 64 halves may be loaded at once past the end

U64 = types.uint64
POINTER = types.voidptr

_BLOCK = np.uint64(contract.BLOCK)
_LANES_LSB = np.uint64(0x0001000100010001)
_LANES_MSB = np.uint64(0x8000800080008000)
_HALF = np.uint64(0xFFFF)
_HALF_BITS = np.uint64(16)
_WORD_BYTES = np.uint64(8)
_HALF_BYTES = np.uint64(2)
_LANES = np.uint64(4)  # halves in a 64-bit word
_ZERO = np.uint64(0)
_ONE = np.uint64(1)


@device
def decision_bound(threshold: Any) -> Any:
    """Settled halves at or above this are kept. Never 0, so that a settled drop can be below."""
    return types.uint16(max(threshold >> _HALF_BITS, _ONE))


@device
def _maybe_tied(word: Any, pattern: Any, found: Any) -> Any:
    """Collect in `found` whether one of the four halves of a word ties.

    Some lane's top bit gets set if, and only if, a lane of ``word ^ pattern`` is zero. Which lane
    cannot be told (a borrow may mark lanes above it), but it costs three vector operations for 32
    elements (LLVM merges the last three into a ternary one), not a loop of its own.
    """
    lanes = word ^ pattern
    return found | ((lanes - _LANES_LSB) & ~lanes)


@functools.cache
def _settler() -> Any:
    """Routine ``(halves, at, n, index, seed, stream, threshold)``: settle n halves.

    They lie at byte `at`, and belong to the elements from `index` on. Never inlined: LLVM would
    compute level 1 for all elements and select, twenty times the work.
    """

    def settle(
        halves: Any, at: Any, n: Any, index: Any, seed: Any, stream: Any, threshold: Any
    ) -> None:
        for lane in range(n):
            place = at + _HALF_BYTES * lane
            if np.uint64(load16(halves, place)) == threshold >> _HALF_BITS:
                second = contract.half(seed, stream, index + lane, _ONE)
                dropped = second < (threshold & _HALF)
                store16(halves, place, types.uint16(0 if dropped else 0xFFFF))

    return routine("settle", settle, types.void(POINTER, *[U64] * 6))


@device
def _round_of_each(a: Any, b: Any, c: Any, d: Any) -> Any:
    return (
        contract.philox_round(*a),
        contract.philox_round(*b),
        contract.philox_round(*c),
        contract.philox_round(*d),
    )


@device
def _rounds_in_step(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the states of four chains after all rounds but the last."""
    a, b, c, d = _round_of_each(a, b, c, d)
    a, b, c, d = _round_of_each(a, b, c, d)
    a, b, c, d = _round_of_each(a, b, c, d)
    a, b, c, d = _round_of_each(a, b, c, d)
    a, b, c, d = _round_of_each(a, b, c, d)
    a, b, c, d = _round_of_each(a, b, c, d)
    a, b, c, d = _round_of_each(a, b, c, d)
    a, b, c, d = _round_of_each(a, b, c, d)
    return _round_of_each(a, b, c, d)


@device
def _put(halves: Any, at: Any, pair: Any, pattern: Any, found: Any) -> Any:
    """Write a block's halves, and return `found` with its ties collected."""
    low, high = pair
    store64(halves, at, low)
    store64(halves, at + _WORD_BYTES, high)
    return _maybe_tied(high, pattern, _maybe_tied(low, pattern, found))


@functools.cache
def drawer() -> Any:
    """Routine ``(halves, first, n, seed, stream, threshold)``: the settled halves of n elements.

    They begin at a multiple of ``GRANULE`` and must not go past a multiple of ``TILE``. Up to
    ``GRANULE - 1`` elements more are written, without meaning.
    """
    settle = _settler()

    def draw(halves: Any, first: Any, n: Any, seed: Any, stream: Any, threshold: Any) -> None:
        wide_vectors()
        k0, k1 = contract.split(seed)
        c2, c3 = contract.split(stream)
        # The blocks never straddle a multiple of 2**32, so the high counter word is one for all,
        # and with it half of the products of the first two rounds.
        c0, c1 = contract.split(first // _BLOCK)
        pattern = (threshold >> _HALF_BITS) * _LANES_LSB
        found = _ZERO
        for granule in range((n + np.uint64(GRANULE - 1)) // np.uint64(GRANULE)):
            base = c0 + granule * _GRANULE_BLOCKS
            for j in range(_CHAIN_BLOCKS):
                # Xor, not plus: LLVM knows how a sum goes on from lane to lane, guards against its
                # overflow, and then forgets that it has 32 bits, so that the first product becomes
                # a 64-bit one.
                a = (base ^ j, c1, c2, c3, k0, k1)
                b = (base ^ (j + _CHAIN_1), c1, c2, c3, k0, k1)
                c = (base ^ (j + _CHAIN_2), c1, c2, c3, k0, k1)
                d = (base ^ (j + _CHAIN_3), c1, c2, c3, k0, k1)
                a, b, c, d = _rounds_in_step(a, b, c, d)
                at = (granule * _GRANULE_BLOCKS + j) * _BLOCK_BYTES
                found = _put(halves, at, contract.philox_last_round(*a), pattern, found)
                at += _CHAIN_BYTES
                found = _put(halves, at, contract.philox_last_round(*b), pattern, found)
                at += _CHAIN_BYTES
                found = _put(halves, at, contract.philox_last_round(*c), pattern, found)
                at += _CHAIN_BYTES
                found = _put(halves, at, contract.philox_last_round(*d), pattern, found)
        if found & _LANES_MSB:
            for word in range((n + np.uint64(3)) // _LANES):
                at = word * _WORD_BYTES
                if _maybe_tied(load64(halves, at), pattern, _ZERO) & _LANES_MSB:
                    element = first + word * _LANES
                    settle(halves, at, _LANES, element, seed, stream, threshold)

    return routine("draw", draw, types.void(POINTER, *[U64] * 5))


@functools.cache
def scattered_drawer() -> Any:
    """Routine ``(halves, n, index, step, seed, stream, threshold)``: elements `step` apart.

    A Philox call for each element: the way that always works, for index steps above 1 without a
    panel.
    """
    settle = _settler()

    def draw_scattered(
        halves: Any, n: Any, index: Any, step: Any, seed: Any, stream: Any, threshold: Any
    ) -> None:
        wide_vectors()
        for t in range(n):
            half = contract.half(seed, stream, index + t * step, _ZERO)
            store16(halves, _HALF_BYTES * t, types.uint16(half))
        for t in range(n):
            if np.uint64(load16(halves, _HALF_BYTES * t)) == threshold >> _HALF_BITS:
                settle(halves, _HALF_BYTES * t, _ONE, index + t * step, seed, stream, threshold)

    return routine("draw-scattered", draw_scattered, types.void(POINTER, *[U64] * 6))


# A panel is PANEL_COLUMNS elements along the axis whose index step is 1, times PANEL_ROWS along
# another. Its halves are written column by column, PANEL_ROWS to each, as they will be used.
PANEL_ROWS = np.uint64(256)
PANEL_COLUMNS = np.uint64(64)
COLUMN_BYTES = np.uint64(2) * PANEL_ROWS
_TWO_COLUMNS, _THREE_COLUMNS = np.uint64(2) * COLUMN_BYTES, np.uint64(3) * COLUMN_BYTES
panel_scratch = scratch(int(PANEL_COLUMNS * COLUMN_BYTES))
_PLANE_BYTES = np.uint64(8) * PANEL_ROWS
_planes_scratch = scratch(18 * int(_PLANE_BYTES))


@functools.cache
def panel_drawer() -> Any:
    """Routine ``(halves, rows, columns, index, row_step, seed, stream, threshold)``.

    Writes the settled halves of the elements ``index + r * row_step + c``, column by column, and
    others without meaning to fill up the columns to a multiple of four.
    """
    settle = _settler()

    def draw_panel(
        halves: Any,
        rows: Any,
        columns: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
    ) -> None:
        wide_vectors()
        # Planes: a word of four halves of every row, then the next word of every row, so that the
        # rows are the lanes of a vector.
        planes = _planes_scratch()
        k0, k1 = contract.split(seed)
        c2, c3 = contract.split(stream)
        # A row of 64 elements may begin inside a block and then touches 9; if all rows begin at the
        # same place of theirs, it is known which.
        slack = index & np.uint64(7) if row_step & np.uint64(7) == _ZERO else np.uint64(7)
        for q in range((columns + slack + np.uint64(7)) >> np.uint64(3)):
            for r in range(rows):
                c0, c1 = contract.split(((index + r * row_step) >> np.uint64(3)) + q)
                low, high = contract.philox4x32_10(c0, c1, c2, c3, k0, k1)
                at = np.uint64(2) * q * _PLANE_BYTES + _WORD_BYTES * r
                store64(planes, at, low)
                store64(planes, at + _PLANE_BYTES, high)
        pattern = (threshold >> _HALF_BITS) * _LANES_LSB
        found = _ZERO
        for g in range((columns + np.uint64(3)) >> np.uint64(2)):
            for r in range(rows):
                # Rows begin at any of the 8 places of a block: word g of a row begins with its
                # 4g-th element and is made of planes g, g + 1 and g + 2.
                place = (index + r * row_step) & np.uint64(7)
                at = g * _PLANE_BYTES + _WORD_BYTES * r
                word0 = load64(planes, at)
                word1 = load64(planes, at + _PLANE_BYTES)
                word2 = load64(planes, at + _PLANE_BYTES + _PLANE_BYTES)
                # Not ``word1 if place >= 4 else word0``: LLVM would select addresses and gather.
                upper = _ZERO - (place >> np.uint64(2))
                near = word0 ^ ((word0 ^ word1) & upper)
                far = word1 ^ ((word1 ^ word2) & upper)
                shift = (place & np.uint64(3)) * _HALF_BITS
                # (far << 1) << (63 - shift) is far << (64 - shift), which may not be a shift by 64.
                word = (near >> shift) | ((far << _ONE) << (np.uint64(63) - shift))
                found = _maybe_tied(word, pattern, found)
                at = g * (_LANES * COLUMN_BYTES) + _HALF_BYTES * r
                # Written out: as a loop it is vectorised itself, four lanes wide.
                store16(halves, at, types.uint16(word))
                store16(halves, at + COLUMN_BYTES, types.uint16(word >> np.uint64(16)))
                store16(halves, at + _TWO_COLUMNS, types.uint16(word >> np.uint64(32)))
                store16(halves, at + _THREE_COLUMNS, types.uint16(word >> np.uint64(48)))
        if found & _LANES_MSB:
            for c in range(columns):
                for r in range(rows):
                    at = c * COLUMN_BYTES + _HALF_BYTES * r
                    if np.uint64(load16(halves, at)) == threshold >> _HALF_BITS:
                        element = index + r * row_step + c
                        settle(halves, at, _ONE, element, seed, stream, threshold)

    return routine("draw-panel", draw_panel, types.void(POINTER, *[U64] * 7))
