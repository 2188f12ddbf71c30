"""Joint calls: operations of several inputs over arrays of one shape, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..plan import rows_plan
from ..threads import run_together
from .bits import GROUP
from .memory import slot
from .noise import TILE
from .operations import Operation
from .walk import MAX_AXES, walk

Array: TypeAlias = npt.NDArray[Any]
# (length, elements, multiple) -> how long the parts of an axis are, and how many threads share them
Shares: TypeAlias = Callable[[int, int, int], tuple[int, int]]


def apply_jointly(
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
    axes, table, kernel = layout.axes, layout.table, walk(operation)
    assert len(axes) <= MAX_AXES
    addresses = [array.__array_interface__["data"][0] for array in arrays]
    at = np.array([*addresses, index], np.uint64)
    split = _split(axes)
    part, threads = shares(axes[split][0], layout.elements, GROUP if split == len(axes) - 1 else 1)
    cursor = np.zeros(1, np.uint64)

    def work() -> None:
        places = slot(at), slot(cursor), part, split, slot(table), len(axes)
        kernel(*places, seed, stream, threshold, slot(value))

    run_together(work, threads)


def _split(axes: list[tuple[int, ...]]) -> int:
    """Return the axis along which threads share: the longest, where rows are cut seldom."""
    last = len(axes) - 1
    return max(range(len(axes)), key=lambda a: axes[a][0] if a < last else axes[a][0] // TILE)
