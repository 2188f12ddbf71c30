"""Prepared calls: small arrays of one layout again and again, each call one step of compiled code.

Python takes longer to ask two arrays where they lie, and to say so to a kernel, than a thousand
elements take. Here all that a call needs beside arrays and key waits in a record, and what may
differ between arrays of one layout is looked at where NumPy keeps it. As in `express`, it is read
without the GIL.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils

from ...shielded import made_apart
from ..codegen.compiler import address_of_kernel, kernel
from ..codegen.intrinsics import address_of, intrinsic, pointer_at, pointer_in
from ..codegen.ndarray_layout import DATA, FLAGS
from ..elements.sampler import U64, load32, load64, store8
from ..loops.call_descriptor import ALL, Descriptor
from ..loops.loop_nest import Kernel

_DATA, _FLAGS = np.uint64(DATA), np.uint64(FLAGS)
_WRITEABLE = np.uint32(0x400)  # NumPy's flag
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_ALL = np.uint64(ALL)
# Where in a record the words lie: kernel, what it is told, from where to where y lies behind x
# without touching it, whether it may lie where x does, and how many bytes of it are set to 0 first.
_KERNEL, _TOLD, _BEHIND, _BEFORE, _IN_PLACE, _CLEARED = (np.uint64(8 * k) for k in range(6))


class Prepared(NamedTuple):
    """A call that is ready: ``run(x, y, record_at, index, seed, stream, go) -> fits``.

    x and y are the id() of two arrays of the layouts that it was prepared for (of one, where no x
    is read), and `index` is the mask index of the first element. Nothing is written, and 0
    returned, if y is read-only, or where its bounds meet those of x in another way than each
    element with its own; and nothing is written if `go` is 0.
    """

    run: Callable[..., int]
    record_at: int
    # ``(x, y, index, seed, stream)``, where threads may share the work: to be called if `run`
    # without `go` says that the arrays fit.
    several: Callable[[Any, Any, int, int, int], None] | None
    alive: tuple[Any, ...]  # what lies at the addresses


def prepared(
    kernel: Kernel | None,
    told: Descriptor,
    distances: tuple[int, int],
    in_place: bool,
    cleared: int,
    several: Callable[[Any, Any, int, int, int], None] | None,
) -> Prepared:
    """Make a call ready, of a kernel of `flat` or `box`; it is not called if there is `several`.

    `distances` are those of `plan.apart_from`, and `cleared` says how many bytes to set to 0.
    """
    at = 0 if several or kernel is None else address_of_kernel(kernel)
    behind, before = (distance % 2**64 for distance in distances)
    words = array.array("Q", (at, told.at, behind, before, in_place, cleared))
    return Prepared(starter(), words.buffer_info()[0], several, (words, told))


@intrinsic
def _call(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the kernel at an address with a tuple of numbers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = signature.args[1].types
        pointer = context.call_conv.get_function_type(types.void, numbers).as_pointer()
        callee = builder.inttoptr(args[0], pointer)
        given = cgutils.unpack_tuple(builder, args[1])
        context.call_conv.call_function(builder, callee, types.void, numbers, given)
        return context.get_dummy_value()

    return types.void(types.uint64, arguments), codegen


@functools.cache
@made_apart
def starter() -> Any:
    """Kernel of `Prepared`: one for all calls."""

    def run(
        x_id: Any, y_id: Any, record_at: Any, index: Any, seed: Any, stream: Any, go: Any
    ) -> Any:
        x_slot, y_slot, record = x_id + _DATA, y_id + _DATA, pointer_at(record_at)
        y = address_of(pointer_in(y_slot))
        distance = y - address_of(pointer_in(x_slot))
        # Modulo 2**64: in front of x is far behind it.
        behind = load64(record, _BEHIND)
        apart = distance - behind <= load64(record, _BEFORE) - behind
        if not apart and (distance or not load64(record, _IN_PLACE)):
            return _ZERO
        if not load32(pointer_at(y_id), _FLAGS) & _WRITEABLE:
            return _ZERO
        if not go:
            return _ONE
        for k in range(load64(record, _CLEARED)):
            store8(pointer_at(y), k, types.uint8(_ZERO))
        # Alone, and so with no counter, and all in one chunk.
        given = (x_slot, y_slot, load64(record, _TOLD), index, seed, stream, _ZERO, _ALL)
        _call(load64(record, _KERNEL), given)
        return _ONE

    return kernel("start", run, U64(*[U64] * 7))
