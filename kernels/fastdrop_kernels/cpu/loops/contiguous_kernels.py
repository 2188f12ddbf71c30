"""Kernels over arrays that are contiguous in memory and in the mask.

The host's driver calls them, without the GIL. All kernels over one array are called alike:
``(x, y, descriptor, index, seed, stream, counter, chunk)``, all uint64. x, y and the counter are
*slots*, addresses of places that hold a data pointer (see `ndarray_layout.slot`), so that one
kernel serves every shape and nothing has to be unpacked at a call. `index` is the mask index of the
first element; the rest is as `call_descriptor` says. Kernels are made when first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numba import types

from ...shielded import shielded
from ..codegen.compiler import kernel
from ..codegen.fp_environment import round_as_before, round_by_default
from ..codegen.intrinsics import address_of, advance, pointer_at, pointer_in
from ..elements.operations import Operation
from ..elements.sampler import GROUP, U64
from .apply import sizes, units_of
from .call_descriptor import (
    call_state,
    counter_in,
    counter_scratch,
    length_in,
    set_key,
    set_law,
    take_chunk,
    threshold_in,
    value_in,
)
from .contiguous import span_loop

Kernel: TypeAlias = Callable[..., None]

KERNEL = types.void(*[U64] * 8)  # the signature of all kernels over one array

_ONE, _GROUP = np.uint64(1), np.uint64(GROUP)


@functools.cache
@shielded
def flat(operation: Operation, way: str) -> Kernel:
    """Kernel over contiguous elements with consecutive mask indices, in one of the ways of `span`.

    A chunk is a whole number of groups, and cuts lie between groups, so that no bits are drawn
    twice.
    """
    span = span_loop(operation, way)
    in_size, out_size = sizes(operation)
    units = units_of(operation)

    def run(
        x_slot: Any,
        y_slot: Any,
        descriptor_at: Any,
        index: Any,
        seed: Any,
        stream: Any,
        counter_slot: Any,
        chunk: Any,
    ) -> None:
        rounding = round_by_default()
        x, y, descriptor = pointer_in(x_slot), pointer_in(y_slot), pointer_at(descriptor_at)
        counter, call = counter_in(counter_slot, counter_scratch()), call_state()
        n = length_in(descriptor)
        set_key(call, seed, stream)
        set_law(call, threshold_in(descriptor), value_in(descriptor))
        y = advance(y, (units - _ONE) * address_of(y))
        skew = index % _GROUP
        position = take_chunk(counter, chunk)
        while position < n + skew:
            start = position - min(position, skew)
            m = min(position + chunk - skew, n) - start
            span(advance(x, start * in_size), advance(y, start * out_size), m, index + start, call)
            position = take_chunk(counter, chunk)
        round_as_before(rounding)

    return kernel(f"{operation.name}-{way}-flat", run, KERNEL)
