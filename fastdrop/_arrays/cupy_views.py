"""Arrays of other libraries as CuPy arrays, and the streams that those libraries work on.

`cupy_arrays` imports it together with CuPy, and calls `view`. A view is made without any waiting
between streams, because it is not known yet where the work will run: its memory says whose stream
it belongs to, and `cupy_streams.ordered` reads that.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import cupy
import numpy as np

from .._check import detect
from .._check.arguments import Array
from . import numba_arrays

# The default streams, as the protocols number them. CuPy and torch call the first one 0.
LEGACY, PER_THREAD = 1, 2
_NO_WAITING = -1  # of DLPack's `stream`

# CuPy 13 does not know bfloat16, and some of its releases crash on it (cupy#8801).
_MAY_CRASH = int(cupy.__version__.partition(".")[0]) < 14
_INTEGERS, _FLOATS, _COMPLEX, _BOOL = (0, 1), 2, 5, 6  # DLPack's type codes
_KNOWN = {
    *((code, bits) for code in _INTEGERS for bits in (8, 16, 32, 64)),
    *((_FLOATS, bits) for bits in (16, 32, 64)),
    *((_COMPLEX, bits) for bits in (64, 128)),
    (_BOOL, 8),
}
_DTYPE_IN_TENSOR = 20  # bytes before a DLTensor's dtype: a pointer, two numbers of a device, ndim
_WAYS_OUT = {"torch": ": give x.detach(), or x.contiguous()"}


class _UnknownDtype(TypeError):
    """CuPy might crash the process."""


class LibraryMemory(cupy.cuda.UnownedMemory):  # type: ignore[misc]  # CuPy has no types
    """The memory of a view, and of all slices of it, that another library works on.

    Attributes
    ----------
    stream : int or None
        Handle of the stream on which the library uses the memory. None: the library only saw to it
        that CuPy's current stream may, and waits for nothing afterwards.
    frozen : bool
        Whether the library writes to it only once the array is gone.
    """

    __slots__ = ("frozen", "stream")

    stream: int | None
    frozen: bool


def memory_of(x: Any) -> LibraryMemory | None:
    """Return the memory of a view of another library's array; None for arrays of CuPy's."""
    memory = x.data.mem
    return memory if type(memory) is LibraryMemory else None


def view(x: Any, name: str) -> Array:
    """Return an array on a GPU as a CuPy array, without a copy; errors call it `name`."""
    try:
        stream = stream_of(x)
        if hasattr(x, "__dlpack__"):  # first, because it knows bfloat16
            seen = cupy.from_dlpack(_Exported(x, stream))
        else:
            seen = cupy.asarray(_Interfaced(x))
            if stream is None:  # the interface promises that there is nothing to wait for
                return seen  # type: ignore[no-any-return]
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        kind, way = detect.a_kind_of(x), _way_out(x, error).replace("x.", f"{name}.")
        raise TypeError(f"{name} is {kind} that CuPy cannot view ({error}){way}") from error
    found = seen.data
    memory = LibraryMemory(found.mem.ptr, found.mem.size, seen, found.device_id)
    memory.stream, memory.frozen = stream, stream is None and detect.is_frozen(x)
    pointer = cupy.cuda.MemoryPointer(memory, found.ptr - memory.ptr)
    return cupy.ndarray(seen.shape, seen.dtype, pointer, seen.strides)  # type: ignore[no-any-return]


def view_of_memory(
    owner: Any,
    address: int,
    size: int,
    device: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...],
) -> Array:
    """Return a CuPy array over bytes at an address, which stay as long as `owner` does.

    To CuPy it is an array of its own: use it where CuPy's current stream is that of the memory.
    """
    memory = cupy.cuda.UnownedMemory(address, size, owner, device)
    pointer = cupy.cuda.MemoryPointer(memory, 0)
    return cupy.ndarray(shape, dtype, pointer, strides)  # type: ignore[no-any-return]


def bfloat16(name: str, package: str) -> np.dtype[Any]:
    """Return bfloat16 as CuPy's arrays have it, of an array `name` of a package.

    Raises
    ------
    TypeError
        If this CuPy has none.
    ImportError
        If ml_dtypes is missing.
    """
    if _MAY_CRASH:
        complaint = f"{name} has dtype bfloat16, which CuPy {cupy.__version__} does not know"
        raise TypeError(complaint + _other_cupy(name, package))
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            f"{name} has dtype bfloat16, and CuPy takes it from ml_dtypes: pip install ml_dtypes"
        ) from None
    known: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return known


def stream_of(x: Any) -> int | None:
    """Return the handle of the stream that the library of x uses it on; None if none is known."""
    packages = detect.roots(x)
    if "torch" in packages:
        current = sys.modules["torch"].cuda.current_stream(getattr(x, "device", None))
        return int(current.cuda_stream)
    if "jax" in packages or "jaxlib" in packages:
        return None  # it has streams, but shows none
    try:
        stream = x.__cuda_array_interface__.get("stream")
    except Exception:  # raised by the other library, for instance for a dtype it cannot describe
        return None
    if stream is None:
        return numba_arrays.default_stream() if detect.is_numbas(x) else None
    return 0 if stream == LEGACY else int(stream)


class _Exported:
    """An array for `cupy.from_dlpack`: with a known stream, its library makes no other one wait."""

    def __init__(self, x: Any, stream: int | None) -> None:
        self._x = x
        self._how = {} if stream is None else {"stream": _NO_WAITING}

    def __dlpack_device__(self) -> Any:
        return self._x.__dlpack_device__()

    def __dlpack__(self, **how: Any) -> Any:
        capsule = self._x.__dlpack__(**{**how, **self._how})
        if _MAY_CRASH:
            _refuse_unknown(capsule)
        return capsule


class _Interfaced:
    """An array for `cupy.asarray`, which would synchronise the host with a stream if it saw one."""

    def __init__(self, x: Any) -> None:
        self._x = x  # kept alive
        self.__cuda_array_interface__ = {**x.__cuda_array_interface__, "stream": None}


def _refuse_unknown(capsule: Any) -> None:
    """Raise TypeError for a DLPack capsule of a dtype that CuPy 13 does not know."""
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    dtype = address(capsule, b"dltensor") + _DTYPE_IN_TENSOR
    code, bits = (ctypes.c_uint8 * 2).from_address(dtype)
    if (code, bits) not in _KNOWN:
        raise _UnknownDtype(
            f"CuPy {cupy.__version__} does not know its dtype, and may crash; CuPy 14 has bfloat16"
        )


def _way_out(x: Any, error: Exception) -> str:
    """Return what to give in the place of an array called x that CuPy could not view."""
    package = detect.kind_of(x).partition(".")[0]
    if isinstance(error, NotImplementedError) and "ml_dtypes" in str(error):
        return ": pip install ml_dtypes"
    if isinstance(error, _UnknownDtype):
        return _other_cupy("x", package)
    return _WAYS_OUT.get(package, "")


def _other_cupy(name: str, package: str) -> str:
    """Return how to get on with an array of bfloat16."""
    cuda = "12x" if cupy.cuda.runtime.runtimeGetVersion() < 13_000 else "13x"
    other = "float()" if package == "torch" else "astype('float32')"
    return f": pip install 'cupy-cuda{cuda}>=14' ml_dtypes, or give {name}.{other}"
