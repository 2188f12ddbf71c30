"""Recognise arrays and generators of other libraries by their types, without importing anything.

Argument checks and the choice of a backend call these functions. They call nothing of the package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

_MAX_SHOWN = 60  # characters of a value in an error


def kind_of(x: Any) -> str:
    """Return the name of an object's type as users know it, such as ``torch.Tensor``."""
    kind = type(x)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    # The top-level package: the defining module may be a private one far below it.
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def a_kind_of(x: Any) -> str:
    """Return `kind_of` with its article: "a torch.Tensor", "an int"."""
    kind = kind_of(x)
    return f"{'an' if kind.startswith(_WITH_AN) else 'a'} {kind}"


_WITH_AN = ("a", "e", "i", "o", "A", "E", "I", "O", "h5", "xarray.")


def described(name: str, value: Any) -> str:
    """Describe an argument for an error: its type, and its value if that is short."""
    kind, shape, text = a_kind_of(value), getattr(value, "shape", ()), _text(value)
    if 0 < len(text) <= _MAX_SHOWN and "\n" not in text:
        return f"{name}={text} is {kind}"
    return f"{name} is {kind}{f' of shape {shape}' if shape else ''}"


def short(value: Any) -> str:
    """Return a value for an error, on one line and cut if it is long."""
    text = " ".join((_text(value) or a_kind_of(value)).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _text(value: Any) -> str:
    """Return the repr of a value; "" if it has none."""
    try:
        return repr(value)
    except Exception:  # an integer of thousands of digits, or a fault of the user's class
        return ""


def roots(x: Any) -> tuple[str, ...]:
    """Return the top-level packages of an object's type and its base classes."""
    return tuple([base.__module__.partition(".")[0] for base in type(x).__mro__])


_TENSOR_PACKAGES = frozenset(("dask", "torch", "tensorflow", "jax", "jaxlib"))


def is_tensor(x: Any) -> bool:
    """Return whether x is a tensor of a library that does not use NumPy's arrays."""
    return not _TENSOR_PACKAGES.isdisjoint(roots(x))


def is_array(x: Any) -> bool:
    """Return whether x has one of NumPy's conversion protocols."""
    kind = type(x)
    return (
        hasattr(kind, "__array__")
        or hasattr(kind, "__array_interface__")
        or hasattr(kind, "__array_struct__")
    )


def is_rng(x: Any) -> bool:
    """Return whether x is one of NumPy's generators, or a DeviceKey."""
    module = type(x).__module__
    if isinstance(x, np.ndarray | np.generic):
        return False
    return (
        module.startswith("numpy.random")
        or (type(x).__name__ == "DeviceKey" and module == "fastdrop.cuda")
        or (x is sys.modules.get("numpy.random") and x is not None)
    )


ON_THE_HOST = (np.ndarray, np.generic, int, float, complex, list, tuple, str, bytes, type(None))
_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's device types


def is_cupy(x: Any) -> bool:
    """Return whether x is a CuPy array; imports nothing."""
    # While another thread is importing CuPy, the class may be missing; then x is not an instance.
    return isinstance(x, getattr(sys.modules.get("cupy"), "ndarray", ()))


def is_numbas(x: Any) -> bool:
    """Return whether x is a device array of Numba, or of Numba's CUDA simulator."""
    return type(x).__module__.startswith("numba.cuda.") and hasattr(x, "copy_to_host")


def on_gpu(x: Any) -> bool:
    """Return whether x is an array of any library on a CUDA device; imports nothing."""
    if isinstance(x, ON_THE_HOST):
        return False
    if is_cupy(x):
        return True
    if hasattr(type(x), "__dlpack_device__"):
        try:
            return int(x.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
        except Exception:  # raised by the other library, for instance for a tensor without memory
            return False
    return is_numbas(x) or hasattr(x, "__cuda_array_interface__")


def is_frozen(x: Any) -> bool:
    """Return whether an array on a GPU is read-only."""
    if type(x).__module__.partition(".")[0] in ("jax", "jaxlib"):
        return True
    return bool(getattr(x, "__cuda_array_interface__", {"data": (0, False)})["data"][1])


def is_dask(x: Any) -> bool:
    """Return whether x is a Dask array; imports nothing."""
    return isinstance(x, getattr(sys.modules.get("dask.array"), "Array", ()))


def is_masked(x: Any) -> bool:
    """Return whether x is a NumPy masked array, without importing `numpy.ma`."""
    # While another thread is importing it, the class may be missing; then x is not an instance.
    return isinstance(x, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def namespace(x: Any) -> Any:
    """Return the array module of x: CuPy for CuPy arrays, else NumPy."""
    return sys.modules["cupy"] if is_cupy(x) else np


def closest(value: Any, choices: Iterable[str]) -> str | None:
    """Return the name that was probably meant, if one is like it."""
    if not isinstance(value, str):
        return None
    import difflib

    return next(iter(difflib.get_close_matches(value[:80], choices, 1, 0.7)), None)
