"""Apply: the loops that read elements, put an operation to each, and write them.

Halves come settled from `bits`; a loop compares, so that an element is decided while it is in a
register. One set of loops serves every operation.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from .bits import POINTER, U64, load8, load16, store8, store64
from .compiler import device, routine
from .intrinsics import address_of, advance, kept_bits, wide_vectors
from .operations import Operation
from .storage import BITS

_HALF_BYTES = np.uint64(2)
_BOUND = types.uint16
_WORD = np.uint64(64)  # bits
_BYTE = np.uint64(0xFF)
_ZERO, _ONE, _THREE, _SEVEN, _EIGHT = (np.uint64(n) for n in (0, 1, 3, 7, 8))


@functools.cache
def apart_loop(operation: Operation) -> Any:
    """Routine ``(x, y, halves, n, bound, value)``: contiguous, x and y do not overlap."""
    load, store, parameter, apply, in_size, out_size = _parts(operation)

    def apart(x: Any, y: Any, halves: Any, n: Any, bound: Any, value: Any) -> None:
        wide_vectors()
        v = parameter(value, _ZERO)
        for t in range(n):
            kept = load16(halves, _HALF_BYTES * t) >= bound
            store(y, t * out_size, apply(kept, load(x, t * in_size), v))

    signature = types.void(POINTER, POINTER, POINTER, U64, _BOUND, POINTER)
    return routine(f"{operation.name}-apart", apart, signature)


@functools.cache
def in_place_loop(operation: Operation) -> Any:
    """Routine ``(y, halves, n, bound, value)``: contiguous, in place.

    As `apart_loop`, but here LLVM can see that input and output are one. Were they two addresses,
    its check for overlap would choose the scalar loop.
    """
    load, store, parameter, apply, in_size, out_size = _parts(operation)

    def in_place(y: Any, halves: Any, n: Any, bound: Any, value: Any) -> None:
        wide_vectors()
        v = parameter(value, _ZERO)
        for t in range(n):
            kept = load16(halves, _HALF_BYTES * t) >= bound
            store(y, t * out_size, apply(kept, load(y, t * in_size), v))

    signature = types.void(POINTER, POINTER, U64, _BOUND, POINTER)
    return routine(f"{operation.name}-in-place", in_place, signature)


@functools.cache
def contiguous_loop(operation: Operation) -> Any:
    """Inlined ``(x, y, halves, n, bound, value)``: contiguous, apart or exactly in place."""
    apart, in_place = apart_loop(operation), in_place_loop(operation)

    @device
    def contiguous(x: Any, y: Any, halves: Any, n: Any, bound: Any, value: Any) -> None:
        if address_of(x) == address_of(y):
            in_place(y, halves, n, bound, value)
        else:
            apart(x, y, halves, n, bound, value)

    return contiguous


@functools.cache
def any_loop(operation: Operation) -> Any:
    """Inlined ``(x, xs, y, ys, halves, n, bound, value)``: elements xs and ys bytes apart."""
    if operation.target is BITS:
        return _pack_loop()
    load, store, parameter, apply, in_size, out_size = _parts(operation)

    def strided(
        x: Any, xs: Any, y: Any, ys: Any, halves: Any, n: Any, bound: Any, value: Any
    ) -> None:
        v = parameter(value, _ZERO)
        for t in range(n):
            kept = load16(halves, _HALF_BYTES * t) >= bound
            store(y, t * ys, apply(kept, load(x, t * xs), v))

    signature = types.void(POINTER, U64, POINTER, U64, POINTER, U64, _BOUND, POINTER)
    strided = routine(f"{operation.name}-strided", strided, signature)
    contiguous = contiguous_loop(operation)

    @device
    def loop(x: Any, xs: Any, y: Any, ys: Any, halves: Any, n: Any, bound: Any, value: Any) -> None:
        if xs == in_size and ys == out_size:
            contiguous(x, y, halves, n, bound, value)
        else:
            strided(x, xs, y, ys, halves, n, bound, value)

    return loop


@functools.cache
def shared_loop(operation: Operation) -> Any:
    """Routine ``(x, xs, y, ys, n, kept, value)``: one decision for all elements.

    A dropped run is not even read.
    """
    if operation.target is BITS:
        return _pack_shared_loop()
    load, store, parameter, apply, in_size, out_size = _parts(operation)

    def shared(x: Any, xs: Any, y: Any, ys: Any, n: Any, kept: Any, value: Any) -> None:
        wide_vectors()
        v = parameter(value, _ZERO)
        contiguous = xs == in_size and ys == out_size
        if kept and contiguous:
            for t in range(n):
                store(y, t * out_size, apply(True, load(x, t * in_size), v))
        elif kept:
            for t in range(n):
                store(y, t * ys, apply(True, load(x, t * xs), v))
        elif contiguous:
            for t in range(n):
                store(y, t * out_size, apply(False, load(x, t * in_size), v))
        else:
            for t in range(n):
                store(y, t * ys, apply(False, load(x, t * xs), v))

    signature = types.void(POINTER, U64, POINTER, U64, U64, U64, POINTER)
    return routine(f"{operation.name}-shared", shared, signature)


def _parts(operation: Operation) -> tuple[Any, Any, Any, Any, np.uint64, np.uint64]:
    source, target = operation.source, operation.target
    sizes = np.uint64(source.itemsize), np.uint64(target.itemsize)
    return source.load, target.store, operation.parameter, operation.apply, *sizes


@device
def _write_bits(y: Any, bits: Any, n: Any) -> None:
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


def _pack_loop() -> Any:
    def pack(x: Any, xs: Any, y: Any, ys: Any, halves: Any, n: Any, bound: Any, value: Any) -> None:
        wide_vectors()
        for t in range(_ZERO, n, _WORD):
            m = min(_WORD, n - t)
            bits = kept_bits(halves, _HALF_BYTES * t, bound)
            if m < _WORD:
                bits &= (_ONE << m) - _ONE
            _write_bits(advance(y, t), bits, m)

    signature = types.void(POINTER, U64, POINTER, U64, POINTER, U64, _BOUND, POINTER)
    return routine("pack-any", pack, signature)


def _pack_shared_loop() -> Any:
    def pack(x: Any, xs: Any, y: Any, ys: Any, n: Any, kept: Any, value: Any) -> None:
        if kept:
            for t in range(_ZERO, n, _WORD):
                m = min(_WORD, n - t)
                _write_bits(advance(y, t), (_ZERO - _ONE) >> (_WORD - m), m)

    signature = types.void(POINTER, U64, POINTER, U64, U64, U64, POINTER)
    return routine("pack-shared", pack, signature)
