"""Instructions on integers: moves, arithmetic and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .disassembly import Instruction
from .instructions import Action, defines
from .operands import (
    I32,
    I64,
    LOW,
    U32,
    U64,
    addend,
    integer,
    is_predicate,
    pair,
    predicate,
    to_pair,
    to_predicate,
    to_word,
)
from .state import At, State

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "EQ": np.equal,
    "NE": np.not_equal,
}
COMBINATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "AND": np.logical_and,
    "OR": np.logical_or,
    "XOR": np.logical_xor,
}
_32, _31 = U64(32), U64(31)


def only(modifiers: tuple[str, ...], table: dict[str, Any]) -> Any:
    """Return the entry of a table that one of the modifiers names."""
    (name,) = (name for name in modifiers if name in table)
    return table[name]


def leading_predicates(operands: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split operands into the predicates in front, which are written, and the rest."""
    count = next(n for n, text in enumerate(operands) if not is_predicate(text))
    return operands[:count], operands[count:]


@defines("MOV R2UR")
def _mov(i: Instruction) -> Action:
    target, source = to_word(i.operands[0]), integer(i.operands[1])
    return lambda state, at: target(state, at, source(state, at))


@defines("SEL")
def _sel(i: Instruction) -> Action:
    target = to_word(i.operands[0])
    a, b = map(integer, i.operands[1:3])
    chosen = predicate(i.operands[3])
    return lambda state, at: target(
        state, at, np.where(chosen(state, at), a(state, at), b(state, at))
    )


@defines("IADD3", "X")
def _iadd3(i: Instruction) -> Action:
    target = to_word(i.operands[0])
    names, rest = leading_predicates(i.operands[1:])
    carries = [to_predicate(name) for name in names]
    terms = [addend(text) for text in rest[:3]]
    if "X" in i.modifiers:
        terms += [_carry(text) for text in rest[3:]]

    def run(state: State, at: At) -> None:
        total = terms[0](state, at)
        for term in terms[1:]:
            total = total + term(state, at)
        target(state, at, (total & LOW).astype(U32))
        for least, carry in enumerate(carries):
            carry(state, at, total >> _32 > least)

    return run


def _carry(text: str) -> Callable[[State, At], Any]:
    read = predicate(text)
    return lambda state, at: read(state, at).astype(U64)


@defines("VIADD IADD")
def _add(i: Instruction) -> Action:
    target = to_word(i.operands[0])
    a, b = map(integer, i.operands[1:3])
    return lambda state, at: target(state, at, a(state, at) + b(state, at))


@defines("IABS")
def _abs(i: Instruction) -> Action:
    target, a = to_word(i.operands[0]), integer(i.operands[1])
    return lambda state, at: target(state, at, np.abs(a(state, at).view(I32)).view(U32))


@defines("IMAD", "U32 X MOV IADD SHL WIDE HI")
def _imad(i: Instruction) -> Action:
    if "WIDE" in i.modifiers or "HI" in i.modifiers:
        return _imad_wide(i)
    target = to_word(i.operands[0])
    a, b, c = map(integer, i.operands[1:4])
    if "X" in i.modifiers:
        carry = predicate(i.operands[4])

        def run(state: State, at: At) -> None:
            total = a(state, at) * b(state, at) + c(state, at)
            target(state, at, total + carry(state, at).astype(U32))

        return run
    if i.operands[1] == i.operands[2] == "RZ":  # a move
        return lambda state, at: target(state, at, c(state, at))
    return lambda state, at: target(state, at, a(state, at) * b(state, at) + c(state, at))


def _imad_wide(i: Instruction) -> Action:
    """Define the products of 64 bits: all of them, or their high words."""
    unsigned, high = "U32" in i.modifiers, "HI" in i.modifiers
    names, rest = leading_predicates(i.operands[1:])
    carry_out = to_predicate(names[0]) if names else None
    a, b, c = integer(rest[0]), integer(rest[1]), pair(rest[2])
    carry_in = predicate(rest[3]) if "X" in i.modifiers else None
    to_high, to_all = to_word(i.operands[0]), to_pair(i.operands[0])

    def run(state: State, at: At) -> None:
        x, y, z = a(state, at), b(state, at), c(state, at)
        if unsigned:
            product = x.astype(U64) * y.astype(U64)
        else:
            product = (x.view(I32).astype(I64) * y.view(I32).astype(I64)).view(U64)
        total = product + z
        carries = total < product
        if carry_in is not None:
            more = total + carry_in(state, at).astype(U64)
            carries, total = carries | (more < total), more
        if high:
            to_high(state, at, (total >> _32).astype(U32))
        else:
            to_all(state, at, total)
        if carry_out is not None:
            carry_out(state, at, carries)

    return run


