"""Whose arrays: libraries are recognised by their objects, and nothing of them is imported."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

_MOST_SHOWN = 60  # characters of a value in an error


def kind_of(x: Any) -> str:
    """Return the name of an object's type as a user knows it."""
    kind = type(x)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    # Where it is defined, which may be some way down, says less than the library's name.
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def described(name: str, value: Any) -> str:
    """Say what kind of object an argument is, and which one if that is said shortly."""
    kind, shape = kind_of(value), getattr(value, "shape", ())
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = ""
    if 0 < len(text) <= _MOST_SHOWN and "\n" not in text:
        return f"{name}={text} is a {kind}"
    return f"{name} is a {kind}{f' of shape {shape}' if shape else ''}"


def roots(x: Any) -> tuple[str, ...]:
    """Return the packages that an object's type and its base classes come from."""
    return tuple([base.__module__.partition(".")[0] for base in type(x).__mro__])


_OF_TENSORS = frozenset(("dask", "torch", "tensorflow", "jax", "jaxlib"))


def is_tensor(x: Any) -> bool:
    """Say whether x is from a library with arrays of its own, which takes no part in NumPy's."""
    return not _OF_TENSORS.isdisjoint(roots(x))


def is_array(x: Any) -> bool:
    """Say whether NumPy would make an array of x by asking x for one."""
    kind = type(x)
    return (
        hasattr(kind, "__array__")
        or hasattr(kind, "__array_interface__")
        or hasattr(kind, "__array_struct__")
    )


def is_rng(x: Any) -> bool:
    """Say whether x is what masks are drawn from: one of NumPy's generators, or a DeviceKey."""
    module = type(x).__module__
    if isinstance(x, np.ndarray | np.generic):
        return False
    return (
        module.startswith("numpy.random")
        or (type(x).__name__ == "DeviceKey" and module == "fastdrop.cuda")
        or (x is sys.modules.get("numpy.random") and x is not None)
    )


ON_THE_HOST = (np.ndarray, np.generic, int, float, complex, list, tuple, str, bytes, type(None))
_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's numbers of kinds of devices


def is_cupy(x: Any) -> bool:
    """Say whether x is a CuPy array, importing nothing."""
    # While another thread imports CuPy, the class may not be there yet, and x not be one.
    return isinstance(x, getattr(sys.modules.get("cupy"), "ndarray", ()))


def is_numbas(x: Any) -> bool:
    """Say whether x is a device array of Numba's, or of its simulator."""
    return type(x).__module__.startswith("numba.cuda.") and hasattr(x, "copy_to_host")


def on_gpu(x: Any) -> bool:
    """Say whether x is an array of any library that lies on a CUDA device, importing nothing."""
    if isinstance(x, ON_THE_HOST):
        return False
    if is_cupy(x):
        return True
    if hasattr(type(x), "__dlpack_device__"):
        try:
            return int(x.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
        except Exception:  # that of another library: a tensor that has no memory, say
            return False
    return is_numbas(x) or hasattr(x, "__cuda_array_interface__")


def is_frozen(x: Any) -> bool:
    """Say whether an array on a GPU may not be written to, by its library or by what it says."""
    if type(x).__module__.partition(".")[0] in ("jax", "jaxlib"):
        return True
    return bool(getattr(x, "__cuda_array_interface__", {"data": (0, False)})["data"][1])


def is_masked(x: Any) -> bool:
    """Say whether x is a masked array; NumPy imports their module when it is first named."""
    # While another thread imports that module, the class may not be there yet, and x not be one.
    return isinstance(x, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def namespace(x: Any) -> Any:
    """Return the module that makes arrays where x lives: NumPy, or CuPy for its own arrays."""
    return sys.modules["cupy"] if is_cupy(x) else np
