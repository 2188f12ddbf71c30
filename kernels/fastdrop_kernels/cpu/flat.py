"""The compiled kernels: without the GIL, each over one array, alone or beside others.

Every argument is a uint64. An array is named by its *slot*, the address of the place that holds its
data pointer (see `memory.slot`), so that one kernel serves every shape and nothing has to be
unpacked at a call. Kernels are made when first asked for.

Threads share an array by calling the same kernel with the same `cursor`, the slot of an array of
one uint64 that is 0 at first: each takes part after part from it, until none is left. So threads
come to Python, and wait for the GIL, once a call and not once a part: 16 parts of 64 Ki on two
threads took 312 us, 4 parts 274.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numba import types

from .bits import GROUP, U64
from .compiler import kernel
from .intrinsics import address_of, advance, pointer_in, take
from .loops import sizes, units_of
from .operations import Operation
from .span import span_loop

Kernel: TypeAlias = Callable[..., None]

_ONE, _GROUP = np.uint64(1), np.uint64(GROUP)

ALL = 1 << 62  # a part that no array is larger than


@functools.cache
def flat(operation: Operation, way: str) -> Kernel:
    """Kernel over contiguous elements with consecutive mask indices.

    ``(x, y, cursor, part, n, index, seed, stream, threshold, value)`` treats n elements, the first
    of which has the mask index `index`, in one of the ways of `span`. `part` is a whole number of
    groups, and cuts lie between groups, so that no bits are drawn twice.
    """
    span = span_loop(operation, way)
    in_size, out_size = sizes(operation)
    units = units_of(operation)

    def run(
        x_slot: Any,
        y_slot: Any,
        cursor_slot: Any,
        part: Any,
        n: Any,
        index: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value_slot: Any,
    ) -> None:
        x, y = pointer_in(x_slot), pointer_in(y_slot)
        cursor, value = pointer_in(cursor_slot), pointer_in(value_slot)
        y = advance(y, (units - _ONE) * address_of(y))
        skew = index % _GROUP
        position = take(cursor, part)
        while position < n + skew:
            start = position - min(position, skew)
            m = min(position + part - skew, n) - start
            source, target = advance(x, start * in_size), advance(y, start * out_size)
            span(source, target, m, index + start, seed, stream, threshold, value)
            position = take(cursor, part)

    return kernel(f"{operation.name}-{way}-flat", run, types.void(*[U64] * 10))
