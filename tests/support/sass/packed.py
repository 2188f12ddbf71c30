"""Instructions on pairs of float16 or bfloat16 in a register, and conversions to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .disassembly import Instruction
from .floating import KINDS, compared, extreme
from .instructions import Action, defines
from .integer import COMBINATIONS, only
from .operands import (
    F32,
    F64,
    U32,
    UnknownOperand,
    flush,
    predicate,
    single,
    to_predicate,
    to_single,
    to_word,
    word,
)
from .rounding import bfloat_bits, fused, half_bits, narrowed
from .state import At, State

# The low and the high number of a pair, as float32, which holds both types.
Pair: TypeAlias = tuple[Any, Any]
PairReader: TypeAlias = Callable[[State, At], Pair]

_OPERAND = re.compile(r"(-?)(\|?)(U?R(?:\d+|Z)|c\[.*?\]\[.*?\])\|?(?:\.(H0_H0|H1_H1|H0_NH1))?")
_LITERAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?|[+-](INF|QNAN) ?")
_HALF = U32(16)


def _is_bfloat(i: Instruction) -> bool:
    return "BF16" in i.modifiers or "BF16_V2" in i.modifiers


def _to_bits(i: Instruction) -> Callable[[Any], Any]:
    """Return what rounds to the type of an instruction."""
    return bfloat_bits if _is_bfloat(i) else half_bits


def _widened(bits: Any, bfloat: bool) -> Any:
    """Convert the low halves of words to float32."""
    if bfloat:
        return (bits << _HALF).view(F32)
    return (bits & U32(0xFFFF)).astype(np.uint16).view(np.float16).astype(F32)


def _pairs(i: Instruction, operands: tuple[str, ...]) -> list[PairReader]:
    """Return readers of pairs; an immediate is two operands, of which the first is the high one."""
    readers, left = list[PairReader](), list(operands)
    while left:
        text = left.pop(0)
        if _LITERAL.fullmatch(text):
            readers.append(_literals(text, left.pop(0)))
        else:
            readers.append(_pair(text, _is_bfloat(i)))
    return readers


def _literals(high: str, low: str) -> PairReader:
    values = F32(_value(low)), F32(_value(high))
    return lambda state, at: values


def _value(text: str) -> float:
    return float(text.replace("QNAN", "nan"))


def _pair(text: str, bfloat: bool) -> PairReader:
    found = _OPERAND.fullmatch(text)
    if found is None:
        raise UnknownOperand(text)
    minus, magnitude, name, selection = found.groups()
    read = word(name)
    negated = (minus == "-", (minus == "-") != (selection == "H0_NH1"))
    order = {"H0_H0": (0, 0), "H1_H1": (1, 1)}.get(selection, (0, 1))

    def run(state: State, at: At) -> Pair:
        bits = read(state, at)
        halves = tuple(_widened(part, bfloat) for part in (bits, bits >> _HALF))
        chosen = [np.abs(halves[n]) if magnitude else halves[n] for n in order]
        low, high = (-v if minus else v for v, minus in zip(chosen, negated, strict=True))
        return low, high

    return run


def _packed(i: Instruction, function: Callable[..., Any]) -> Action:
    """Define an instruction that computes both numbers of a pair alike, and rounds them."""
    target, sources, to_bits = to_word(i.operands[0]), _pairs(i, i.operands[1:]), _to_bits(i)
    is_ftz = "FTZ" in i.modifiers
    assert not (is_ftz and not _is_bfloat(i)), i

    def run(state: State, at: At) -> None:
        values = [read(state, at) for read in sources]
        low, high = (
            to_bits(flush(result) if is_ftz else result)
            for result in (function(*(pair[n] for pair in values)) for n in (0, 1))
        )
        target(state, at, low | high << _HALF)

    return run


def _saturated(i: Instruction, values: Any) -> Any:
    if "RELU" in i.modifiers:
        return np.where(np.isnan(values), values, np.maximum(values, F32(0)))
    if "SAT" in i.modifiers:
        return np.where(np.isnan(values), F32(0), np.clip(values, 0, 1))
    return values


@defines("HADD2", "F32 BF16 BF16_V2 SAT")
def _hadd2(i: Instruction) -> Action:
    if "F32" in i.modifiers:  # widens one number: -RZ plus it
        assert i.operands[1] == "-RZ", i
        to_float, source = to_single(i.operands[0]), _pair(i.operands[2], _is_bfloat(i))
        return lambda state, at: to_float(state, at, source(state, at)[0])
    return _packed(i, lambda a, b: _saturated(i, a + b))


@defines("HMUL2", "BF16 BF16_V2 SAT")
def _hmul2(i: Instruction) -> Action:
    return _packed(i, lambda a, b: _saturated(i, a * b))


@defines("HFMA2", "MMA BF16 BF16_V2 RELU SAT")
def _hfma2(i: Instruction) -> Action:
    # Rounded to odd, so that the rounding to 16 bits is that of the exact sum.
    return _packed(i, lambda a, b, c: _saturated(i, _odd32(fused(a, b, c))))


def _odd32(values: Any) -> Any:
    """Round float64 to float32, to odd where that is not exact."""
    nearest = narrowed(values, "RZ")
    bits = np.asarray(nearest, F32).view(U32)
    return np.where(nearest.astype(F64) != values, bits | U32(1), bits).view(F32)


@defines("HMNMX2", "BF16 BF16_V2 NAN")
def _hmnmx2(i: Instruction) -> Action:
    target, to_bits = to_word(i.operands[0]), _to_bits(i)
    sources, least = _pairs(i, i.operands[1:-1]), predicate(i.operands[-1])
    keeps_nan = "NAN" in i.modifiers

    def run(state: State, at: At) -> None:
        (a, b), chosen = (read(state, at) for read in sources), least(state, at)
        low, high = (to_bits(extreme(chosen, a[n], b[n], keeps_nan)) for n in (0, 1))
        target(state, at, low | high << _HALF)

    return run


@defines("HSETP2", f"BF16 BF16_V2 AND OR XOR {KINDS}")
def _hsetp2(i: Instruction) -> Action:
    """Compare pairs: the first predicate is of the low numbers, the second of the high ones."""
    targets = [to_predicate(text) for text in i.operands[:2]]
    a, b = _pairs(i, i.operands[2:-1])
    with_, combine = predicate(i.operands[-1]), only(i.modifiers, COMBINATIONS)
    (kind,) = (m for m in i.modifiers if m in KINDS.split())

    def run(state: State, at: At) -> None:
        x, y, other = a(state, at), b(state, at), with_(state, at)
        for n, target in enumerate(targets):
            target(state, at, combine(compared(kind, x[n], y[n]), other))

    return run


@defines("HSET2", f"BF BM BF16 BF16_V2 AND OR XOR {KINDS}")
def _hset2(i: Instruction) -> Action:
    """Compare pairs to pairs of 1 and 0 (BF), or of all bits and none (BM)."""
    target = to_word(i.operands[0])
    a, b = _pairs(i, i.operands[1:-1])
    with_, combine = predicate(i.operands[-1]), only(i.modifiers, COMBINATIONS)
    (kind,) = (m for m in i.modifiers if m in KINDS.split())
    true = 0x3F80 if _is_bfloat(i) else 0x3C00
    if "BF" not in i.modifiers:
        true = 0xFFFF

    def run(state: State, at: At) -> None:
        x, y, other = a(state, at), b(state, at), with_(state, at)
        low, high = (
            np.where(combine(compared(kind, x[n], y[n]), other), U32(true), U32(0)) for n in (0, 1)
        )
        target(state, at, low | high << _HALF)

    return run


@defines("F2FP", "F16 BF16 F32 PACK_AB")
def _f2fp(i: Instruction) -> Action:
    target, to_bits = to_word(i.operands[0]), _to_bits(i)
    high, low = map(single, i.operands[1:3])
    return lambda state, at: target(
        state, at, to_bits(high(state, at)) << _HALF | to_bits(low(state, at))
    )
