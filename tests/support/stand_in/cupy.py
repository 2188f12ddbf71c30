"""A stand-in for CuPy without a GPU: its arrays are NumPy's, and g++ compiles its kernels.

``python -m bench gpu --first FOLDER --rehearse`` puts this folder in front of the others, so that
``import cupy`` finds it: fastdrop then plans, compiles and launches its CUDA kernels as on a GPU.
There is what fastdrop and bench use of CuPy. Nothing is asynchronous, and times mean nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy import float32, float64, int64, uint64  # noqa: F401  # as cupy.uint64

__version__ = "14.0 (a stand-in on the host)"  # whose behaviour it has

_HOST = Path(__file__).parents[1] / "cuda_host"
_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-O1",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-w",
    "-shared",
)
_MEMORY = 1 << 30  # bytes that the device says it has

# What kernels here use beside what tests/support/cuda_host/shim.h has.
_MORE = """
#include <ctime>
struct uint4 { unsigned x, y, z, w; };
inline Index3 blockDim, gridDim;
inline long long clock64() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}
"""
# Runs a kernel whose arguments are addresses and 64-bit integers, which are passed alike.
_RUN_FLAT = """
extern "C" void run_flat(void* kernel, unsigned grid, unsigned block, const unsigned long long* a) {
    using Word = unsigned long long;
    blockDim.x = block, gridDim.x = grid;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x)
            reinterpret_cast<void (*)(Word, Word, Word)>(kernel)(a[0], a[1], a[2]);
}
"""


class _Memory:
    """The memory of an array, here NumPy's."""


class ndarray(np.ndarray[Any, Any]):  # noqa: N801  # CuPy's name
    """An array on the stand-in for a device."""

    __module__ = "cupy"

    def __new__(
        cls, shape: Any, dtype: Any = float64, memptr: Any = None, strides: Any = None,
        order: Any = "C",
    ) -> ndarray:  # fmt: skip
        """Return a new array, as CuPy's class does."""
        assert memptr is None and strides is None
        made: ndarray = super().__new__(cls, shape, dtype, order=order)
        return made

    @property
    def data(self) -> Any:
        """Where it lies."""
        address = self.__array_interface__["data"][0]
        return SimpleNamespace(ptr=address, device_id=0, mem=_Memory())

    def get(self) -> np.ndarray[Any, Any]:
        """Copy it to the host."""
        return np.array(self.view(np.ndarray), order="K")


def empty(shape: Any, dtype: Any = float64) -> Any:
    """Return an array of arbitrary values."""
    return np.empty(shape, dtype).view(ndarray)


def empty_like(x: Any) -> Any:
    """Return an array of the layout of another."""
    return np.empty_like(x).view(ndarray)


def asarray(x: Any) -> Any:
    """Copy an array to the device."""
    return np.array(x, order="K").view(ndarray)


array = asarray


def from_dlpack(x: Any) -> Any:
    """View an array of another library."""
    return np.from_dlpack(x).view(ndarray)


def broadcast_to(x: Any, shape: Any) -> Any:
    """View an array in a larger shape."""
    return np.broadcast_to(x, shape, subok=True)


def packbits(x: Any, bitorder: Any = "big") -> Any:
    """Pack bits."""
    return np.packbits(x, bitorder=bitorder).view(ndarray)


def may_share_memory(x: Any, y: Any) -> bool:
    """Say whether arrays overlap."""
    return np.may_share_memory(x, y)


def get_default_memory_pool() -> Any:
    """Return a memory pool that has nothing."""
    return SimpleNamespace(free_all_blocks=lambda: None, used_bytes=lambda: 0)


def _random(shape: Any = None, dtype: Any = float64) -> Any:
    return np.random.default_rng().random(shape, dtype).view(ndarray)


random = SimpleNamespace(random=_random)


class RawModule:
    """CUDA C++ compiled for the host; a library is kept for later processes."""

    def __init__(
        self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc", **_: Any
    ) -> None:
        own = "namespace fastdrop" in code
        run = (_HOST / "run.h").read_text() if own else _RUN_FLAT
        text = "\n".join([(_HOST / "shim.h").read_text(), _MORE, code, run])
        folder = Path(tempfile.gettempdir()) / f"fastdrop-stand-in-{getpass.getuser()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=folder) as here:
                source, made = Path(here, "kernel.cpp"), Path(here, "kernel.so")
                source.write_text(text)
                command = ["g++", *_FLAGS, str(source), "-o", str(made)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(done.stderr.partition("\n")[0])
                made.replace(path)
        self._library, self._own = ctypes.CDLL(str(path)), own

    def get_function(self, name: str) -> Any:
        """Return a kernel: ``kernel(grid, block, arguments)``."""
        kernel = ctypes.cast(getattr(self._library, name), ctypes.c_void_p)

        def launch_own(grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
            (argument,) = args
            data = ctypes.string_at(argument.__array_interface__["data"][0], argument.nbytes)
            self._library.run_on_host.restype = ctypes.c_bool
            sizes = ctypes.c_size_t(len(data)), ctypes.c_uint(grid[0]), ctypes.c_uint(block[0])
            assert self._library.run_on_host(kernel, data, *sizes), f"{name}: {len(data)} bytes"

        def launch_flat(grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
            words = [a.data.ptr if isinstance(a, ndarray) else int(a) for a in args]
            given = (ctypes.c_uint64 * 3)(*words)
            self._library.run_flat(kernel, ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), given)

        return launch_own if self._own else launch_flat


def RawKernel(code: str, name: str, **options: Any) -> Any:  # noqa: N802  # CuPy's name
    """Return a kernel of its own source."""
    return RawModule(code=code, **options).get_function(name)


class _Event:
    def record(self, stream: Any = None) -> None:
        """Note the time."""
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        """Do nothing: all is done."""


class _Device:
    compute_capability = "90"

    def __init__(self, number: int = 0) -> None:
        self.id = number

    def synchronize(self) -> None:
        """Do nothing: all is done."""

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: there is one device."""


class _Stream:
    ptr = 0
    null: Any = None

    def synchronize(self) -> None:
        """Do nothing: all is done."""


_Stream.null = _Stream()


@contextlib.contextmanager
def _using_allocator(allocator: Any) -> Iterator[None]:
    yield


def _copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    ctypes.memmove(target, source, size)


_PROPERTIES = {
    "name": b"a stand-in on the host",
    "totalGlobalMem": _MEMORY,
    "l2CacheSize": 1 << 20,
    "multiProcessorCount": 1,
    "major": 9,
    "minor": 0,
}
cuda = SimpleNamespace(
    Device=_Device,
    Event=_Event,
    Stream=_Stream,
    UnownedMemory=_Memory,
    get_current_stream=lambda: _Stream.null,
    get_elapsed_time=lambda begin, end: 1e3 * (end.time - begin.time),
    set_allocator=lambda allocator: None,
    using_allocator=_using_allocator,
    runtime=SimpleNamespace(
        driverGetVersion=lambda: 0,
        runtimeGetVersion=lambda: 0,
        getDevice=lambda: 0,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda number: _PROPERTIES,
        memGetInfo=lambda: (_MEMORY, _MEMORY),
        memcpyAsync=_copy,
        memcpyDeviceToDevice=3,
    ),
)
