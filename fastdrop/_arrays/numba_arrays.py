"""The backend of Numba device arrays where CuPy is not installed.

`cupy_arrays.backend_of_foreign` returns it; it calls the driver of the kernels that Numba compiles
for a GPU.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .._check import detect
from .._check.arguments import Array
from .._check.key import AnyRNG, KeyOnDevice, as_key
from .._check.placement import Placement
from . import overlap
from .adapter import Backend, copy_by_filling, imported


class NumbaBackend(Backend):
    """Backend of Numba device arrays without CuPy.

    The arrays must be on the current device. Kernels are launched on the stream that the array they
    write is bound to, which is Numba's default one if it is bound to none. New arrays are bound as
    x is.
    """

    def __init__(self) -> None:
        from numba import cuda

        self.cuda: Any = cuda

    @property
    def driver(self) -> Any:
        """The driver of the kernels that Numba compiles."""
        return imported("fastdrop_kernels.numba_cuda.driver")

    @property
    def softmax_driver(self) -> Any:
        """Raise TypeError: there is no softmax kernel for Numba."""
        raise TypeError(
            "x is one of Numba's on a GPU, and CuPy, through which a softmax is computed there, "
            "cannot be imported: pip install 'fastdrop-kernels[cuda13]', or bring it to the host"
        )

    def array(self, x: Any, name: str = "x") -> Array:
        """Return x."""
        device_array: Array = x
        return device_array

    def writable(self, out: Any) -> Array:
        """Return `out`, which must be a Numba device array too."""
        if not detect.is_numbas(out):
            raise TypeError(
                f"out is {detect.a_kind_of(out)}, and x is one of Numba's on a GPU: give a "
                "numba.cuda device array, or install CuPy, which views others"
            )
        device_array: Array = out
        return device_array

    def key(self, rng: AnyRNG, y: Array) -> tuple[int, int, dict[str, int]]:
        """Return seed, stream of the key, and the CUDA stream of y; refuse a `DeviceKey`."""
        if isinstance(rng, KeyOnDevice):
            raise TypeError(
                "rng is a DeviceKey, which kernels of Numba do not read: give rng.key()"
            )
        return *as_key(rng), _stream_of(y)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a new array on the current device."""
        array: Array = self.cuda.device_array(shape, dtype)
        return array

    def empty_like(self, x: Array) -> Array:
        """Return a new array of the shape, dtype and layout of x, on the current device."""
        array: Array = self.cuda.device_array_like(x, stream=_bound_to(x))
        return array

    def pack_each(
        self, target: Array, shape: tuple[int, ...], placement: Placement, rng: AnyRNG, p: Array
    ) -> None:
        """Fail: callers check `takes_operands` before."""
        raise AssertionError("kernels of Numba take no per-element p")

    def copy(self, source: Array, target: Array) -> None:
        """Copy by the fill kernel with p = 0."""
        copy_by_filling(self.driver, source, target, **_stream_of(target))

    def addresses(self, x: Array) -> Array:
        """Return a NumPy array of the same addresses; the simulator's arrays wrap NumPy arrays."""
        if (simulated := getattr(x, "_ary", None)) is not None:
            inside: Array = simulated
            return inside
        about: Any = x.__cuda_array_interface__  # type: ignore[attr-defined]
        strides = about.get("strides")
        return overlap.addresses(about["data"][0], x.shape, strides, x.dtype.itemsize)

    def no_overlap(self, x: Array, y: Array) -> bool:
        """Return False: the callers then compare addresses."""
        return False


def _bound_to(x: Any) -> Any:
    """Return the stream that a device array is bound to; 0 for none."""
    return getattr(x, "stream", 0)


def _stream_of(y: Any) -> dict[str, int]:
    """Return what the driver is told of the stream of an array to write."""
    stream = _bound_to(y)
    # Streams of the simulator have no number, and nothing runs there later.
    return {"cuda_stream": int(stream)} if hasattr(stream, "handle") else {}


def default_stream() -> int:
    """Return the handle of Numba's default stream, on which arrays are used that name no other."""
    from numba import config

    return 2 if getattr(config, "CUDA_PER_THREAD_DEFAULT_STREAM", 0) else 0


@functools.cache
def numba_backend() -> NumbaBackend:
    """Return the backend of Numba device arrays; imports Numba's CUDA target on first use."""
    return NumbaBackend()
