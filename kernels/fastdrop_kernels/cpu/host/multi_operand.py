"""Joint calls: operations of several inputs over arrays of one shape, on any number of threads."""

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
# (length, elements, multiple) -> how long the parts of an axis are, and how many threads share them
Shares: TypeAlias = Callable[[int, int, int], tuple[int, int]]


def prepare_multi_operand(operation: Operation) -> None:
    """Compile, or load from the cache, all that `apply_multi_operand` may call for an operation."""
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
    """Apply an operation to arrays of one shape, views with steps of 0 among them."""
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
    """Return the axis along which threads share: the longest, where rows are cut seldom."""
    last = len(axes) - 1
    return max(range(len(axes)), key=lambda a: axes[a][0] if a < last else axes[a][0] // _TILE)


_TILE = 1024  # elements, below which rows should not be cut
# Elements take at least so many times as long as dropout's alone (p of every element: 2.4 ns, not
# 0.73), so that threads pay sooner.
_WEIGHT = 2
# Sums up to so many in all are cut into parts along the axes that are summed over, each with sums
# of its own: 32 parts take half a MiB. More sums are many enough to be shared out themselves.
_FEW_SUMS = 2048
_SUM_PARTS, _SUM_PART = 32, 1 << 16  # at most, and elements of one at least


def sums(name: str, kind: Storage, terms: Array, shape: tuple[int, ...], shares: Shares) -> Array:
    """Return the float64 sums of elements over the axes where `shape`, of as many axes, has 1.

    What is added to what, and when, depends on the shapes and strides alone: not on the threads.
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
