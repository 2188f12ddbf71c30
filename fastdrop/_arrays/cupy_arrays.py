"""The backend of arrays on a GPU: CuPy arrays, and arrays that CuPy can view.

`dispatch.backend_of` returns it, and the public functions call it; it calls the driver of the CUDA
kernels. CuPy and Numba's CUDA target are imported on first use. Kernels are launched on CuPy's
current stream or, where another library's array is written, on the stream of that: `cupy_streams`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastdrop_kernels.layout import c_strides

from .._check import detect
from .._check.arguments import Array
from .._check.key import AnyRNG, KeyOnDevice, as_key
from .._check.placement import Placement
from .._check.shard_offsets import IndexOf
from . import overlap
from .adapter import Backend, Operation, Plan, copy_by_filling, imported
from .cupy_plans import layout_plan, mask_plan
from .numba_arrays import numba_backend

_CURRENT_DEVICE = contextlib.nullcontext()
_NO_THRESHOLD = 1  # placeholder: each element has its own threshold


class CupyBackend(Backend):
    """Backend of CuPy arrays, and of arrays that CuPy can view without a copy."""

    takes_operands = True

    def __init__(self) -> None:
        import cupy

        from . import cupy_streams, cupy_tables, cupy_views  # which import CuPy

        self.cupy: Any = cupy
        self._views, self._streams, self._tables = cupy_views, cupy_streams, cupy_tables

    @property
    def driver(self) -> Any:
        """The driver of the kernels in CUDA C++."""
        return cuda_driver()

    @property
    def softmax_driver(self) -> Any:
        """The driver of the softmax kernels."""
        return imported("fastdrop_kernels.cuda.softmax_driver")

    def array(self, x: Any, name: str = "x") -> Array:
        """Return x, or a view of it."""
        if isinstance(x, self.cupy.ndarray):
            return x  # type: ignore[no-any-return]
        return self._views.view(x, name)

    def writable(self, out: Any) -> Array:
        """Return `out`, or a view of it."""
        if isinstance(out, self.cupy.ndarray):
            return out  # type: ignore[no-any-return]
        if not detect.on_gpu(out):
            raise TypeError(
                f"out is {detect.a_kind_of(out)}, and x lies on a GPU: give a cupy.ndarray"
            )
        view = self._views.view(out, "out")
        if detect.is_frozen(out):
            raise ValueError(f"out is {detect.a_kind_of(out)}, which may not be written to")
        return view

    def output(
        self, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array | None = None
    ) -> Array:
        """Return `out`, or a view of it, which must be on the device of x."""
        result = super().output(out, shape, dtype, x)
        if x is not None and _device_of(result) != _device_of(x):
            raise ValueError(
                f"out lies on device {_device_of(result)}, and x on device {_device_of(x)}: give "
                "an out on the device of x"
            )
        return result

    def check_same_device(self, name: str, operand: Array, x: Array) -> None:
        """Raise ValueError for an operand that is not on the device of x."""
        if _device_of(operand) != _device_of(x):
            raise ValueError(
                f"{name} lies on device {_device_of(operand)}, and x on device {_device_of(x)}: "
                "bring it there"
            )

    def to_device(self, value: Array, x: Array) -> Array:
        """Return a copy of a NumPy array on the device of x."""
        with self.on_device(x):
            copied: Array = self.cupy.array(value)
        return copied

    def table(self, value: Array, x: Array, changes: bool = False) -> Array:
        """Return a copy of a NumPy array on the device of x, one for all calls unless it changes.

        A graph that captures the call finds it at each replay.
        """
        device, tables = _device_of(x), self._tables
        if not changes:
            return tables.table(value, device)  # type: ignore[no-any-return]
        if not tables.is_capturing():
            return self.to_device(value, x)
        return tables.captured(value, device)  # type: ignore[no-any-return]

    def broadcast(self, operand: Array, shape: tuple[int, ...]) -> Array:
        """Return an operand as a view of a shape."""
        view: Array = self.cupy.broadcast_to(operand, shape)
        return view

    def per_element_operands(
        self, operation: Operation, p: Array, factor: Array | None, near: Array
    ) -> Sequence[Array]:
        """Compute thresholds and factors on the host, and copy them to the device of `near`."""
        driver = self.driver
        operands = driver.per_element_operands(operation.of(driver), p, factor)
        return [self.to_device(operand, near) for operand in operands]

    def sum_to(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Sum by CuPy's reduction in float64; the order depends on the layout."""
        full = (1,) * (x.ndim - len(shape)) + shape
        axes = tuple(axis for axis, length in enumerate(full) if length == 1)
        with self.ordered((x,), None):
            if axes:
                sums: Array = _summed(x, axes)
            else:
                self.copy(x, sums := self.empty_like(x))
        return sums.reshape(shape)

    def float64_sums(self, x: Array, full: tuple[int, ...]) -> Array:
        """Sum over the axes where `full` is 1, without rounding to the dtype of x."""
        axes = tuple([axis for axis, length in enumerate(full) if length == 1])
        with self.ordered((x,), None):
            sums: Array = x.sum(axes, np.float64, keepdims=True)
        return sums

    def key(self, rng: AnyRNG, y: Array) -> tuple[int, int, dict[str, int]]:
        """Return seed, stream, and the address of a `DeviceKey`."""
        if not isinstance(rng, KeyOnDevice):
            return *as_key(rng), {}
        if rng.device != _device_of(y):
            raise ValueError(
                f"rng is a DeviceKey on device {rng.device}, and x lies on device {_device_of(y)}: "
                "give one that was made there"
            )
        return 0, 0, {"key_pointer": rng.pointer}

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a new array on the current device, from CuPy's memory pool."""
        array: Array = self.cupy.empty(shape, dtype)
        return array

    def empty_like(self, x: Array) -> Array:
        """Return a new array of the shape, dtype and layout of x, on the current device."""
        array: Array = self.cupy.empty_like(x)
        return array

    def copy(self, source: Array, target: Array) -> None:
        """Copy by the fill kernel with p = 0, which takes any dtype and any strides."""
        copy_by_filling(self.driver, source, target)

    def addresses(self, x: Array) -> Array:
        """Return a NumPy array of the same addresses.

        `cupy.may_share_memory` knows only memory that CuPy allocated.
        """
        return overlap.addresses(_pointer(x), x.shape, x.strides, x.itemsize)

    def no_overlap(self, x: Array, y: Array) -> bool:
        """Return whether both are C-contiguous, and identical or disjoint."""
        strides = y.strides
        # Faster than CuPy's `flags.c_contiguous`.
        if x.strides != strides or not _are_c_contiguous(y.shape, strides, y.itemsize):
            return False
        start, other, size = _pointer(x), _pointer(y), y.nbytes
        return start == other or start + size <= other or other + size <= start

    def ordered(
        self, inputs: Sequence[Array], out: Any, rng: AnyRNG = None, near: Array | None = None
    ) -> contextlib.AbstractContextManager[Any]:
        """Return a context for work that reads `inputs`, and writes `out` or a new array.

        There, the device where they lie is the current one, or that of `near` where there are none,
        and the stream that the work belongs to is CuPy's current one: see `cupy_streams`.
        """
        target = self.writable(out) if detect.on_gpu(out) else None
        arrays = [*inputs] if target is None else [*inputs, target]
        device = self.on_device(arrays[0] if arrays else near)
        if not any(map(self._views.memory_of, arrays)):
            return device
        return self._ordered(device, inputs, target, isinstance(rng, KeyOnDevice))

    @contextlib.contextmanager
    def _ordered(self, device: Any, *work: Any) -> Iterator[None]:
        with device, self._streams.ordered(*work):
            yield

    def apply(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        value: Array,
        operands: Sequence[Array] = (),
    ) -> Array:
        """Apply an operation to x, on the device of x."""
        target, where = self._target(out), (placement, rng, threshold, value)
        with self.ordered((x, *operands), target, rng):
            y = super().apply(operation, x, target, *where, operands)
        return y if out is None else out

    def _target(self, out: Any) -> Array | None:
        return None if out is None else self.writable(out)

    def plan(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        placement: Placement,
        threshold: int,
        value: Array,
        index_of: IndexOf,
        operands: Sequence[Array] = (),
    ) -> Plan | None:
        """Return a cached form of `apply` without operands, for arrays on the current device."""
        if operands:
            return None
        return layout_plan(self, operation, x, out, placement, threshold, value)

    def mask_plan(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        threshold: int,
        like: Array | None = None,
        packed: bool = False,
        index_of: IndexOf | None = None,
    ) -> Plan | None:
        """Return a cached form of `mask`, on the current device."""
        return mask_plan(self, shape, out, placement, threshold, packed)

    def mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        like: Array | None = None,
        *rest: Any,
    ) -> Array:
        """Draw a mask where `out` lies or, without one, where `like` does."""
        target = self._target(out)
        with self.ordered((), target, rng, like):
            y = super().mask(shape, target, placement, rng, threshold, like, *rest)
        return y if out is None else out

    def softmax(
        self, x: Array, out: Any, axis: int, placement: Placement, rng: AnyRNG, *rest: Any
    ) -> Array:
        """Compute softmax and dropout on the device of x."""
        target = self._target(out)
        with self.ordered((x,), target, rng):
            y = super().softmax(x, target, axis, placement, rng, *rest)
        return y if out is None else out

    def softmax_gradient(
        self,
        x: Array,
        dy: Array,
        out: Any,
        axis: int,
        placement: Placement,
        rng: AnyRNG,
        *rest: Any,
    ) -> Array:
        """Compute the gradient of `softmax` on the device of x and dy."""
        if _device_of(dy) != _device_of(x):
            raise ValueError(
                f"dy lies on device {_device_of(dy)}, and x on device {_device_of(x)}: give both "
                "on one"
            )
        target, where = self._target(out), (axis, placement, rng)
        with self.ordered((x, dy), target, rng):
            y = super().softmax_gradient(x, dy, target, *where, *rest)
        return y if out is None else out

    def identity(self, x: Any, xs: Array, out: Any) -> Array:
        """Return x itself, or copy it to `out`, on the device of x."""
        if out is None:
            return x  # type: ignore[no-any-return]
        target = self._target(out)
        with self.ordered((xs,), target):
            super().identity(x, xs, target)
        return out  # type: ignore[no-any-return]

    def pack_each(
        self, target: Array, shape: tuple[int, ...], placement: Placement, rng: AnyRNG, p: Array
    ) -> None:
        """Draw an unpacked mask and pack it: no kernel packs bits with several thresholds."""
        kept = self.mask(shape, None, placement, rng, _NO_THRESHOLD, target, p)
        if kept.size:
            self.copy(_packed(kept), target)

    def on_device(self, x: Array | None) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the device of x is the current one."""
        assert x is not None, "this backend was chosen for an array"
        device = _device_of(x)
        if device == self.cupy.cuda.runtime.getDevice():
            return _CURRENT_DEVICE
        other: contextlib.AbstractContextManager[Any] = self.cupy.cuda.Device(device)
        return other

    def on_stream(self, handle: int, device: int) -> contextlib.AbstractContextManager[bool]:
        """Return a context for work on a library's stream of a device; its value is if captured."""
        return self._streams.On(handle, device)

    def view_of_memory(self, *memory: Any) -> Array:
        """Return a CuPy array over memory of another library's, for use `on_stream`."""
        return self._views.view_of_memory(*memory)

    def bfloat16(self, name: str, package: str) -> np.dtype[Any]:
        """Return bfloat16 as CuPy's arrays have it; raise for an array `name` if they have not."""
        return self._views.bfloat16(name, package)


