"""The compiled fast path: one compiled function checks the arrays and calls a plan's kernel.

Python takes longer to read dtype, shape, flags and addresses of two arrays, and to pass them on,
than a kernel takes to draw the mask of a thousand elements. So `driver` stores all that a call
needs besides arrays and key in a *record*, and compiled code reads the rest from NumPy's array
objects. The public package makes these calls for every element-wise function. They run without the
GIL, as NumPy's loops do, so no thread may change an array's shape during a call.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ...shielded import shielded
from ..codegen.compiler import address_of_kernel, device, kernel, routine
from ..codegen.intrinsics import (
    address_of,
    call_kernel_at,
    pointer_at,
    pointer_in,
    scratch,
    wide_vectors,
)
from ..codegen.ndarray_layout import AXES, DATA, DTYPE, DTYPE_WORD, FLAGS, LENGTHS
from ..elements.sampler import POINTER, U64, load32, load64, store8, store64
from ..loops.call_descriptor import (
    ALL,
    Descriptor,
    copy_with_length,
    copy_with_p,
    descriptor_scratch,
)
from ..loops.contiguous import CACHED_BYTES
from ..loops.loop_nest import Kernel
from .kernel_call import chunk_on_team, run_region, set_words, words_scratch

LOOK = 1 << 63  # passed as the mask index: only check whether the arrays fit
# Results. UNFIT: arrays or index do not fit; nothing was done, and no key may be taken from rng.
# DONE: the call was made. FITS: they fit, and `FastCall.large` has to make the call.
UNFIT, DONE, FITS = 0, 1, 2

_DATA, _AXES, _LENGTHS = np.uint64(DATA), np.uint64(AXES), np.uint64(LENGTHS)
_DTYPE, _FLAGS, _DTYPE_WORD = np.uint64(DTYPE), np.uint64(FLAGS), np.uint64(DTYPE_WORD)
_C_CONTIGUOUS, _WRITEABLE = np.uint32(0x1), np.uint32(0x400)  # NumPy's flags
_ZERO, _ONE, _FOUR, _EIGHT, _LOOK = (np.uint64(n) for n in (0, 1, 4, 8, LOOK))
_UNFIT, _DONE, _FITS = (np.uint64(n) for n in (UNFIT, DONE, FITS))
_ALL, _CACHED_BYTES, _INDEX_BITS = np.uint64(ALL), np.uint64(CACHED_BYTES), np.uint64(62)

# Byte offsets in a record: the dtype's word (0 in a record for one layout), and the addresses of
# the descriptor and of the kernel (0 if there is none yet).
_WORD, _DESCRIPTOR, _KERNEL = (np.uint64(8 * k) for k in range(3))
# In a record for contiguous arrays of any shape: the kernel for outputs above `CACHED_BYTES`, bytes
# of an element, the number of elements from which on `large` makes the call, and the weight of an
# element (see `work_sharing`).
_PREFETCH_KERNEL, _ITEMSIZE, _LARGE_FROM, _WEIGHT = (np.uint64(8 * k) for k in range(3, 7))
# In a record for one layout: the distances of `layout.disjoint_distances` from x to y, whether y
# may be at the address of x, and how many bytes of y are set to 0 first.
_DISJOINT_AFTER, _DISJOINT_BEFORE, _IN_PLACE, _CLEARED = (np.uint64(8 * k) for k in range(3, 7))
# In a record for per-element p also: the same distances from p to y, the number of elements of p,
# and the bytes of one.
_P_DISJOINT_AFTER, _P_DISJOINT_BEFORE, _P_COUNT, _P_BYTES = (np.uint64(8 * k) for k in range(7, 11))
_ONE_IN_FLOAT, _ONE_IN_DOUBLE = np.uint32(0x3F80 << 16), np.uint64(0x3FF0 << 48)  # bits of 1.0


class FastCall(NamedTuple):
    """A prepared call: ``run(id(x), id(y), record_at, index, seed, stream) -> status``.

    If no x is read, y is passed for it. If y is read-only, or overlaps x other than element on
    element, nothing is written, and `UNFIT` is returned.
    """

    run: Callable[..., int]
    record_at: int
    # ``(x, y, index, seed, stream)``: makes the call if `run` returns `FITS`.
    large: Callable[[Any, Any, int, int, int], None]
    alive: tuple[Any, ...]  # owns the memory at the addresses


class PerElementCall(NamedTuple):
    """The same as `FastCall`, with per-element p; ``run`` takes ``id(p)`` after ``id(y)``.

    `UNFIT` is also returned if y overlaps p, or if p has a number that is not in [0, 1] or is -0.0.
    """

    run: Callable[..., int]
    record_at: int
    large: Callable[[Any, Any, Any, int, int, int], None]  # p follows y
    alive: tuple[Any, ...]


def for_contiguous(
    dtype_word: int,
    itemsize: int,
    descriptor: Descriptor,
    large_from: int,
    large: Callable[..., Any],
) -> FastCall:
    """Return the fast call for contiguous arrays of a dtype and any shape.

    ``large(x, y, index, seed, stream)`` makes calls of `large_from` elements and more, and the
    first ones up to and above `CACHED_BYTES`. It returns the kernel that it used, and which of the
    two it was (True: above).
    """
    words = contiguous_record(dtype_word, itemsize, descriptor, large_from)

    def by_driver(x: Any, y: Any, index: int, seed: int, stream: int) -> None:
        used, far = large(x, y, index, seed, stream)
        if used is not None:
            set_kernel(words, used, far)

    return FastCall(fast_call(), words.buffer_info()[0], by_driver, (words, descriptor))


def contiguous_record(
    dtype_word: int, itemsize: int, descriptor: Descriptor, large_from: int, weight: int = 1
) -> array.array[int]:
    """Return the record of calls on contiguous arrays; without a kernel, no call is made by it.

    Calls by addresses do not read the word of the dtype, which may be any.
    """
    return array.array("Q", (dtype_word, descriptor.at, 0, 0, itemsize, large_from, weight))


def set_kernel(record: array.array[int], kernel: Kernel, far: bool) -> None:
    """Write to a record the kernel of outputs up to `CACHED_BYTES`, or if `far`, of larger ones."""
    record[3 if far else 2] = address_of_kernel(kernel)


def for_layout(
    kernel: Callable[..., None] | None,
    descriptor: Descriptor,
    distances: tuple[int, int],
    in_place: bool,
    cleared: int,
    large: Callable[[Any, Any, int, int, int], None],
) -> FastCall:
    """Return the fast call for arrays of one layout; without a kernel, `large` makes all calls.

    `distances` are those of `layout.disjoint_distances`; `cleared` bytes of y are set to 0 first.
    """
    at = 0 if kernel is None else address_of_kernel(kernel)
    behind, before = (distance % 2**64 for distance in distances)
    words = array.array("Q", (0, descriptor.at, at, behind, before, in_place, cleared))
    return FastCall(fast_call(), words.buffer_info()[0], large, (words, descriptor))


def for_per_element(
    kernel: Callable[..., None] | None,
    descriptor: Descriptor,
    distances: tuple[int, int],
    in_place: bool,
    p_distances: tuple[int, int],
    p_layout: tuple[int, int],
    large: Callable[[Any, Any, Any, int, int, int], None],
) -> PerElementCall:
    """Return the fast call for arrays and contiguous p of one layout; see `for_layout`.

    `p_distances` are from p to y; `p_layout` is the number of elements of p, and the bytes of one.
    """
    at = 0 if kernel is None else address_of_kernel(kernel)
    bounds, p_bounds = ([d % 2**64 for d in pair] for pair in (distances, p_distances))
    words = array.array("Q", (0, descriptor.at, at, *bounds, in_place, 0, *p_bounds, *p_layout))
    alive = words, descriptor
    return PerElementCall(per_element_fast_call(), words.buffer_info()[0], large, alive)


@device
def _dtype_word(x: Any) -> Any:
    return load64(pointer_at(load64(x, _DTYPE)), _DTYPE_WORD)


@device
def _elements(x: Any, y: Any, word: Any) -> Any:
    """Return the size of two contiguous arrays of a dtype and one shape, or 0 if they are not."""
    axes = load32(x, _AXES)
    if not load32(x, _FLAGS) & load32(y, _FLAGS) & _C_CONTIGUOUS:
        return _ZERO
    if load32(y, _AXES) != axes or _dtype_word(x) != word or _dtype_word(y) != word:
        return _ZERO
    n = _ONE
    mine, its = pointer_in(address_of(x) + _LENGTHS), pointer_in(address_of(y) + _LENGTHS)
    for axis in range(U64(axes)):
        length = load64(mine, _EIGHT * axis)
        if load64(its, _EIGHT * axis) != length:
            return _ZERO
        n *= length
    return n


@device
def _is_apart(distance: Any, record: Any) -> Any:
    """Return whether y, `distance` bytes after x, is disjoint from x, or may be in place of it."""
    # Distances are modulo 2**64: a y before x has a large one.
    behind = load64(record, _DISJOINT_AFTER)
    apart = distance - behind <= load64(record, _DISJOINT_BEFORE) - behind
    return apart or (distance == _ZERO and load64(record, _IN_PLACE) != _ZERO)


@device
def _kernel_of(record: Any, x_slot: Any, y_slot: Any, n: Any, index: Any) -> Any:
    """Return the address of the kernel for n contiguous elements, or else `UNFIT` or `FITS`."""
    distance = address_of(pointer_in(y_slot)) - address_of(pointer_in(x_slot))
    nbytes = n * load64(record, _ITEMSIZE)
    if n == _ZERO or (index >> _INDEX_BITS and index != _LOOK):
        return _UNFIT
    if distance and (distance < nbytes or _ZERO - distance < nbytes):
        return _UNFIT
    far = nbytes > _CACHED_BYTES
    callee = load64(record, _PREFETCH_KERNEL if far else _KERNEL)
    if callee == _ZERO or n >= load64(record, _LARGE_FROM) or index == _LOOK:
        return _FITS
    return callee


@device
def _run_contiguous(
    record: Any, x_slot: Any, y_slot: Any, n: Any, index: Any, seed: Any, stream: Any
) -> Any:
    """Make a call of n contiguous elements, if it fits a record for those; return the status."""
    callee = _kernel_of(record, x_slot, y_slot, n, index)
    if callee <= _FITS:
        return callee
    own = descriptor_scratch()
    copy_with_length(pointer_at(load64(record, _DESCRIPTOR)), own, n)
    # On one thread, so without a counter, and in one chunk.
    call_kernel_at(callee, (x_slot, y_slot, address_of(own), index, seed, stream, _ZERO, _ALL))
    return _DONE


@functools.cache
@shielded
def fast_call() -> Any:
    """Return the kernel of `FastCall`, one for all plans."""

    def run(x_id: Any, y_id: Any, record_at: Any, index: Any, seed: Any, stream: Any) -> Any:
        x, y, record = pointer_at(x_id), pointer_at(y_id), pointer_at(record_at)
        x_slot, y_slot, word = x_id + _DATA, y_id + _DATA, load64(record, _WORD)
        if not load32(y, _FLAGS) & _WRITEABLE:
            return _UNFIT
        if word:
            n = _elements(x, y, word)
            return _run_contiguous(record, x_slot, y_slot, n, index, seed, stream)
        target = address_of(pointer_in(y_slot))
        if not _is_apart(target - address_of(pointer_in(x_slot)), record):
            return _UNFIT
        callee = load64(record, _KERNEL)
        if callee == _ZERO or index == _LOOK:
            return _FITS
        for k in range(load64(record, _CLEARED)):
            store8(pointer_at(target), k, types.uint8(_ZERO))
        descriptor = load64(record, _DESCRIPTOR)
        call_kernel_at(callee, (x_slot, y_slot, descriptor, index, seed, stream, _ZERO, _ALL))
        return _DONE

    return kernel("fast-call", run, U64(*[U64] * 6))


_slots_scratch = scratch(16)


@functools.cache
@shielded
def fast_call_by_addresses() -> Any:
    """Return the kernel ``(x_at, y_at, record_at, n, index, seed, stream) -> status``.

    It does the same as that of `FastCall`, with a record for contiguous arrays, for n elements that
    are contiguous at two addresses.
    """

    def run(
        x_at: Any, y_at: Any, record_at: Any, n: Any, index: Any, seed: Any, stream: Any
    ) -> Any:
        slots = _slots_scratch()
        store64(slots, _ZERO, x_at)
        store64(slots, _EIGHT, y_at)
        x_slot = address_of(slots)
        return _run_contiguous(
            pointer_at(record_at), x_slot, x_slot + _EIGHT, n, index, seed, stream
        )

    return kernel("fast-call-by-addresses", run, U64(*[U64] * 7))


@functools.cache
@shielded
def fast_call_on_team() -> Any:
    """Return the kernel ``(x_at, y_at, record_at, n, index, seed, stream, region_at) -> status``.

    It does the same as that of `fast_call_by_addresses`, in one parallel region on all threads of a
    team; `region_at` is the address of the region's words, see `kernel_call`. A `KernelCall`, made
    in Python, takes 2.5 us more, of 8 for 64 Ki float32 (Zen 5, two threads, November 2026).
    """

    def run(
        x_at: Any,
        y_at: Any,
        record_at: Any,
        n: Any,
        index: Any,
        seed: Any,
        stream: Any,
        region_at: Any,
    ) -> Any:
        slots, record, region = _slots_scratch(), pointer_at(record_at), pointer_at(region_at)
        store64(slots, _ZERO, x_at)
        store64(slots, _EIGHT, y_at)
        x_slot = address_of(slots)
        callee = _kernel_of(record, x_slot, x_slot + _EIGHT, n, index)
        if callee <= _FITS:
            return callee
        own, words = descriptor_scratch(), words_scratch()
        copy_with_length(pointer_at(load64(record, _DESCRIPTOR)), own, n)
        chunk = chunk_on_team(region, n, n * load64(record, _WEIGHT))
        y_slot, at = x_slot + _EIGHT, address_of(own)
        if chunk >= n:
            call_kernel_at(callee, (x_slot, y_slot, at, index, seed, stream, _ZERO, _ALL))
        else:
            set_words(words, callee, (x_slot, y_slot, at, index, seed, stream), chunk)
            run_region(region, words)
        return _DONE

    return kernel("fast-call-on-team", run, U64(*[U64] * 8))


@functools.cache
def _above_one() -> Any:
    """Return routine ``(p, n, bytes)``: whether any of n numbers is not in [0, 1], or is -0.0.

    A million float32 numbers take 37 us in the caches (Zen 5, November 2026).
    """

    def above_one(p: Any, n: Any, nbytes: Any) -> Any:
        wide_vectors()
        # The bits of a number in [+0.0, 1.0], as an integer, are at most those of 1.0.
        if nbytes == _FOUR:
            most = types.uint32(0)
            for t in range(n):
                most = max(most, load32(p, _FOUR * t))
            return U64(most > _ONE_IN_FLOAT)
        largest = _ZERO
        for t in range(n):
            largest = max(largest, load64(p, _EIGHT * t))
        return U64(largest > _ONE_IN_DOUBLE)

    return routine("above-one", above_one, U64(POINTER, U64, U64))


@functools.cache
@shielded
def per_element_fast_call() -> Any:
    """Return the kernel of `PerElementCall`, one for all plans."""
    above_one = _above_one()

    def run(
        x_id: Any, y_id: Any, p_id: Any, record_at: Any, index: Any, seed: Any, stream: Any
    ) -> Any:
        record, x_slot, y_slot = pointer_at(record_at), x_id + _DATA, y_id + _DATA
        p, target = pointer_in(p_id + _DATA), address_of(pointer_in(y_slot))
        if not load32(pointer_at(y_id), _FLAGS) & _WRITEABLE:
            return _UNFIT
        if not _is_apart(target - address_of(pointer_in(x_slot)), record):
            return _UNFIT
        distance, behind = target - address_of(p), load64(record, _P_DISJOINT_AFTER)
        if distance - behind > load64(record, _P_DISJOINT_BEFORE) - behind:
            return _UNFIT
        if above_one(p, load64(record, _P_COUNT), load64(record, _P_BYTES)):
            return _UNFIT
        callee = load64(record, _KERNEL)
        if callee == _ZERO or index == _LOOK:
            return _FITS
        own = descriptor_scratch()
        copy_with_p(pointer_at(load64(record, _DESCRIPTOR)), own, address_of(p))
        at = address_of(own)
        call_kernel_at(callee, (x_slot, y_slot, at, index, seed, stream, _ZERO, _ALL))
        return _DONE

    return kernel("fast-call-per-element", run, U64(*[U64] * 7))
