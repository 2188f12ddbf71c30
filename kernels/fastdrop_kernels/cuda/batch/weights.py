"""Random weights of CuPy arrays; the same functions as `fastdrop_kernels.cpu.batch.weights`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...contract import BLOCK
from ...rows import Rows
from ..driver import Array
from ..modules import Module
from ..operations import FLOATS
from .launch import batch_module, run_rows

_INTEGERS = {f"int{8 * size}": f"Integer<{size}>" for size in (1, 2, 4, 8)}
_ELEMENTS = _INTEGERS | {
    name: f"Floating<fastdrop::{storage.name}>" for name, storage in FLOATS.items()
}


@functools.cache
def module() -> Module:
    """Return the module of all dtypes."""
    return batch_module(
        "weights",
        [
            (f"weights_{name}", f"weights<fastdrop::{element}>")
            for name, element in _ELEMENTS.items()
        ],
    )


def kernels(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of all kernels that `weights` of a dtype may launch."""
    return [f"weights_{dtype.name}"]


def weights(
    y: Array,
    rows: Rows,
    seed: int,
    stream: int,
    thresholds: Array,
    factor: Array,
    *,
    key_pointer: int | None = None,
) -> None:
    """Write how many of the thresholds an element's U reaches, times a factor, to y in C order.

    Thresholds and factor are in device memory; the factor is int32, or of the compute type.
    """
    threads = rows.number * -(-rows.length // BLOCK)
    kernel, arrays = f"weights_{y.dtype.name}", (y, thresholds, factor)
    key, words = (seed, stream), [thresholds.size]
    run_rows(module(), kernel, threads, rows, arrays, *key, words, key_pointer)
