"""Filling rectangles of CuPy's images; `erase` as in `fastdrop_kernels.cpu.batch.erasing`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...catalogue import SIZES
from ...contract import BLOCK
from ...rows import Rows
from ..driver import Array
from ..modules import Module
from ..operations import FLOATS
from .launch import batch_module, run_rows


@functools.cache
def module() -> Module:
    """Return the module of all sizes and dtypes."""
    by_size = [(f"erase_{size}", f"erase<{size}>") for size in SIZES]
    by_dtype = [
        (f"erase_noise_{name}", f"erase_noise<fastdrop::{storage.name}>")
        for name, storage in FLOATS.items()
    ]
    return batch_module("erasing", [*by_size, *by_dtype])


def kernels(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of all kernels that `erase` of a dtype may launch."""
    noise = [f"erase_noise_{dtype.name}"] if dtype.name in FLOATS else []
    return [f"erase_{dtype.itemsize}", *noise]


def erase(
    y: Array,
    rows: Rows,
    seed: int,
    stream: int,
    x: Array,
    value: Array | None,
    made: Array,
    height: int,
    width: int,
    pixel: int,
    steps: tuple[int, ...],
) -> None:
    """Fill the rectangles of the images y, and copy the rest from x unless y is x.

    All arrays are in device memory. Elements are aligned to their size.
    """
    words = [height, width * pixel, pixel, made.shape[1], int(x is not y), *steps]
    if value is None:
        kernel, threads = f"erase_noise_{y.dtype.name}", rows.number * -(-rows.length // BLOCK)
    else:
        per_thread = 16 // y.dtype.itemsize
        kernel, threads = f"erase_{y.dtype.itemsize}", -(-rows.number * rows.length // per_thread)
    arrays = y, x, made, made if value is None else value
    run_rows(module(), kernel, threads, rows, arrays, seed, stream, words)
