"""Elements of CuPy's tables that take the values of other rows of their columns.

The same functions as `fastdrop_kernels.cpu.batch.swap`. Permutations are sorted by merging.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...contract import BLOCK
from ...rows import Rows
from .. import driver
from ..driver import Array
from ..modules import Module
from .launch import batch_module, run_rows

_SIZES = (1, 2, 4, 8, 16)
_STEPS = {"swap_entries": "entries", "swap_merge": "merge", "swap_rows_of": "rows_of_entries"}


@functools.cache
def module() -> Module:
    """Return the module of all sizes of elements, and of permutations."""
    moves = [(f"swap_{size}", f"swap_rows<{size}>") for size in _SIZES]
    return batch_module("swap", [*moves, *_STEPS.items()])


def kernels(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of all kernels that `swap` of a dtype may launch."""
    return [f"swap_{dtype.itemsize}", *_STEPS]


def memory(rows: int, columns: int) -> list[tuple[tuple[int, int], str]]:
    """Return shapes and dtypes of the arrays that `swap` needs for permutations."""
    shape = columns, rows
    return [(shape, "uint32"), (shape, "uint64"), (shape, "uint64")]


def swap(
    y: Array,
    rows: Rows,
    seed: int,
    stream: int,
    x: Array,
    source: Array,
    threshold: int,
    mask: Array | None,
    own: tuple[Array, ...],
    *,
    key_pointer: int | None = None,
) -> None:
    """Write x to y, and where an element is dropped, another row of its column in `source`.

    All tables have two axes, and any strides. The mask, of bool and in C order, says which elements
    are kept. Rows are drawn with replacement, or with memory of its `own` (see `memory`), as a
    permutation of each column.
    """
    if own:
        _permute(own[0], own[1], own[2], seed, stream, key_pointer)
    sources, strides = len(source), (*x.strides, *source.strides, *y.strides)
    words = [y.shape[1], threshold, sources, 2**32 % sources, *strides]
    words += [mask is not None, bool(own)]
    unit, address = min(y.itemsize, 8), driver.current().address
    words.append(not any(n % unit for n in (address(x), address(source), address(y), *strides)))
    arrays = (x, source, y, y if mask is None else mask, *own[:1])
    threads = rows.number * -(-rows.length // BLOCK)
    key = seed, stream
    run_rows(module(), f"swap_{y.itemsize}", threads, rows, arrays, *key, words, key_pointer)


def _permute(
    y: Array, entries: Array, other: Array, seed: int, stream: int, key_pointer: int | None
) -> None:
    """Write to each row of y the order of its elements' draws."""
    columns, n = y.shape
    rows, threads = Rows(columns, n, n, 0, n), columns * -(-n // BLOCK)

    def launch(kernel: str, arrays: tuple[Array, ...], *words: int) -> None:
        run_rows(module(), kernel, threads, rows, arrays, seed, stream, words, key_pointer)

    launch("swap_entries", (entries,))
    run = BLOCK
    while run < n:
        launch("swap_merge", (entries, other), run)
        entries, other = other, entries
        run *= 2
    launch("swap_rows_of", (entries, y))
