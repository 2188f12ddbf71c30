"""The mask contract, version 1: which elements are dropped, and nothing else.

This is the only place in Python where the mask is defined. The functions take and return
``numpy.uint64`` scalars or arrays and use no names but each other's, so the same text serves three
times: called on arrays it is the reference, through ``numba.njit`` it is the CPU kernels, and
through ``numba.cuda.jit(device=True)`` it is device code. A change of one bit here is a new
version and a breaking release.

The generator is Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
as 1, 2, 3", SC'11. An element's index ``i`` is its position in C order in the mask's global shape.
One call of the generator serves the ``BLOCK = 8`` elements of block ``i // 8``, 16 bits each; a
second call, at level 1, gives 16 bits more, so that every element owns a 32-bit uniform ``U`` and
is dropped if and only if ``U < T``. Level 1 has to be drawn only where level 0 is a tie.

An element owns four uniforms, at two levels each. Draw 0 is ``U``; functions that need more of an
element, such as which token replaces it, take draws 1 to 3, and then those of derived keys.

State lives in 64-bit lanes whose high halves may hold rubbish between rounds: words are masked to
32 bits only where they enter a product. LLVM then needs one 32x32->64 multiplication per product
instead of a 64-bit one, which made the bits alone about three times faster.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

VERSION = 1
BLOCK = 8  # elements that one Philox call serves
DRAWS = 4  # 32-bit uniforms of an element, of two levels each; the mask's is draw 0
ALWAYS = 1 << 32  # the threshold that drops all: above every uniform

# A uint64 scalar or array in Python, a uint64 in compiled code.
U64: TypeAlias = Any
Pair: TypeAlias = tuple[U64, U64]
State: TypeAlias = tuple[U64, U64, U64, U64, U64, U64]

_WORD = np.uint64(0xFFFFFFFF)
_WORD_BITS = np.uint64(32)
_HALF = np.uint64(0xFFFF)
_HALF_BITS = np.uint64(16)
_LANE = np.uint64(7)
_BLOCK_SHIFT = np.uint64(3)
# Bits of counter word 1. Blocks are below 2**60, so bits 28 to 31 are free in masks: bit 31 is the
# lowest of the level, bits 28 and 29 the others.
_LEVEL_SHIFT = np.uint64(31)
_UPPER_LEVEL_SHIFT = np.uint64(28)
# Bit 30 keeps the counters of derived keys apart from all masks', and bit 31 those of `derive` from
# those of `fold_in`.
_FOLD = np.uint64(1 << 30)
_DERIVE = np.uint64(3 << 30)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_DRAWS = np.uint64(DRAWS)

MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_2 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)  # golden ratio
_WEYL_1 = np.uint64(0xBB67AE85)  # sqrt(3) - 1


def philox_round(c0: U64, c1: U64, c2: U64, c3: U64, k0: U64, k1: U64) -> State:
    """Return the counter words after one Philox4x32 round, and the key words of the next round."""
    p0 = MULTIPLIER_0 * (c0 & _WORD)
    p2 = _MULTIPLIER_2 * (c2 & _WORD)
    return (
        (p2 >> _WORD_BITS) ^ c1 ^ k0,
        p2,
        (p0 >> _WORD_BITS) ^ c3 ^ k1,
        p0,
        k0 + _WEYL_0,
        k1 + _WEYL_1,
    )


def philox_last_round(c0: U64, c1: U64, c2: U64, c3: U64, k0: U64, k1: U64) -> Pair:
    """Do the last round: output words 0 and 1 as one little-endian 64-bit word, and 2 and 3.

    That is a block's 8 halves in element order. Each pair is a product with its halves swapped,
    and nothing else has to be shifted or masked: 8% of all instructions less than packing words.
    """
    p0 = MULTIPLIER_0 * (c0 & _WORD)
    p2 = _MULTIPLIER_2 * (c2 & _WORD)
    low = ((p2 >> _WORD_BITS) | (p2 << _WORD_BITS)) ^ ((c1 ^ k0) & _WORD)
    high = ((p0 >> _WORD_BITS) | (p0 << _WORD_BITS)) ^ ((c3 ^ k1) & _WORD)
    return low, high


def philox_last_round_swapped(c0: U64, c1: U64, c2: U64, c3: U64, k0: U64, k1: U64) -> Pair:
    """Do the last round: output word 1 as the low and 0 as the high half of a word, and 3 and 2.

    For code that puts 32-bit words in order anyway: it needs neither a rotation nor a mask. The
    keys are those of `philox_last_round` shifted left by 32 bits; what their low halves hold is
    xored to words 1 and 3.
    """
    p0 = MULTIPLIER_0 * (c0 & _WORD)
    p2 = _MULTIPLIER_2 * (c2 & _WORD)
    return p2 ^ ((c1 << _WORD_BITS) ^ k0), p0 ^ ((c3 << _WORD_BITS) ^ k1)


def philox4x32_10(c0: U64, c1: U64, c2: U64, c3: U64, k0: U64, k1: U64) -> Pair:
    """Do Philox4x32-10: four counter words under two key words give four words, as two pairs."""
    # Written out: LLVM vectorises the loop around this only if the rounds are not a loop.
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3, k0, k1 = philox_round(c0, c1, c2, c3, k0, k1)
    return philox_last_round(c0, c1, c2, c3, k0, k1)


def split(value: U64) -> Pair:
    """Return the low and high 32-bit word of a 64-bit value."""
    return value & _WORD, value >> _WORD_BITS


def level_word(level: U64) -> U64:
    """Return what a level adds to counter word 1."""
    return ((level & _ONE) << _LEVEL_SHIFT) | ((level >> _ONE) << _UPPER_LEVEL_SHIFT)


def block_bits(seed: U64, stream: U64, block: U64, level: U64) -> Pair:
    """Return the 8 halves of elements ``8 * block`` to ``8 * block + 7`` at a level, 0 to 7.

    In element order from the lowest bits of the first word to the highest of the second.
    """
    k0, k1 = split(seed)
    c0, c1 = split(block)
    c2, c3 = split(stream)
    return philox4x32_10(c0, c1 + level_word(level), c2, c3, k0, k1)


def half(seed: U64, stream: U64, index: U64, level: U64) -> U64:
    """Return the 16 bits of element `index` at a level."""
    low, high = block_bits(seed, stream, index >> _BLOCK_SHIFT, level)
    lane = index & _LANE
    # Arithmetic selection: it vectorises, and means the same for arrays and scalars.
    upper = lane >> np.uint64(2)
    pair = low ^ ((low ^ high) * upper)
    return (pair >> ((lane & np.uint64(3)) * _HALF_BITS)) & _HALF


def uniform32(seed: U64, stream: U64, index: U64) -> U64:
    """Return the 32-bit uniform ``U`` of element `index`, an integer in ``[0, 2**32)``."""
    first = half(seed, stream, index, np.uint64(0))
    second = half(seed, stream, index, np.uint64(1))
    return (first << _HALF_BITS) | second


def draw32(seed: U64, stream: U64, index: U64, draw: U64) -> U64:
    """Return draw `draw`, 0 to 3, of element `index`: a 32-bit uniform. Draw 0 is `uniform32`."""
    level = draw << _ONE
    first = half(seed, stream, index, level)
    second = half(seed, stream, index, level | _ONE)
    return (first << _HALF_BITS) | second


def keep(seed: U64, stream: U64, index: U64, threshold: U64) -> Any:
    """Say whether element `index` is kept: its uniform is not below the threshold."""
    return uniform32(seed, stream, index) >= threshold


def fold_in(seed: U64, stream: U64, n: U64) -> Pair:
    """Return seed and stream of the `n`-th key derived from a key, ``0 <= n < 2**62``."""
    k0, k1 = split(seed)
    c0, c1 = split(n)
    c2, c3 = split(stream)
    return philox4x32_10(c0, c1 + _FOLD, c2, c3, k0, k1)


def derive(seed: U64, stream: U64, n: U64) -> Pair:
    """Return the `n`-th key for further draws, which no `fold_in` returns; ``0 <= n < 2**62``."""
    k0, k1 = split(seed)
    c0, c1 = split(n)
    c2, c3 = split(stream)
    return philox4x32_10(c0, c1 + _DERIVE, c2, c3, k0, k1)


def rejected_below(n: U64) -> U64:
    """Return ``2**32 mod n``: how many values of a uniform's product with n must be rejected."""
    return (_WORD % n + _ONE) % n


