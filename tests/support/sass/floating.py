"""Instructions on float32 and float64, and conversions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .disassembly import Instruction
from .instructions import Action, defines
from .integer import COMBINATIONS, COMPARISONS, only
from .operands import (
    F32,
    F64,
    I32,
    I64,
    U32,
    U64,
    double,
    flush,
    integer,
    pair,
    predicate,
    single,
    single_bits,
    to_double,
    to_pair,
    to_predicate,
    to_single,
    to_word,
    word,
)
from .rounding import ROUNDINGS, from_integer, fused, fused_double, narrowed, to_integer
from .state import At, State


def _is_ftz(i: Instruction) -> bool:
    return "FTZ" in i.modifiers


def _direction(i: Instruction) -> str:
    """Return the rounding direction that an instruction names; empty for to nearest."""
    return next((m for m in i.modifiers if m in ("RM", "RP", "RZ")), "")


def _saturated(i: Instruction, values: Any) -> Any:
    """Clip to 0 and 1 where the instruction says so; NaN becomes 0."""
    if "SAT" not in i.modifiers:
        return values
    return np.where(np.isnan(values), F32(0), np.clip(values, 0, 1)) + F32(0)


@defines("FADD", "FTZ SAT")
def _fadd(i: Instruction) -> Action:
    ftz = _is_ftz(i)
    target = to_single(i.operands[0], ftz)
    a, b = (single(text, ftz) for text in i.operands[1:3])
    return lambda state, at: target(state, at, _saturated(i, a(state, at) + b(state, at)))


@defines("FMUL", "FTZ SAT")
def _fmul(i: Instruction) -> Action:
    ftz = _is_ftz(i)
    target = to_single(i.operands[0], ftz)
    a, b = (single(text, ftz) for text in i.operands[1:3])
    return lambda state, at: target(state, at, _saturated(i, a(state, at) * b(state, at)))


@defines("FFMA", "FTZ SAT RM RP RZ")
def _ffma(i: Instruction) -> Action:
    ftz, direction = _is_ftz(i), _direction(i)
    target = to_single(i.operands[0], ftz)
    a, b, c = (single(text, ftz) for text in i.operands[1:4])

    def run(state: State, at: At) -> None:
        result = narrowed(fused(a(state, at), b(state, at), c(state, at)), direction)
        target(state, at, _saturated(i, result))

    return run


def extreme(least: Any, a: Any, b: Any, keeps_nan: bool) -> Any:
    """Return the smaller or the larger number; -0 is smaller than 0, and NaN may be ignored."""
    smaller = np.where((a < b) | (a == b) & np.signbit(a) | np.isnan(b), a, b)
    larger = np.where((a > b) | (a == b) & np.signbit(b) | np.isnan(b), a, b)
    result = np.where(least, smaller, larger)
    return np.where(_any_nan(a, b), F32("nan"), result) if keeps_nan else result


@defines("FMNMX", "FTZ NAN")
def _fmnmx(i: Instruction) -> Action:
    ftz = _is_ftz(i)
    target = to_single(i.operands[0], ftz)
    a, b = (single(text, ftz) for text in i.operands[1:3])
    least, keeps_nan = predicate(i.operands[3]), "NAN" in i.modifiers
    return lambda state, at: target(
        state, at, extreme(least(state, at), a(state, at), b(state, at), keeps_nan)
    )


def _any_nan(a: Any, b: Any) -> Any:
    return np.isnan(a) | np.isnan(b)


@defines("FSEL", "FTZ")
def _fsel(i: Instruction) -> Action:
    target = to_word(i.operands[0])
    a, b = map(single_bits, i.operands[1:3])
    chosen = predicate(i.operands[3])

    def run(state: State, at: At) -> None:
        bits: Any = np.where(chosen(state, at), a(state, at), b(state, at))
        target(state, at, flush(bits.view(F32)).view(U32) if _is_ftz(i) else bits)

    return run


KINDS = "LT LE GT GE EQ NE LTU LEU GTU GEU EQU NEU NUM NAN"


def compared(kind: str, a: Any, b: Any) -> Any:
    """Compare numbers; a comparison that ends with U is true where one is NaN."""
    nan = _any_nan(a, b)
    if kind in ("NUM", "NAN"):
        return nan if kind == "NAN" else ~nan
    result = COMPARISONS[kind[:2]](a, b)
    return result | nan if kind.endswith("U") else result & ~nan


def _chooses(i: Instruction, a: Any, b: Any) -> tuple[Any, Any]:
    """Say whether a is the smaller or the larger number, and whether both are NaN."""
    one, other = (a, b) if "MAX" in i.modifiers else (b, a)
    beats = (one > other) | (one == other) & np.signbit(other)
    return np.isnan(b) | beats & ~np.isnan(a), np.isnan(a) & np.isnan(b)


@defines("FSETP DSETP", f"FTZ MIN MAX AND OR XOR {KINDS}")
def _setp(i: Instruction) -> Action:
    first, second = map(to_predicate, i.operands[:2])
    wide = i.opcode == "DSETP"
    a, b = (double(text) if wide else single(text, _is_ftz(i)) for text in i.operands[2:4])
    with_, combine = predicate(i.operands[4]), only(i.modifiers, COMBINATIONS)
    kind = next((m for m in i.modifiers if m in KINDS.split()), "")

    def run(state: State, at: At) -> None:
        x, y, other = a(state, at), b(state, at), with_(state, at)
        if kind:
            result = compared(kind, x, y)
            opposite = ~result
        else:
            result, opposite = _chooses(i, x, y)
        first(state, at, combine(result, other))
        second(state, at, combine(opposite, other))

    return run


@defines("DADD")
def _dadd(i: Instruction) -> Action:
    target = to_double(i.operands[0])
    a, b = map(double, i.operands[1:3])
    return lambda state, at: target(state, at, a(state, at) + b(state, at))


@defines("DMUL")
def _dmul(i: Instruction) -> Action:
    target = to_double(i.operands[0])
    a, b = map(double, i.operands[1:3])
    return lambda state, at: target(state, at, a(state, at) * b(state, at))


@defines("DFMA", "RM RP RZ")
def _dfma(i: Instruction) -> Action:
    assert not _direction(i), i
    target = to_double(i.operands[0])
    a, b, c = map(double, i.operands[1:4])
    return lambda state, at: target(
        state, at, fused_double(a(state, at), b(state, at), c(state, at))
    )


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "RCP": lambda x: 1 / x,
    "RSQ": lambda x: 1 / np.sqrt(x),
    "SQRT": np.sqrt,
    "EX2": np.exp2,
    "LG2": np.log2,
    "TANH": np.tanh,
    "SIN": np.sin,
    "COS": np.cos,
}


@defines("MUFU", " ".join((*_FUNCTIONS, "RCP64H", "RSQ64H")))
def _mufu(i: Instruction) -> Action:
    """Approximate; subnormal numbers are zeros for it. Here the nearest float32, or one near it."""
    (name,) = i.modifiers
    function = _FUNCTIONS[name.removesuffix("64H")]
    if name.endswith("64H"):  # of the high word of a float64
        target, high = to_word(i.operands[0]), word(i.operands[1])

        def run_wide(state: State, at: At) -> None:
            x = (high(state, at).astype(U64) << U64(32)).view(F64)
            bits = np.asarray(function(x)).view(U64) >> U64(32)
            target(state, at, bits.astype(U32))

        return run_wide
    to_float, source = to_single(i.operands[0], True), single(i.operands[1], True)

    def run(state: State, at: At) -> None:
        x = np.asarray(source(state, at), F64)
        result = np.asarray(function(x)).astype(F32)
        if state.approximation_error:
            moved = (result.view(I32) + I32(state.approximation_error)).view(F32)
            special = ~np.isfinite(result) | (result == 0) | (np.abs(result) == 1)
            result = np.where(special | ~np.isfinite(moved), result, moved)
        to_float(state, at, result)

    return run


@defines("FCHK", "DIVIDE")
def _fchk(i: Instruction) -> Action:
    """Say whether a division needs the slow path, which any numbers may take."""
    target = to_predicate(i.operands[0])
    a, b = map(single, i.operands[1:3])

    def run(state: State, at: At) -> None:
        usual: Any = True
        for x in (a(state, at), b(state, at)):
            usual = usual & (np.abs(x) > F32(2.0**-100)) & (np.abs(x) < F32(2.0**100))
        target(state, at, ~usual)

    return run


@defines("F2F", "F32 F64")
def _f2f(i: Instruction) -> Action:
    if i.modifiers == ("F64", "F32"):
        to_wide, narrow = to_double(i.operands[0]), single(i.operands[1])
        return lambda state, at: to_wide(state, at, np.asarray(narrow(state, at), F64))
    assert i.modifiers == ("F32", "F64"), i
    to_narrow, wide = to_single(i.operands[0]), double(i.operands[1])
    return lambda state, at: to_narrow(state, at, np.asarray(wide(state, at), F32))


@defines("I2F I2FP", "F32 F64 U32 S32 U64 S64 RP RM RZ")
def _i2f(i: Instruction) -> Action:
    """Convert a signed integer of 32 bits, if the modifiers do not say otherwise."""
    source, kind = integer(i.operands[1]), I32
    if "U32" in i.modifiers:
        kind = U32
    if "U64" in i.modifiers or "S64" in i.modifiers:
        source, kind = pair(i.operands[1]), U64 if "U64" in i.modifiers else I64
    if "F64" in i.modifiers:
        assert kind in (I32, U32), i
        to_wide = to_double(i.operands[0])
        return lambda state, at: to_wide(state, at, source(state, at).view(kind).astype(F64))
    target, direction = to_single(i.operands[0]), _direction(i)
    return lambda state, at: target(
        state, at, from_integer(source(state, at).view(kind), direction)
    )


@defines("F2I", "FTZ U32 S32 U64 S64 F64 NTZ TRUNC FLOOR CEIL")
def _f2i(i: Instruction) -> Action:
    source = double(i.operands[1]) if "F64" in i.modifiers else single(i.operands[1], _is_ftz(i))
    kinds = {"U32": U32, "S32": I32, "U64": U64, "S64": I64}
    kind: Any = next((kinds[m] for m in i.modifiers if m in kinds), I32)
    wide = kind in (U64, I64)
    target = to_pair(i.operands[0]) if wide else to_word(i.operands[0])
    rounded = next((ROUNDINGS[m] for m in i.modifiers if m in ROUNDINGS), np.rint)

    def run(state: State, at: At) -> None:
        values = rounded(np.asarray(source(state, at), F64))
        target(state, at, to_integer(values, kind).view(U64 if wide else U32))

    return run


@defines("FRND", "FTZ TRUNC FLOOR CEIL")
def _frnd(i: Instruction) -> Action:
    target, source = to_single(i.operands[0]), single(i.operands[1], _is_ftz(i))
    rounded = next((ROUNDINGS[m] for m in i.modifiers if m in ROUNDINGS), np.rint)
    return lambda state, at: target(state, at, rounded(source(state, at)))
