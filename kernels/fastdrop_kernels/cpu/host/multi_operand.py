"""Calls of multi-operand operations, and sums over axes.

`driver` calls this module, which plans axes with `layout` and runs kernels of `loops.kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...layout import merged_axes, rows_plan
from ...threads import run_together
from ..codegen.ndarray_layout import slot
from ..elements.operations import Operation
from ..elements.sampler import GROUP
from ..elements.storage import Storage
from ..loops.call_descriptor import make_descriptor
from ..loops.contiguous import CACHED
from ..loops.kernels import multi_operand_kernel, sum_kernel
from ..loops.tiles import dispatch_table

Array: TypeAlias = npt.NDArray[Any]
# (length, elements, multiple) -> length of the chunks of an axis, and number of threads
Shares: TypeAlias = Callable[[int, int, int], tuple[int, int]]


def prepare_multi_operand(operation: Operation) -> None:
    """Compile all that `apply_multi_operand` may call, or load it from the cache."""
    multi_operand_kernel(1 + len(operation.operands))
    dispatch_table(operation, CACHED)


def apply_multi_operand(
    operation: Operation,
    x: Array,
    y: Array,
    operands: Sequence[Array],
    index: int,
    index_strides: tuple[int, ...],
    seed: int,
    stream: int,
    threshold: int,
    value: Array,
    shares: Shares,
) -> None:
    """Apply an operation to arrays of one shape, which may be broadcast views (strides of 0)."""
    arrays = x if operation.source.bits else np.broadcast_to(np.uint8(0), y.shape), *operands, y
    layout = rows_plan(y.shape, *[array.strides for array in arrays], index_strides)
    axes, table, kernel = layout.axes, layout.table, multi_operand_kernel(1 + len(operands))
    addresses = [array.__array_interface__["data"][0] for array in arrays]
    at = np.array([*addresses, index], np.uint64)
    split = _split(axes)
    part, threads = shares(
        axes[split][0], _WEIGHT * layout.elements, GROUP if split == len(axes) - 1 else 1
    )
    counter = np.zeros(1, np.uint64)
    descriptor = make_descriptor(
        len(axes), threshold, value, split, table, dispatch_table(operation, CACHED)
    )

    def work() -> None:
        kernel(slot(at), 0, descriptor.at, 0, seed, stream, slot(counter), part)

    run_together(work, threads)


def _split(axes: list[tuple[int, ...]]) -> int:
    """Return the axis that threads share: the longest, counted in tiles along the innermost."""
    last = len(axes) - 1
    return max(range(len(axes)), key=lambda a: axes[a][0] if a < last else axes[a][0] // _TILE)


_TILE = 1024  # elements: rows should not be cut into shorter chunks
# An element takes at least so many times as long as in dropout, so threads are faster sooner
# (per-element p: 2.4 ns instead of 0.73; Cascade Lake, November 2026).
_WEIGHT = 2
# Up to this many sums, threads share an axis that is summed over: each of its chunks has its own
# sums (32 chunks take half a MiB). With more, they share an axis of the sums.
_FEW_SUMS = 2048
_SUM_PARTS, _SUM_PART = 32, 1 << 16  # chunks at most, and their minimal elements


def sums(name: str, kind: Storage, terms: Array, shape: tuple[int, ...], shares: Shares) -> Array:
    """Return the float64 sums of `terms` over the axes where `shape`, with as many axes, is 1.

    The order of the additions depends on shapes and strides only, not on the number of threads.
    """
    if not terms.size:
        return np.zeros(shape)
    few = math.prod(shape) <= _FEW_SUMS
    strides = np.empty(shape).strides
    steps = tuple(s if n == m else 0 for s, n, m in zip(strides, shape, terms.shape, strict=True))
    axes = merged_axes(terms.shape, steps, terms.strides, (0,) * terms.ndim) or [(1, 0, 0, 0)]
    table = np.array(axes, np.int64)[:, :3].copy().view(np.uint64)
    ours = [a for a in range(len(axes)) if (axes[a][1] == 0) == few] or range(len(axes))
    split = max(ours, key=lambda a: axes[a][0])
    length = axes[split][0]
    parts = max(1, min(_SUM_PARTS, terms.size // _SUM_PART, length))
    part = -(-length // parts)
    parts = -(-length // part)
    whole = np.zeros((parts if axes[split][1] == 0 else 1, *shape))
    sums_bytes = whole.strides[0] if len(whole) > 1 else 0
    places = [array.__array_interface__["data"][0] for array in (whole, terms)]
    at, counter = np.array(places, np.uint64), np.zeros(1, np.uint64)
    kernel = sum_kernel(name, kind)
    descriptor = make_descriptor(len(axes), 0, whole, split, table)
    _, threads = shares(length, terms.size, 1)

    def work() -> None:
        kernel(slot(at), sums_bytes, descriptor.at, 0, 0, 0, slot(counter), part)

    run_together(work, min(threads, parts))
    total: Array = whole[0]
    for other in whole[1:]:
        total += other
    return total
