"""Instructions on bits and predicates: logic, shifts, permutations of bytes, and counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .disassembly import Instruction
from .instructions import Action, defines
from .integer import leading_predicates
from .memory import Array
from .operands import (
    I32,
    I64,
    LOW,
    U32,
    U64,
    integer,
    predicate,
    to_predicate,
    to_word,
    word,
)
from .state import At, State

_32 = U64(32)


def lookup(table: int, a: Any, b: Any, c: Any) -> Any:
    """Apply a function of three bits, given by the eight bits of its table."""
    usual = _USUAL.get(table)
    if usual is not None:
        return usual(a, b, c)
    result = np.zeros_like(a & b & c)
    for n in range(8):
        if table >> n & 1:
            x, y, z = (v if n & 4 >> k else ~v for k, v in enumerate((a, b, c)))
            result = result | x & y & z
    return result


_USUAL: dict[int, Callable[[Any, Any, Any], Any]] = {
    0x96: lambda a, b, c: a ^ b ^ c,
    0xC0: lambda a, b, c: a & b,
    0xFC: lambda a, b, c: a | b,
    0x3C: lambda a, b, c: a ^ b,
    0xF8: lambda a, b, c: a | b & c,
    0xEA: lambda a, b, c: a & b | c,
}


@defines("LOP3", "LUT PAND POR")
def _lop3(i: Instruction) -> Action:
    names, rest = leading_predicates(i.operands)
    nonzero = to_predicate(names[0]) if names else None
    target = to_word(rest[0])
    a, b, c = map(integer, rest[1:4])
    table, other = int(rest[4], 16), predicate(rest[5])
    combine = np.logical_and if "PAND" in i.modifiers else np.logical_or

    def run(state: State, at: At) -> None:
        result = lookup(table, a(state, at), b(state, at), c(state, at))
        target(state, at, result)
        if nonzero is not None:
            nonzero(state, at, combine(result != 0, other(state, at)))

    return run


@defines("PLOP3", "LUT")
def _plop3(i: Instruction) -> Action:
    targets = [to_predicate(text) for text in i.operands[:2]]
    a, b, c = map(predicate, i.operands[2:5])
    tables = [int(text, 16) for text in i.operands[5:7]]

    def run(state: State, at: At) -> None:
        values = a(state, at), b(state, at), c(state, at)
        results = [lookup(table, *values) for table in tables]
        for target, result in zip(targets, results, strict=True):
            target(state, at, result)

    return run


@defines("SHF", "L R U32 S32 U64 S64 HI W")
def _shf(i: Instruction) -> Action:
    target = to_word(i.operands[0])
    low, amount, high = map(integer, i.operands[1:4])
    wide = "U64" in i.modifiers or "S64" in i.modifiers
    signed = "S32" in i.modifiers or "S64" in i.modifiers
    left, upper, wraps = (name in i.modifiers for name in ("L", "HI", "W"))

    def run(state: State, at: At) -> None:
        bits = U32(64 if wide else 32)
        by = amount(state, at)
        by = (by & (bits - U32(1)) if wraps else np.minimum(by, bits)).astype(U64)
        x = low(state, at).astype(U64) | high(state, at).astype(U64) << _32
        if left:
            # A shift by 64 is one by 32 twice.
            shifted = x << (by >> U64(1)) << (by - (by >> U64(1)))
            result = shifted >> _32 if upper else shifted
        else:
            if upper:
                x = x >> _32 if not signed else (x.view(I64) >> I64(32)).view(U64)
            if signed:
                result = (x.view(I64) >> np.minimum(by, U64(63)).view(I64)).view(U64)
            else:
                result = x >> (by >> U64(1)) >> (by - (by >> U64(1)))
        target(state, at, (result & LOW).astype(U32))

    return run


@defines("PRMT")
def _prmt(i: Instruction) -> Action:
    target = to_word(i.operands[0])
    a, selector, b = map(integer, i.operands[1:4])
    constant = re.fullmatch(r"0x[0-9a-f]+", i.operands[2])

    def run(state: State, at: At) -> None:
        whole = a(state, at).astype(U64) | b(state, at).astype(U64) << _32
        result: Any = U64(0)
        chosen = selector(state, at)
        for k in range(4):
            choice = chosen >> U32(4 * k) & U32(15)
            byte = whole >> (U64(8) * (choice & U32(7)).astype(U64)) & U64(255)
            if not constant or choice & U32(8):  # the byte's sign, eight times
                sign = np.where(byte & U64(128), U64(255), U64(0))
                byte = np.where(choice & U32(8), sign, byte)
            result = result | byte << U64(8 * k)
        target(state, at, result.astype(U32))

    return run


def _byte(modifiers: tuple[str, ...]) -> int:
    """Return the first bit of the byte that a modifier names."""
    return next((8 * int(m[1]) for m in modifiers), 0)


@defines("R2P", "B0 B1 B2 B3")
def _r2p(i: Instruction) -> Action:
    assert i.operands[0] == "PR"
    register, *byte = i.operands[1].split(".")
    source, mask = word(register), int(i.operands[2], 16)
    first = _byte(tuple(byte) or i.modifiers)
    targets = [(n, to_predicate(f"P{n}")) for n in range(7) if mask >> n & 1]

    def run(state: State, at: At) -> None:
        bits = source(state, at)
        values = [(bits >> U32(first + n) & U32(1)) != 0 for n, _ in targets]
        for (_, target), value in zip(targets, values, strict=True):
            target(state, at, value)

    return run


@defines("P2R", "B0 B1 B2 B3")
def _p2r(i: Instruction) -> Action:
    assert i.operands[1] == "PR"
    target, other, first = to_word(i.operands[0]), integer(i.operands[2]), _byte(i.modifiers)
    mask = int(i.operands[3], 16)
    sources = [(n, predicate(f"P{n}")) for n in range(7) if mask >> n & 1]

    def run(state: State, at: At) -> None:
        bits = other(state, at) & U32(~(mask << first) & 0xFFFFFFFF)
        for n, source in sources:
            bits = bits | source(state, at).astype(U32) << U32(first + n)
        target(state, at, bits)

    return run


@defines("FLO", "U32 S32 SH")
def _flo(i: Instruction) -> Action:
    """Find the leading one; of a negative number, the leading zero."""
    target, source = to_word(i.operands[0]), integer(i.operands[1])
    from_left, signed = "SH" in i.modifiers, "U32" not in i.modifiers

    def run(state: State, at: At) -> None:
        x = np.asarray(source(state, at))
        x = np.where(x >> U32(31) != 0, ~x, x) if signed else x
        place = np.frexp(x.astype(np.float64))[1].astype(I32) - 1
        found = np.where(x != 0, 31 - place if from_left else place, -1)
        target(state, at, found.astype(I32).view(U32))

    return run


@defines("POPC")
def _popc(i: Instruction) -> Action:
    target, source = to_word(i.operands[0]), integer(i.operands[1])
    return lambda state, at: target(state, at, np.bitwise_count(source(state, at)).astype(U32))


@defines("BREV")
def _brev(i: Instruction) -> Action:
    target, source = to_word(i.operands[0]), integer(i.operands[1])

    def run(state: State, at: At) -> None:
        x: Array = np.asarray(source(state, at))
        result = np.zeros_like(x)
        for n in range(32):
            result |= (x >> U32(n) & U32(1)) << U32(31 - n)
        target(state, at, result)

    return run
