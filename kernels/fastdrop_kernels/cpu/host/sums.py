"""Sums over axes, in float64 and in an order that does not depend on the number of threads.

`driver` calls this module, which plans axes with `layout` and runs kernels of `loops.kernels`.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

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


def sums(name: str, kind: Storage, terms: Array, shape: tuple[int, ...]) -> Array:
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
    at = np.array(places, np.uint64)
    kernel = sum_kernel(name, kind)
    descriptor = make_descriptor(len(axes), 0, whole, split, table)
    _, threads = shares(length, terms.size, 1)
    arguments = slot(at), sums_bytes, descriptor.at, 0, 0, 0
    run_kernel(kernel, arguments, part, min(threads, parts), (at, whole, terms, descriptor))
    total: Array = whole[0]
    for other in whole[1:]:
        total += other
    return total
