"""Where arrays on a GPU are tested: on a real one, or as CuPy arrays over the host's memory.

CuPy's arrays are made, viewed, sliced and asked for their strides without a driver, if they are
given memory. `HostDevice` gives them NumPy's, and puts the CPU's kernels in the place of the GPU's:
all of fastdrop's Python then runs as it does on a GPU, with CuPy's own arrays.
"""

from __future__ import annotations

import ctypes
import functools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fastdrop_kernels.cpu.host import driver as cpu
from fastdrop_kernels.cuda import driver as cuda
from tests.support import internals
from tests.support.oracle import Array


def cupy_or_skip() -> Any:
    """Import CuPy, which may warn about other packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "cupy", reason="CuPy is not installed: pip install -e '.[cuda13]'"
        )


def need_a_gpu() -> Any:
    """Skip the module that calls this, or the test, where there is no CuPy or no GPU."""
    cupy = cupy_or_skip()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no GPU: {error}", allow_module_level=True)
    if not count:
        pytest.skip("no GPU", allow_module_level=True)
    return cupy


def library(name: str) -> Any:
    """Import a library that uses the GPU; skip the test, or module, where that is not possible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(name, reason=f"{name} is not here", exc_type=ImportError)
        if name == "jax" and module.default_backend() not in ("gpu", "cuda"):
            reason = f"this JAX computes on {module.default_backend()!r}, and not on a GPU"
            pytest.skip(reason, allow_module_level=True)
        if name == "torch" and not module.cuda.is_available():
            pytest.skip(f"torch {module.__version__} finds no CUDA", allow_module_level=True)
        if name == "numba.cuda" and not module.is_available():
            pytest.skip("Numba finds no CUDA", allow_module_level=True)
    return module


@functools.cache
def numba_cuda_complaint() -> str:
    """Return why Numba compiles nothing for a GPU here, not even x + 1; "" if it does."""
    from numba import cuda, types

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cuda.compile_ptx(lambda x: x + 1, (types.float32,), device=True, cc=(8, 0))
    except Exception as error:  # numba-cuda 0.30 with NumPy 2.5, or no libnvvm
        return f"Numba compiles nothing for a GPU with NumPy {np.__version__}: {error}"
    return ""


class Device:
    """Copies arrays to a GPU and back."""

    def __init__(self) -> None:
        self.cupy = cupy_or_skip()
        internals.backend_of(self.cupy.ndarray((0,)))  # so that the first call is like later ones

    def takes(self, dtype: Any) -> bool:
        """Say whether there are arrays of a dtype: of bfloat16 since CuPy 14, with ml_dtypes."""
        try:
            self.cupy.empty(1, dtype)
        except (TypeError, ValueError):
            return False
        return True

    def put(self, x: Array) -> Any:
        """Copy an array there, in C order."""
        return self.cupy.asarray(np.ascontiguousarray(x))

    def get(self, x: Any) -> Array:
        """Copy an array back."""
        back: Array = x.get()
        return back


class HostDevice(Device):
    """CuPy arrays whose memory is the host's."""

    def put(self, x: Array) -> Any:
        made = self.cupy.empty(x.shape, x.dtype)
        seen(made)[...] = x
        return made

    def get(self, x: Any) -> Array:
        back: Array = seen(x).copy(order="K")
        return back


def seen(x: Any) -> Array:
    """Return a NumPy array of a CuPy array's memory, which must be the host's."""
    memory = x.data.mem
    size = max(memory.size, 1)
    raw = np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(memory.ptr))
    made: Array = np.ndarray(
        x.shape, x.dtype, raw.data, offset=x.data.ptr - memory.ptr, strides=x.strides
    )
    return made


