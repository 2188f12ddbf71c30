"""Building the kernels with g++, and a launcher that runs them."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastdrop_kernels.cuda import modules, operations
from fastdrop_kernels.cuda.launch import Launch

from .functors import FUNCTORS, JOINT

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
SANITIZED = "FASTDROP_TEST_SANITIZED"  # set where the tests run again under sanitizers

_FLAGS = [
    *("-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
]
# Unoptimised compiles in a third of the time, and most of the tests' time is NumPy's anyway.
_QUICK = ["-O0"]
_SANITIZERS = ["-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def texts(every: Iterable[operations.Operation], more: Iterable[modules.Module]) -> list[str]:
    """The C++ of all kernels, in the two files that are compiled at a time."""
    bodies = [modules.body(module) for module in (*(o.module for o in every), *more)]
    shim, run = ((HERE / name).read_text() for name in ("shim.h", "run.h"))
    head = [shim, modules.header()]
    return ["\n".join(part) for part in ([*head, *bodies[::2], run], [*head, *bodies[1::2]])]


def build(
    every: Iterable[operations.Operation], more: Iterable[modules.Module] = (modules.ADVANCE,)
) -> ctypes.CDLL:
    """Compile kernels, and load them."""
    assert COMPILER
    command = [COMPILER, *_FLAGS, *(_SANITIZERS if os.environ.get(SANITIZED) else _QUICK)]
    with tempfile.TemporaryDirectory() as folder:

        def run(*arguments: str) -> None:
            made = subprocess.run(
                [*command, *arguments], cwd=folder, capture_output=True, text=True
            )
            assert made.returncode == 0, made.stderr[:5000]

        def compiled(part: int, text: str) -> str:
            Path(folder, f"{part}.cpp").write_text(text)
            run("-c", f"{part}.cpp", "-o", f"{part}.o")
            return f"{part}.o"

        with ThreadPoolExecutor() as pool:
            objects = list(pool.map(compiled, range(2), texts(every, more)))
        run("-shared", *objects, "-o", "kernels.so")
        return ctypes.CDLL(str(Path(folder, "kernels.so")))


@functools.cache
def everything() -> ctypes.CDLL:
    """All kernels that tests run."""
    return build((*operations.EVERY, *JOINT, *FUNCTORS))


class HostLauncher:
    """Runs launches on the host, over all blocks and threads, and remembers their kernels."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.names: list[str] = []
        self._run = library.run_on_host
        self._run.restype = ctypes.c_bool
        self._run.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_uint,
        ]

    def address(self, array: Any) -> int:
        return int(array.__array_interface__["data"][0])

    def launch(self, launch: Launch) -> None:
        self.names.append(launch.kernel)
        kernel = ctypes.cast(getattr(self.library, launch.kernel), ctypes.c_void_p)
        argument = launch.argument
        assert self._run(kernel, argument, len(argument), launch.grid, launch.block)
