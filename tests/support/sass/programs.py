"""Programs of a few instructions, for tests of the interpreter."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .disassembly import Kernel, Program, assembled
from .interpreter import Code, Run
from .memory import Extent, Global
from .state import State

PARAMETERS = 0x210  # where a launch's argument begins in bank 0


def state_of(threads: int, argument: bytes = b"", *extents: Extent, shared: int = 0) -> State:
    return State(
        grid=1,
        block=threads,
        blocks=range(1),
        parameters=(PARAMETERS, argument),
        banks={2: struct.pack("<2I", 7, 9)},
        memory=Global(extents),
        shared=shared,
    )


def code_of(program: Program) -> Code:
    return Code(Kernel(program, {}, PARAMETERS, 0))


def executed(
    *lines: str, threads: int = 1, registers: dict[int, Any] | None = None, **more: Any
) -> State:
    """Run lines on threads whose registers have these bits, and return what became of them."""
    state = state_of(threads, **more)
    for number, value in (registers or {}).items():
        state.registers[number][:] = value
    with np.errstate(all="ignore"):
        Run(code_of(assembled(*lines)), state).run()
    return state
