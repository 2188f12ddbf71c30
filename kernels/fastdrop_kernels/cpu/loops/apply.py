"""Apply: the loops that read elements, put an operation to each, and write them.

These find the decisions in memory, as marks (see `storage`): for elements that are not neighbours,
and for decisions that several elements share. One set of loops serves every operation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    address_of,
    advance,
    intrinsic,
    kept_bits,
    prefetch,
    wide_vectors,
)
from ..codegen.vectors import BIT, I16, I32, Lanes, load
from ..elements.operations import Operation, micro_tile_draw
from ..elements.sampler import DRAWS, POINTER, U64, load8, load64, store8, store64
from ..elements.storage import BITS

LINE_BYTES = 64  # of a cache line
# How many bytes ahead of (input, output) lines are asked for. The hardware's prefetcher falls
# behind while bits are drawn. 16 Mi float32 on a Cascade Lake, one thread, as times np.multiply:
# 0.94; not asking 1.42. Whole multiples of 512 bytes are worse on one side or both, and 4096, by
# which the lines asked for look like those just written, is much worse: (4096, 4096) 1.12,
# (2048, 2048) 1.00, (1024, 1024) 1.09, (2560, 512) 0.94, (3456, 1408) 0.93, (1408, 384) 0.95. At
# 1 Mi, which the third level holds, 1.07 against 1.21; float64 0.96 against 1.11. By
# nontemporal stores: 1.22.
AHEAD_BYTES = (2432, 640)
_MARK_BYTES = np.uint64(2)
_VECTOR = np.uint64(DRAWS)
_WORD = np.uint64(64)  # bits
_HALF_WORD = np.uint64(32)
_BYTE = np.uint64(0xFF)
_ZERO, _ONE, _THREE, _SIX, _SEVEN, _EIGHT, _LAST = (np.uint64(n) for n in (0, 1, 3, 6, 7, 8, 63))


def spread(lines: Sequence[Any], rounds: int, r: int) -> Sequence[Any]:
    """Return which of some lines to ask for in a round, so that all rounds do alike."""
    return lines[len(lines) * r // rounds : len(lines) * (r + 1) // rounds]


def apply_vector(
    operation: Operation,
    decision: Lanes,
    x: Any,
    y: Any,
    k: int,
    count: int,
    parameters: list[Lanes],
    where: Lanes | None = None,
    operands: Sequence[Lanes] = (),
) -> None:
    """Put an operation to the k-th `count` elements behind x, to those where `where` holds.

    `decision` says of each whether it is kept; where the operation is exact, it is its noise.
    `operands` are those of these elements.
    """
    given = read_vector(operation, decision.builder, x, k, count, where)
    put_vector(operation, decision, given, y, k, count, parameters, where, operands)


def read_vector(
    operation: Operation, builder: Any, x: Any, k: int, count: int, where: Lanes | None = None
) -> Lanes:
    """Load the k-th `count` elements behind x."""
    source = operation.source
    return source.load(builder, x, k * count * source.bits // 8, count, where)


def put_vector(
    operation: Operation,
    decision: Lanes,
    given: Lanes,
    y: Any,
    k: int,
    count: int,
    parameters: list[Lanes],
    where: Lanes | None = None,
    operands: Sequence[Lanes] = (),
) -> None:
    """Write what becomes of elements that were loaded."""
    source = operation.source
    kept = decision
    if operation.needs_uniform:
        kept = Lanes(decision.builder, ir.Constant(BIT, 1)).broadcast(count)
    # Those that are stored as x is are in the order of x already.
    parameters = [
        *[
            lanes if kind.arranged is source.arranged else source.arranged(lanes)
            for kind, lanes in zip(operation.operands, operands, strict=True)
        ],
        *parameters,
    ]
    if operation.needs_uniform:
        parameters = [source.arranged(decision), *parameters]
    a, b = operation.kept(given, *parameters), operation.dropped(given, *parameters)
    operation.target.store(kept, a, b, y, k * count * operation.target.bits // 8, where)


def ask_ahead(operation: Operation, builder: Any, x: Any, y: Any, count: int) -> None:
    """Ask for the lines that `count` neighbours take, so far on.

    Hardware does it by itself for loops that only multiply, but late where each vector lies in two
    lines, as NumPy aligns large arrays: 16 Mi float32 in 11.3 ms, not 16.4; np.multiply takes 12.5.
    """
    sides = (x, operation.source, False), (y, operation.target, True)
    for (pointer, storage, to_write), ahead in zip(sides, AHEAD_BYTES, strict=True):
        if pointer is not None:
            for at in range(0, count * storage.bits // 8, LINE_BYTES):
                prefetch(builder, pointer, at + ahead, to_write)


def elements(operation: Operation, count: int) -> Any:
    """Intrinsic ``(x, y, marks, value)``: `count` neighbours (0: one, no vector)."""

    @intrinsic
    def elements(typingctx: Any, x: Any, y: Any, marks: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, marks, value = args
            if operation.needs_uniform:
                decision = load(builder, marks, 0, I32, count)
            else:
                decision = load(builder, marks, 0, I16, count) >= 1
            parameters = operation.parameters(builder, value)
            ask_ahead(operation, builder, x, y, count)
            apply_vector(operation, decision, x, y, 0, count, parameters)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, POINTER, POINTER), codegen

    return elements


@functools.cache
def marked_loop(operation: Operation) -> Any:
    """Routine ``(x, y, marks, n, value)``: neighbours, whose marks are in memory."""
    if operation.target is BITS:
        return _pack_loop()
    many, one = elements(operation, DRAWS), elements(operation, 0)
    in_size, out_size = sizes(operation)
    decision_size = decision_bytes(operation)

    def marked(x: Any, y: Any, marks: Any, n: Any, value: Any) -> None:
        wide_vectors()
        whole = n - n % _VECTOR
        for t in range(_ZERO, whole, _VECTOR):
            mark = advance(marks, decision_size * t)
            many(advance(x, t * in_size), advance(y, t * out_size), mark, value)
        for t in range(whole, n):
            mark = advance(marks, decision_size * t)
            one(advance(x, t * in_size), advance(y, t * out_size), mark, value)

    signature = types.void(POINTER, POINTER, POINTER, U64, POINTER)
    return routine(f"{operation.name}-marked", marked, signature)


@functools.cache
def any_loop(operation: Operation) -> Any:
    """Inlined ``(x, xs, y, ys, marks, n, value)``: elements xs and ys bytes apart."""
    marked = marked_loop(operation)
    in_size, out_size = sizes(operation)
    if operation.target is BITS:  # always neighbours

        @device
        def packed(x: Any, xs: Any, y: Any, ys: Any, marks: Any, n: Any, value: Any) -> None:
            marked(x, y, marks, n, value)

        return packed
    one, decision_size = elements(operation, 0), decision_bytes(operation)

    def strided(x: Any, xs: Any, y: Any, ys: Any, marks: Any, n: Any, value: Any) -> None:
        for t in range(n):
            mark = advance(marks, decision_size * t)
            one(advance(x, t * xs), advance(y, t * ys), mark, value)

    signature = types.void(POINTER, U64, POINTER, U64, POINTER, U64, POINTER)
    apart = routine(f"{operation.name}-strided", strided, signature)

    @device
    def loop(x: Any, xs: Any, y: Any, ys: Any, marks: Any, n: Any, value: Any) -> None:
        if xs == in_size and ys == out_size:
            marked(x, y, marks, n, value)
        else:
            apart(x, xs, y, ys, marks, n, value)

    return loop


def decision_bytes(operation: Operation) -> np.uint64:
    """Return the bytes of an element's noise in memory: a mark, or 32 bits."""
    size: np.uint64 = np.uint64(micro_tile_draw(operation).target.itemsize)
    return size