def uniform_below(seed: U64, stream: U64, index: U64, draw: U64, n: U64) -> U64:
    """Return a uniform integer in ``[0, n)`` of element `index`, for ``1 <= n <= 2**32``.

    It is ``u * n div 2**32`` of the first uniform u for which ``u * n mod 2**32`` is not below
    ``2**32 mod n``, so that every integer has as many u, exactly. The uniforms are the element's
    draws from `draw` on, then draws 0 to 3 under the keys `derive` 1, 2 and so on. Source: Lemire,
    "Fast random integer generation in an interval", TOMACS 29(1), 2019.
    """
    least = rejected_below(n)
    key, current, derived = (seed, stream), draw, _ZERO
    product = draw32(seed, stream, index, draw) * n
    while product & _WORD < least:
        current += _ONE
        if current == _DRAWS:
            current, derived = _ZERO, derived + _ONE
            key = derive(seed, stream, derived)
        product = draw32(key[0], key[1], index, current) * n
    return product >> _WORD_BITS


def outranks(seed: U64, stream: U64, a: U64, b: U64) -> Any:
    """Say whether element `a` comes before another, `b`, where elements of equal U are ranked.

    The one with the larger draw 1 comes first; if these are equal, too, that with the larger draw 2
    or 3, and then that with the larger of draws 0 to 3 under the keys `derive` 1, 2 and so on.
    """
    key, draw, derived = (seed, stream), _ONE, _ZERO
    first, second = draw32(seed, stream, a, draw), draw32(seed, stream, b, draw)
    while first == second:
        draw += _ONE
        if draw == _DRAWS:
            draw, derived = _ZERO, derived + _ONE
            key = derive(seed, stream, derived)
        first, second = draw32(key[0], key[1], a, draw), draw32(key[0], key[1], b, draw)
    return first > second


def threshold(p: float) -> int:
    """Return the integer ``T`` of a drop probability `p` in [0, 1]: dropped if, and only if, U < T.

    ``T = min(round_half_even(p * 2**32), 2**32 - 1)`` below p = 1, so p is exact to ``2**-33``.
    p = 1 gives ``2**32``, above every ``U``: everything is dropped.
    """
    if p >= 1.0:
        return ALWAYS
    return min(round(p * 4294967296.0), ALWAYS - 1)


def is_degenerate(threshold: int) -> bool:
    """Say whether one decision is that of all elements, so that nothing has to be drawn."""
    return threshold == 0 or threshold == ALWAYS


def scale(p: float) -> float:
    """Return the factor ``1 / (1 - p)`` of kept elements, in float64; 0 where nothing is kept."""
    return 1.0 / (1.0 - p) if p < 1.0 else 0.0


# What compiled code may call, in the order of use. `threshold` and `scale` are for the host.
COMPILED = (
    philox_round,
    philox_last_round,
    philox4x32_10,
    split,
    level_word,
    block_bits,
    half,
    uniform32,
    draw32,
    keep,
    fold_in,
    derive,
    rejected_below,
    uniform_below,
    outranks,
)
