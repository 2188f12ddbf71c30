"""Kernels called directly, as the driver does."""

from __future__ import annotations

import fastdrop as fd
from fastdrop_kernels.cpu.codegen.ndarray_layout import slot
from fastdrop_kernels.cpu.elements.operations import Operation
from fastdrop_kernels.cpu.loops.call_descriptor import ALL, descriptor
from fastdrop_kernels.cpu.loops.contiguous import NEAR
from fastdrop_kernels.cpu.loops.kernels import flat
from tests.support.oracle import Array


def treat(
    operation: Operation,
    x: Array,
    y: Array,
    value: Array,
    threshold: int,
    key: fd.Key,
    index: int = 0,
    way: str = NEAR,
) -> None:
    """Apply an operation to contiguous arrays."""
    told = descriptor(y.size, threshold, value)
    flat(operation, way)(slot(x), slot(y), told.at, index, *key, 0, ALL)
