"""Sums over axes, in float64 and in an order that does not depend on the number of threads.

`driver` calls this module, which plans axes with `layout` and runs kernels of `loops.kernels`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...layout import merged_axes
from ..codegen.ndarray_layout import slot
from ..elements.storage import Storage
from ..loops.call_descriptor import make_descriptor
from ..loops.kernels import sum_kernel
from .kernel_call import run_kernel
from .work_sharing import shares

Array: TypeAlias = npt.NDArray[Any]


# Up to this many sums, threads share an axis that is summed over: each of its chunks has its own
# sums (32 chunks take half a MiB). With more, they share an axis of the sums.
_FEW_SUMS = 2048
_SUM_PARTS, _SUM_PART = 32, 1 << 16  # chunks at most, and their minimal elements


class _Plan(NamedTuple):
    """How terms of a layout are added; it depends on shapes and strides only."""

    axes: int
    table: npt.NDArray[np.uint64]  # of the axes
    split: int  # the axis whose chunks threads may share
    length: int  # of that axis
    part: int  # elements of it in a chunk
    parts: int  # how many chunks
    copies: int  # of the sums, one for each chunk of an axis that is summed over


@functools.lru_cache(maxsize=512)  # planning takes 7 us (Zen 5, November 2026)
def _plan(full: tuple[int, ...], strides: tuple[int, ...], shape: tuple[int, ...]) -> _Plan:
    """Plan sums, of a shape, of non-empty terms of a shape and strides."""
    few = math.prod(shape) <= _FEW_SUMS
    own = np.empty(shape).strides
    steps = tuple(s if n == m else 0 for s, n, m in zip(own, shape, full, strict=True))
    axes = merged_axes(full, steps, strides, (0,) * len(full)) or [(1, 0, 0, 0)]
    table = np.array(axes, np.int64)[:, :3].copy().view(np.uint64)
    ours = [a for a in range(len(axes)) if (axes[a][1] == 0) == few] or range(len(axes))
    split = max(ours, key=lambda a: axes[a][0])
    length = axes[split][0]
    parts = max(1, min(_SUM_PARTS, math.prod(full) // _SUM_PART, length))
    part = -(-length // parts)
    parts = -(-length // part)
    copies = parts if axes[split][1] == 0 else 1
    return _Plan(len(axes), table, split, length, part, parts, copies)


def sums(name: str, kind: Storage, terms: Array, shape: tuple[int, ...]) -> Array:
    """Return the float64 sums of `terms` over the axes where `shape`, with as many axes, is 1.

    The order of the additions depends on shapes and strides only, not on the number of threads.
    """
    if not terms.size:
        return np.zeros(shape)
    plan = _plan(terms.shape, terms.strides, shape)
    whole = np.zeros((plan.copies, *shape))
    sums_bytes = whole.strides[0] if len(whole) > 1 else 0
    places = [array.__array_interface__["data"][0] for array in (whole, terms)]
    at = np.array(places, np.uint64)
    kernel = sum_kernel(name, kind)
    descriptor = make_descriptor(plan.axes, 0, whole, plan.split, plan.table)
    _, threads = shares(plan.length, terms.size, 1)
    arguments = slot(at), sums_bytes, descriptor.at, 0, 0, 0
    living = at, whole, terms, descriptor
    run_kernel(kernel, arguments, plan.part, min(threads, plan.parts), living)
    total: Array = whole[0]
    for other in whole[1:]:
        total += other
    return total
