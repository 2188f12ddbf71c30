"""Apply: code that loads elements, applies an operation to them, and stores the results.

The loops call `apply_vector` for a vector of elements whose decisions are in registers; it calls
the operation and its storage types. `bit_copier` copies packed bits from any bit to any bit.
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
    prefetch,
)
from ..codegen.vectors import BIT, I64, Lanes
from ..elements.operations import Operation
from ..elements.sampler import POINTER, U64, load8, load64, store8, store64
from ..elements.storage import BITS, Storage

LINE_BYTES = 64  # of a cache line
# Prefetch distances in bytes: (input, output). The hardware prefetcher falls behind while bits are
# drawn. 16 Mi float32 on a Cascade Lake, November 2026, one thread, as times np.multiply: 0.94;
# without prefetches 1.42. Multiples of 512 are worse on one side or both. 4096, where prefetched
# and just written lines agree modulo 4 KiB, is much worse: (4096, 4096) 1.12, (2048, 2048) 1.00,
# (1024, 1024) 1.09, (2560, 512) 0.94, (3456, 1408) 0.93, (1408, 384) 0.95. At 1 Mi, which the L3
# cache holds, 1.07, with (4096, 4096) 1.21; float64 0.96 and 1.11. Nontemporal stores: 1.22.
AHEAD_BYTES = (2432, 640)
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


def inputs_from(builder: Any, inputs: Any, kinds: Sequence[Storage], done: Any) -> list[Any]:
    """Return pointers to elements number `done` of x and the operands, in storage types `kinds`.

    `inputs` points to the addresses of their first elements.
    """
    addresses = builder.bitcast(inputs, I64.as_pointer())
    pointers = []
    for k, kind in enumerate(kinds):
        address = builder.load(builder.gep(addresses, [ir.Constant(I64, k)]))
        skipped = builder.mul(done, ir.Constant(I64, kind.itemsize))
        pointers.append(builder.inttoptr(builder.add(address, skipped), inputs.type))
    return pointers


def ask_ahead(operation: Operation, builder: Any, x: Any, y: Any, count: int) -> None:
    """Prefetch the cache lines of `count` contiguous elements, `AHEAD_BYTES` further on.

    None in the place of x or y is a side that is not prefetched.

    For loops that only multiply, hardware does so, but late if vectors straddle cache lines, as in
    NumPy's large arrays: 16 Mi float32 11.3 ms, not 16.4; np.multiply 12.5 (Cascade Lake, 2026-11).
    """
    sides = (x, operation.source, False), (y, operation.target, True)
    for (pointer, storage, to_write), ahead in zip(sides, AHEAD_BYTES, strict=True):
        if pointer is not None:
            for at in range(0, count * storage.bits // 8, LINE_BYTES):
                prefetch(builder, pointer, at + ahead, to_write)


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
