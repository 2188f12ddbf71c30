"""Operands: arrays beside x, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays.adapter import Backend
from .._arrays.dispatch import backend_of
from .._check import arguments, detect, labels
from .._check.arguments import Array


def operand(name: str, value: Any, x: Array, backend: Backend, beside: str = "x") -> Array:
    """Return an array-like as an array of the dtype of x, and that broadcasts to x.

    `beside` is what errors call x.
    """
    if isinstance(value, int | float | np.generic | list | tuple):
        value = backend.to_device(_numbers(name, value, x.dtype), x)
    own = backend_of(value)
    if not backend.is_like(own):
        if own.is_lazy:
            raise TypeError(
                f"{name} is {detect.a_kind_of(value)}, and {beside} is not lazy: give "
                f"dask.array.from_array({beside}), or {name}.compute()"
            )
        raise TypeError(
            f"{name} is {detect.a_kind_of(value)}, which does not lie where {beside} does: "
            "bring one to the other"
        )
    result = own.array(value, name)
    if backend.labelled_x is not None:
        labels.reject_other_labels(value, backend.labelled_x, name, beside)
    backend.check_same_device(name, result, x)
    if result.dtype != x.dtype:
        raise TypeError(
            f"{name} has dtype {result.dtype}, and {beside} has {x.dtype}: give "
            f"{name}.astype({beside}.dtype)"
        )
    if not fits(result.shape, x.shape):
        raise ValueError(
            f"{name} has shape {result.shape}, which does not broadcast to that of {beside}, "
            f"{x.shape}"
        )
    return result


def _numbers(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """Return numbers that have no array of their own yet, rounded to a dtype."""
    try:
        arguments.reject_rng(name, value)
        given = np.asarray(value)
    except ValueError:  # rows of several lengths
        given = np.asarray(None)
    if given.dtype.kind not in "iuf" and not arguments.is_bfloat16(given.dtype):
        raise TypeError(f"{detect.described(name, value)}: give real numbers")
    with np.errstate(all="ignore"):
        result: Array = given.astype(dtype)
        fine = np.isfinite(result.astype(np.float64)) | ~np.isfinite(given.astype(np.float64))
    if not fine.all():
        raise ValueError(
            f"{name} has numbers too large for {dtype}: give smaller ones, or another x"
        )
    return result


def fits(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Say whether an array of a shape broadcasts to another shape."""
    inner = full[len(full) - len(shape) :]
    return len(shape) <= len(full) and all(n in (1, m) for n, m in zip(shape, inner, strict=True))
