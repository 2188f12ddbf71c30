"""The table of instructions: by opcode, the function that makes an action of an instruction.

`integer`, `bits`, `floating`, `packed` and `movement` fill it by `@defines`; `interpreter` reads
it. An action changes the state of the threads that execute the instruction. Opcodes and modifiers
that are not in the table are errors, with the instruction's text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .disassembly import Instruction
from .operands import UnknownOperand
from .state import At, State

Action: TypeAlias = Callable[[State, At], None]
Definition: TypeAlias = Callable[[Instruction], Action]


class UnknownInstruction(Exception):
    """An instruction that the interpreter does not have."""


_TABLE: dict[str, tuple[Definition, frozenset[str]]] = {}
# The interpreter itself ends threads. The others only tell the hardware how to schedule, or where
# threads that diverged meet again.
_IGNORED = frozenset(
    "EXIT NOP BSSY BSYNC BREAK YIELD DEPBAR WARPSYNC ERRBAR MEMBAR BMOV CCTL".split()
)


def defines(opcodes: str, modifiers: str = "") -> Callable[[Definition], Definition]:
    """Add a definition to the table, for some opcodes and the modifiers that it knows."""

    def add(definition: Definition) -> Definition:
        for opcode in opcodes.split():
            assert opcode not in _TABLE, opcode
            _TABLE[opcode] = definition, frozenset(modifiers.split())
        return definition

    return add


def action_of(instruction: Instruction) -> Action | None:
    """Return the action of an instruction; None if it changes no state."""
    opcode = instruction.opcode
    if opcode in _IGNORED:
        return None
    if opcode not in _TABLE and opcode.startswith("U"):
        opcode = opcode[1:]  # the same for uniform registers
    elif opcode == "VOTEU":
        opcode = "VOTE"
    try:
        definition, known = _TABLE[opcode]
        if unknown := set(instruction.modifiers) - known:
            raise UnknownInstruction(f"{instruction}: modifiers {sorted(unknown)}")
        return definition(instruction)
    except (KeyError, UnknownOperand) as error:
        raise UnknownInstruction(f"{instruction}: {error!r}") from error
