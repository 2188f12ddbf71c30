"""NVIDIA's runtime compiler, which needs no GPU and no driver, and what it reports of kernels.

``python -m tests.support.nvrtc`` prints the registers of every kernel for every architecture.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from fastdrop_kernels.cuda import modules, operations

ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
# What CuPy appends to the options of a module, whatever they are.
CUPYS_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
ABSENT = "NVRTC is not here: pip install -e '.[cuda-check]'"


class Report(NamedTuple):
    """What became of a kernel."""

    registers: int
    stack: int  # bytes of local memory
    spilled: int  # bytes
    shared: int  # bytes of a block


class Compiled(NamedTuple):
    """What became of a module."""

    cubin: bytes
    ptx: str
    reports: dict[str, Report]


@functools.cache
def library() -> Any:
    """The library out of NVIDIA's wheel; None where there is none."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or []:
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*")):
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def version() -> str | None:
    """Return the version of NVIDIA's wheel; None where there is none."""
    found = importlib.metadata.distributions(name="nvidia-cuda-nvrtc")
    return next((distribution.version for distribution in found), None)


def compiled(module: modules.Module, architecture: str, *names: str) -> Compiled:
    """Compile kernels of a module, or all, as CuPy does, and have the compiler report on each."""
    nvrtc = library()
    program = ctypes.c_void_p()
    text = modules.source(module, *names).encode()
    assert not nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, None, 0, None, None)
    ours = [f"-arch={architecture}", "--ptxas-options=-v"]
    options = [*modules.OPTIONS, *CUPYS_OPTIONS, *ours]
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), array)
    log = _bytes(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode()
    assert not failed, log
    cubin = _bytes(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    ptx = _bytes(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).decode()
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(cubin, ptx, _reports(log))


def _bytes(program: ctypes.c_void_p, get_size: Any, get: Any) -> bytes:
    size = ctypes.c_size_t()
    assert not get_size(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    assert not get(program, buffer)
    return buffer.raw


def _reports(log: str) -> dict[str, Report]:
    pattern = (
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)"
    )
    found = {}
    for name, stack, stores, loads, registers, rest in re.findall(pattern, log, re.DOTALL):
        shared = re.search(r"(\d+) bytes smem", rest)
        spilled, of_block = int(stores) + int(loads), int(shared[1]) if shared else 0
        found[name] = Report(int(registers), int(stack), spilled, of_block)
    return found


def main() -> None:
    if library() is None:
        sys.exit(ABSENT)
    for operation in operations.EVERY:
        reports = [compiled(operation.module, a).reports for a in ARCHITECTURES]
        for kernel in sorted(reports[0]):
            numbers = (
                f"{a}: {r[kernel].registers:3}" + (" and local memory" if r[kernel].stack else "")
                for a, r in zip(ARCHITECTURES, reports, strict=True)
            )
            print(f"{kernel:24}", *numbers, flush=True)


if __name__ == "__main__":
    main()
