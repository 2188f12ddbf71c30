"""The mask buffer: decisions for a range of mask indices, in the L1 cache.

`contiguous_loop` draws it in whole groups: one bit per element, or 32 bits if the operation needs
the uniform. The buffer keeps a range, so that rows close in the mask are drawn together, and rows
that share decisions find them again. `repeat_row` and `repeat_bits` put bits in memory order where
elements share them. Loops in `operands` and `tiles` call these functions.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, call_at, intrinsic, pointer_at, scratch
from ..codegen.vectors import BIT, I64, Lanes, load, store
from ..elements.operations import Operation
from ..elements.sampler import DRAWS, GROUP, POINTER, U64, load64, store64
from ..elements.storage import BITS
from .call_descriptor import BUFFER, END, FIRST
from .contiguous import CACHED, contiguous_loop

# By whether the operation needs the uniform: elements that are drawn at once if they are needed
# soon, and elements that fit the buffer beside an incomplete group at either end.
AHEAD = {False: np.uint64(2048), True: np.uint64(1024)}
_ROOM = {False: 1 << 15, True: 1 << 11}
BUFFER_BYTES = max(4 * (_ROOM[True] + 2 * GROUP), (_ROOM[False] + 2 * GROUP) // 8)
# Memory for the buffer of one kernel. Vectors may be loaded past the end.
buffer_scratch = scratch(BUFFER_BYTES + 4 * DRAWS + 16)

_GROUP = np.uint64(GROUP)
_ZERO, _ONE, _THREE, _FOUR, _SEVEN, _EIGHT = (np.uint64(n) for n in (0, 1, 3, 4, 7, 8))
PIECE = np.uint64(56)  # bits that are appended at once, at most
_SEVEN_BYTES = np.uint64(56)


def room(needs_uniform: bool) -> int:
    """Return how many elements of a row the buffer can keep."""
    return _ROOM[needs_uniform]


@functools.cache
def buffer_routine(drawn: Operation) -> Any:
    """Routine ``(element, m, reach, call)``: make the buffer hold m elements from `element` on.

    `drawn` is what `operations.buffer_draw` returns. The buffer of the call state then begins with
    the element FIRST, a multiple of `GROUP`. Up to `reach` elements will be needed soon.
    """
    needs_uniform, bits = drawn.needs_uniform, drawn.target.bits
    draw, ahead = contiguous_loop(drawn, CACHED), AHEAD[needs_uniform]
    capacity, group_bytes = (
        np.uint64(_ROOM[needs_uniform] + 2 * GROUP),
        np.uint64(GROUP * bits // 8),
    )
    units = np.uint64(8 if drawn.target is BITS else 1)  # addresses of bits count bits

    def provide(element: Any, m: Any, reach: Any, call: Any) -> None:
        first, end = load64(call, FIRST), load64(call, END)
        if element >= first and element + m <= end:
            return
        buffer = pointer_at(load64(call, BUFFER))
        begin = element - element % _GROUP
        if begin < first or begin >= end:
            end = begin
        moved, held = (begin - first) // _GROUP * group_bytes, (end - begin) // _GROUP * group_bytes
        for t in range(_ZERO, held, _EIGHT):  # upwards, because the ranges may overlap
            store64(buffer, t, load64(buffer, t + moved))
        n = max(element + m, min(element + reach, begin + ahead)) - end
        n += (_ZERO - n) % _GROUP
        n = min(n, begin + capacity - end)
        there = pointer_at((load64(call, BUFFER) + held) * units)
        draw(there, there, n, end, call)
        store64(call, FIRST, begin)
        store64(call, END, end + n)

    return routine(f"{drawn.name}-mask-buffer", provide, types.void(U64, U64, U64, POINTER))


@device
def close_step(n: Any, step: Any, short: Any) -> Any:
    """Return the index step from row to row if the bits of many rows are drawn together, else 0.

    They are if rows have n elements, at most `short`, with gaps of at most n / 4 in the mask.
    """
    return step if n <= short and step >= n and step - n <= n // _FOUR else _ZERO


@device
def ensure(provide: Any, element: Any, m: Any, reach: Any, call: Any) -> Any:
    """Call a `buffer_routine` if the buffer lacks any of m elements; return the first's place."""
    if element < load64(call, FIRST) or element + m > load64(call, END):
        call_at(provide, (element, m, reach, call))
    return element - load64(call, FIRST)