class HostDriver:
    """The GPU driver's interface, computed by the CPU's kernels; remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if not hasattr(cuda, name):
            raise AttributeError(name)
        return getattr(cpu, name)

    def _key(self, seed: int, stream: int, pointer: int | None) -> tuple[int, int]:
        if pointer is None:
            return seed, stream
        assert (seed, stream) == (0, 0)
        words = (ctypes.c_uint64 * 2).from_address(pointer)
        return words[0], words[1]

    def per_element_operands(
        self, operation: Any, p: Array, factor: Array | None
    ) -> tuple[Array, ...]:
        return (p,)  # of which the CPU's kernels make the rest

    def apply(
        self,
        operation: Any,
        x: Any,
        y: Any,
        index: int,
        index_strides: Any,
        seed: int,
        stream: int,
        threshold: int,
        value: Array,
        operands: tuple[Any, ...] = (),
        *,
        key_pointer: int | None = None,
    ) -> None:
        assert type(value) is np.ndarray and value.flags.c_contiguous
        self.calls.append(getattr(operation, "operation", operation).name)  # also of per-element p
        seed, stream = self._key(seed, stream, key_pointer)
        place = index, index_strides, seed, stream, threshold
        others = tuple(map(seen, operands))
        cpu.apply(operation, seen(x), seen(y), *place, value, operands=others)

    def layout_call(
        self,
        operation: Any,
        shape: tuple[int, ...],
        input_strides: tuple[int, ...] | None,
        output_strides: tuple[int, ...],
        index: int,
        index_strides: Any,
        threshold: int,
        value: Array,
    ) -> Any:
        def call(x: int, y: int, seed: int, stream: int, *, key_pointer: int | None = None) -> None:
            self.calls.append(operation.name)
            key = self._key(seed, stream, key_pointer)
            if operation is cpu.operation("pack"):
                memory: Any = (ctypes.c_ubyte * ((math.prod(shape) + 7) // 8)).from_address(y)
                there = np.frombuffer(memory, np.uint8)
                cpu.pack(there, shape, index, index_strides, *key, threshold)
                return
            both = (x, input_strides or output_strides), (y, output_strides)
            size = operation.target.itemsize
            source, target = (internals.addresses(at, shape, steps, size) for at, steps in both)
            cpu.apply(operation, source, target, index, index_strides, *key, threshold, value)

        return call

    def pack(
        self,
        y: Any,
        shape: tuple[int, ...],
        index: int,
        index_strides: Any,
        seed: int,
        stream: int,
        threshold: int,
        *,
        key_pointer: int | None = None,
    ) -> None:
        self.calls.append("pack")
        seed, stream = self._key(seed, stream, key_pointer)
        cpu.pack(seen(y), shape, index, index_strides, seed, stream, threshold)

    def advance(self, pointer: int) -> None:
        self.calls.append("advance")
        words = (ctypes.c_uint64 * 2).from_address(pointer)
        words[1] = (words[1] + 1) % 2**64


@contextmanager
def host_device(driver: Any = None) -> Iterator[tuple[HostDevice, Any]]:
    """Let CuPy arrays lie in the host's memory, and kernels be those of a driver, for a while."""
    cupy = cupy_or_skip()

    def allocated(size: int) -> Any:
        memory = np.empty(max(size, 1), np.uint8)
        device = patches_device()
        owned = cupy.cuda.UnownedMemory(memory.ctypes.data, size, memory, device)
        return cupy.cuda.MemoryPointer(owned, 0)

    current = [0]

    def patches_device() -> int:
        return current[0]

    @contextmanager
    def on(number: int) -> Iterator[None]:
        before, current[0] = current[0], number
        yield
        current[0] = before

    def array(x: Array) -> Any:
        return HostDevice().put(x)

    def uploaded(value: Array, device: int) -> Any:
        with on(device):
            return array(value)

    def summed(x: Any, axes: tuple[int, ...]) -> Any:
        return HostDevice().put(seen(x).sum(axes, np.float64, keepdims=True).astype(x.dtype))

    def packed(marks: Any) -> Any:
        return HostDevice().put(np.packbits(seen(marks), bitorder="little"))

    driver = driver or HostDriver()
    # Without a driver of CUDA there is no allocator to go back to that could be used.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy.cuda.runtime, "getDevice", patches_device)
        patch.setattr(cupy.cuda, "Device", on)
        patch.setattr(cupy, "array", array)
        patch.setattr(internals.cupy_arrays, "cuda_driver", lambda: driver)
        patch.setattr(internals.cupy_arrays, "_summed", summed)
        patch.setattr(internals.cupy_arrays, "_packed", packed)
        # Tables lie in the memory of another device.
        tables = internals.cupy_tables()
        patch.setattr(tables, "_kept", {})
        patch.setattr(tables, "_captured", {})
        patch.setattr(tables, "is_capturing", lambda: False)
        patch.setattr(tables, "uploaded", uploaded)
        patch.setattr(tables, "wait_for", lambda device: None)
        # Plans were made for another driver.
        internals.replace_plan_cache(patch)
        with cupy.cuda.using_allocator(allocated):
            yield HostDevice(), driver
