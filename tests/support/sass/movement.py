"""Instructions that load, store, and read special registers and other lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .disassembly import Instruction
from .instructions import Action, UnknownInstruction, defines
from .memory import Array
from .operands import (
    U32,
    address,
    integer,
    predicate,
    to_predicate,
    to_word,
    word,
)
from .state import WARP, At, State

_SIZES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
_CACHES = "E CONSTANT STRONG WEAK GPU SYS CTA EF EL LU NA EVICT_FIRST EVICT_LAST LTC128B"


def _size(i: Instruction) -> int:
    return next((_SIZES[m] for m in i.modifiers if m in _SIZES), 4)


def _extended(i: Instruction, values: Array) -> Array:
    """Extend bytes and halves of words to 32 bits."""
    if "S8" in i.modifiers or "S16" in i.modifiers:
        values = values.view(np.int8 if values.itemsize == 1 else np.int16)
        return values.astype(np.int32).view(U32)
    return values.astype(U32)


def _to_registers(i: Instruction) -> Any:
    """Return what writes loaded values to the target, and to those behind it."""
    size = _size(i)
    targets = [to_word(i.operands[0], part) for part in range(max(1, size // 4))]

    def write(state: State, at: At, values: Array) -> None:
        if size <= 4:
            targets[0](state, at, _extended(i, values))
            return
        for part, target in enumerate(targets):
            target(state, at, values[:, part])

    return write


def _from_registers(i: Instruction) -> Any:
    """Return what reads the values to be stored, in the form that memory takes."""
    size = _size(i)
    sources = [word(i.operands[1], part) for part in range(max(1, size // 4))]
    kind = {1: np.uint8, 2: np.uint16}.get(size, U32)

    def read(state: State, at: At) -> Array:
        count = len(state.thread[at])
        words = [np.broadcast_to(source(state, at), count) for source in sources]
        return words[0].astype(kind) if size <= 4 else np.stack(words, 1)

    return read


@defines("LDG LD", f"U8 S8 U16 S16 64 128 {_CACHES}")
def _ldg(i: Instruction) -> Action:
    write, where, size = _to_registers(i), address(i.operands[1]), _size(i)
    return lambda state, at: write(state, at, state.memory.load(where(state, at), size))


@defines("STG ST", f"U8 S8 U16 S16 64 128 {_CACHES}")
def _stg(i: Instruction) -> Action:
    read, where, size = _from_registers(i), address(i.operands[0]), _size(i)
    return lambda state, at: state.memory.store(where(state, at), size, read(state, at))


@defines("LDS", "U8 S8 U16 S16 64 128")
def _lds(i: Instruction) -> Action:
    write, where, size = _to_registers(i), address(i.operands[1]), _size(i)
    return lambda state, at: write(
        state, at, state.shared.load(state.block[at], where(state, at), size)
    )


@defines("STS", "U8 S8 U16 S16 64 128")
def _sts(i: Instruction) -> Action:
    read, where, size = _from_registers(i), address(i.operands[0]), _size(i)
    return lambda state, at: state.shared.store(
        state.block[at], where(state, at), size, read(state, at)
    )


@defines("LDL", "U8 S8 U16 S16 64 128 LU")
def _ldl(i: Instruction) -> Action:
    write, where, size = _to_registers(i), address(i.operands[1]), _size(i)
    return lambda state, at: write(
        state, at, state.local.load(state.numbers(at), where(state, at), size)
    )


@defines("STL", "U8 S8 U16 S16 64 128")
def _stl(i: Instruction) -> Action:
    read, where, size = _from_registers(i), address(i.operands[0]), _size(i)
    return lambda state, at: state.local.store(
        state.numbers(at), where(state, at), size, read(state, at)
    )


@defines("LDC", "U8 U16 64")
def _ldc(i: Instruction) -> Action:
    """Load from a constant bank, whose address may be computed."""
    size = _size(i)
    parts = [word(i.operands[1], part) for part in range(max(1, size // 4))]
    targets = [to_word(i.operands[0], part) for part in range(len(parts))]
    mask = U32(256**size - 1 if size < 4 else 0xFFFFFFFF)

    def run(state: State, at: At) -> None:
        values = [np.array(part(state, at)) & mask for part in parts]
        for target, value in zip(targets, values, strict=True):
            target(state, at, value)

    return run


@defines("S2R S2UR")
def _s2r(i: Instruction) -> Action:
    target, name = to_word(i.operands[0]), i.operands[1]

    def run(state: State, at: At) -> None:
        values: dict[str, Any] = {
            "SR_TID.X": state.thread[at],
            "SR_CTAID.X": state.block_index[at],
            "SR_LANEID": state.lane[at],
            **dict.fromkeys(("SR_TID.Y", "SR_TID.Z", "SR_CTAID.Y", "SR_CTAID.Z"), U32(0)),
            "SR_CgaCtaId": U32(0),  # the block in its cluster of one
        }
        if name not in values:
            raise UnknownInstruction(str(i))
        target(state, at, values[name])

    return run


@defines("CS2R", "32")
def _cs2r(i: Instruction) -> Action:
    if i.operands[1] != "SRZ":
        raise UnknownInstruction(str(i))
    count = 1 if "32" in i.modifiers else 2
    targets = [to_word(i.operands[0], part) for part in range(count)]

    def run(state: State, at: At) -> None:
        for target in targets:
            target(state, at, U32(0))

    return run


@defines("SHFL", "IDX UP DOWN BFLY")
def _shfl(i: Instruction) -> Action:
    """Read the register of another lane, which must take part."""
    inside, target = to_predicate(i.operands[0]), to_word(i.operands[1])
    source, lane, clamp = word(i.operands[2]), integer(i.operands[3]), integer(i.operands[4])
    (mode,) = i.modifiers

    def run(state: State, at: At) -> None:
        own, by = state.lane[at].astype(np.intp), np.asarray(lane(state, at)).astype(np.intp)
        bounds = np.asarray(clamp(state, at)).astype(np.intp)
        segment, last = bounds >> 8 & 31, bounds & 31
        limit = own & segment | last & ~segment
        by = by & 31
        if mode == "IDX":
            other = own & segment | by & ~segment
        else:
            other = {"UP": own - by, "DOWN": own + by, "BFLY": own ^ by}[mode]
        valid = other >= limit if mode == "UP" else other <= limit
        other = np.where(valid, other, own)
        numbers = state.numbers(at)
        numbers = numbers - own + other
        takes_part = np.zeros(state.threads + WARP, bool)
        takes_part[at] = True
        if not takes_part[numbers].all():
            raise UnknownInstruction(f"{i}: reads a lane that takes no part")
        values = source(state, slice(None))
        target(state, at, np.array(np.broadcast_to(values, state.threads)[numbers]))
        inside(state, at, valid)

    return run


@defines("VOTE", "ALL ANY EQ")
def _vote(i: Instruction) -> Action:
    """Ask the threads of a warp that take part: for the lanes where it holds, or for all or any."""
    *targets, asked = i.operands
    to_ballot = next((to_word(text) for text in targets if "P" not in text), None)
    to_result = next((to_predicate(text) for text in targets if "P" in text), None)
    holds, (mode,) = predicate(asked), i.modifiers

    def run(state: State, at: At) -> None:
        yes, warp = np.broadcast_to(holds(state, at), len(state.thread[at])), state.warp[at]
        warps = int(state.warp[-1]) + 1
        present, agreeing = (np.bincount(warp[who], minlength=warps) for who in (warp >= 0, yes))
        if to_ballot is not None:
            bits = np.bincount(warp[yes], 2.0 ** state.lane[at][yes], warps).astype(U32)
            to_ballot(state, at, bits[warp])
        if to_result is not None:
            all_, none = agreeing == present, agreeing == 0
            found = {"ALL": all_, "ANY": ~none, "EQ": all_ | none}[mode]
            to_result(state, at, found[warp])

    return run
