"""Launching through CuPy."""

from __future__ import annotations

import functools
from typing import Any

import cupy
import numpy as np

from .launch import Launch
from .modules import OPTIONS, Module, source


@functools.cache  # taking it from a string makes a launch 0.3 us longer
def _of_bytes(count: int) -> np.dtype[np.void]:
    return np.dtype((np.void, count))


class CupyLauncher:
    """Runs launches on CuPy's current device and stream, and does not wait for them.

    CuPy compiles a module at its first launch on a device, and keeps the result on disk.
    """

    def __init__(self) -> None:
        self._modules: dict[Module, Any] = {}
        self._kernels: dict[str, Any] = {}  # CuPy's raw kernels, which look after devices

    def address(self, array: Any) -> int:
        """Return the address of an array's first element."""
        return int(array.data.ptr)

    def launch(self, launch: Launch) -> None:
        """Run a launch."""
        module, name, grid, block, argument = launch
        kernel = self._kernels.get(name) or self._kernel(module, name)
        # CuPy passes what a NumPy array of one element holds by value; it is copied by the launch.
        kernel((grid,), (block,), (np.frombuffer(argument, _of_bytes(len(argument))),))

    def _kernel(self, module: Module, name: str) -> Any:
        if module not in self._modules:
            self._modules[module] = cupy.RawModule(
                code=source(module), options=OPTIONS, backend="nvrtc"
            )
        self._kernels[name] = self._modules[module].get_function(name)
        return self._kernels[name]
