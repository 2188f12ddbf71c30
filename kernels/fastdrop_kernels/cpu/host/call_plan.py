"""Call plans: which kernel runs, over which chunks of an array.

A plan is made from shapes, strides, threshold and parameters; a call adds the arrays and the key.
`driver` makes plans, and runs them or hands them to the compiled fast path. A plan calls a kernel
of `loops.kernels`, on one thread or on several that share the array in chunks. The result of a
chunk does not depend on the thread that computes it, because the mask is a function of the index.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...contract import is_degenerate
from ...layout import STRIDED, Plan, c_strides, rows_plan
from ...threads import thread_count
from ..codegen.ndarray_layout import slot
from ..codegen.target import NONTEMPORAL as NONTEMPORAL_IS_FAST
from ..elements.operations import PACK, Operation
from ..elements.sampler import GROUP
from ..loops.call_descriptor import Descriptor, make_descriptor
from ..loops.contiguous import CACHED, CACHED_BYTES, NONTEMPORAL, PREFETCH, has_nontemporal
from ..loops.dispatch import dispatch_table
from ..loops.kernels import (
    contiguous_kernel,
    contiguous_operands_kernel,
    layout_kernel,
    multi_operand_kernel,
    per_element_kernel,
)
from ..loops.loop_nest import Kernel
from . import work_sharing
from .catalogue import PerElement
from .kernel_call import run_kernel
from .schedule import input_strides_of, layout_of, packed_layout, split_axis, split_axis_of_rows
from .work_sharing import shares, weight

Array: TypeAlias = npt.NDArray[Any]


class CallPlan(NamedTuple):
    """A call without its arrays and key; layouts, threshold and parameters are known."""

    operation: Operation
    kernel: Kernel | None  # None: nontemporal, or prefetch if in place
    descriptor: Descriptor
    length: int  # of the axis that threads share
    weight: int  # the work, in elements of dropout
    multiple: int  # chunk lengths are multiples of it

    def __call__(self, x: Array, y: Array, index: int, seed: int, stream: int) -> None:
        """Run the kernel, on several threads if that is faster; `index` is of the first element."""
        if self.operation is PACK:
            thread_count()  # which may raise: before anything is written
            y.fill(0)
        in_place = self.kernel is None and np.may_share_memory(x, y)
        self.run(slot(x), slot(y), in_place, index, seed, stream, (x, y))

    def run(
        self, x_slot: int, y_slot: int, in_place: bool, index: int, seed: int, stream: int, of: Any
    ) -> None:
        """Do the same by slots; `of` owns their memory and the arrays'. Packed bits must be 0."""
        operation, kernel, descriptor, length, weight, multiple = self
        if kernel is None:
            # In place, the output was read just before, so it is in the caches.
            in_caches = in_place and operation.source.bits
            kernel = contiguous_kernel(operation, PREFETCH if in_caches else NONTEMPORAL)
        chunk, threads = shares(length, weight, multiple)
        arguments = x_slot, y_slot, descriptor.at, index, seed, stream
        run_kernel(kernel, arguments, chunk, threads, (of, descriptor))


def _last_level_cache() -> int:
    size = 0
    if sys.platform != "win32":
        with contextlib.suppress(AttributeError, OSError, ValueError):
            size = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    return size if size > 0 else 32 << 20


# Contiguous output of at least this many bytes is written by nontemporal stores, if not in place:
# output and input together then fill the last-level cache. Relative time for 16 MiB (of 32), Zen 5,
# one thread, November 2026: float32 0.75, float64 0.69; with a np.multiply of the output after each
# call 0.95 and 0.93. With that np.multiply, which otherwise finds the output in the cache, 4 MiB
# take 1.17 and 1.40, 8 MiB 1.03 and 0.95.
_NONTEMPORAL_FROM = _last_level_cache() // 2 if NONTEMPORAL_IS_FAST else 1 << 63


def is_prefetched(nbytes: int) -> bool:
    """Return whether an output of so many bytes is prefetched."""
    return nbytes > CACHED_BYTES