@device
def _low(n: Any) -> Any:
    """Return a word whose n lowest bits are set, n < 64."""
    return (_ONE << n) - _ONE


@device
def bits_at(bits: Any, at: Any, n: Any) -> Any:
    """Return n bits, at most `PIECE`, from the bit `at` on."""
    return (load64(bits, at >> _THREE) >> (at & _SEVEN)) & _low(n)


@device
def append(bits: Any, at: Any, held: Any, word: Any, n: Any) -> Any:
    """Write n bits, at most `PIECE`, at the bit `at`, and zeros after them.

    `held` has the bits before `at` in its byte. Returns those before the end in the last byte.
    """
    shift = at & _SEVEN
    both = held | word << shift
    store64(bits, at >> _THREE, both)
    return both >> ((shift + n) & _SEVEN_BYTES)


def _widened(times: int) -> Any:
    """Intrinsic ``(target, bits, at)``: repeat each of `DRAWS` bits `times` times."""

    @intrinsic
    def widened(typingctx: Any, target: Any, bits: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, bits, at = args
            byte = builder.lshr(at, ir.Constant(I64, 3))
            shift = builder.and_(at, ir.Constant(I64, 7))
            word = builder.lshr(load(builder, builder.gep(bits, [byte]), 0, I64, 0).value, shift)
            few = Lanes(builder, builder.trunc(word, ir.IntType(DRAWS))).bitcast(BIT)
            ty = ir.VectorType(ir.IntType(times), DRAWS)
            store(Lanes(builder, builder.sext(few.value, ty)), target, 0)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64), codegen

    return widened


@functools.cache
def repeat_bits() -> Any:
    """Routine ``(target, bits, at, n, times)``: repeat each of n bits from the bit `at` on.

    Up to 8 * `DRAWS` bytes are written past the end.
    """
    by_8, by_16, by_32, by_64 = (_widened(times) for times in (8, 16, 32, 64))
    vector, widths = np.uint64(DRAWS), tuple([np.uint64(k) for k in (8, 16, 32, 64)])
    eight, sixteen, thirty_two, sixty_four = widths

    def repeat(target: Any, bits: Any, at: Any, n: Any, times: Any) -> None:
        if times == eight:
            for t in range(_ZERO, n, vector):
                by_8(advance(target, t), bits, at + t)
        elif times == sixteen:
            for t in range(_ZERO, n, vector):
                by_16(advance(target, t * (sixteen >> _THREE)), bits, at + t)
        elif times == thirty_two:
            for t in range(_ZERO, n, vector):
                by_32(advance(target, t * (thirty_two >> _THREE)), bits, at + t)
        elif times == sixty_four:
            for t in range(_ZERO, n, vector):
                by_64(advance(target, t * (sixty_four >> _THREE)), bits, at + t)
        else:
            place, held = _ZERO, _ZERO
            for t in range(n):
                same = _ZERO - bits_at(bits, at + t, _ONE)
                left = times
                while left:
                    m = min(left, PIECE)
                    held = append(target, place, held, same & _low(m), m)
                    place += m
                    left -= m

    return routine("repeat-bits", repeat, types.void(POINTER, POINTER, *[U64] * 3))


@functools.cache
def repeat_row() -> Any:
    """Routine ``(target, place, bits, at, n, times) -> place``.

    Write a row of n bits, from the bit `at` on, `times` times at the bit `place`. Bits after the
    place are lost. Returns the place after the last row.
    """

    def repeat(target: Any, place: Any, bits: Any, at: Any, n: Any, times: Any) -> Any:
        held = bits_at(target, place - (place & _SEVEN), place & _SEVEN)
        if n <= PIECE:
            word = bits_at(bits, at, n)
            while n + n <= PIECE and times & _ONE == _ZERO:
                word |= word << n
                n += n
                times >>= _ONE
            for _ in range(times):
                held = append(target, place, held, word, n)
                place += n
            return place
        for _ in range(times):
            done = _ZERO
            while done < n:
                m = min(n - done, PIECE)
                held = append(target, place, held, bits_at(bits, at + done, m), m)
                place += m
                done += m
        return place

    return routine("repeat-row", repeat, U64(POINTER, U64, POINTER, *[U64] * 3))
