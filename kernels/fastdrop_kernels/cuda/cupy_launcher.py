"""`CupyLauncher`: runs launches through CuPy, on its current device and stream.

The driver calls it; it compiles each kernel by a `cupy.RawModule` of its own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cupy
import numpy as np

from .launch import Launch
from .modules import OPTIONS, Module, source


class _Argument(np.ndarray[Any, Any]):
    """A kernel argument: an array of one element, which CuPy passes by value.

    For a plain array, building ``__array_interface__`` would take most of the time of a launch.
    Here it is computed once.
    """

    __slots__ = ("__array_interface__", "bytes")

    bytes: memoryview  # of the element

    @classmethod
    def of(cls, size: int) -> _Argument:
        """Return an argument of `size` bytes."""
        plain = np.zeros(1, np.dtype((np.void, size)))
        made = plain.view(cls)
        made.__array_interface__ = plain.__array_interface__  # type: ignore[misc]  # a slot
        made.bytes = plain.view(np.uint8).data
        return made


class CupyLauncher:
    """Runs launches on CuPy's current device and stream, and does not wait for them.

    CuPy compiles a kernel at its first launch on a device, and keeps the result on disk.
    """

    def __init__(self) -> None:
        self._kernels: dict[str, Any] = {}  # CuPy's raw kernels, which work on any device
        # By size, arguments that are not in use by a launch of another thread.
        self._idle: defaultdict[int, list[_Argument]] = defaultdict(list)

    def address(self, array: Any) -> int:
        """Return the address of an array's first element."""
        return int(array.data.ptr)

    def launch(self, launch: Launch) -> None:
        """Run a launch."""
        module, name, grid, block, data = launch
        kernel = self._kernels.get(name) or self._kernel(module, name)
        idle = self._idle[len(data)]
        try:
            argument = idle.pop()
        except IndexError:
            argument = _Argument.of(len(data))
        argument.bytes[:] = data
        kernel((grid,), (block,), (argument,))  # copies the argument
        idle.append(argument)

    def _kernel(self, module: Module, name: str) -> Any:
        code = source(module, name)
        made = cupy.RawModule(code=code, options=OPTIONS, backend="nvrtc")
        self._kernels[name] = made.get_function(name)
        return self._kernels[name]
