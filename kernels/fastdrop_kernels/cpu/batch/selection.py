"""Selection: which elements of a row have the k largest uniforms.

`keep` calls `choose`, which writes the mask of a row. The k-th largest uniform is searched for by
counting how many uniforms reach a threshold. They are uniform, so that each count says where to
look next. `counting` has the loops.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, clear_bytes, copy_bytes, scratch, wide_vectors
from ..codegen.target import MASKS
from ..elements.sampler import POINTER, U64, load32, load64, store8, store64
from .counting import (
    GATHERED,
    HAS_COMPRESS,
    MARKED,
    NONE,
    RANKED,
    SLACK,
    count_from,
    gather,
    largest_in,
    mark_from,
    nearest,
    rank_in,
)
from .draws import precedes

# Short rows, in which each element is compared with each, in vectors of one of these lengths. With
# 64 as well, rows of 64 take as long as by the search (Zen 5, November 2026).
_SHORT = (16, 32)
_NEWTON = np.uint64(12)  # steps before the search bisects; 5 are usual
# With AVX-512, the uniforms of a bracket are copied, and searched alone: 1 Mi in one row take 0.31
# ms and not 0.55, 1,024 of 196 0.12 and not 0.14 (Zen 5, November 2026). The bracket reaches so
# many standard deviations to either side, and has room for what rows of up to 4 Mi have there.
_DEVIATIONS = 2.0
_TIE = np.uint64(1 << 63)
_ALL = np.uint64(1 << 32)
_ZERO, _ONE, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 4, 8))
_SHORTEST, _LONGEST = map(np.uint64, _SHORT)
_GATHERED, _FEW, _RANKED = map(np.uint64, (GATHERED, 32, RANKED))
_WORD, _WORD_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
_MARKED = np.uint64(MARKED)

# Byte offsets in what `choose` is given of a row: the key, the mask index of the first element and
# the step to the next; and of `prepare_row`, the mean distance of uniforms and a bracket in which
# the k-th largest is likely to be.
_SEED, _STREAM, _INDEX, _STEP, _DISTANCE, _LOW, _HIGH = (np.uint64(8 * k) for k in range(7))
row_state = scratch(8 * 7)


@device
def set_row(state: Any, seed: Any, stream: Any, index: Any, step: Any) -> None:
    """Write what `choose` needs of a row to its state."""
    store64(state, _SEED, seed)
    store64(state, _STREAM, stream)
    store64(state, _INDEX, index)
    store64(state, _STEP, step)


@device
def prepare_row(state: Any, n: Any, k: Any) -> None:
    """Write what `choose` needs for rows of n elements of which k are kept."""
    distance = _ALL // n
    likely = (n - k) * distance
    # The number of uniforms above that is binomial.
    deviation = math.sqrt(float(k) * float(n - k) / float(n))
    width = np.uint64((_DEVIATIONS * deviation + 1.0) * float(distance))
    store64(state, _DISTANCE, distance)
    store64(state, _LOW, max(likely, width + _ONE) - width)
    store64(state, _HIGH, min(likely + width, _WORD))


def _search(u: Any, n: Any, k: Any, distance: Any, low: Any, high: Any) -> Any:
    """Return a threshold that k of n uniforms reach; or their tie, with `_TIE`.

    More than k uniforms reach `low`, and fewer `high`. They are `distance` apart on average. With
    `_TIE`, more than k uniforms are at least the result, and fewer than k above it.
    """
    threshold, steps = low + (high - low) // n * (n - k), _ZERO
    while True:
        threshold = max(low + _ONE, min(threshold, high - _ONE))
        count = count_from(u, n, threshold)
        if count == k:
            return threshold
        if count > k:
            low = threshold
        else:
            high = threshold
        if high - low == _ONE:
            return low | _TIE
        steps += _ONE
        if count == k + _ONE:
            threshold = (nearest(u, n, threshold) >> _WORD_BITS) + _ONE
        elif count + _ONE == k:
            threshold = nearest(u, n, threshold) & _WORD
        elif steps > _NEWTON:
            threshold = low + ((high - low) >> _ONE)
        elif count > k:
            threshold += (count - k) * distance
        else:
            threshold -= min(threshold, (k - count) * distance)


@functools.cache
@shielded
def choose() -> Any:
    """Routine ``(uniforms, n, k, y, state)``: write the mask of a row, in bytes.

    `SLACK` bytes behind the uniforms can be read. The state is a `row_state` after `prepare_row`
    and `set_row`.
    """
    search, is_behind = device(_search), precedes()
    ranked32, ranked64 = largest_in(32), largest_in(RANKED)
    rank16, rank32 = map(rank_in, _SHORT)
    end_memory, found_memory = scratch(max(MARKED, *_SHORT)), scratch(4 * GATHERED + SLACK)

    @device
    def mark(u: Any, n: Any, threshold: Any, y: Any, end: Any) -> None:
        mark_from(u, n, threshold, y, end)
        if not MASKS:
            rest = n % _MARKED
            copy_bytes(advance(y, n - rest), end, rest)

    @device
    def threshold_of(u: Any, n: Any, k: Any, state: Any, found: Any) -> Any:
        """Return what `search` does; with AVX-512 among the uniforms of the bracket."""
        distance = load64(state, _DISTANCE)
        if HAS_COMPRESS:
            low, high = load64(state, _LOW), load64(state, _HIGH)
            counts = gather(u, n, low, high, found)
            above, inside = counts >> _WORD_BITS, counts & _WORD
            if above < k and k < above + inside and inside <= _GATHERED:
                rest, threshold = k - above, NONE
                if inside <= _FEW:
                    threshold = ranked32(found, rest)
                elif inside <= _RANKED:
                    threshold = ranked64(found, rest)
                else:
                    return search(found, inside, rest, distance, low, high)
                if threshold != NONE:
                    return threshold
        return search(u, n, k, distance, _ZERO, _ALL)

    def best(u: Any, n: Any, tie: Any, state: Any, before: Any) -> Any:
        """Return the first in rank of the elements that tie, among those behind `before`."""
        seed, stream = load64(state, _SEED), load64(state, _STREAM)
        index, step, found = load64(state, _INDEX), load64(state, _STEP), NONE
        for j in range(n):
            if np.uint64(load32(u, _FOUR * j)) == tie:
                at = index + j * step
                if before != NONE and (
                    at == before or is_behind(seed, stream, at, before, _ONE) == 0
                ):
                    continue
                if found == NONE or is_behind(seed, stream, found, at, _ONE) != 0:
                    found = at
        return found

    best_of_tie = device(best)

    def run(u: Any, n: Any, k: Any, y: Any, state: Any) -> None:
        wide_vectors()
        if k == _ZERO:
            clear_bytes(y, n)
            return
        if k == n:
            for j in range(n):
                store8(y, j, types.uint8(1))
            return
        end = end_memory()
        if n <= _LONGEST:
            if n <= _SHORTEST:
                count = rank16(u, n, k, y, end)
            else:
                count = rank32(u, n, k, y, end)
            if not MASKS:
                copy_bytes(y, end, n)
            if count == k:
                return
        threshold = threshold_of(u, n, k, state, found_memory())
        if threshold < _TIE:
            mark(u, n, threshold, y, end)
            return
        tie, kept = threshold ^ _TIE, _ZERO
        for j in range(n):
            larger = np.uint64(load32(u, _FOUR * j)) > tie
            store8(y, j, types.uint8(larger))
            kept += np.uint64(larger)
        last, index, step = NONE, load64(state, _INDEX), load64(state, _STEP)
        while kept < k:
            last = best_of_tie(u, n, tie, state, last)
            store8(y, (last - index) // step, types.uint8(1))
            kept += _ONE

    return routine("choose", run, types.void(POINTER, U64, U64, POINTER, POINTER))
