"""Call plans: which kernel, over which parts of an array, for operations without operands.

Planning looks at shapes, strides, threshold and parameters; what is left are the arrays and the
key. `driver` makes plans, and runs them or has the compiled fast path run them. A plan is one call
of a serial kernel, or a few over parts of the array. A part's result does not depend on the
others', nor on who computes it: the mask is a function of the index.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...contract import is_degenerate
from ...layout import STRIDED, Plan, c_strides, rows_plan
from ...threads import run_together
from ..codegen.ndarray_layout import slot
from ..codegen.target import NONTEMPORAL as NONTEMPORAL_IS_FAST
from ..elements.operations import PACK, Operation
from ..elements.sampler import GROUP
from ..loops.call_descriptor import Descriptor, make_descriptor
from ..loops.contiguous import CACHED, CACHED_BYTES, NONTEMPORAL, PREFETCH, has_nontemporal
from ..loops.kernels import contiguous_kernel, layout_kernel, per_element_kernel
from ..loops.loop_nest import Kernel
from ..loops.tiles import dispatch_table
from .catalogue import PerElement
from .schedule import input_strides_of, layout_of, packed_layout, split_axis, split_axis_of_rows
from .work_sharing import shares, weight

Array: TypeAlias = npt.NDArray[Any]


class CallPlan(NamedTuple):
    """A call whose layouts, threshold and parameters are known; arrays and key are left."""

    operation: Operation
    kernel: Kernel | None  # None: nontemporal, unless it is in place
    descriptor: Descriptor
    length: int  # of what threads share, in chunks that are multiples
    weight: int
    multiple: int

    def __call__(self, x: Array, y: Array, index: int, seed: int, stream: int) -> None:
        """Make the call on as many threads as pay; the first element has the mask index `index`."""
        operation, kernel, descriptor, length, weight, multiple = self
        if kernel is None:
            # What is read shortly before it is written is in the caches already.
            in_place = operation.source.bits and np.may_share_memory(x, y)
            kernel = contiguous_kernel(operation, PREFETCH if in_place else NONTEMPORAL)
        chunk, threads = shares(length, weight, multiple)
        if operation is PACK:
            y.fill(0)
        if threads == 1:
            kernel(slot(x), slot(y), descriptor.at, index, seed, stream, 0, chunk)
            return
        counter = np.zeros(1, np.uint64)

        def work() -> None:
            # The arrays, and not their slots, so that they live as long as a thread is working.
            kernel(slot(x), slot(y), descriptor.at, index, seed, stream, slot(counter), chunk)

        run_together(work, threads)


def _last_level_cache() -> int:
    try:
        size = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):
        size = 0
    return size if size > 0 else 32 << 20


# Bytes of contiguous output from which it is written by nontemporal stores, if not in place: where
# output and input together fill the last-level cache. Of 16 MiB (of 32) on a Zen 5, one thread,
# float32 takes 0.75 of the time, float64 0.69; with a np.multiply of the output after each, 0.95
# and 0.93. Of 4 MiB, which that finds in the cache otherwise, 1.17 and 1.40, of 8 MiB 1.03 and
# 0.95.
_NONTEMPORAL_FROM = _last_level_cache() // 2 if NONTEMPORAL_IS_FAST else 1 << 63


def is_prefetched(nbytes: int) -> bool:
    """Say whether so many bytes of output are asked for ahead."""
    return nbytes > CACHED_BYTES


def is_nontemporal(operation: Operation, nbytes: int) -> bool:
    """Say whether so many contiguous bytes are written by nontemporal stores, if not in place."""
    return nbytes >= _NONTEMPORAL_FROM and has_nontemporal(operation)


def nontemporal_from(operation: Operation) -> int:
    """Return from how many contiguous elements on that is so."""
    if not has_nontemporal(operation):
        return 1 << 63
    return max(1, _NONTEMPORAL_FROM // operation.target.itemsize)


def of_contiguous(
    operation: Operation, n: int, nbytes: int, threshold: int, value: Array
) -> CallPlan:
    """Return a plan for n elements that are contiguous in memory and in the mask."""
    kernel = None
    if not is_nontemporal(operation, nbytes):
        kernel = contiguous_kernel(operation, PREFETCH if is_prefetched(nbytes) else CACHED)
    descriptor = make_descriptor(n, threshold, value)
    return CallPlan(operation, kernel, descriptor, n, weight(operation) * n, GROUP)


def of_layout(
    operation: Operation,
    contiguous: bool,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: Array,
) -> CallPlan:
    """Return a plan for arrays of a shape; `contiguous` says whether they are, in C order."""
    if (
        contiguous
        and index_strides is None
        and (operation.needs_uniform or not is_degenerate(threshold))
    ):
        n = math.prod(shape)
        return of_contiguous(operation, n, n * operation.target.bits // 8, threshold, value)
    input_strides = input_strides_of(operation, input_strides)
    layout = layout_of(operation, shape, input_strides, output_strides, index_strides, threshold)
    return of_axes(operation, layout, threshold, value)


def of_packed(
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: Array,
) -> CallPlan:
    """Return a plan for a mask of a shape whose bits are packed; `index` is that of its calls."""
    if index_strides is None and not is_degenerate(threshold) and index % 8 == 0:
        return of_contiguous(PACK, math.prod(shape), 0, threshold, value)
    # Other chunks would share bytes, and those of axes are cut where they do not.
    return of_axes(PACK, packed_layout(shape, index_strides, threshold), threshold, value)


def of_axes(operation: Operation, layout: Plan, threshold: int, value: Array) -> CallPlan:
    """Return a plan for a box of axes."""
    axes, schedule, table, n = layout
    packed = operation is PACK
    access = PREFETCH if n * operation.target.bits > 8 * CACHED_BYTES and not packed else CACHED
    split, multiple = split_axis(axes, schedule, packed)
    table_of_routines = dispatch_table(operation, access) if schedule == STRIDED else None
    descriptor = make_descriptor(len(axes), threshold, value, split, table, table_of_routines)
    kernel, work = layout_kernel(operation, schedule), weight(operation) * n
    return CallPlan(operation, kernel, descriptor, axes[split][0], work, multiple)


_PER_ELEMENT_WEIGHT = 2  # what goes by a p of each element takes about twice as long


def of_per_element(
    by_p: PerElement,
    p: Array,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    index_strides: tuple[int, ...] | None,
    value: Array,
) -> CallPlan:
    """Return a plan by a p of each element, float64 or float32, a view of that shape."""
    operation, given = by_p
    packed = operation is PACK
    strides = (
        p.strides,
        input_strides_of(operation, input_strides),
        output_strides,
        c_strides(shape) if index_strides is None else index_strides,
    )
    axes, _, table, n = rows_plan(shape, *strides, packed=packed)
    access = PREFETCH if n * operation.target.bits > 8 * CACHED_BYTES and not packed else CACHED
    split, multiple = split_axis_of_rows(axes, packed)
    about_p = p.__array_interface__["data"][0], p.itemsize, given
    descriptor = make_descriptor(len(axes), 0, value, split, table, None, about_p)
    work = _PER_ELEMENT_WEIGHT * n
    return CallPlan(
        operation, per_element_kernel(operation, access), descriptor, axes[split][0], work, multiple
    )
