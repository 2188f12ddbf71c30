"""The driver of the CPU's kernels: what the public package calls.

`apply` and `pack` plan a call with `call_plan`, and run it. `contiguous_call`, `layout_call`,
`per_element_call` and `operands_call` return fast calls of `fast_call` and `fast_operands`, for
repeated use; `address_call` returns those for arrays that are not NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...contract import is_degenerate
from ...layout import AXES, TILED, c_strides, disjoint_distances
from ..codegen.ndarray_layout import LAYOUT_IS_KNOWN, dtype_word
from ..elements.operations import PACK, Operation
from ..loops.call_descriptor import make_descriptor
from ..loops.contiguous import CACHED, NONTEMPORAL, PREFETCH
from ..loops.dispatch import dispatch_table
from ..loops.kernels import (
    contiguous_kernel,
    contiguous_operands_kernel,
    layout_kernel,
    multi_operand_kernel,
    per_element_kernel,
)
from ..loops.loop_nest import Kernel
from ..loops.tile_transpose import tiled_bytes
from . import address_call as by_addresses
from . import call_plan, work_sharing
from .address_call import AddressCall
from .catalogue import FLOATS, PerElement, operation, operation_by_name, per_element
from .fast_call import (
    DONE,
    LOOK,
    FastCall,
    PerElementCall,
    fast_call,
    for_contiguous,
    for_layout,
    for_per_element,
    per_element_fast_call,
)
from .fast_operands import INPUTS, Limits, OperandsCall, fast_operands, for_operands
from .openmp import team_of
from .schedule import are_contiguous
from .sums import sums
from .work_sharing import weight

__all__ = [
    "DONE",
    "LAYOUT_IS_KNOWN",
    "LOOK",
    "address_call",
    "apply",
    "contiguous_call",
    "layout_call",
    "operands_call",
    "operation",
    "operation_by_name",
    "pack",
    "pack_each",
    "per_element",
    "per_element_call",
    "prepare",
    "sum_to",
    "team_of",
]

Array: TypeAlias = npt.NDArray[Any]


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Return float64 sums over the axes where `shape`, which has as many axes as x, is 1.

    The result is the same for any number of threads.
    """
    return sums(x.dtype.name, FLOATS[x.dtype.name], x, shape)


def prepare(operations: Iterable[Operation | PerElement]) -> None:
    """Compile all that `apply` may call for some operations, or load it from the cache."""
    if LAYOUT_IS_KNOWN:
        fast_call()
    for each in operations:
        if isinstance(each, PerElement):
            if LAYOUT_IS_KNOWN:
                per_element_fast_call()
            for access in (CACHED, PREFETCH):
                per_element_kernel(each.operation, access)
            continue
        if each.operands:
            if LAYOUT_IS_KNOWN:
                fast_operands()
            multi_operand_kernel(1 + len(each.operands))
            dispatch_table(each, CACHED)
            for access in _contiguous_accesses(each) if each.in_registers else ():
                contiguous_operands_kernel(each, access)
            continue
        schedules = list(AXES)
        if not tiled_bytes(each):
            schedules.remove(TILED)
        for access in (CACHED,) if each is PACK else (CACHED, PREFETCH):
            dispatch_table(each, access)
        for schedule in schedules:
            layout_kernel(each, schedule)
        for access in _contiguous_accesses(each):
            contiguous_kernel(each, access)


def _contiguous_accesses(operation: Operation) -> list[str]:
    """Return the access policies by which contiguous arrays may be processed."""
    if operation is PACK:
        return [CACHED]
    return [CACHED, PREFETCH, *[NONTEMPORAL] * call_plan.is_nontemporal(operation, 1 << 62)]


def contiguous_call(
    operation: Operation, dtype: np.dtype[Any], threshold: int, value: Array
) -> FastCall | None:
    """Return a fast call that does the same as `apply`, for contiguous arrays of any shape.

    None if the memory layout of NumPy's array objects is unknown, or if the threshold is degenerate
    and nothing is drawn.
    """
    if not LAYOUT_IS_KNOWN or (not operation.needs_uniform and is_degenerate(threshold)):
        return None
    parallel_from = -(-work_sharing.PARALLEL_FROM // weight(operation))
    large_from = min(parallel_from, call_plan.nontemporal_from(operation))

    def large(x: Array, y: Array, index: int, seed: int, stream: int) -> tuple[Kernel | None, bool]:
        plan = call_plan.of_contiguous(operation, y.size, y.nbytes, threshold, value)
        plan(x, y, index, seed, stream)
        return plan.kernel, call_plan.is_prefetched(y.nbytes)

    descriptor = make_descriptor(0, threshold, value)
    return for_contiguous(
        dtype_word(dtype), operation.target.itemsize, descriptor, large_from, large
    )


def address_call(operation: Operation, threshold: int, value: Array) -> AddressCall | None:
    """Return a call by addresses that does the same as `apply`, for contiguous elements.

    See `address_call.address_call`. None if the threshold is degenerate and nothing is drawn, and
    for packed masks.
    """
    if operation is PACK or (not operation.needs_uniform and is_degenerate(threshold)):
        return None
    return by_addresses.address_call(operation, threshold, value)


def layout_call(
    operation: Operation,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...] | None,
    output_strides: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: Array,
) -> FastCall | None:
    """Return a fast call that does the same as `apply` or `pack`, for non-empty arrays of a layout.

    `input_strides` are None if no x is read. For packed masks, `output_strides` are in bits, and
    calls must have the `index` given here. None if the memory layout of NumPy's array objects is
    unknown. Everything that does not change between calls is done here. It took 15 of a small
    call's 20 us, and 90 of 520 us for 1 Mi float32, which leave little of Python in the caches
    (Cascade Lake, November 2026).
    """
    if not LAYOUT_IS_KNOWN:
        return None
    read = output_strides if input_strides is None else input_strides
    coefficients = index_strides, threshold, value
    if operation is PACK:
        plan = call_plan.of_packed(shape, index, *coefficients)
        cleared = (math.prod(shape) + 7) // 8
    else:
        contiguous = are_contiguous(operation, shape, read, output_strides)
        plan = call_plan.of_layout(
            operation, contiguous, shape, read, output_strides, *coefficients
        )
        cleared = 0
    is_small = plan.kernel is not None and plan.weight < work_sharing.PARALLEL_FROM
    return for_layout(
        plan.kernel if is_small else None,
        plan.descriptor,
        disjoint_distances(shape, read, output_strides, operation.target.itemsize),
        in_place=read == output_strides,
        cleared=cleared,
        large=plan.__call__,
    )


