"""Traced functions of one number, put to arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels.cpu.codegen.vectors import Lanes
from fastdrop_kernels.cpu.elements import storage
from fastdrop_kernels.cpu.elements.operations import Operation
from tests.support.direct import treat
from tests.support.oracle import Array

_KINDS = {np.dtype(np.float32): storage.FLOAT32, np.dtype(np.float64): storage.FLOAT64}
_OPERATIONS: dict[Any, Operation] = {}


def applied(function: Callable[[Lanes], Lanes], x: Array) -> Array:
    """The function of every element, as an operation that keeps all computes it."""
    kind = _KINDS[x.dtype]
    operation = _OPERATIONS.setdefault(
        (function, x.dtype),
        Operation(
            f"test-{function.__name__}-{x.dtype}",
            kind,
            kind,
            lambda x, value: function(x),
            lambda x, value: 0,
        ),
    )
    y = np.full_like(x, np.nan)
    treat(operation, np.ascontiguousarray(x), y, np.zeros(1, x.dtype), 0, fd.Key(1))
    return y


def ulps(got: Array, true: Array) -> Array:
    """By how many units in the last place results miss what is true, given with more digits."""
    with np.errstate(all="ignore"):
        nearest = true.astype(got.dtype)
        unit = np.spacing(np.abs(nearest)).astype(true.dtype)
        off = np.abs(got.astype(true.dtype) - true) / unit
    same: Array = np.where(got == nearest, 0.0, off)  # infinities too
    return same
