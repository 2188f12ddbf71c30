"""Kernels called directly, as the driver does."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels.cpu.flat import ALL, flat
from fastdrop_kernels.cpu.memory import slot
from fastdrop_kernels.cpu.operations import Operation
from fastdrop_kernels.cpu.span import NEAR

from .oracle import Array


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
    cursor: Any = np.zeros(1, np.uint64)
    places = slot(x), slot(y), slot(cursor), ALL, y.size
    flat(operation, way)(*places, index, *key, threshold, slot(value))
