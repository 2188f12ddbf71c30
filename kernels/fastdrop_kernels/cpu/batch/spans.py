"""Masks of spans: a row's spans are drawn into a set of bits, which becomes its bytes.

`fastdrop._batch.spans` calls `spans`, with a plan for each row: its length without padding, and how
many spans or elements are masked. docs/contract.md says which draws decide what.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import device
from ..codegen.intrinsics import advance, clear_bytes, scratch
from ..elements.sampler import load32, load64
from ..loops.call_descriptor import SEED, STREAM
from ..loops.loop_nest import Kernel
from .bits import (
    add,
    add_few,
    add_range,
    has,
    population,
    trailing_zeros,
    window,
    word_of,
    words_of,
    write_kept,
)
from .draws import (
    SECOND_DRAW,
    call_state,
    draw32,
    set_derived_key,
    set_key,
    uniform_below,
    uniforms,
)
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at

_TILE = 256  # elements whose uniforms are drawn at once
_ZERO, _ONE, _TWO, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 4, 8))
_TILE_LENGTH, _WORD = np.uint64(_TILE), np.uint64(64)
_LOW = np.uint64(2**32 - 1)
_LOW_BITS = np.uint64(32)
# Byte offsets in the plan of a row; see `spans`. COUNT and ROUNDING are of spans, BUDGET and
# SEGMENTS of T5's and SpanBERT's elements and spans.
_VALID, _COUNT, _ROUNDING = (np.uint64(8 * k) for k in range(3))
_BUDGET, _SEGMENTS = _COUNT, _ROUNDING
_PLAN_BYTES = 24
# Words: bytes of a set, step from plan to plan, and what the kind needs.
_SET_BYTES, _PLAN_STEP, _FIRST, _SECOND = (np.uint64(k) for k in range(4))
# Keys of attempts beyond a row's elements: `derive` of this and the number of the round.
_ROUNDS = np.uint64(1 << 32)
_COST = 3.0  # relative to dropout, by which threads are chosen (Zen 5, November 2026)

_tile_memory = scratch(4 * _TILE)
_lengths_memory = scratch(4 * _TILE)


def scratch_words(rows: int, length: int) -> int:
    """Return how many words of memory `spans` needs beside the mask: none on the CPU."""
    return 0


def spans(
    mask: tuple[Array, Array],
    rows: Rows,
    seed: int,
    stream: int,
    kind: str,
    plans: npt.NDArray[np.uint64],
    numbers: tuple[int, int],
    thresholds: npt.NDArray[np.uint32],
) -> RowsCall | None:
    """Write a mask, of bytes in C order that are 0 in spans and else 1.

    Parameters
    ----------
    mask : (ndarray, ndarray)
        The mask, and scratch memory, which is not used here.
    rows, seed, stream
        The rows and their key.
    kind : str
        "overlapping" and "spaced" (of wav2vec 2.0), "spanbert" or "t5".
    plans : ndarray of uint64, of shape (rows or 1, 3)
        For each row or for all: its length without padding, and for spans of one length their
        number and the threshold of U below which it is one more; for "spanbert" the number of
        elements to mask, and 0; for "t5" that and the number of spans.
    numbers : (int, int)
        Of spans of one length: their length, and the least number of elements between them.
    thresholds : ndarray of uint32
        Of "spanbert": the length of a span is 1 plus how many of them a U reaches.
    """
    if not rows.length:
        return None
    words = words_of(rows.length)
    step = _PLAN_BYTES if len(plans) > 1 else 0
    more = (len(thresholds), 0) if kind == "spanbert" else numbers
    arrays = mask[0], plans, thresholds
    own = 3 * words, np.uint64
    return run_rows(_kernel(kind), rows, arrays, seed, stream, (8 * words, step, *more), _COST, own)


def prepare(dtype: np.dtype[Any]) -> None:
    """Compile all that `spans` needs, for any dtype, or load it from the cache."""
    for kind in _KINDS:
        _kernel(kind)


@device
def _place(u: Any, n: Any, seed: Any, stream: Any, index: Any, below: Any) -> Any:
    """Return an element's exact integer below n, by draw 1, which is u, and those after it."""
    product = u * n
    if product & _LOW < n:  # which n / 2**32 of them are, and some of these are rejected
        return below(seed, stream, index, _ONE, n)
    return product >> _LOW_BITS


