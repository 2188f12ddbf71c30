"""Dispatch: choose the backend for an array by its type.

The public functions call `backend_of`. It recognises arrays of other libraries without importing
them, and imports CuPy or Numba's CUDA target only when such an array comes. Arrays of Dask are
recognised before others with NumPy's conversion protocols, which would compute them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._check import detect, labels
from .adapter import Backend
from .numpy_arrays import NUMPY, LabelledBackend

# Backends of arrays of exactly these types, which need no further checks.
plain_arrays: dict[type, Backend] = {np.ndarray: NUMPY}
_by_type: dict[type, Backend] = {np.ndarray: NUMPY, type(None): NUMPY}


def operand_backend_of(x: Any, name: str = "x") -> Backend:
    """Return the backend of x, which must be able to read further operands."""
    backend = backend_of(x)
    if not backend.takes_operands:
        raise TypeError(
            f"{name} is {detect.a_kind_of(x)}, and the kernels that Numba compiles for a GPU "
            "read no other arrays beside x: install CuPy, which views Numba's"
        )
    return backend


def axes_of(x: Any, name: str = "x") -> int:
    """Return the number of axes of x as an array; errors call it `name`."""
    axes: int = x.ndim if type(x) in plain_arrays else backend_of(x).array(x, name).ndim
    return axes


def backend_of(x: Any) -> Backend:
    """Return the backend of x, an array-like of any kind.

    Raises
    ------
    TypeError
        If x lies on a GPU and no installed library serves it.
    """
    kind = type(x)
    if known := _by_type.get(kind):
        return known
    if detect.is_cupy(x):
        from .cupy_arrays import cupy_backend

        backend = cupy_backend()
        _by_type[kind] = plain_arrays[backend.cupy.ndarray] = backend
        return backend
    if detect.is_dask(x):
        from .dask_arrays import DASK

        _by_type[kind] = DASK
        return DASK
    if detect.on_gpu(x):
        from .cupy_arrays import backend_of_foreign

        return backend_of_foreign(x)
    if not labels.has_labels(x):
        return NUMPY
    if labels.is_lazy(x):
        from .dask_arrays import LabelledDaskBackend

        return LabelledDaskBackend(x)
    return LabelledBackend(x)


def mask_backend_of(chunks: Any) -> Backend:
    """Return the backend that draws masks as Dask arrays of these chunks."""
    try:
        import dask.array  # noqa: F401
    except ImportError as error:
        raise ImportError(f"chunks need Dask ({error}): pip install 'dask[array]'") from None
    from .dask_arrays import DaskBackend

    return DaskBackend(chunks)
