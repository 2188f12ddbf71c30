"""Apply: code and loops that load elements, apply an operation to them, and store the results.

`contiguous`, `tiles` and others call `apply_vector` for code that stays in registers. `transposed`
calls `any_loop`, which reads decisions from memory: a 16-bit keep mask (`storage.MARK`), or 32 bits
if the operation needs the uniform. All call the operation and its storage types.
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
# Prefetch distances in bytes: (input, output). The hardware prefetcher falls behind while bits are
# drawn. 16 Mi float32 on a Cascade Lake, November 2026, one thread, as times np.multiply: 0.94;
# without prefetches 1.42. Multiples of 512 are worse on one side or both. 4096, where prefetched
# and just written lines agree modulo 4 KiB, is much worse: (4096, 4096) 1.12, (2048, 2048) 1.00,
# (1024, 1024) 1.09, (2560, 512) 0.94, (3456, 1408) 0.93, (1408, 384) 0.95. At 1 Mi, which the L3
# cache holds, 1.07, with (4096, 4096) 1.21; float64 0.96 and 1.11. Nontemporal stores: 1.22.
AHEAD_BYTES = (2432, 640)
_MARK_BYTES = np.uint64(2)
_VECTOR = np.uint64(DRAWS)
_WORD = np.uint64(64)  # bits
_HALF_WORD = np.uint64(32)
_BYTE = np.uint64(0xFF)
_ZERO, _ONE, _THREE, _SIX, _SEVEN, _EIGHT, _LAST = (np.uint64(n) for n in (0, 1, 3, 6, 7, 8, 63))


def spread(lines: Sequence[Any], rounds: int, r: int) -> Sequence[Any]:
    """Return the part of a sequence for round r of `rounds`; all parts are about equally long."""
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
    """Apply an operation to the k-th `count` elements from x on, or to those where `where` is set.

    `decision` is the keep mask or, if the operation needs the uniform, what its `of_uniform`
    returned. `operands` are the operands of these elements.
    """
    given = read_vector(operation, decision.builder, x, k, count, where)
    put_vector(operation, decision, given, y, k, count, parameters, where, operands)


def read_vector(
    operation: Operation, builder: Any, x: Any, k: int, count: int, where: Lanes | None = None
) -> Lanes:
    """Load the k-th `count` elements from x on."""
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
    """Apply an operation to elements that were loaded, and store the results; see above."""
    source = operation.source
    kept = decision
    if operation.needs_uniform:
        kept = Lanes(decision.builder, ir.Constant(BIT, 1)).broadcast(count)
    # Operands of the storage type of x are in its lane order already.
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
    """Prefetch the cache lines of `count` contiguous elements, `AHEAD_BYTES` further on.

    For loops that only multiply, hardware does so, but late if vectors straddle cache lines, as in
    NumPy's large arrays: 16 Mi float32 11.3 ms, not 16.4; np.multiply 12.5 (Cascade Lake, 2026-11).
    """
    sides = (x, operation.source, False), (y, operation.target, True)
    for (pointer, storage, to_write), ahead in zip(sides, AHEAD_BYTES, strict=True):
        if pointer is not None:
            for at in range(0, count * storage.bits // 8, LINE_BYTES):
                prefetch(builder, pointer, at + ahead, to_write)


def elements(operation: Operation, count: int) -> Any:
    """Intrinsic ``(x, y, marks, value)``: `count` contiguous elements (0: one, no vector)."""

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
    """Routine ``(x, y, marks, n, value)``: contiguous elements, their decisions at `marks`."""
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
    """Inlined ``(x, xs, y, ys, marks, n, value)``: strided elements, xs and ys bytes apart."""
    marked = marked_loop(operation)
    in_size, out_size = sizes(operation)
    if operation.target is BITS:  # always contiguous

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
    """Return the bytes of an element's decision in memory: 2, or 4 if it needs the uniform."""
    size: np.uint64 = np.uint64(micro_tile_draw(operation).target.itemsize)
    return size


def units_of(operation: Operation) -> np.uint64:
    """Return the address units in a byte of the output: 8 where addresses count bits, else 1."""
    units: np.uint64 = np.uint64(8 if operation.target is BITS else 1)
    return units


def sizes(operation: Operation) -> tuple[np.uint64, np.uint64]:
    """Return the steps between contiguous elements of x and y, in bytes; of `BITS`, in bits."""
    units = 1 if operation.target is BITS else operation.target.itemsize
    return np.uint64(operation.source.itemsize), np.uint64(units)


@device
def write_bits(y: Any, bits: Any, n: Any) -> None:
    """OR the n lowest bits of a word into memory at the bit address y; its other bits are 0."""
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
    """Routine ``(y, bits, first, n)``: copy n bits, from bit `first` on, to the bit address y.

    Up to 16 bytes are read past the last bit.
    """

    def copy_bits(y: Any, bits: Any, first: Any, n: Any) -> None:
        # Bits up to a byte boundary of y, then whole words, then the rest.
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
