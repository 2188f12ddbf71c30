"""A launcher for the CUDA driver that runs sm_90 machine code in the interpreter.

Tests and `bench.instructions` put it in the place of the driver's launcher. It compiles modules by
NVRTC, and lets a launch access only the arrays whose addresses the driver asked for, of which the
first is the output.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdrop_kernels.cuda import modules
from fastdrop_kernels.cuda.launch import ADDRESSES_AND_KEY, Launch
from tests.support import nvrtc

from . import disassembly, interpreter
from .memory import Extent

ARCHITECTURE = "sm_90"
_KEY_BYTES = 16


def absent() -> str:
    """Say what is missing to run machine code; empty if nothing is."""
    if nvrtc.library() is None:
        return nvrtc.ABSENT
    return "" if disassembly.nvdisasm() else disassembly.ABSENT


class Loaded(NamedTuple):
    """A compiled module."""

    code: dict[str, interpreter.Code]  # by kernel
    reports: dict[str, nvrtc.Report]


@functools.cache
def loaded(module: modules.Module, *names: str) -> Loaded:
    """Compile kernels of a module, or all."""
    compiled = nvrtc.compiled(module, ARCHITECTURE, *names)
    found = disassembly.kernels(compiled.cubin, disassembly.disassembly(compiled.cubin))
    code = {name: interpreter.Code(kernel) for name, kernel in found.items()}
    return Loaded(code, compiled.reports)


def extent(array: Any, address: int, writable: bool) -> Extent:
    """Return the memory of an array with strides of any sign."""
    ends = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    low, high = (sum(pick(end, 0) for end in ends) for pick in (min, max))
    return Extent(address + low, address + high + array.itemsize, writable)


class Counted(NamedTuple):
    """What a launch issued."""

    kernel: str
    threads: int  # of a block
    instructions: tuple[disassembly.Instruction, ...]
    counts: npt.NDArray[np.int64]  # of warps, for each instruction
    report: nvrtc.Report


class MachineCodeLauncher:
    """Runs launches over arrays of the host, and remembers their kernels.

    Parameters
    ----------
    counts : bool
        Whether to count instructions; `counted` has those of every launch.
    one_kernel : bool
        Whether to compile kernels alone, as they are launched, and not all of a module.
    approximation_error : int
        Units in the last place that results of MUFU are off.
    """

    def __init__(
        self, *, counts: bool = False, one_kernel: bool = False, approximation_error: int = 0
    ) -> None:
        self.names: list[str] = []
        self.counted: list[Counted] = []
        self._counts, self._one_kernel = counts, one_kernel
        self._approximation_error = approximation_error
        self._given: list[Extent] = []
        self._launched = False

    def address(self, array: Any) -> int:
        """Return the address of an array that the next launches may access."""
        if self._launched:
            self._given, self._launched = [], False
        if isinstance(array, np.ndarray):
            address = int(array.__array_interface__["data"][0])
        else:
            address = int(array.data.ptr)
        self._given.append(extent(array, address, writable=not self._given))
        return address

    def launch(self, launch: Launch) -> None:
        """Run a launch to its end."""
        self.names.append(launch.kernel)
        self._launched = True
        compiled = loaded(launch.module, *([launch.kernel] if self._one_kernel else []))
        code, report = compiled.code[launch.kernel], compiled.reports[launch.kernel]
        counts = np.zeros(len(code.instructions), np.int64) if self._counts else None
        interpreter.run(
            code,
            launch.argument,
            launch.grid,
            launch.block,
            [*self._given, *_key(launch)],
            counts=counts,
            approximation_error=self._approximation_error,
        )
        if counts is not None:
            made = Counted(launch.kernel, launch.block, code.instructions, counts, report)
            self.counted.append(made)


def _key(launch: Launch) -> list[Extent]:
    """Return the memory of a key that the launch reads, or advances."""
    advances = launch.module == modules.ADVANCE
    if advances:
        (address,) = struct.unpack("<Q", launch.argument)
    else:
        address = ADDRESSES_AND_KEY.unpack_from(launch.argument)[-1]
    return [Extent(address, address + _KEY_BYTES, advances)] if address else []
