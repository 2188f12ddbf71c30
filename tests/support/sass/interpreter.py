"""Runs a kernel: whole grids, many blocks at a time, the lowest program counter first.

`launcher` calls `run`. Threads that diverge wait at the higher address, so they meet again at the
first instruction that all of them reach, as compilers arrange it. Instructions can be counted: one
counts once for every warp of which threads are at it, whether its guard holds or not, because that
is what the hardware issues.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from . import bits, floating, integer, movement, packed  # noqa: F401 - they define instructions
from .disassembly import SIZE, Instruction, Kernel
from .instructions import Action, UnknownInstruction, action_of
from .memory import AccessError, Array, Extent, Global
from .operands import I32, Reader, is_predicate, predicate, word
from .state import ALL, At, State

THREADS_AT_ONCE = 8192
_BRANCHES = ("BRA", "CALL", "RET", "BRX", "BRXU")
_INDEXED = re.compile(r"(U?R\d+) (-?0x[0-9a-f]+)")  # a register and an offset
_EXITED = np.iinfo(np.intp).max
_WAITING = _EXITED - 1  # at a barrier

# Where threads that branch go: a number of an instruction, or one for each thread.
Target: TypeAlias = Callable[[State, At], Any]


class Step(NamedTuple):
    """An instruction, ready to be executed."""

    instruction: Instruction
    guard: Reader | None
    action: Action | None
    target: Target | None = None  # of branches, calls and returns
    exits: bool = False
    waits: bool = False  # at a barrier


class Code:
    """The code of a kernel; an instruction is made ready when it is first executed."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.instructions = kernel.program.instructions
        self._steps: dict[int, Step] = {}

    def step(self, number: int) -> Step:
        """Return an instruction by its number."""
        found = self._steps.get(number)
        if found is None:
            found = self._steps[number] = self._made(self.instructions[number])
        return found

    def _made(self, i: Instruction) -> Step:
        if i.opcode == "BRA" and i.modifiers == ("DIV",):
            # Taken by a warp that is not together, whose shuffles go another way. Shuffles here
            # check that all lanes take part.
            return Step(i, None, lambda state, at: None)
        branches = i.opcode in _BRANCHES
        # A branch or an exit may have a condition beside its guard.
        conditions = [i.guard] if i.guard else []
        rest = list(i.operands)
        if (branches or i.opcode == "EXIT") and rest and is_predicate(rest[0]):
            conditions.append(rest.pop(0))
        guard = _all_of(conditions)
        if branches:
            return Step(i, guard, None, self._target(i, rest))
        if i.opcode == "BAR":
            if i.modifiers[:1] != ("SYNC",) or guard is not None:
                raise UnknownInstruction(str(i))
            return Step(i, None, None, waits=True)
        return Step(i, guard, action_of(i), exits=i.opcode == "EXIT")

    def _target(self, i: Instruction, operands: list[str]) -> Target:
        text = operands[0]
        if label := re.fullmatch(r"`\((.*)\)", text):
            number = self.kernel.program.labels[label[1]] // SIZE
            return lambda state, at: number
        if i.opcode == "RET" and (register := re.match(r"R\d+", text)):
            address = word(register[0])  # from the begin of the kernel
            return lambda state, at: address(state, at).astype(np.intp) // SIZE
        if i.opcode.startswith("BRX") and (found := _INDEXED.fullmatch(text)):
            offset, start = word(found[1]), i.address + SIZE + int(found[2], 16)
            return lambda state, at: (offset(state, at).view(I32).astype(np.intp) + start) // SIZE
        raise UnknownInstruction(str(i))


def _all_of(conditions: list[str]) -> Reader | None:
    """Return what reads whether all of some predicates hold; None if there are none."""
    if not conditions:
        return None
    first, *others = map(predicate, conditions)
    if not others:
        return first
    (second,) = others
    return lambda state, at: first(state, at) & second(state, at)


def run(
    code: Code,
    argument: bytes,
    grid: int,
    block: int,
    extents: Iterable[Extent],
    *,
    counts: npt.NDArray[np.int64] | None = None,
    approximation_error: int = 0,
) -> None:
    """Run a launch over memory of the host.

    Parameters
    ----------
    code : Code
        The kernel.
    argument : bytes
        Its argument, passed by value.
    grid, block : int
        Numbers of blocks, and of threads of a block.
    extents : iterable of Extent
        The arrays that it may access.
    counts : array, optional
        Warp instructions are added to it, by the number of the instruction.
    approximation_error : int
        Units in the last place that results of MUFU are off.
    """
    memory, kernel = Global(extents), code.kernel
    per = max(1, THREADS_AT_ONCE // block)
    with np.errstate(all="ignore"):
        for first in range(0, grid, per):
            state = State(
                grid=grid,
                block=block,
                blocks=range(first, min(first + per, grid)),
                parameters=(kernel.bank0 - len(argument), argument),
                banks=kernel.constants,
                memory=memory,
                shared=kernel.shared,
                approximation_error=approximation_error,
            )
            Run(code, state, counts).run()


class Run:
    """Threads on their way through a kernel, until all have exited."""

    def __init__(
        self, code: Code, state: State, counts: npt.NDArray[np.int64] | None = None
    ) -> None:
        self.code, self.state, self.counts = code, state, counts
        self.next = np.zeros(state.threads, np.intp)  # the number of a thread's next instruction
        self.waits = np.zeros(state.threads, bool)

    def run(self) -> None:
        """Run to the end."""
        while True:
            place = np.where(self.waits, _WAITING, self.next)
            now = int(place.min())
            if now == _EXITED:
                return
            if now == _WAITING:
                self._release()
                continue
            here = place == now
            beyond = place[~here]
            limit = int(beyond.min()) if beyond.size else _EXITED
            self._advance(ALL if here.all() else np.flatnonzero(here), now, limit)

    def _release(self) -> None:
        """Let threads pass the barrier, at which all threads of a block must wait."""
        places = np.stack((self.state.block[self.waits], self.next[self.waits]))
        blocks = np.unique(places, axis=1)[0]
        if len(np.unique(blocks)) != len(blocks):
            raise UnknownInstruction("threads of a block wait at different barriers")
        self.waits[:] = False

    def _warps(self, at: At) -> int:
        return 1 + int(np.count_nonzero(np.diff(self.state.warp[at])))

    def _advance(self, at: At, now: int, limit: int) -> None:
        """Let threads that are at an instruction go on until others are there, or some branch."""
        state, counts = self.state, self.counts
        warps = self._warps(at)
        while now < limit:
            step = self.code.step(now)
            if counts is not None:
                counts[now] += warps
            active: At | None = at
            if step.guard is not None:
                active = _chosen(at, step.guard(state, at))
            if step.action is not None:
                if active is not None:
                    try:
                        step.action(state, active)
                    except AccessError as error:
                        raise AccessError(f"{step.instruction}: {error}") from None
            elif step.waits:
                self.next[at], self.waits[at] = now + 1, True
                return
            elif active is not None and (step.exits or step.target is not None):
                target = _EXITED if step.target is None else step.target(state, active)
                if active is at and isinstance(target, int) and target != _EXITED:
                    now = target
                    continue
                self.next[at] = now + 1
                self.next[active] = target
                return
            now += 1
        self.next[at] = now


def _chosen(at: At, holds: Array) -> At | None:
    """Return the threads for which a predicate holds: `at` itself if it does for all."""
    if holds.all():
        return at
    if not holds.any():
        return None
    return np.flatnonzero(holds) if isinstance(at, slice) else at[holds]