def units_of(operation: Operation) -> np.uint64:
    """Return how many units of addresses a byte of the output has: 8 where they count bits."""
    units: np.uint64 = np.uint64(8 if operation.target is BITS else 1)
    return units


def sizes(operation: Operation) -> tuple[np.uint64, np.uint64]:
    """Return the steps between neighbours, in the units of addresses: bytes, or bits of `BITS`."""
    units = 1 if operation.target is BITS else operation.target.itemsize
    return np.uint64(operation.source.itemsize), np.uint64(units)


@device
def write_bits(y: Any, bits: Any, n: Any) -> None:
    """Or the n lowest bits of a word into memory at the bit address y; the others are 0."""
    bit = address_of(y)
    byte = advance(y, (bit >> _THREE) - bit)
    place = bit & _SEVEN
    if place == _ZERO and n == _WORD:
        store64(byte, _ZERO, bits)
        return
    first = load8(byte, _ZERO) | types.uint8((bits << place) & _BYTE)
    store8(byte, _ZERO, first)
    for k in range(_ONE, (place + n + _SEVEN) >> _THREE):
        rest = types.uint8((bits >> (_EIGHT * k - place)) & _BYTE)
        store8(byte, k, load8(byte, k) | rest)


@functools.cache
def bit_copier() -> Any:
    """Routine ``(y, bits, first, n)``: n bits from bit `first` on, to the bit address y.

    Up to 16 bytes are read behind the last.
    """

    def copy_bits(y: Any, bits: Any, first: Any, n: Any) -> None:
        # Up to a byte of y, then word by word, and what remains.
        done = _ZERO
        while done < n:
            at, bit = first + done, address_of(y) + done
            place, shift = at >> _THREE, at & _SEVEN
            ahead = (_EIGHT - (bit & _SEVEN)) & _SEVEN
            m = n - done
            if not ahead and m >= _WORD:
                to = advance(y, (bit >> _THREE) - address_of(y))
                for k in range(_ZERO, m >> _SIX):
                    low = load64(bits, place + _EIGHT * k) >> shift
                    # << 1 << (63 - shift) is << (64 - shift), which may not be a shift by 64.
                    high = load64(bits, place + _EIGHT * k + _EIGHT) << _ONE << (shift ^ _LAST)
                    store64(to, _EIGHT * k, low | high)
                done += m - m % _WORD
            else:
                m = min(m, ahead if ahead else _HALF_WORD)
                word = load64(bits, place) >> shift
                write_bits(advance(y, done), word & ((_ONE << m) - _ONE), m)
                done += m

    return routine("copy-bits", copy_bits, types.void(POINTER, POINTER, U64, U64))


def _pack_loop() -> Any:
    def pack(x: Any, y: Any, marks: Any, n: Any, value: Any) -> None:
        wide_vectors()
        for t in range(_ZERO, n, _WORD):
            m = min(_WORD, n - t)
            bits = kept_bits(marks, _MARK_BYTES * t)
            if m < _WORD:
                bits &= (_ONE << m) - _ONE
            write_bits(advance(y, t), bits, m)

    signature = types.void(POINTER, POINTER, POINTER, U64, POINTER)
    return routine("pack-marked", pack, signature)
