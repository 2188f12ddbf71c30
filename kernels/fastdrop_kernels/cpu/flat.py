"""The compiled kernels: serial, without the GIL, each over a part of one array.

Every argument is a uint64. An array is named by its *slot*, the address of the place that holds its
data pointer (see `memory.slot`), so that one kernel serves every shape and nothing has to be
unpacked at a call. Kernels are made when first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numba import types

from .bits import U64
from .compiler import kernel
from .intrinsics import address_of, advance, pointer_in
from .loops import sizes, units_of
from .operations import Operation
from .span import span_loop

Kernel: TypeAlias = Callable[..., None]

_ONE = np.uint64(1)


@functools.cache
def flat(operation: Operation, way: str) -> Kernel:
    """Kernel over contiguous elements with consecutive mask indices.

    ``(x, y, start, stop, index, seed, stream, threshold, value)`` treats elements start to stop of
    the array, whose element 0 has the mask index `index`, in one of the ways of `span`.
    """
    span = span_loop(operation, way)
    in_size, out_size = sizes(operation)
    units = units_of(operation)

    def run(
        x_slot: Any,
        y_slot: Any,
        start: Any,
        stop: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value_slot: Any,
    ) -> None:
        x, value = advance(pointer_in(x_slot), start * in_size), pointer_in(value_slot)
        y = pointer_in(y_slot)
        y = advance(y, (units - _ONE) * address_of(y) + start * out_size)
        span(x, y, stop - start, index + start, seed, stream, threshold, value)

    return kernel(f"{operation.name}-{way}-flat", run, types.void(*[U64] * 9))
