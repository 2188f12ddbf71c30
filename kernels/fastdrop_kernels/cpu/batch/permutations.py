"""A permutation of the rows of each column, by sorting their draws.

`swap` calls `permutations`. Draws are spread evenly, so a radix sort by their highest bits brings
them in an order in which few are out of place; insertion does the rest, and compares equal draws by
the next ones.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import device
from ..codegen.intrinsics import advance, clear_bytes, scratch, storer, wide_vectors
from ..elements.sampler import load32, load64, store64
from ..loops.loop_nest import Kernel
from .draws import SECOND_DRAW, call_state, precedes, set_key, uniforms
from .rows import Array, array_at, row_kernel, run_rows, word_at

_TILE = 2048  # draws at once: 8 KiB, which stay in the L1 cache
_MOST_BITS = 11  # of a digit; their counts, and the lines that are being written, stay in the cache
_COST = 20.0  # relative to dropout (Zen 5, November 2026)
_ZERO, _ONE, _TWO, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 4, 8))
_WORD_BITS, _WORD = np.uint64(32), np.uint64(0xFFFFFFFF)

store32 = storer(types.uint32)


def permutations(y: Array, seed: int, stream: int) -> None:
    """Write to each row of y, of uint32 and in C order, the order of its elements' draws.

    Draws are those from draw 1 on of the elements of y. So row c is the permutation of column c of
    a table, of which y is the transpose.
    """
    columns, n = y.shape
    rows = Rows(columns, n, n, 0, n)
    # With 64 times as many values as there are rows, few entries are out of place, and branches of
    # the insertion are seldom predicted wrong: 100,000 rows take 0.32 ms, and 0.65 with 4 times as
    # many (Zen 5, November 2026).
    bits = min(_MOST_BITS, (n.bit_length() + 1) // 2 + 3)
    run_rows(_kernel(), rows, (y,), seed, stream, [bits], _COST, own=(2 * n, np.uint64))


def prepare_permutations() -> None:
    """Compile all that `permutations` needs, or load it from the cache."""
    _kernel()


@device
def count(counts: Any, k: Any) -> Any:
    """Add 1 to the k-th count, a uint32, and return what it was."""
    before = load32(counts, _FOUR * k)
    store32(counts, _FOUR * k, before + types.uint32(1))
    return np.uint64(before)


@device
def become_places(counts: Any, n: Any) -> None:
    """Replace counts by their sums before each: the places where what was counted begins."""
    total = types.uint32(0)
    for k in range(_ZERO, n):
        here = load32(counts, _FOUR * k)
        store32(counts, _FOUR * k, total)
        total += here


@functools.cache
@shielded
def _kernel() -> Kernel:
    """Kernel of `permutations`. Word: the bits of a digit. Own memory: 16 bytes an element.

    An entry is a draw, above the row's number. Entries are scattered by the second digit to the one
    half of the memory, and by the first digit to the other.
    """
    draw, before = uniforms(), precedes()
    tile_memory, count_memory = scratch(4 * _TILE), scratch(8 << _MOST_BITS)
    tile = np.uint64(_TILE)

    def column(
        arrays: Any,
        words: Any,
        own: Any,
        r: Any,
        n: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        wide_vectors()
        call, drawn, first = call_state(), tile_memory(), count_memory()
        set_key(call, seed, stream)
        bits = word_at(words, _ZERO)
        values = _ONE << bits
        second = advance(first, _FOUR * values)
        low, high, mask = _WORD_BITS - _TWO * bits, _WORD_BITS - bits, values - _ONE
        clear_bytes(first, _EIGHT * values)
        for k in range(_ZERO, n, tile):
            m = min(tile, n - k)
            draw(drawn, drawn, m, index + k + SECOND_DRAW, call)
            for t in range(_ZERO, m):
                u = np.uint64(load32(drawn, _FOUR * t))
                count(second, (u >> low) & mask)
                count(first, u >> high)
        become_places(first, values)
        become_places(second, values)
        made, other = own, advance(own, _EIGHT * n)
        for k in range(_ZERO, n, tile):
            m = min(tile, n - k)
            draw(drawn, drawn, m, index + k + SECOND_DRAW, call)
            for t in range(_ZERO, m):
                u = np.uint64(load32(drawn, _FOUR * t))
                place = count(second, (u >> low) & mask)
                store64(made, _EIGHT * place, (u << _WORD_BITS) | (k + t))
        for k in range(_ZERO, n):
            entry = load64(made, _EIGHT * k)
            place = count(first, entry >> (_WORD_BITS + high))
            store64(other, _EIGHT * place, entry)
        y = advance(array_at(arrays, _ZERO), _FOUR * r * n)
        for k in range(_ONE, n):
            entry, place = load64(other, _EIGHT * k), k
            while place:
                left = load64(other, _EIGHT * (place - _ONE))
                if left >> _WORD_BITS < entry >> _WORD_BITS:
                    break
                if left >> _WORD_BITS == entry >> _WORD_BITS:
                    i, j = index + (entry & _WORD), index + (left & _WORD)
                    if not before(seed, stream, i, j, _TWO):
                        break
                store64(other, _EIGHT * place, left)
                place -= _ONE
            store64(other, _EIGHT * place, entry)
        for k in range(_ZERO, n):
            store32(y, _FOUR * k, types.uint32(load64(other, _EIGHT * k) & _WORD))

    return row_kernel("permutations", column)
