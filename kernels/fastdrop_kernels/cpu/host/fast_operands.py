"""The compiled fast path of operations that read further arrays, all of known layouts.

`driver` makes such calls; they do for several inputs what `fast_call` does for one. The kernels are
those of `call_plan.of_operands`, which read the addresses of all arrays from memory.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...shielded import shielded
from ..codegen.compiler import address_of_kernel, device, kernel
from ..codegen.intrinsics import (
    address_of,
    advance,
    call_kernel_at,
    pointer_at,
    pointer_in,
    scratch,
)
from ..codegen.ndarray_layout import DATA, FLAGS
from ..elements.sampler import U64, load32, load64, store64
from ..loops.call_descriptor import ALL, Descriptor
from ..loops.loop_nest import Kernel
from .fast_call import DONE, FITS, LOOK, UNFIT

INPUTS = 3  # at most

_DATA, _FLAGS, _WRITEABLE = np.uint64(DATA), np.uint64(FLAGS), np.uint32(0x400)
_UNFIT, _DONE, _FITS, _LOOK, _ALL = (np.uint64(n) for n in (UNFIT, DONE, FITS, LOOK, ALL))
_ZERO, _ONE, _TWO, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 8))
# Byte offsets in a record: the addresses of the descriptor and of the kernel (0 if there is none),
# and the number of inputs. Behind them of each input the distances of `layout.disjoint_distances`
# to y, and whether y may be at its address.
_DESCRIPTOR, _KERNEL, _COUNT, _LIMITS = (np.uint64(8 * k) for k in range(4))
_BEFORE, _IN_PLACE, _LIMIT_BYTES = np.uint64(8), np.uint64(16), np.uint64(24)
# What the kernel reads: the address of the rest, the addresses of the inputs and of y, the index.
_memory = scratch(8 * (INPUTS + 3))


class OperandsCall(NamedTuple):
    """A prepared call: ``run(record_at, index, seed, stream, id(y), *ids of inputs) -> status``.

    There are `INPUTS` ids; of inputs that are missing they are 0. The statuses are those of
    `fast_call`: if y is read-only, or overlaps an input other than element on element, nothing is
    written, and `UNFIT` is returned.
    """

    run: Callable[..., int]
    record_at: int
    # ``(inputs, y, index, seed, stream)``: makes the call if `run` returns `FITS`.
    large: Callable[[Sequence[Any], Any, int, int, int], None]
    alive: tuple[Any, ...]  # owns the memory at the addresses


class Limits(NamedTuple):
    """Where y may lie beside an input: at these distances, or at its very address."""

    after: int
    before: int
    in_place: bool


def for_operands(
    kernel: Kernel | None,
    descriptor: Descriptor,
    limits: Sequence[Limits],
    large: Callable[[Sequence[Any], Any, int, int, int], None],
) -> OperandsCall:
    """Return the fast call; without a kernel, `large` makes all calls."""
    at = 0 if kernel is None else address_of_kernel(kernel)
    words = array.array("Q", (descriptor.at, at, len(limits)))
    for after, before, in_place in limits:
        words.extend((after % 2**64, before % 2**64, int(in_place)))
    alive = words, descriptor
    return OperandsCall(fast_operands(), words.buffer_info()[0], large, alive)


@device
def _place(record: Any, k: Any, array_id: Any, y: Any, addresses: Any) -> Any:
    """Note where the k-th input begins; return whether y may be written beside it."""
    if k >= load64(record, _COUNT):
        return True
    begin, limit = address_of(pointer_in(array_id + _DATA)), advance(record, _LIMITS)
    limit = advance(limit, k * _LIMIT_BYTES)
    store64(addresses, _EIGHT * k, begin)
    # Distances are modulo 2**64: a y before the input has a large one.
    distance, behind = y - begin, load64(limit, _ZERO)
    if distance - behind <= load64(limit, _BEFORE) - behind:
        return True
    return distance == _ZERO and load64(limit, _IN_PLACE) != _ZERO


@functools.cache
@shielded
def fast_operands() -> Any:
    """Return the kernel of `OperandsCall`, one for all plans."""

    def run(
        record_at: Any, index: Any, seed: Any, stream: Any, y_id: Any, a: Any, b: Any, c: Any
    ) -> Any:
        record, memory = pointer_at(record_at), _memory()
        if not load32(pointer_at(y_id), _FLAGS) & _WRITEABLE:
            return _UNFIT
        y, addresses = address_of(pointer_in(y_id + _DATA)), advance(memory, _EIGHT)
        fits = _place(record, _ZERO, a, y, addresses) and _place(record, _ONE, b, y, addresses)
        if not (fits and _place(record, _TWO, c, y, addresses)):
            return _UNFIT
        callee, count = load64(record, _KERNEL), load64(record, _COUNT)
        if callee == _ZERO or index == _LOOK:
            return _FITS
        store64(memory, _ZERO, address_of(addresses))
        store64(addresses, _EIGHT * count, y)
        store64(addresses, _EIGHT * count + _EIGHT, index)
        slot, descriptor = address_of(memory), load64(record, _DESCRIPTOR)
        call_kernel_at(callee, (slot, slot, descriptor, _ZERO, seed, stream, _ZERO, _ALL))
        return _DONE

    return kernel("fast-operands", run, U64(*[U64] * 8))
