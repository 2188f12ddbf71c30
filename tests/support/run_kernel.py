"""Calls one contiguous kernel directly, as the driver does."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

import fastdrop as fd
from fastdrop_kernels.cpu.codegen.ndarray_layout import slot
from fastdrop_kernels.cpu.elements import operations, storage
from fastdrop_kernels.cpu.elements.operations import Operation
from fastdrop_kernels.cpu.loops.call_descriptor import ALL, descriptor
from fastdrop_kernels.cpu.loops.contiguous import NEAR
from fastdrop_kernels.cpu.loops.contiguous_kernels import flat
from tests.support.oracle import Array

# Operations and dtypes of elements, by name.
OPERATIONS: dict[str, tuple[Operation, Any]] = {
    "float16": (operations.drop("float16", storage.FLOAT16), np.float16),
    "bfloat16": (operations.drop("bfloat16", storage.BFLOAT16), ml_dtypes.bfloat16),
    "float32": (operations.drop("float32", storage.FLOAT32), np.float32),
    "float64": (operations.drop("float64", storage.FLOAT64), np.float64),
    "fill-1": (operations.fill(storage.MOVED[1]), np.uint8),
    "fill-2": (operations.fill(storage.MOVED[2]), np.uint16),
    "fill-4": (operations.fill(storage.MOVED[4]), np.uint32),
    "fill-8": (operations.fill(storage.MOVED[8]), np.uint64),
    "fill-16": (operations.fill(storage.MOVED[16]), np.complex128),
    "mark": (operations.mark(), np.bool_),
}


def run_kernel(
    operation: Operation,
    x: Array,
    y: Array,
    value: Array,
    threshold: int,
    key: fd.Key,
    index: int = 0,
    policy: str = NEAR,
) -> None:
    """Apply an operation to contiguous arrays."""
    call = descriptor(y.size, threshold, value)
    flat(operation, policy)(slot(x), slot(y), call.at, index, *key, 0, ALL)
