"""Bands of two axes filled with a value, as SpecAugment does: in a new array, or in place.

`fastdrop._batch.spec_augment` calls `spec_augment`. Elements along the last of the two axes, and
those behind it, are a line. Each sample's bands are drawn first. Then lines within a band are
filled, and of the others the bits of `batch.bits` say which elements are.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...rows import BandGeometry, Rows
from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    advance,
    clear_bytes,
    copy_bytes,
    intrinsic,
    scratch,
    wide_vectors,
)
from ..codegen.target import NONTEMPORAL as NONTEMPORAL_IS_FAST
from ..codegen.target import VECTOR_BYTES
from ..codegen.vectors import I64, load, store
from ..elements.operations import Operation
from ..elements.sampler import POINTER, U64, load64, store64
from ..host import call_plan
from ..host.catalogue import operation_by_name
from ..loops.contiguous import NONTEMPORAL, PREFETCH, READ
from ..loops.loop_nest import Kernel
from ..loops.mask_buffer import repeat_row
from ..loops.tiles import all_or_none_loop, put_side, tile_loop
from .bits import add_range, words_of
from .draws import uniform_below
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at

_TILE = 1 << 14  # elements of lines whose bits are repeated, so that one call serves many lines
_SLACK = 4  # words behind bits that are read or written
# 64 x 1,000 x 80 float16 take 0.36 ms if cache lines of y are prefetched, too, and 0.30 if not;
# float32 0.92, 0.79, and with nontemporal stores 0.60 ms, where a copy takes 0.62. A copy whose
# bands are filled while it is in the cache takes 0.34 and 0.87 (Zen 5, December 2026).
_ACCESS = READ if NONTEMPORAL_IS_FAST else PREFETCH
_ZERO, _ONE, _TWO, _THREE, _SIX, _SEVEN = (np.uint64(n) for n in (0, 1, 2, 3, 6, 7))
_EIGHT, _SIXTEEN, _LAST, _ALL = (np.uint64(n) for n in (8, 16, 63, 2**64 - 1))
# Words: steps in elements from sample to sample, along three groups of channels (the last two of
# these lengths), and along the outer axis; the lengths of all channels and of the outer axis, and
# of a line; what an index of the inner axis is in elements; whether that is time; numbers of bands,
# length of the frequency axis, most of a band there; byte steps from plan to plan and value to
# value; whether x is y; where own memory has the bits of a line, and of a tile of lines, of how
# many; and whether stores are nontemporal.
(
    _SAMPLE, _STEP_0, _STEP_1, _STEP_2, _LENGTH_1, _LENGTH_2, _OUTER_STEP, _CHANNELS, _OUTER,
    _LINE, _SCALE, _TIME_IS_INNER, _TIMES, _FREQUENCIES, _FREQUENCY_LENGTH, _FREQUENCY_WIDTH,
    _PLAN_STEP, _VALUE_STEP, _IN_PLACE, _BITS, _TILE_BITS, _TILE_LINES, _STREAMS,
) = (np.uint64(k) for k in range(23))  # fmt: skip
_PLAN_BYTES = 16


def scratch_words(samples: int, bands: int) -> int:
    """Return how many words of memory `spec_augment` needs beside the result: none on the CPU."""
    return 0


def spec_augment(
    y: tuple[Array, Array],
    rows: Rows,
    seed: int,
    stream: int,
    x: Array,
    geometry: BandGeometry,
    bands: tuple[int, int, int, int],
    plans: npt.NDArray[np.uint64],
    values: Array,
    in_place: bool,
) -> RowsCall | None:
    """Copy x to y, with bands filled, both in C order.

    Parameters
    ----------
    y : (ndarray, ndarray)
        The result, and scratch memory, which is not used here.
    rows, seed, stream
        A row for each sample, and their key.
    x : ndarray
        The input.
    geometry : BandGeometry
        Where samples and lines lie.
    bands : (int, int, int, int)
        Numbers of bands of time and frequency, length of the frequency axis, most of a band there.
    plans : ndarray of uint64, of shape (samples or 1, 2)
        For each sample or for all: its length along time without padding, most of a band there.
    values : ndarray of the dtype of x, of shape (samples,) or (1,)
        What fills bands.
    in_place : bool
        Whether y is x; then only elements in bands are written.
    """
    itemsize = x.dtype.itemsize
    line = words_of(geometry.line) + _SLACK
    tile_lines = max(1, min(_TILE // max(1, geometry.line), geometry.outer))
    of_bands = 2 * (bands[0] + bands[1])
    tile = words_of(tile_lines * geometry.line) + _SLACK
    steps = _PLAN_BYTES if len(plans) > 1 else 0, itemsize if len(values) > 1 else 0
    places = 8 * of_bands, 8 * (of_bands + line), tile_lines
    streams = not in_place and call_plan.is_nontemporal(_fill(itemsize), x.nbytes)
    words = (*geometry, *bands, *steps, int(in_place), *places, int(streams))
    own = of_bands + line + tile, np.uint64
    arrays = y[0], x, plans, values
    return run_rows(_kernel(itemsize), rows, arrays, seed, stream, words, 1.0, own)


def prepare(dtype: np.dtype[Any]) -> None:
    """Compile all that `spec_augment` needs for a dtype, or load it from the cache."""
    _kernel(dtype.itemsize)


def _fill(itemsize: int) -> Operation:
    return operation_by_name("fill", "", itemsize)


@functools.cache
@shielded
def _kernel(itemsize: int) -> Kernel:
    """Kernel of `spec_augment`, for elements of a size."""
    fill = _fill(itemsize)
    by_bits, all_or_none = tile_loop(fill, _ACCESS), all_or_none_loop(fill)
    by_lines = tile_loop(fill, NONTEMPORAL) if NONTEMPORAL_IS_FAST else by_bits
    below, repeat = uniform_below(), repeat_row()
    fill_columns = _fill_columns(itemsize)
    sides_memory, size = scratch(16), np.uint64(itemsize)

    @device
    def draw(bands: Any, plan: Any, words: Any, seed: Any, stream: Any, index: Any) -> None:
        times = word_at(words, _TIMES)
        for b in range(_ZERO, times + word_at(words, _FREQUENCIES)):
            if b < times:
                length, widest = load64(plan, _ZERO), load64(plan, _EIGHT)
            else:
                length = word_at(words, _FREQUENCY_LENGTH)
                widest = word_at(words, _FREQUENCY_WIDTH)
            element = index + _TWO * b
            width = below(seed, stream, element, _ZERO, widest + _ONE)
            start = below(seed, stream, element + _ONE, _ZERO, length - width + _ONE)
            store64(bands, _SIXTEEN * b, start)
            store64(bands, _SIXTEEN * b + _EIGHT, start + width)

    @device
    def make_bits(own: Any, first: Any, end: Any, words: Any) -> None:
        """Write the keep bits of a line in the bands from `first` to `end`, and of a tile."""
        bits, line = advance(own, word_at(words, _BITS)), word_at(words, _LINE)
        scale = word_at(words, _SCALE)
        many = (line + _LAST) >> _SIX
        clear_bytes(bits, (many + _ONE) * _EIGHT)
        for b in range(first, end):
            begin, behind = load64(own, _SIXTEEN * b), load64(own, _SIXTEEN * b + _EIGHT)
            add_range(bits, begin * scale, (behind - begin) * scale)
        for k in range(_ZERO, many):
            store64(bits, k * _EIGHT, load64(bits, k * _EIGHT) ^ _ALL)
        tile = advance(own, word_at(words, _TILE_BITS))
        # Eight lines are whole bytes, which are copied.
        done, wanted = min(_EIGHT, word_at(words, _TILE_LINES)), word_at(words, _TILE_LINES)
        repeat(tile, _ZERO, bits, _ZERO, line, done)
        while done < wanted:
            more = min(done, wanted - done)
            copy_bytes(advance(tile, done * line // _EIGHT), tile, (more * line + _SEVEN) // _EIGHT)
            done += more

    @device
    def fill_lines(x: Any, y: Any, lines: Any, valid: Any, value: Any, words: Any) -> None:
        """Fill the first `valid` elements of lines."""
        line, step = word_at(words, _LINE), word_at(words, _OUTER_STEP)
        if line == valid and line == step:
            all_or_none(x, y, _ZERO, lines * line, value)
            return
        for k in range(_ZERO, lines):
            at = k * step * size
            all_or_none(advance(x, at), advance(y, at), _ZERO, valid, value)
            if valid < line and not word_at(words, _IN_PLACE):
                at += valid * size
                all_or_none(advance(x, at), advance(y, at), _ONE, line - valid, value)

    @device
    def copy_lines(x: Any, y: Any, lines: Any, words: Any) -> None:
        line, step = word_at(words, _LINE), word_at(words, _OUTER_STEP)
        if word_at(words, _IN_PLACE):
            return
        if line == step:
            copy_bytes(y, x, lines * line * size)
            return
        for k in range(_ZERO, lines):
            at = k * step * size
            copy_bytes(advance(y, at), advance(x, at), line * size)

    @device
    def fill_bands(
        x: Any, y: Any, lines: Any, own: Any, first: Any, end: Any, value: Any, words: Any
    ) -> None:
        """Fill the elements of lines in the bands from `first` to `end`, and copy the others."""
        line, step = word_at(words, _LINE), word_at(words, _OUTER_STEP)
        if word_at(words, _IN_PLACE):
            scale = word_at(words, _SCALE)
            for b in range(first, end):
                begin, behind = load64(own, _SIXTEEN * b), load64(own, _SIXTEEN * b + _EIGHT)
                if begin < behind:
                    at = advance(y, begin * scale * size)
                    fill_columns(at, step * size, lines, (behind - begin) * scale, value)
            return
        sides, tile = sides_memory(), advance(own, word_at(words, _TILE_BITS))
        at_once = word_at(words, _TILE_LINES) if line == step else _ONE
        for k in range(_ZERO, lines, at_once):
            at = k * step * size
            put_side(sides, _ZERO, advance(x, at), size)
            n = min(at_once, lines - k) * line
            if word_at(words, _STREAMS):
                by_lines(sides, advance(y, at), tile, _ZERO, n, value)
            else:
                by_bits(sides, advance(y, at), tile, _ZERO, n, value)

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
        plan = advance(array_at(arrays, _TWO), r * word_at(words, _PLAN_STEP))
        value = advance(array_at(arrays, _THREE), r * word_at(words, _VALUE_STEP))
        draw(own, plan, words, seed, stream, index)
        times, outer = word_at(words, _TIMES), word_at(words, _OUTER)
        every = times + word_at(words, _FREQUENCIES)
        if word_at(words, _TIME_IS_INNER):
            inner_first, inner_end, outer_first, outer_end = _ZERO, times, times, every
            outer_valid, valid = outer, load64(plan, _ZERO) * word_at(words, _SCALE)
        else:
            inner_first, inner_end, outer_first, outer_end = times, every, _ZERO, times
            outer_valid, valid = load64(plan, _ZERO), word_at(words, _LINE)
        if not word_at(words, _IN_PLACE):
            make_bits(own, inner_first, inner_end, words)
        length_1, length_2 = word_at(words, _LENGTH_1), word_at(words, _LENGTH_2)
        for channel in range(_ZERO, word_at(words, _CHANNELS)):
            start = r * word_at(words, _SAMPLE)
            start += channel // (length_1 * length_2) * word_at(words, _STEP_0)
            start += channel // length_2 % length_1 * word_at(words, _STEP_1)
            start += channel % length_2 * word_at(words, _STEP_2)
            line = _ZERO
            while line < outer:
                # As many lines as are alike.
                is_filled, end = _ZERO, outer_valid
                for b in range(outer_first, outer_end):
                    begin, behind = load64(own, _SIXTEEN * b), load64(own, _SIXTEEN * b + _EIGHT)
                    if line < behind and begin <= line:
                        is_filled, end = _ONE, behind
                if not is_filled:
                    for b in range(outer_first, outer_end):
                        begin = load64(own, _SIXTEEN * b)
                        if begin > line:
                            end = min(end, begin)
                if line >= outer_valid:
                    end = outer
                at = (start + line * word_at(words, _OUTER_STEP)) * size
                y, x = advance(array_at(arrays, _ZERO), at), advance(array_at(arrays, _ONE), at)
                if line >= outer_valid:
                    copy_lines(x, y, end - line, words)
                elif is_filled:
                    fill_lines(x, y, end - line, valid, value, words)
                else:
                    fill_bands(x, y, end - line, own, inner_first, inner_end, value, words)
                line = end

    return row_kernel(f"spec-augment-{itemsize}", row)


@functools.cache
def _fill_columns(itemsize: int) -> Any:
    """Routine ``(y, step, lines, n, value)``: fill n elements of lines that are `step` bytes apart.

    The last vector of a line ends where its band does, and overlaps the one before, so that all
    are whole. Called for each line, `all_or_none_loop` takes four times as long for bands of a few
    elements.
    """
    most = VECTOR_BYTES // itemsize
    element = ir.IntType(8 * itemsize)

    @intrinsic
    def fill(typingctx: Any, y: Any, step: Any, lines: Any, n: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            y, step, lines, n, value = args
            one = load(builder, value, 0, element, 0)

            def fill_by(count: int) -> None:
                # Two vectors in a turn: bands seldom have more, and each turn reads lines again.
                many, pair = one.broadcast(count), ir.Constant(I64, 2 * count)
                last = builder.sub(n, ir.Constant(I64, count))
                turns = builder.udiv(builder.add(n, ir.Constant(I64, 2 * count - 1)), pair)
                with cgutils.for_range(builder, turns) as loop:
                    at = builder.mul(loop.index, pair)
                    firsts = []
                    for k in range(2):
                        here = builder.add(at, ir.Constant(I64, k * count))
                        here = builder.select(builder.icmp_unsigned("<", here, last), here, last)
                        here = builder.mul(here, ir.Constant(I64, itemsize))
                        firsts.append(builder.gep(y, [here]))
                    with cgutils.for_range(builder, lines) as line:
                        place = builder.mul(line.index, step)
                        for first in firsts:
                            store(many, builder.gep(first, [place]), 0)

            count = most
            while count:
                is_of = builder.icmp_unsigned(">=", n, ir.Constant(I64, count))
                if count < most:
                    below = builder.icmp_unsigned("<", n, ir.Constant(I64, 2 * count))
                    is_of = builder.and_(is_of, below)
                with builder.if_then(is_of):
                    fill_by(count)
                count //= 2
            return context.get_dummy_value()

        return types.void(POINTER, U64, U64, U64, POINTER), codegen

    def run(y: Any, step: Any, lines: Any, n: Any, value: Any) -> None:
        wide_vectors()
        fill(y, step, lines, n, value)

    signature = types.void(POINTER, U64, U64, U64, POINTER)
    return routine(f"fill-columns-{itemsize}", run, signature)