def is_nontemporal(operation: Operation, nbytes: int) -> bool:
    """Return whether nontemporal stores write so many contiguous bytes, if not in place."""
    return nbytes >= _NONTEMPORAL_FROM and has_nontemporal(operation)


def nontemporal_from(operation: Operation) -> int:
    """Return the number of contiguous elements from which on `is_nontemporal` holds."""
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
    """Return a plan for arrays of a shape; `contiguous` says whether they are C-contiguous."""
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
    """Return a plan for a packed mask of a shape; its calls must have this `index`."""
    if index_strides is None and not is_degenerate(threshold) and index % 8 == 0:
        return of_contiguous(PACK, math.prod(shape), 0, threshold, value)
    # Chunks of contiguous elements could share a byte here; chunks of an axis do not.
    return of_axes(PACK, packed_layout(shape, index_strides, threshold), threshold, value)


def of_axes(operation: Operation, layout: Plan, threshold: int, value: Array) -> CallPlan:
    """Return a plan for the axes of a layout."""
    axes, schedule, table, n = layout
    packed = operation is PACK
    access = PREFETCH if n * operation.target.bits > 8 * CACHED_BYTES and not packed else CACHED
    split, multiple = split_axis(axes, schedule, packed)
    table_of_routines = dispatch_table(operation, access) if schedule == STRIDED else None
    descriptor = make_descriptor(len(axes), threshold, value, split, table, table_of_routines)
    kernel, work = layout_kernel(operation, schedule), weight(operation) * n
    return CallPlan(operation, kernel, descriptor, axes[split][0], work, multiple)


_OPERANDS_WEIGHT = 2  # elements that read another array take about twice as long


def is_small_of_operands(operation: Operation, n: int) -> bool:
    """Return whether n elements are too few for several threads and for nontemporal stores."""
    is_shared = _OPERANDS_WEIGHT * n >= work_sharing.PARALLEL_FROM
    return not is_shared and not is_nontemporal(operation, n * operation.target.itemsize)


def of_operands(
    operation: Operation,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    threshold: int,
    value: Array,
    in_place: bool,
) -> CallPlan:
    """Return a plan for several inputs; `strides` are of x, the operands, y and the mask.

    `in_place` says whether y is one of the inputs. The plan is called with an array of the
    addresses of the first elements and the mask index, in place of both x and y.
    """
    if operation.in_registers and not is_degenerate(threshold):
        *memory, mask = strides
        steps = c_strides(shape)
        in_order = tuple([step * operation.target.itemsize for step in steps])
        if mask == steps and all(given == in_order for given in memory):
            n = math.prod(shape)
            nbytes = n * operation.target.itemsize
            access = PREFETCH if is_prefetched(nbytes) else CACHED
            if not in_place and is_nontemporal(operation, nbytes):
                access = NONTEMPORAL
            descriptor = make_descriptor(n, threshold, value)
            kernel = contiguous_operands_kernel(operation, access)
            return CallPlan(operation, kernel, descriptor, n, _OPERANDS_WEIGHT * n, GROUP)
    layout = rows_plan(shape, *strides)
    axes, table = layout.axes, layout.table
    split, multiple = split_axis_of_rows(axes, False)
    routines = dispatch_table(operation, CACHED)
    descriptor = make_descriptor(len(axes), threshold, value, split, table, routines)
    kernel = multi_operand_kernel(1 + len(operation.operands))
    work = _OPERANDS_WEIGHT * layout.elements
    return CallPlan(operation, kernel, descriptor, axes[split][0], work, multiple)


def of_per_element(
    by_p: PerElement,
    p: Array,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    index_strides: tuple[int, ...] | None,
    value: Array,
) -> CallPlan:
    """Return a plan for per-element p, which is float64 or float32 and a view of that shape."""
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
    work = _OPERANDS_WEIGHT * n
    return CallPlan(
        operation, per_element_kernel(operation, access), descriptor, axes[split][0], work, multiple
    )
