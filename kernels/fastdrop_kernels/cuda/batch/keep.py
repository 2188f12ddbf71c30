"""Masks that keep k elements of each row, in CuPy arrays; as `fastdrop_kernels.cpu.batch.keep`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...contract import BLOCK
from ...rows import Along, Rows
from ..driver import Array
from ..modules import THREADS, Module
from .launch import batch_module, run_rows

_WARP = 32
# Threads of a row, and the blocks of uniforms that each holds in registers; 0: it draws them again.
_KERNELS = {
    "keep_k_warp_1": (_WARP, 1),
    "keep_k_warp_2": (_WARP, 2),
    "keep_k_block_2": (THREADS, 2),
    "keep_k_block": (THREADS, 0),
}


@functools.cache
def module() -> Module:
    """Return the module of all kernels."""
    return batch_module(
        "keep",
        [
            (f"{name}_{axis}", f"keep_k<{lanes}, {held}, {is_last}>")
            for name, (lanes, held) in _KERNELS.items()
            for axis, is_last in (("last", "true"), ("other", "false"))
        ],
    )


def kernels(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of all kernels that `keep_k` may launch."""
    return [name for name, _ in module().others]


def _kernel(along: Along) -> tuple[str, int]:
    """Return the kernel for rows of a length, and how many threads share a row."""
    # A row along the last axis may begin and end inside a block.
    blocks = -(-(along.n + (BLOCK - 1 if along.is_last else 0)) // BLOCK)
    for name, (lanes, held) in _KERNELS.items():
        if blocks <= lanes * held or not held:
            return f"{name}_{'last' if along.is_last else 'other'}", lanes
    raise AssertionError("the last kernel takes every row")


def keep_k(
    y: tuple[Array, ...],
    rows: Rows,
    seed: int,
    stream: int,
    along: Along,
    k: Array,
    *,
    key_pointer: int | None = None,
) -> None:
    """Write masks that keep k elements of each row, and if asked for, positions.

    As on the CPU; k, and the table of rows, are in device memory.
    """
    name, lanes = _kernel(along)
    threads = rows.number * along.rows * lanes
    words = [along.n, along.rows, along.runs, along.step]
    words += [int(k.size > 1), int(len(y) > 1)]
    arrays = (y[0], k, *y[1:])
    run_rows(module(), name, threads, rows, arrays, seed, stream, words, key_pointer)