@defines("LEA", "HI X SX32")
def _lea(i: Instruction) -> Action:
    target = to_word(i.operands[0])
    names, rest = leading_predicates(i.operands[1:])
    carry_out = to_predicate(names[0]) if names else None
    carry_in = _carry(rest[-1]) if "X" in i.modifiers else None
    high, extended = "HI" in i.modifiers, "SX32" in i.modifiers
    negated = rest[0].startswith("-")
    assert not (high and negated)
    a, b = integer(rest[0].lstrip("-")), addend(rest[1])
    above = integer(rest[2]) if high and not extended else None
    shift = U64(int(rest[2 if above is None else 3], 16))

    def run(state: State, at: At) -> None:
        x = a(state, at)
        if not high:
            shifted = x.astype(U64) << shift & LOW
            if negated:
                shifted = U64(1 << 32) - shifted
        elif above is None:
            shifted = x.view(I32).astype(I64).view(U64) << shift >> _32
        else:
            whole = x.astype(U64) | above(state, at).astype(U64) << _32
            shifted = whole << shift >> _32
        total = shifted + b(state, at)
        if carry_in is not None:
            total = total + carry_in(state, at)
        target(state, at, (total & LOW).astype(U32))
        if carry_out is not None:
            carry_out(state, at, total >> _32 > 0)

    return run


# Integers that an instruction takes, and their numpy type as words, or as halves of words.
_KINDS: dict[str, Any] = {"U32": U32, "S32": I32, "U16x2": np.uint16, "S16x2": np.int16}


def _typed(i: Instruction, words: Any) -> Any:
    """Return words as the integers that an instruction takes, halves along a new axis."""
    kind = next((_KINDS[m] for m in i.modifiers if m in _KINDS), I32)
    if kind in (U32, I32):
        return words.view(kind)
    words = np.atleast_1d(words)
    return np.stack((words & U32(0xFFFF), words >> U32(16))).astype(np.uint16).view(kind)


def _as_words(values: Any) -> Any:
    if values.dtype.itemsize == 4:
        return values.view(U32)
    low, high = values.view(np.uint16).astype(U32)
    return low | high << U32(16)


@defines("VIMNMX IMNMX", "U32 S32 U16x2 S16x2")
def _minimum(i: Instruction) -> Action:
    target, least = to_word(i.operands[0]), predicate(i.operands[3])
    a, b = map(integer, i.operands[1:3])

    def run(state: State, at: At) -> None:
        x, y = (_typed(i, read(state, at)) for read in (a, b))
        chosen = np.where(least(state, at), np.minimum(x, y), np.maximum(x, y))
        target(state, at, _as_words(chosen))

    return run


@defines("VIADDMNMX", "U32 S32 U16x2 S16x2")
def _add_minimum(i: Instruction) -> Action:
    target, least = to_word(i.operands[0]), predicate(i.operands[4])
    sources = [integer(text) for text in i.operands[1:4]]

    def run(state: State, at: At) -> None:
        x, y, z = (_typed(i, read(state, at)) for read in sources)
        chosen = np.where(least(state, at), np.minimum(x + y, z), np.maximum(x + y, z))
        target(state, at, _as_words(chosen))

    return run


@defines("ISETP", "U32 EX LT LE GT GE EQ NE AND OR XOR")
def _isetp(i: Instruction) -> Action:
    first, second = map(to_predicate, i.operands[:2])
    a, b = map(integer, i.operands[2:4])
    with_, low = predicate(i.operands[4]), None
    kind = U32 if "U32" in i.modifiers else I32
    compare, combine = only(i.modifiers, COMPARISONS), only(i.modifiers, COMBINATIONS)
    # Of numbers of more words: `low` is what the lower words say.
    extends = "EX" in i.modifiers
    strict = {"LE": np.less, "GE": np.greater}
    compare_high = next((strict[m] for m in i.modifiers if m in strict), compare)
    if extends:
        low = predicate(i.operands[5])

    def run(state: State, at: At) -> None:
        x, y = a(state, at).view(kind), b(state, at).view(kind)
        if low is None:
            result = compare(x, y)
        elif compare is np.not_equal:
            result = (x != y) | low(state, at)
        elif compare is np.equal:
            result = (x == y) & low(state, at)
        else:
            result = compare_high(x, y) | (x == y) & low(state, at)
        other = with_(state, at)
        write_both(state, at, result, other)

    def write_both(state: State, at: At, result: Any, other: Any) -> None:
        first(state, at, combine(result, other))
        second(state, at, combine(~result, other))

    return run
