"""Operands of instructions: text is parsed once, to functions that read or write a state.

The definitions of instructions call it. A reader takes a state and the threads that execute, and
returns an array of a word per thread; of a constant or an immediate, a scalar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .memory import Array
from .state import At, State

Reader: TypeAlias = Callable[[State, At], Any]
Writer: TypeAlias = Callable[[State, At, Any], None]

U32, U64, I32, I64, F32, F64 = (
    *(np.uint32, np.uint64, np.int32, np.int64),
    *(np.float32, np.float64),
)
LOW = U64(0xFFFFFFFF)
_32 = U64(32)
TINY = F32(2.0**-126)  # the smallest normal number

_REGISTER = re.compile(r"(U?)R(\d+|Z)(?:\.64)?")
_PREDICATE = re.compile(r"(!?)(U?)P(\d|T)")
_CONSTANT = re.compile(r"c\[(0x[0-9a-f]+)\]\[(?:(U?R(?:\d+|Z))\+?)?(-?0x[0-9a-f]+)?\]")
_IMMEDIATE = re.compile(r"-?0x[0-9a-f]+")
_ADDRESS = re.compile(
    r"(?:desc\[UR\d+\])?"
    r"\[(?:(R(?:\d+|Z))(\.64|\.X4|\.X8|\.X16)?)?(?:\+?(UR(?:\d+|Z)))?(?:\+?(-?0x[0-9a-f]+))?\]"
)


class UnknownOperand(Exception):
    """An operand of a form that no reader knows."""


def is_predicate(text: str) -> bool:
    """Return whether an operand is a predicate."""
    return _PREDICATE.fullmatch(text) is not None


def _number(text: str, zero: int) -> int:
    return zero if text in ("Z", "T") else int(text)


def _signed(text: str) -> tuple[str, str]:
    """Split an operand into its prefix, and the rest; a magnitude has the prefix ``|``."""
    prefix = ""
    if text[0] in "-~" and not _IMMEDIATE.fullmatch(text):
        prefix, text = text[0], text[1:]
    if text[0] == "|":
        prefix, text = prefix + "|", text.strip("|")
    return prefix, text


def word(text: str, part: int = 0) -> Reader:
    """Read 32 bits as they are; `part` is 1 for the high word of a 64-bit operand."""
    if found := _REGISTER.fullmatch(text):
        uniform, name = found.groups()
        number = _number(name, 63 if uniform else 255)
        number += part if name != "Z" else 0
        if uniform:
            return lambda state, at: state.uniform[number][at]
        return lambda state, at: state.registers[number][at]
    if found := _CONSTANT.fullmatch(text):
        bank, register, offset = found.groups()
        return _constant(bank, register, offset, part)
    if _IMMEDIATE.fullmatch(text):
        # The immediate of a 64-bit operand is extended by its sign.
        value = U32(int(text, 16) >> 32 * part & 0xFFFFFFFF)
        return lambda state, at: value
    raise UnknownOperand(text)


def _constant(bank: str, register: str | None, offset: str | None, part: int) -> Reader:
    number, start = int(bank, 16), int(offset or "0", 16) + 4 * part
    if register is None:
        assert start % 4 == 0
        return lambda state, at: state.constants[number][start // 4]
    index = word(register)

    def read(state: State, at: At) -> Any:
        byte = index(state, at).view(I32).astype(I64) + start
        assert not (byte % 4).any()
        return state.constants[number][byte // 4]

    return read


def integer(text: str) -> Reader:
    """Read a 32-bit integer with its sign or complement."""
    prefix, text = _signed(text)
    read = word(text)
    if prefix == "~":
        return lambda state, at: ~read(state, at)
    if prefix == "-":
        return lambda state, at: U32(0) - read(state, at)
    if prefix == "|":
        return lambda state, at: np.abs(read(state, at).view(I32)).view(U32)
    assert not prefix
    return read


def addend(text: str) -> Reader:
    """Read an integer for a sum in 64 bits: ``-x`` is ``2**32 - x``, which carries where x is 0."""
    prefix, rest = _signed(text)
    if prefix == "-":
        read = word(rest)
        return lambda state, at: U64(1 << 32) - read(state, at).astype(U64)
    whole = integer(text)
    return lambda state, at: whole(state, at).astype(U64)


def pair(text: str) -> Reader:
    """Read a 64-bit integer with its sign or complement."""
    prefix, text = _signed(text)
    low, high = word(text), word(text, 1)

    def read(state: State, at: At) -> Any:
        return low(state, at).astype(U64) | high(state, at).astype(U64) << _32

    if prefix == "-":
        return lambda state, at: U64(0) - read(state, at)
    if prefix == "~":
        return lambda state, at: ~read(state, at)
    assert not prefix
    return read


def _literal(text: str) -> float | None:
    """Return the value of a floating-point immediate."""
    text = text.replace(" ", "")
    if text.lstrip("+-") in ("INF", "QNAN"):
        return float(text.replace("QNAN", "nan"))
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?", text) else None


def flush(values: Any) -> Any:
    """Replace subnormal numbers by zeros of their sign."""
    return np.where(np.abs(values) < TINY, np.copysign(F32(0), values), values)


def single(text: str, ftz: bool = False) -> Reader:
    """Read a float32 with its sign and magnitude."""
    if (value := _literal(text)) is not None:
        constant = F32(value)
        return lambda state, at: constant
    bits = single_bits(text)
    if ftz:
        return lambda state, at: flush(bits(state, at).view(F32))
    return lambda state, at: bits(state, at).view(F32)


def single_bits(text: str) -> Reader:
    """Read the bits of a float32, whose sign and magnitude are bits."""
    if (value := _literal(text)) is not None:
        constant = F32(value).view(U32)
        return lambda state, at: constant
    prefix, text = _signed(text)
    read = word(text)
    keep, flip = U32(0x7FFFFFFF if "|" in prefix else 0xFFFFFFFF), U32("-" in prefix) << U32(31)
    if not prefix:
        return read
    return lambda state, at: read(state, at) & keep ^ flip


def double(text: str) -> Reader:
    """Read a float64 with its sign and magnitude; of an immediate in bits, the high word."""
    if (value := _literal(text)) is not None or _IMMEDIATE.fullmatch(text):
        bits = U64(int(text, 16) % 2**32) << _32 if value is None else F64(value).view(U64)
        constant = bits.view(F64)
        return lambda state, at: constant
    prefix, text = _signed(text)
    read = pair(text)
    sign = -1.0 if "-" in prefix else 1.0
    if "|" in prefix:
        return lambda state, at: sign * np.abs(read(state, at).view(F64))
    return lambda state, at: sign * read(state, at).view(F64)


def predicate(text: str) -> Reader:
    """Read a predicate, negated or not."""
    found = _PREDICATE.fullmatch(text)
    if found is None:
        raise UnknownOperand(text)
    negated, uniform, name = found.groups()
    number = _number(name, 7)

    def read(state: State, at: At) -> Array:
        return (state.uniform_predicates if uniform else state.predicates)[number][at]

    return (lambda state, at: ~read(state, at)) if negated else read


def to_predicate(text: str) -> Writer:
    """Write a predicate; PT takes none."""
    found = _PREDICATE.fullmatch(text)
    if found is None or found[1]:
        raise UnknownOperand(text)
    uniform, number = found[2], _number(found[3], 7)

    def write(state: State, at: At, value: Any) -> None:
        (state.uniform_predicates if uniform else state.predicates)[number][at] = value

    return write if number != 7 else lambda state, at, value: None


def to_word(text: str, part: int = 0) -> Writer:
    """Write 32 bits to a register, or to the `part`-th behind it; RZ takes none."""
    found = _REGISTER.fullmatch(text)
    if found is None:
        raise UnknownOperand(text)
    uniform, name = found.groups()
    if name == "Z":
        return lambda state, at, value: None
    number = int(name) + part

    def write(state: State, at: At, value: Any) -> None:
        (state.uniform if uniform else state.registers)[number][at] = value

    return write


def to_pair(text: str) -> Writer:
    """Write 64 bits."""
    low, high = to_word(text), to_word(text, 1)

    def write(state: State, at: At, value: Any) -> None:
        low(state, at, (value & LOW).astype(U32))
        high(state, at, (value >> _32).astype(U32))

    return write


def to_single(text: str, ftz: bool = False) -> Writer:
    """Write a float32; the hardware makes one NaN."""
    target = to_word(text)

    def write(state: State, at: At, value: Any) -> None:
        value = np.asarray(value, F32)
        bits = (flush(value) if ftz else value).view(U32)
        target(state, at, np.where(value != value, U32(0x7FFFFFFF), bits))

    return write


def to_double(text: str) -> Writer:
    """Write a float64; the hardware makes one NaN."""
    target = to_pair(text)

    def write(state: State, at: At, value: Any) -> None:
        bits = np.asarray(value, F64).view(U64)
        target(state, at, np.where(value != value, U64(0xFFF8 << 48), bits))

    return write


def address(text: str) -> Reader:
    """Read the address of a memory access, as an array of 64-bit integers."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UnknownOperand(text)
    register, kind, uniform, offset = found.groups()
    wide = kind == ".64" or (text.startswith("desc") and register is None)
    terms: list[Reader] = []
    if register and wide:
        terms.append(pair(register))
    elif register:
        scale, narrow = U64(int(kind[2:]) if kind else 1), word(register)
        terms.append(lambda state, at: narrow(state, at).astype(U64) * scale)
    if uniform:
        read = pair(uniform) if wide else word(uniform)
        terms.append(lambda state, at: read(state, at).astype(U64))
    constant = U64(int(offset or "0", 16) % 2**64)

    def sum_of_terms(state: State, at: At) -> Array:
        total = np.full(len(state.thread[at]), constant)
        for term in terms:
            total = total + term(state, at)
        # Addresses in shared memory have 32 bits.
        return total if wide else total & LOW

    return sum_of_terms