def per_element_call(
    by_p: PerElement,
    p: Array,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    value: Array,
) -> PerElementCall | None:
    """Return a fast call that does the same as `apply`, for contiguous p of one layout.

    Calls may have any index. None if the memory layout of NumPy's array objects is unknown.
    """
    if not LAYOUT_IS_KNOWN:
        return None
    own, itemsize = np.broadcast_to(p, shape), by_p.operation.target.itemsize
    layouts = shape, input_strides, output_strides, index_strides, value
    plan = call_plan.of_per_element(by_p, own, *layouts)

    def large(x: Array, y: Array, p: Array, index: int, seed: int, stream: int) -> None:
        plan = call_plan.of_per_element(by_p, np.broadcast_to(p, shape), *layouts)
        plan(x, y, index, seed, stream)

    return for_per_element(
        plan.kernel if plan.weight < work_sharing.PARALLEL_FROM else None,
        plan.descriptor,
        disjoint_distances(shape, input_strides, output_strides, itemsize),
        in_place=input_strides == output_strides,
        p_distances=disjoint_distances(
            shape, own.strides, output_strides, max(itemsize, p.itemsize)
        ),
        p_layout=(p.size, p.itemsize),
        large=large,
    )


def operands_call(
    operation: Operation,
    shape: tuple[int, ...],
    strides: Sequence[tuple[int, ...]],
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: Array,
) -> OperandsCall | None:
    """Return a fast call that does the same as `apply`, for non-empty arrays of known layouts.

    `strides` are those of x, of the operands, broadcast to its shape, and of y. Calls may have any
    index. None if the memory layout of NumPy's array objects is unknown.
    """
    *inputs, of_y = strides
    if not LAYOUT_IS_KNOWN or len(inputs) > INPUTS:
        return None
    kernel, descriptor = None, make_descriptor(0, threshold, value)
    if call_plan.is_small_of_operands(operation, math.prod(shape)):
        steps = c_strides(shape) if index_strides is None else index_strides
        # Whether y is an input matters to large arrays alone.
        plan = call_plan.of_operands(operation, shape, (*strides, steps), threshold, value, True)
        kernel, descriptor = plan.kernel, plan.descriptor
    limits = [
        Limits(
            *disjoint_distances(shape, own, of_y, operation.target.itemsize),
            in_place=own == of_y,
        )
        for own in inputs
    ]

    def large(arrays: Sequence[Array], y: Array, index: int, seed: int, stream: int) -> None:
        x, *operands = [np.broadcast_to(a, shape) for a in arrays]
        coefficients = threshold, value, operands
        apply(operation, x, y, index, index_strides, seed, stream, *coefficients)

    return for_operands(kernel, descriptor, limits, large)


def apply(
    operation: Operation | PerElement,
    x: Array,
    y: Array,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    value: Array,
    operands: Sequence[Array] = (),
) -> None:
    """Apply an operation; `index_strides` None means those of C order.

    `operands` are the arrays that it declares, or the per-element p. They have the shape of x;
    broadcast views, with strides of 0, are allowed.
    """
    if not y.size:
        return
    if isinstance(operation, PerElement):
        (p,) = operands
        strides = x.strides, y.strides, index_strides
        plan = call_plan.of_per_element(operation, p, x.shape, *strides, value)
        plan(x, y, index, seed, stream)
        return
    if operation.operands:
        steps = c_strides(y.shape) if index_strides is None else index_strides
        arrays = x, *operands, y
        all_strides = *[array.strides for array in arrays], steps
        addresses = [array.__array_interface__["data"][0] for array in arrays]
        in_place = addresses[-1] in addresses[:-1]
        plan = call_plan.of_operands(operation, y.shape, all_strides, threshold, value, in_place)
        at = np.array([*addresses, index], np.uint64)
        plan(at, at, 0, seed, stream)
        return
    contiguous = x.flags.c_contiguous and y.flags.c_contiguous
    coefficients = index_strides, threshold, value
    plan = call_plan.of_layout(operation, contiguous, x.shape, x.strides, y.strides, *coefficients)
    plan(x, y, index, seed, stream)


def pack(
    y: Array,
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
) -> None:
    """Write the packed mask of `shape`, in C order, to the contiguous bytes `y`."""
    if y.size:
        call_plan.of_packed(shape, index, index_strides, threshold, y)(y, y, index, seed, stream)


def pack_each(
    y: Array,
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    p: Array,
) -> None:
    """Do the same as `pack` with per-element p, of that shape."""
    if y.size:
        strides = (0,) * len(shape), c_strides(shape), index_strides
        plan = call_plan.of_per_element(PerElement(PACK, True), p, shape, *strides, y)
        plan(y, y, index, seed, stream)
