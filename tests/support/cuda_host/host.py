"""Building the kernels with g++, and a launcher that runs them."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fastdrop_kernels.cuda import modules, operations, softmax_driver
from fastdrop_kernels.cuda.batch import launch as batch
from fastdrop_kernels.cuda.launch import Launch

from .functors import FUNCTORS, JOINT, QUICK_JOINT

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
SANITIZED = "FASTDROP_TEST_SANITIZED"  # set where the tests run again under sanitizers

_FLAGS = [
    *("-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
]
# Unoptimised compiles in a third of the time, and most of the tests' time is NumPy's anyway.
_QUICK = ["-O0"]
_SANITIZERS = ["-g1", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


# Libraries of kernels, each built when a test runs one of its. The first is for the quick tests:
# dropout and fills of every storage, and every other operation once.
_FIRST = (
    *(o for name in ("drop", "fill", "mark", "pack") for o in operations.family(name).values()),
    *(operations.per_element("fill", np.dtype(kind)) for kind in ("u1", "u2", "u4", "u8", "c16")),
    operations.per_element("mark", None),
    operations.per_element("drop", np.dtype(np.float32)),
    *(
        operations.of_elements(name, "float32")
        for name in ("alpha", "gaussian_drop", "gaussian_add")
    ),
    *QUICK_JOINT,
    *FUNCTORS,
)
_LIBRARIES = (
    (modules.ADVANCE, *(operation.module for operation in _FIRST)),
    tuple(o.module for o in (*operations.EVERY, *JOINT) if o not in _FIRST),
    *((module,) for module in softmax_driver.MODULES.values()),
    *((module,) for module in batch.modules()),
)


def texts(library: Sequence[modules.Module]) -> list[str]:
    """The C++ of a library, in the two files that are compiled at a time."""
    bodies = [modules.body(module) for module in library]
    shim, run = ((HERE / name).read_text() for name in ("shim.h", "run.h"))
    head = [shim, modules.header()]
    return ["\n".join(part) for part in ([*head, *bodies[::2], run], [*head, *bodies[1::2]])]


@functools.cache
def _built(library: tuple[modules.Module, ...]) -> ctypes.CDLL:
    """Compile a library, and load it."""
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
            objects = list(pool.map(compiled, range(2), texts(library)))
        run("-shared", *objects, "-o", "kernels.so")
        loaded = ctypes.CDLL(str(Path(folder, "kernels.so")))
    loaded.run_on_host.restype = ctypes.c_bool
    loaded.run_on_host.argtypes = [
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t),
        *(ctypes.c_uint, ctypes.c_uint),
    ]
    return loaded


@functools.cache
def library_of(module: modules.Module) -> ctypes.CDLL:
    """The library that has the kernels of a module."""
    return _built(next(library for library in _LIBRARIES if module in library))


class HostLauncher:
    """Runs launches on the host, over all blocks and threads, and remembers their kernels.

    Over NumPy arrays, and CuPy arrays whose memory is the host's.
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    def address(self, array: Any) -> int:
        if isinstance(array, np.ndarray):
            return int(array.__array_interface__["data"][0])
        return int(array.data.ptr)

    def launch(self, launch: Launch) -> None:
        self.names.append(launch.kernel)
        library = library_of(launch.module)
        kernel = ctypes.cast(getattr(library, launch.kernel), ctypes.c_void_p)
        argument = launch.argument
        assert library.run_on_host(kernel, argument, len(argument), launch.grid, launch.block)
