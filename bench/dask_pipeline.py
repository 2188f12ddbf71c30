"""Float32 arrays that Dask makes block by block, drops from, and reduces to one integer.

`bench.dask_calls` builds these graphs. Dask's workers call the functions of blocks, so that of
an array of any size they hold a few blocks at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .common import KI, Array, P, load, toml

COLUMNS = 4 * KI
BITS = np.uint32
Slices = tuple[slice, ...]
Chunks = tuple[int, int]
DATA = toml("dask")
CALLS: dict[str, dict[str, Any]] = {row["name"]: row for row in DATA["call"]}


def values(where: Slices) -> Array:
    """Return a block of x: sums of two small integers, which follow from row and column."""
    rows, columns = (np.arange(at.start, at.stop) for at in where)
    # By primes, so that no two blocks are alike.
    a, b = (rows % 4093).astype(np.float32), (columns % 4091 + 1).astype(np.float32)
    block: Array = np.add.outer(a, b)
    return block


def bit_sum(block: Array) -> Array:
    """Return the sum of the bits of all elements, as uint32, in an array of one element."""
    return np.full((1, 1), block.view(BITS).sum(dtype=np.uint64))


def bit_checksum(where: Slices, block: Array, columns: int) -> Array:
    """Return the sum of bits times (2 index + 1), modulo 2^64, in an array of one element.

    The index is that in the whole array. No addition rounds, so the order is of no effect, and
    elements that have changed places, or one that differs, always change the sum.
    """
    rows, across = where
    at = np.arange(across.start, across.stop, dtype=np.uint64)
    total, some = np.uint64(0), max(1, 64 * KI // max(1, len(at)))
    with np.errstate(over="ignore"):
        for first in range(0, len(block), some):  # as many rows as stay in cache
            bits = block[first : first + some].view(BITS).astype(np.uint64)
            begin, sums = rows.start + first, bits.sum(1)
            index = np.arange(begin, begin + len(bits), dtype=np.uint64) * np.uint64(columns)
            bits *= at
            total += 2 * ((sums * index).sum() + bits.sum()) + sums.sum()
    return np.full((1, 1), total)


def source(shape: Chunks, chunks: Any, name: str) -> Any:
    """Return x as a Dask array; a new name is an array that no worker has kept."""
    da, layers = load("dask.array"), load("dask.layers")
    cut = da.core.normalize_chunks(chunks, shape, dtype=np.float32)
    meta, slices = np.empty((0, 0), np.float32), layers.ArraySliceDep(cut)
    more = {"align_arrays": False, "name": f"values-{name}", "meta": meta, "dtype": meta.dtype}
    return da.blockwise(values, (0, 1), slices, (0, 1), **more)


def key(stream: int) -> Any:
    """Return the key of a mask."""
    return load("fastdrop").Key(2026, stream)


def called(code: str, x: Any, seed: int) -> Any:
    """Return what a row's call makes of x."""
    da, fd = load("dask.array"), load("fastdrop")
    scope = {"da": da, "fd": fd, "np": np, "x": x, "p": P, "q": 1 - P}
    scope |= {"key": key(seed), "rng": da.random.default_rng(seed)}
    return eval(code, scope)


def reduced(y: Any, placed: bool = False) -> Any:
    """Return the sum of `bit_sum`, or `bit_checksum`, of all blocks: a lazy integer.

    It is one more function in the task of a block, and a task for 16 blocks along each axis.
    """
    da, layers = load("dask.array"), load("dask.layers")
    ones = {axis: (1,) * blocks for axis, blocks in enumerate(y.numblocks)}
    more: dict[str, Any] = {"align_arrays": False, "adjust_chunks": ones, "dtype": np.uint64}
    more["meta"] = np.empty((0, 0), np.uint64)
    if placed:
        slices = layers.ArraySliceDep(y.chunks)
        given = (slices, (0, 1), y, (0, 1), y.shape[1], None)
        sums = da.blockwise(bit_checksum, (0, 1), *given, **more)
    else:
        sums = da.blockwise(bit_sum, (0, 1), y, (0, 1), **more)
    return sums.sum(dtype=np.uint64, split_every={0: 16, 1: 16})


def numpy_checksum(shape: Chunks, rows: int) -> int:
    """Return the checksum of what NumPy arrays give, so many rows at a time, without Dask."""
    fd, total = load("fastdrop"), 0
    for first in range(0, shape[0], rows):
        where = slice(first, min(first + rows, shape[0])), slice(0, shape[1])
        more = {"rng": key(0), "offset": (first, 0), "global_shape": shape}
        total += int(bit_checksum(where, fd.dropout(values(where), P, **more), shape[1])[0, 0])
    return total % 2**64


def chunkings(shape: Chunks, elements: int) -> Iterator[Chunks]:
    """Yield five ways to cut an array, with blocks of about so many elements."""
    rows, columns = shape
    side = math.isqrt(elements)
    yield max(1, elements // columns), columns  # whole rows
    yield rows, max(1, elements // rows)  # whole columns
    yield min(4 * side, rows), max(1, min(side // 4, columns))
    yield min(2 * side + 1, rows), max(1, min(side // 2, columns) - 1)  # where no byte ends
    yield max(1, elements // columns * 5 // 3), columns - 1  # and a rest of one column
