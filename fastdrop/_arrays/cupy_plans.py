"""Calls like earlier ones with CuPy arrays: what is left to do is to look where the arrays lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastdrop_kernels.layout import apart_from, c_strides

from .._check.arguments import Array
from .._check.key import AnyRNG, Key
from .._check.placement import Place
from . import overlap
from .adapter import BOOL, BYTE, NO_VALUE, Again, Operation

if TYPE_CHECKING:
    from .cupy_arrays import CupyBackend


def repeatable(
    backend: CupyBackend,
    operation: Operation,
    x: Array,
    out: Any,
    place: Place,
    threshold: int,
    value: Array,
) -> Again | None:
    """Return what the backend's `apply` comes to for plain arrays of the layouts of x and `out`."""
    if not x.size or (out is not None and overlap.within(backend.addresses(out))):
        return None
    driver, runtime = backend.driver, backend.cupy.cuda.runtime
    shape, strides = x.shape, x.strides
    y = backend.empty_like(x) if out is None else out
    new, alike = _maker(backend, x, y), strides == y.strides
    law = *place, threshold, value
    run = driver.repeatable(operation(driver), shape, strides, y.strides, *law)
    # y lies behind all of x from this distance on, or in front of it up to that one.
    behind, before = apart_from(shape, strides, y.strides, x.itemsize)
    del x, y

    def again(x: Any, out: Any, rng: AnyRNG, offset: Any) -> Any:
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
            apart = distance >= behind or distance <= before or (alike and not distance)
            if not apart or memory.device_id != device:
                return None
        if type(rng) is Key:
            run(source, target, *rng)
        else:
            seed, stream, more = backend.key(rng, out)
            run(source, target, seed, stream, **more)
        return out

    return again


def repeatable_mask(
    backend: CupyBackend,
    shape: tuple[int, ...],
    out: Any,
    place: Place,
    threshold: int,
    packed: bool,
) -> Again | None:
    """Return what the backend's `mask` comes to for an `out` of the same layout."""
    elements = math.prod(shape)
    new: Any = shape, BOOL
    driver, runtime = backend.driver, backend.cupy.cuda.runtime
    if packed:
        new = ((elements + 7) // 8,), BYTE
        operation, steps = driver.packing(), c_strides(shape)
        fits = out is None or backend.addresses(out).flags.c_contiguous
    else:
        operation, steps = driver.marking(), c_strides(shape) if out is None else out.strides
        fits = out is None or not overlap.within(backend.addresses(out))
    if not elements or not fits:
        return None
    run = driver.repeatable(operation, shape, None, steps, *place, threshold, NO_VALUE)
    array = backend.cupy.ndarray

    def again(like: Any, out: Any, rng: AnyRNG, offset: Any) -> Any:
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

    return again


def _maker(backend: CupyBackend, x: Array, y: Array) -> Callable[[Array], Array]:
    """Return what makes arrays like y, which is like x."""
    array, shape, strides, dtype = backend.cupy.ndarray, y.shape, y.strides, y.dtype
    contiguous = tuple(step * y.itemsize for step in c_strides(shape))
    # CuPy's function takes twice as long to find that out.
    if strides == contiguous:
        return lambda _: array(shape, dtype)
    if strides[::-1] == tuple(step * y.itemsize for step in c_strides(shape[::-1])):
        return lambda _: array(shape, dtype, None, None, "F")
    return backend.empty_like
