"""Arrays on a GPU: CuPy's, and those of other libraries that CuPy can view.

CuPy and Numba's CUDA target are imported when an array asks for them, and no sooner. Nothing here
waits for the device: kernels are put on the current stream, in order with what is there.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdrop_kernels import layout as plan

from .._check import detect
from .._check.arguments import Array
from .._check.key import AnyRNG, KeyOnDevice, as_key
from .._check.placement import Place
from .._check.shard_offsets import IndexOf
from . import overlap
from .adapter import Again, Backend, Operation, copy_by_filling, imported
from .cupy_plans import repeatable, repeatable_mask
from .numba_arrays import numba_backend

_HERE = contextlib.nullcontext()
_NO_THRESHOLD = 1  # which elements do not share
_WAYS_OUT = {"torch": ": give x.detach(), or x.contiguous()"}


class CupyBackend(Backend):
    """CuPy arrays, and what CuPy can view as such without copying it."""

    takes_operands = True

    def __init__(self) -> None:
        import cupy

        self.cupy: Any = cupy

    @property
    def driver(self) -> Any:
        """The driver of the kernels in CUDA C++."""
        return cuda_driver()

    @property
    def softmax_driver(self) -> Any:
        """The driver of the kernels over rows."""
        return imported("fastdrop_kernels.cuda.softmax_driver")

    def array(self, x: Any, name: str = "x") -> Array:
        """Return x, or a view of it."""
        return self._viewed(name, x)

    def given(self, out: Any) -> Array:
        """Return `out`, or a view of it."""
        if isinstance(out, self.cupy.ndarray):
            return out  # type: ignore[no-any-return]
        if not detect.on_gpu(out):
            raise TypeError(
                f"out is a {detect.kind_of(out)}, and x lies on a GPU: give a cupy.ndarray"
            )
        view = self._viewed("out", out)
        if detect.is_frozen(out):
            raise ValueError(f"out is a {detect.kind_of(out)}, which may not be written to")
        return view

    def _viewed(self, name: str, x: Any) -> Array:
        if isinstance(x, self.cupy.ndarray):
            return x  # type: ignore[no-any-return]
        try:
            # DLPack orders the streams of both libraries, and knows bfloat16.
            see = self.cupy.from_dlpack if hasattr(x, "__dlpack__") else self.cupy.asarray
            view: Array = see(x)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            kind = detect.kind_of(x)
            way = _WAYS_OUT.get(kind.partition(".")[0], "").replace("x.", f"{name}.")
            raise TypeError(f"{name} is a {kind} that CuPy cannot view ({error}){way}") from error
        return view

    def output(
        self, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array | None = None
    ) -> Array:
        """Return `out`, or a view of it; it must be on the device of x."""
        result = super().output(out, shape, dtype, x)
        if x is not None and _device_of(result) != _device_of(x):
            raise ValueError(
                f"out lies on device {_device_of(result)}, and x on device {_device_of(x)}: give "
                "an out on the device of x"
            )
        return result

    def beside(self, name: str, operand: Array, x: Array) -> None:
        """Refuse an operand that is not on the device of x."""
        if _device_of(operand) != _device_of(x):
            raise ValueError(
                f"{name} lies on device {_device_of(operand)}, and x on device {_device_of(x)}: "
                "bring it there"
            )

    def lifted(self, value: Array, x: Array) -> Array:
        """Return a copy of a NumPy array on the device of x."""
        with self.where(x):
            copied: Array = self.cupy.array(value)
        return copied

    def broadcast(self, operand: Array, shape: tuple[int, ...]) -> Array:
        """Return an operand as a view of a shape."""
        view: Array = self.cupy.broadcast_to(operand, shape)
        return view

    def own_operands(
        self, operation: Operation, p: Array, factor: Array | None, near: Array
    ) -> Sequence[Array]:
        """Return thresholds and factors of p, which are made on the host, where `near` lies."""
        driver = self.driver
        own = driver.own_operands(operation(driver), p, factor)
        return [self.lifted(operand, near) for operand in own]

    def summed(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return sums by CuPy's reduction, in float64, whose order is a matter of the layout."""
        full = (1,) * (x.ndim - len(shape)) + shape
        axes = tuple(axis for axis, length in enumerate(full) if length == 1)
        with self.where(x):
            if axes:
                sums: Array = _summed(x, axes)
            else:
                self.copy(x, sums := self.empty_like(x))
        return sums.reshape(shape)

    def key(self, rng: AnyRNG, y: Array) -> tuple[int, int, dict[str, int]]:
        """Return seed and stream, and the address of a key on the device."""
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
        made: Array = self.cupy.empty(shape, dtype)
        return made

    def empty_like(self, x: Array) -> Array:
        """Return a new array of the shape, dtype and layout of x, on the current device."""
        made: Array = self.cupy.empty_like(x)
        return made

    def copy(self, source: Array, target: Array) -> None:
        """Copy by the kernel that fills nothing: it takes any dtype, and any strides."""
        copy_by_filling(self.driver, source, target)

    def addresses(self, x: Array) -> Array:
        """Return where x lies. CuPy's own answer knows only memory that CuPy allocated."""
        return overlap.addresses(_pointer(x), x.shape, x.strides, x.itemsize)

    def apart(self, x: Array, y: Array) -> bool:
        """Say whether both are contiguous, and the same or apart."""
        strides = y.strides
        # CuPy takes longer to say that an array is contiguous.
        if x.strides != strides or not _are_plain(y.shape, strides, y.itemsize):
            return False
        start, other, size = _pointer(x), _pointer(y), y.nbytes
        return start == other or start + size <= other or other + size <= start

    def apply(self, operation: Operation, x: Array, *rest: Any) -> Array:
        """Apply an operation to x, on its device."""
        device = _device_of(x)
        if device == self.cupy.cuda.runtime.getDevice():  # as it mostly is
            return super().apply(operation, x, *rest)
        with self.cupy.cuda.Device(device):
            return super().apply(operation, x, *rest)

    def repeatable(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        place: Place,
        threshold: int,
        value: Array,
        index_of: IndexOf,
    ) -> Again | None:
        """Return what `apply` comes to on the device that is current at each call."""
        return repeatable(self, operation, x, out, place, threshold, value)

    def repeatable_mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        place: Place,
        threshold: int,
        like: Array | None = None,
        packed: bool = False,
        index_of: IndexOf | None = None,
    ) -> Again | None:
        """Return what `mask` comes to on the device that is current at each call."""
        return repeatable_mask(self, shape, out, place, threshold, packed)

    def softmax(self, x: Array, *rest: Any) -> Array:
        """Take a softmax, and drop some of it, on the device of x."""
        with self.where(x):
            return super().softmax(x, *rest)

    def softmax_gradient(self, x: Array, dy: Array, *rest: Any) -> Array:
        """Return its gradient, on the device of both."""
        if _device_of(dy) != _device_of(x):
            raise ValueError(
                f"dy lies on device {_device_of(dy)}, and x on device {_device_of(x)}: give both "
                "on one"
            )
        with self.where(x):
            return super().softmax_gradient(x, dy, *rest)

    def untouched(self, x: Any, xs: Array, out: Any) -> Array:
        """Return x itself, or copy it to `out`, on its device."""
        with self.where(xs):
            return super().untouched(x, xs, out)

    def pack_each(
        self, target: Array, shape: tuple[int, ...], place: Place, rng: AnyRNG, p: Array
    ) -> None:
        """Draw marks, a byte each, and pack them: a byte of bits may have elements of many p."""
        marks = self.mask(shape, None, place, rng, _NO_THRESHOLD, target, p)
        if marks.size:
            self.copy(_packed(marks), target)

    def there(self, out: Any, like: Array | None) -> Any:
        """Make the device of `out` or of `like` the current one, for a while."""
        near = like if out is None else self.given(out)
        assert near is not None, "a GPU is asked for by an array on it"
        return self.where(near)

    def where(self, x: Array) -> Any:
        """Make the device of x the current one, for a while."""
        device = _device_of(x)
        if device == self.cupy.cuda.runtime.getDevice():
            return _HERE
        return self.cupy.cuda.Device(device)


