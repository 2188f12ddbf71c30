"""The state of the blocks that are interpreted together: registers, constants and memory.

All threads lie side by side: a register is an array of one word per thread. Uniform registers and
predicates, of which a warp has one, are kept per thread too. `operands` reads and writes registers.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .memory import SHARED_BASE, UNDEFINED, Array, Global, Private

# The threads that execute an instruction: all of them, or these.
At: TypeAlias = "slice | npt.NDArray[np.intp]"

ALL = slice(None)
WARP = 32
_BANK, _STACK = 0x1000, 0x28  # bytes of bank 0, and where it has the stack's address
_LOCAL = 1024  # bytes of a thread's stack, which grows downwards


class State:
    """Threads of consecutive blocks of a grid, and what they can access."""

    def __init__(
        self,
        *,
        grid: int,
        block: int,
        blocks: range,
        parameters: tuple[int, bytes],
        banks: Mapping[int, bytes],
        memory: Global,
        shared: int,
        approximation_error: int = 0,
    ) -> None:
        threads = len(blocks) * block
        self.threads = threads
        self.registers = [np.full(threads, UNDEFINED, np.uint32) for _ in range(256)]
        self.uniform = [np.full(threads, UNDEFINED, np.uint32) for _ in range(64)]
        self.registers[255][:] = self.uniform[63][:] = 0  # RZ and URZ
        self.predicates, self.uniform_predicates = (
            [np.full(threads, n == 7) for n in range(8)] for _ in range(2)
        )  # the last, PT and UPT, is true
        self.constants = _constants(grid, block, *parameters) | {
            bank: np.frombuffer(data + bytes(-len(data) % 4), np.uint32)
            for bank, data in banks.items()
        }
        # A kernel's own shared memory follows what the system keeps.
        bounds = range(SHARED_BASE, SHARED_BASE + shared)
        self.memory, self.shared = memory, Private("shared", len(blocks), bounds)
        number = np.arange(threads)
        self.block, self.thread = number // block, (number % block).astype(np.uint32)
        self.block_index = (self.block + blocks.start).astype(np.uint32)
        self.lane = (self.thread % WARP).astype(np.uint32)
        # A block that is no multiple of a warp ends with a warp that is not full.
        self.warp = self.block * -(-block // WARP) + self.thread // WARP
        self.approximation_error = approximation_error  # units in the last place

    @functools.cached_property
    def local(self) -> Private:
        """The threads' local memory, which kernels use that have too few registers."""
        return Private("local", self.threads, range(_LOCAL))

    def numbers(self, at: At) -> npt.NDArray[np.intp]:
        """Return the numbers of the threads in the state's arrays."""
        return np.arange(self.threads) if isinstance(at, slice) else at


def _constants(grid: int, block: int, begin: int, argument: bytes) -> dict[int, Array]:
    """Return bank 0, which has the shape of the launch and its argument."""
    bank = np.full(_BANK // 4, UNDEFINED, np.uint32).view(np.uint8)
    bank[:24] = np.frombuffer(struct.pack("<6I", block, 1, 1, grid, 1, 1), np.uint8)
    bank[_STACK : _STACK + 4] = np.frombuffer(struct.pack("<I", _LOCAL), np.uint8)
    bank[begin : begin + len(argument)] = np.frombuffer(argument, np.uint8)
    return {0: bank.view(np.uint32)}
