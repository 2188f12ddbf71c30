"""Cached calls with CuPy arrays: with a plan at hand, a call only checks where the arrays lie.

`CupyBackend` calls `repeatable` and `repeatable_mask` for the plan cache; they call the CUDA driver
once, and return a function that launches the planned kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastdrop_kernels.layout import apart_from, c_strides

from .._check.arguments import Array
from .._check.key import AnyRNG, Key
from .._check.placement import Placement
from . import overlap
from .adapter import BOOL, BYTE, NO_VALUE, Operation, Plan

if TYPE_CHECKING:
    from .cupy_arrays import CupyBackend


def layout_plan(
    backend: CupyBackend,
    operation: Operation,
    x: Array,
    out: Any,
    placement: Placement,
    threshold: int,
    value: Array,
) -> Plan | None:
    """Plan the backend's `apply` for CuPy arrays of the layouts of x and `out`."""
    if not x.size or (out is not None and overlap.overlaps_itself(backend.addresses(out))):
        return None
    driver, runtime = backend.driver, backend.cupy.cuda.runtime
    shape, strides = x.shape, x.strides
    y = backend.empty_like(x) if out is None else out
    new, same_strides = _allocator(backend, x, y), strides == y.strides
    run = driver.layout_call(
        operation(driver), shape, strides, y.strides, *placement, threshold, value
    )
    # x and y are disjoint if y begins at least `behind` bytes after x, or at most `before` bytes
    # after it, which is negative.
    behind, before = apart_from(shape, strides, y.strides, x.itemsize)
    del x, y

    def plan(x: Any, out: Any, rng: AnyRNG, offset: Any) -> Any:
        memory = x.data
        device: int = memory.device_id
        if device != runtime.getDevice():
            return None
        source: int = memory.ptr
        if out is None:
            out = new(x)
            target: int = out.data.ptr
        else:
            memory = out.data
            target = memory.ptr
            distance = target - source
            disjoint = distance >= behind or distance <= before
            if not (disjoint or (same_strides and not distance)) or memory.device_id != device:
                return None
        if type(rng) is Key:
            run(source, target, *rng)
        else:
            seed, stream, more = backend.key(rng, out)
            run(source, target, seed, stream, **more)
        return out

    return plan


def mask_plan(
    backend: CupyBackend,
    shape: tuple[int, ...],
    out: Any,
    placement: Placement,
    threshold: int,
    packed: bool,
) -> Plan | None:
    """Plan the backend's `mask` for an `out` of the same layout."""
    elements = math.prod(shape)
    new: Any = shape, BOOL
    driver, runtime = backend.driver, backend.cupy.cuda.runtime
    if packed:
        new = ((elements + 7) // 8,), BYTE
        operation, steps = driver.packing(), c_strides(shape)
        fits = out is None or backend.addresses(out).flags.c_contiguous
    else:
        operation, steps = driver.marking(), c_strides(shape) if out is None else out.strides
        fits = out is None or not overlap.overlaps_itself(backend.addresses(out))
    if not elements or not fits:
        return None
    run = driver.layout_call(operation, shape, None, steps, *placement, threshold, NO_VALUE)
    array = backend.cupy.ndarray

    def plan(like: Any, out: Any, rng: AnyRNG, offset: Any) -> Any:
        device = runtime.getDevice()
        if like is not None and like.data.device_id != device:
            return None
        if out is None:
            out = array(*new)
        elif out.data.device_id != device:
            return None
        target: int = out.data.ptr
        if type(rng) is Key:
            run(target, target, *rng)
        else:
            seed, stream, more = backend.key(rng, out)
            run(target, target, seed, stream, **more)
        return out

    return plan


def _allocator(backend: CupyBackend, x: Array, y: Array) -> Callable[[Array], Array]:
    """Return a function that allocates arrays of the layout of y = ``empty_like(x)``."""
    array, shape, strides, dtype = backend.cupy.ndarray, y.shape, y.strides, y.dtype
    contiguous = tuple(step * y.itemsize for step in c_strides(shape))
    # Twice as fast as cupy.empty_like, which derives the order anew each time.
    if strides == contiguous:
        return lambda _: array(shape, dtype)
    if strides[::-1] == tuple(step * y.itemsize for step in c_strides(shape[::-1])):
        return lambda _: array(shape, dtype, None, None, "F")
    return backend.empty_like
