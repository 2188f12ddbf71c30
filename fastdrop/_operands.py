"""Operands: arrays beside x, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arguments
from ._arguments import Array
from ._backends import Backend, backend_of


def operand(name: str, value: Any, x: Array, backend: Backend) -> Array:
    """Return an array-like as an array of the dtype of x, and that broadcasts to x."""
    if isinstance(value, int | float | list | tuple):
        value = backend.lifted(np.asarray(value).astype(x.dtype), x)
    if backend_of(value) is not backend:
        raise TypeError(f"{name} is a {arguments.kind_of(value)}, which does not lie where x does")
    result = backend.array(value)
    backend.beside(name, result, x)
    if result.dtype != x.dtype:
        raise TypeError(
            f"{name} has dtype {result.dtype}, and x has {x.dtype}: give {name}.astype(x.dtype)"
        )
    if not fits(result.shape, x.shape):
        raise ValueError(
            f"{name} has shape {result.shape}, which does not broadcast to that of x, {x.shape}"
        )
    return result


def fits(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Say whether an array of a shape broadcasts to another shape."""
    inner = full[len(full) - len(shape) :]
    return len(shape) <= len(full) and all(n in (1, m) for n, m in zip(shape, inner, strict=True))
