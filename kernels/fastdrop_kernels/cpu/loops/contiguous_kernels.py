"""The compiled kernels: without the GIL, each over one array, alone or beside others.

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

from ...shielded import made_apart
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, advance, pointer_at, pointer_in
from ..elements.operations import Operation
from ..elements.sampler import GROUP, U64
from .apply import sizes, units_of
from .call_descriptor import (
    cursor_in,
    cursor_scratch,
    index_in,
    length_in,
    take_part,
    threshold_in,
    value_in,
)
from .contiguous import span_loop

Kernel: TypeAlias = Callable[..., None]

_ONE, _GROUP = np.uint64(1), np.uint64(GROUP)


@functools.cache
@made_apart
def flat(operation: Operation, way: str) -> Kernel:
    """Kernel over contiguous elements with consecutive mask indices.

    ``(x, y, cursor, part, record, seed, stream)`` treats the elements of a record (see `shares`) in
    one of the ways of `span`. `part` is a whole number of groups, and cuts lie between groups, so
    that no bits are drawn twice.
    """
    span = span_loop(operation, way)
    in_size, out_size = sizes(operation)
    units = units_of(operation)

    def run(
        x_slot: Any,
        y_slot: Any,
        cursor_slot: Any,
        part: Any,
        told_at: Any,
        seed: Any,
        stream: Any,
    ) -> None:
        rounding = round_by_default()
        x, y, told = pointer_in(x_slot), pointer_in(y_slot), pointer_at(told_at)
        cursor = cursor_in(cursor_slot, cursor_scratch())
        n, index = length_in(told), index_in(told)
        threshold, value = threshold_in(told), value_in(told)
        y = advance(y, (units - _ONE) * address_of(y))
        skew = index % _GROUP
        position = take_part(cursor, part)
        while position < n + skew:
            start = position - min(position, skew)
            m = min(position + part - skew, n) - start
            source, target = advance(x, start * in_size), advance(y, start * out_size)
            span(source, target, m, index + start, seed, stream, threshold, value)
            position = take_part(cursor, part)
        round_as_before(rounding)

    return kernel(f"{operation.name}-{way}-flat", run, types.void(*[U64] * 7))