@functools.lru_cache(maxsize=512)
def _are_c_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Return whether these are the strides in bytes of a C-contiguous array."""
    return strides == tuple(step * itemsize for step in c_strides(shape))


def _summed(x: Any, axes: tuple[int, ...]) -> Any:
    return x.sum(axes, np.float64, keepdims=True).astype(x.dtype)


def _packed(kept: Any) -> Any:
    import cupy

    return cupy.packbits(kept.ravel(), bitorder="little")


def _device_of(x: Any) -> int:
    device: int = x.data.device_id
    return device


def _pointer(x: Any) -> int:
    pointer: int = x.data.ptr
    return pointer


def cuda_driver() -> Any:
    """Return the driver of the kernels in CUDA C++."""
    return imported("fastdrop_kernels.cuda.driver")


class NumbaThroughCupy(CupyBackend):
    """Backend of Numba device arrays that CuPy views; results are Numba device arrays."""

    def result(self, array: Array, out: Any) -> Array:
        """Return `out`, or a Numba device array that views the new CuPy array."""
        if out is not None:
            return super().result(array, out)
        from numba import cuda

        # The interface passes on CuPy's current stream, so no synchronisation is needed.
        view: Array = cuda.as_cuda_array(array, sync=False)
        return view


@functools.cache
def cupy_backend() -> CupyBackend:
    """Return the backend of CuPy arrays; imports CuPy on first use."""
    return CupyBackend()


@functools.cache
def _numba_through_cupy() -> NumbaThroughCupy:
    return NumbaThroughCupy()


def _backend_of_numba(x: Any) -> Backend:
    if ".simulator." in type(x).__module__:  # CuPy cannot view the simulator's arrays
        return numba_backend()
    try:
        return _numba_through_cupy()
    except ImportError:
        return numba_backend()


def backend_of_foreign(x: Any) -> Backend:
    """Return the backend of an array on a GPU that is not a CuPy array."""
    if detect.is_numbas(x):
        return _backend_of_numba(x)
    try:
        return cupy_backend()
    except ImportError as error:
        raise TypeError(
            f"x is {detect.a_kind_of(x)} on a GPU, and CuPy, through which fastdrop computes "
            f"there, cannot be imported ({error}): pip install 'fastdrop-kernels[cuda13]', or "
            "bring it to the host"
        ) from None
