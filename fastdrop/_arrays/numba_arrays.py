"""Device arrays of Numba's where there is no CuPy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .._check import detect
from .._check.arguments import Array
from .._check.key import AnyRNG, KeyOnDevice, as_key
from .._check.placement import Place
from . import overlap
from .adapter import Backend, copy_by_filling, imported


class NumbaBackend(Backend):
    """Device arrays of Numba where there is no CuPy, by the kernels that Numba compiles.

    They must lie on the current device; kernels go to the default stream.
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
        """None: Numba compiles no kernels over rows."""
        raise TypeError(
            "x is one of Numba's on a GPU, and CuPy, through which a softmax is computed there, "
            "cannot be imported: pip install 'fastdrop-kernels[cuda13]', or bring it to the host"
        )

    def array(self, x: Any, name: str = "x") -> Array:
        """Return x."""
        device_array: Array = x
        return device_array

    def given(self, out: Any) -> Array:
        """Return `out`, which must be one of Numba's too."""
        if not detect.is_numbas(out):
            raise TypeError(
                f"out is a {detect.kind_of(out)}, and x is one of Numba's on a GPU: give a "
                "numba.cuda device array, or install CuPy, which views others"
            )
        device_array: Array = out
        return device_array

    def key(self, rng: AnyRNG, y: Array) -> tuple[int, int, dict[str, int]]:
        """Return seed and stream; no key on the device, which is CuPy's to make."""
        if isinstance(rng, KeyOnDevice):
            raise TypeError(
                "rng is a DeviceKey, which kernels of Numba do not read: give rng.key()"
            )
        return *as_key(rng), {}

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a new array on the current device."""
        made: Array = self.cuda.device_array(shape, dtype)
        return made

    def empty_like(self, x: Array) -> Array:
        """Return a new array of the shape, dtype and layout of x, on the current device."""
        made: Array = self.cuda.device_array_like(x)
        return made

    def pack_each(
        self, target: Array, shape: tuple[int, ...], place: Place, rng: AnyRNG, p: Array
    ) -> None:
        """Draw nothing: see `takes_operands`."""
        raise AssertionError("kernels of Numba read no p of each element")

    def copy(self, source: Array, target: Array) -> None:
        """Copy by the kernel that fills nothing."""
        copy_by_filling(self.driver, source, target)

    def addresses(self, x: Array) -> Array:
        """Return where x lies; arrays of Numba's simulator are NumPy's, in a shell."""
        if (simulated := getattr(x, "_ary", None)) is not None:
            inside: Array = simulated
            return inside
        about: Any = x.__cuda_array_interface__  # type: ignore[attr-defined]
        strides = about.get("strides")
        return overlap.addresses(about["data"][0], x.shape, strides, x.dtype.itemsize)

    def apart(self, x: Array, y: Array) -> bool:
        """Leave it to the addresses."""
        return False


@functools.cache
def numba_backend() -> NumbaBackend:
    """Return the backend of these arrays; imports Numba's CUDA target."""
    return NumbaBackend()