def _chooser() -> Any:
    """Return ``choose(chosen, n, total, first, tile, seed, stream, index, call, spans, length)``.

    It adds n of `total` positions to a set: each subset is equally likely. By Floyd's rule: the
    i-th draws a position below ``total - n + 1 + i``; if that was chosen, the highest is instead.
    Element ``first + i`` draws it. If `length` is not 0, as many elements from the position on are
    added to the set `spans`. Source: Bentley and Floyd, "A sample of brilliance", CACM 30(9), 1987.
    """
    draw, below = uniforms(), uniform_below()

    @device
    def choose(
        chosen: Any,
        n: Any,
        total: Any,
        first: Any,
        tile: Any,
        seed: Any,
        stream: Any,
        index: Any,
        call: Any,
        spans: Any,
        length: Any,
    ) -> None:
        for begin in range(_ZERO, n, _TILE_LENGTH):
            here = index + first + begin
            many = min(_TILE_LENGTH, n - begin)
            draw(tile, tile, many, here + SECOND_DRAW, call)
            for k in range(_ZERO, many):
                highest = total - n + begin + k
                u = np.uint64(load32(tile, k * _FOUR))
                place = _place(u, highest + _ONE, seed, stream, here + k, below)
                if has(chosen, place):
                    place = highest
                add(chosen, place)
                if length:
                    if length <= _WORD:
                        add_few(spans, place, length)
                    else:
                        add_range(spans, place, length)

    return choose


def _overlapping() -> Callable[..., None]:
    """Return how a row's spans of one length are drawn, which may overlap."""
    choose, number = _chooser(), draw32()

    @device
    def draw_row(sets: Any, size: Any, plan: Any, words: Any, thresholds: Any, key: Any) -> None:
        seed, stream, index, call = key
        count, rounding = load64(plan, _COUNT), load64(plan, _ROUNDING)
        if rounding and number(seed, stream, index, _ZERO) < rounding:
            count += _ONE
        length, tile = word_at(words, _FIRST), _tile_memory()
        total = load64(plan, _VALID) - length + _ONE
        chosen = advance(sets, size)
        choose(chosen, count, total, _ZERO, tile, seed, stream, index, call, sets, length)

    return draw_row  # type: ignore[no-any-return]


def _spaced() -> Callable[..., None]:
    """Return how a row's spans of one length are drawn, which have elements between them."""
    choose, number = _chooser(), draw32()

    @device
    def draw_row(sets: Any, size: Any, plan: Any, words: Any, thresholds: Any, key: Any) -> None:
        seed, stream, index, call = key
        count, rounding = load64(plan, _COUNT), load64(plan, _ROUNDING)
        if rounding and number(seed, stream, index, _ZERO) < rounding:
            count += _ONE
        if not count:
            return
        length, tile = word_at(words, _FIRST), _tile_memory()
        # Without these elements of each but the first, starts are any of the others.
        apart = length + word_at(words, _SECOND) - _ONE
        total = load64(plan, _VALID) - length + _ONE - (count - _ONE) * apart
        chosen = advance(sets, size)
        choose(chosen, count, total, _ZERO, tile, seed, stream, index, call, sets, _ZERO)
        # Words without the positions that were taken: a search for the next from a position on is
        # a chain of dependent instructions, of twice the time.
        k, word = _ZERO, word_of(chosen, _ZERO)
        for skipped in range(_ZERO, count):
            while word == _ZERO:
                k += _ONE
                word = word_of(chosen, k)
            start = k * _WORD + trailing_zeros(word) + skipped * apart
            word &= word - _ONE
            if length <= _WORD:
                add_few(sets, start, length)
            else:
                add_range(sets, start, length)

    return draw_row  # type: ignore[no-any-return]


