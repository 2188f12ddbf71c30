"""Backends: who computes on which arrays.

A public function checks what it was given, asks `backend_of` who computes on it, and hands over.
The libraries of other arrays are recognised without being imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._check import detect, labels
from .adapter import Backend
from .numpy_arrays import NUMPY, LabelledBackend

# Whose arrays, of these very types, need not be looked at twice.
plain_arrays: dict[type, Backend] = {np.ndarray: NUMPY}
_by_type: dict[type, Backend] = {np.ndarray: NUMPY, type(None): NUMPY}


def operand_backend_of(x: Any, name: str = "x") -> Backend:
    """Return who computes on x with other arrays beside it."""
    backend = backend_of(x)
    if not backend.takes_operands:
        raise TypeError(
            f"{name} is a {detect.kind_of(x)}, and the kernels that Numba compiles for a GPU "
            "read no other arrays beside x: install CuPy, which views Numba's"
        )
    return backend


def axes_of(x: Any, name: str = "x") -> int:
    """Return how many axes x, so called in errors, has as an array."""
    axes: int = x.ndim if type(x) in plain_arrays else backend_of(x).array(x, name).ndim
    return axes


def backend_of(x: Any) -> Backend:
    """Return who computes on x, of any kind.

    Raises
    ------
    TypeError
        If it lies on a GPU, and nothing that is installed computes there.
    """
    kind = type(x)
    if known := _by_type.get(kind):
        return known
    if detect.is_cupy(x):
        from .cupy_arrays import cupy_backend

        backend = cupy_backend()
        _by_type[kind] = plain_arrays[backend.cupy.ndarray] = backend
        return backend
    if detect.on_gpu(x):
        from .cupy_arrays import backend_of_foreign

        return backend_of_foreign(x)
    return LabelledBackend(x) if labels.has_labels(x) else NUMPY
