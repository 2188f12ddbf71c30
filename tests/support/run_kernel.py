"""Calls one contiguous kernel directly, as the driver does."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

import fastdrop as fd
from fastdrop_kernels.cpu.codegen.ndarray_layout import slot
from fastdrop_kernels.cpu.elements.operations import Operation
from fastdrop_kernels.cpu.host import catalogue
from fastdrop_kernels.cpu.loops.call_descriptor import ALL, make_descriptor
from fastdrop_kernels.cpu.loops.contiguous import CACHED
from fastdrop_kernels.cpu.loops.kernels import contiguous_kernel
from tests.support.oracle import Array

# Operations and dtypes of elements, by name.
OPERATIONS: dict[str, tuple[Operation, Any]] = {
    "float16": (catalogue.operation("drop", np.dtype(np.float16)), np.float16),
    "bfloat16": (catalogue.operation("drop", np.dtype(ml_dtypes.bfloat16)), ml_dtypes.bfloat16),
    "float32": (catalogue.operation("drop", np.dtype(np.float32)), np.float32),
    "float64": (catalogue.operation("drop", np.dtype(np.float64)), np.float64),
    "fill-1": (catalogue.operation("fill", np.dtype("u1")), np.uint8),
    "fill-2": (catalogue.operation("fill", np.dtype("u2")), np.uint16),
    "fill-4": (catalogue.operation("fill", np.dtype("u4")), np.uint32),
    "fill-8": (catalogue.operation("fill", np.dtype("u8")), np.uint64),
    "fill-16": (catalogue.operation("fill", np.dtype("c16")), np.complex128),
    "mark": (catalogue.operation("mark"), np.bool_),
}


def run_kernel(
    operation: Operation,
    x: Array,
    y: Array,
    value: Array,
    threshold: int,
    key: fd.Key,
    index: int = 0,
    policy: str = CACHED,
) -> None:
    """Apply an operation to contiguous arrays."""
    call = make_descriptor(y.size, threshold, value)
    contiguous_kernel(operation, policy)(slot(x), slot(y), call.at, index, *key, 0, ALL)