def _spanbert() -> Callable[..., None]:
    """Return how a row's spans are drawn whose lengths are by thresholds, up to a budget."""
    draw, below, derive = uniforms(), uniform_below(), set_derived_key()

    @device
    def draw_row(sets: Any, size: Any, plan: Any, words: Any, thresholds: Any, key: Any) -> None:
        seed, stream, index, call = key
        valid, left = load64(plan, _VALID), load64(plan, _BUDGET)
        steps = word_at(words, _FIRST)
        places, lengths = _tile_memory(), _lengths_memory()
        first, turn = _ZERO, _ZERO
        current_seed, current_stream = seed, stream
        while left:
            if first == valid:  # every element of the row has drawn
                first = _ZERO
                turn += _ONE
                derive(call, seed, stream, _ROUNDS + turn)
                current_seed, current_stream = load64(call, SEED), load64(call, STREAM)
            many = min(_TILE_LENGTH, valid - first)
            here = index + first
            draw(lengths, lengths, many, here, call)
            draw(places, places, many, here + SECOND_DRAW, call)
            k = _ZERO
            while left and k < many:
                u = np.uint64(load32(places, k * _FOUR))
                at = _place(u, valid, current_seed, current_stream, here + k, below)
                if not has(sets, at):
                    u = np.uint64(load32(lengths, k * _FOUR))
                    # All thresholds: a loop that ends at the first above u is mispredicted.
                    length = _ONE
                    for t in range(_ZERO, steps):
                        length += np.uint64(u >= load32(thresholds, t * _FOUR))
                    length = min(length, valid - at)
                    while length and left:
                        n = min(length, _WORD)
                        new = n - population(window(sets, at, n))
                        if new > left:  # one by one, up to the budget
                            n = _ONE
                            new = _ONE - has(sets, at)
                        add_few(sets, at, n)
                        left -= new
                        at += n
                        length -= n
                k += _ONE
            first += many

    return draw_row  # type: ignore[no-any-return]


def _t5() -> Callable[..., None]:
    """Return how a row is cut into as many gaps as spans, in turn, the first a gap."""
    choose = _chooser()

    @device
    def draw_row(sets: Any, size: Any, plan: Any, words: Any, thresholds: Any, key: Any) -> None:
        seed, stream, index, call = key
        masked, segments = load64(plan, _BUDGET), load64(plan, _SEGMENTS)
        if not masked:
            return
        kept, cuts, tile = load64(plan, _VALID) - masked, segments - _ONE, _tile_memory()
        of_spans, of_gaps = advance(sets, size), advance(sets, _TWO * size)
        where = tile, seed, stream, index, call
        choose(of_spans, cuts, masked - _ONE, _ZERO, *where, sets, _ZERO)
        choose(of_gaps, cuts, kept - _ONE, cuts, *where, sets, _ZERO)
        gap, gap_k, gap_word = _ZERO, _ZERO, word_of(of_gaps, _ZERO)
        span, span_k, span_word = _ZERO, _ZERO, word_of(of_spans, _ZERO)
        for _ in range(_ZERO, cuts):
            while gap_word == _ZERO:
                gap_k += _ONE
                gap_word = word_of(of_gaps, gap_k)
            while span_word == _ZERO:
                span_k += _ONE
                span_word = word_of(of_spans, span_k)
            gap = gap_k * _WORD + trailing_zeros(gap_word) + _ONE
            next_span = span_k * _WORD + trailing_zeros(span_word) + _ONE
            add_range(sets, gap + span, next_span - span)
            span = next_span
            gap_word &= gap_word - _ONE
            span_word &= span_word - _ONE
        add_range(sets, kept + span, masked - span)

    return draw_row  # type: ignore[no-any-return]


# By kind: how a row is drawn, and how many sets it needs.
_KINDS: dict[str, tuple[Callable[[], Callable[..., None]], int]] = {
    "overlapping": (_overlapping, 2),
    "spaced": (_spaced, 2),
    "spanbert": (_spanbert, 1),
    "t5": (_t5, 3),
}


@functools.cache
@shielded
def _kernel(kind: str) -> Kernel:
    make, sets_of_kind = _KINDS[kind]
    draw_row, write, sets_cleared = make(), write_kept(), np.uint64(sets_of_kind)

    def row(
        arrays: Any,
        words: Any,
        own: Any,
        r: Any,
        length: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        call, size = call_state(), word_at(words, _SET_BYTES)
        set_key(call, seed, stream)
        plan = advance(array_at(arrays, _ONE), r * word_at(words, _PLAN_STEP))
        clear_bytes(own, sets_cleared * size)
        draw_row(own, size, plan, words, array_at(arrays, _TWO), (seed, stream, index, call))
        write(own, advance(array_at(arrays, _ZERO), r * length), length)

    return row_kernel(f"spans-{kind}", row)