@functools.lru_cache(maxsize=512)
def _are_plain(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Say whether these are the strides of a contiguous array in C order."""
    return strides == tuple(step * itemsize for step in plan.c_strides(shape))


def _summed(x: Any, axes: tuple[int, ...]) -> Any:
    return x.sum(axes, np.float64, keepdims=True).astype(x.dtype)


def _packed(marks: Any) -> Any:
    import cupy

    return cupy.packbits(marks.ravel(), bitorder="little")


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
    """Device arrays of Numba, which CuPy views: the result is one of Numba's again."""

    def result(self, made: Array, out: Any) -> Array:
        """Return `out`, or what was made as an array of Numba's, which keeps it alive."""
        if out is not None:
            return super().result(made, out)
        from numba import cuda

        # It knows CuPy's current stream, in whose order it was made.
        view: Array = cuda.as_cuda_array(made, sync=False)
        return view


@functools.cache
def cupy_backend() -> CupyBackend:
    """Return the backend of CuPy arrays; imports CuPy."""
    return CupyBackend()


@functools.cache
def _numba_through_cupy() -> NumbaThroughCupy:
    return NumbaThroughCupy()


def _of_numbas(x: Any) -> Backend:
    if ".simulator." in type(x).__module__:  # which CuPy cannot see
        return numba_backend()
    try:
        return _numba_through_cupy()
    except ImportError:
        return numba_backend()


def backend_of_foreign(x: Any) -> Backend:
    """Return who computes on an array on a GPU that is not CuPy's."""
    if detect.is_numbas(x):
        return _of_numbas(x)
    try:
        return cupy_backend()
    except ImportError as error:
        raise TypeError(
            f"x is a {detect.kind_of(x)} on a GPU, and CuPy, through which fastdrop computes "
            f"there, cannot be imported ({error}): pip install 'fastdrop-kernels[cuda13]', or "
            "bring it to the host"
        ) from None
