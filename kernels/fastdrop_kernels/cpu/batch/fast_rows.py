"""The compiled fast path of functions on batches: it checks arrays, and calls a kernel of rows.

`fastdrop._batch.plans` makes a `FastRows` of a call that was made, for calls that differ from it in
the key, the first mask index and the arrays. Python takes 10 us or more for what one compiled
function does here in less than 1. A call that threads may share is only prepared by it, and made by
`FastRows.share`: 30 us less than all of it in Python (Zen 5, November 2026).
"""

from __future__ import annotations

import array
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...rows import TABLE_WORDS
from ...shielded import shielded
from ..codegen.compiler import address_of_kernel, device, kernel
from ..codegen.intrinsics import (
    address_of,
    advance,
    call_kernel_at,
    copy_bytes,
    pointer_at,
    pointer_in,
    scratch,
)
from ..codegen.ndarray_layout import DATA, FLAGS, LAYOUT_IS_KNOWN
from ..elements.sampler import U64, load32, load64, store64
from ..host import work_sharing
from ..host.fast_call import DONE, FITS, LOOK, UNFIT
from ..host.fold_in import folded
from ..host.kernel_call import OwnMemory, run_kernel
from ..loops.call_descriptor import ALL
from ..loops.loop_nest import Kernel
from .rows import FIRST_WORD, TABLE_WORD, RowsCall

Array = npt.NDArray[Any]

ARRAYS = 5  # that differ from call to call, at most
_MOST_ARRAYS, _MOST_WORDS = 8, 48  # of a kernel, and of a descriptor
_MOST_HELD = 1 << 17  # bytes of arrays that a plan keeps, such as the table of rows
# The keys of samples: there are none, they are given, or they are folded with given numbers.
NO_KEYS, KEYS, FOLDED = range(3)

_ZERO, _ONE, _TWO, _EIGHT, _SIXTEEN = (np.uint64(n) for n in (0, 1, 2, 8, 16))
_UNFIT, _DONE, _FITS, _LOOK, _ALL = (np.uint64(n) for n in (UNFIT, DONE, FITS, LOOK, ALL))
_DATA, _FLAGS, _FOLDS = np.uint64(DATA), np.uint64(FLAGS), np.uint64(1 << 62)
_READ, _WRITTEN = 0x101, 0x501  # NumPy's flags: C order, aligned, and writeable
_TABLE_BYTES = np.uint64(8 * TABLE_WORDS)
_FIRST, _TABLE = np.uint64(8 * FIRST_WORD), np.uint64(8 * TABLE_WORD)
# Byte offsets in a record: the kernel's address; address and bytes of the descriptor; numbers of
# the kernel's arrays and of those that differ; how samples have keys, how many samples there are,
# the rows of each, and the table of a call with keys; whether threads may share the call. Behind
# them of each array that differs its bytes and the flags it needs, and of each of the kernel's
# which of these it is, and its address.
_KERNEL, _DESCRIPTOR, _BYTES, _COUNT, _CHANGING, _KEYS, _SAMPLES, _PER_SAMPLE, _ROWS_TABLE = (
    np.uint64(8 * k) for k in range(9)
)
_IS_SHARED, _LIMITS = np.uint64(8 * 9), np.uint64(8 * 10)
_PLACES = np.uint64(8 * 10 + 16 * ARRAYS)
# What is prepared for a kernel: the addresses of its arrays, behind that of the first, and the
# descriptor.
_DESCRIPTOR_AT = 8 * (_MOST_ARRAYS + 1)
_SHARED_WORDS = _MOST_ARRAYS + 1 + _MOST_WORDS
_BEHIND_ARRAYS = np.uint64(_DESCRIPTOR_AT)
_KEYS_ARE_GIVEN, _KEYS_ARE_FOLDED, _NO_KEYS = (np.uint64(n) for n in (KEYS, FOLDED, NO_KEYS))

_starts_memory = scratch(8 * ARRAYS)
_prepared_memory = scratch(8 * _SHARED_WORDS)


class FastRows(NamedTuple):
    """A prepared call.

    ``run(record_at, first, seed, stream, own, keys, table, *arrays) -> status``: `first` is the
    mask index of the first element, or `LOOK`; the others are ids of NumPy's arrays, or 0, namely
    memory for the call, keys or numbers of samples, memory for the table, and `ARRAYS` that differ.
    The statuses are those of `fast_call`: after `FITS`, if `first` was not `LOOK`,
    ``share(own, seed, stream, alive)`` makes the call, while `alive` owns the memory of the arrays.
    """

    run: Callable[..., int]
    record_at: int
    share: Callable[..., None] | None
    # Length and dtype of memory for the call: of the thread's own, or what is prepared for `share`.
    own: tuple[int, np.dtype[Any]] | None
    table: tuple[int, ...] | None  # shape of the table of rows, of uint64
    alive: tuple[Any, ...]  # owns the memory at the addresses


def fast_rows(
    call: RowsCall, read: Sequence[Array], written: Sequence[Array], keys: int, samples: int
) -> FastRows | None:
    """Return what repeats a call with other arrays in the place of some; None if nothing does.

    Parameters
    ----------
    call : RowsCall
        A call that was made.
    read, written : sequence of ndarray
        Those of its arrays that differ from call to call. In other calls they have the same shape
        and dtype.
    keys : int
        `NO_KEYS`, `KEYS` or `FOLDED`: how samples have keys.
    samples : int
        How many have keys.
    """
    changing = [*read, *written]
    addresses = [address_of_array(a) for a in changing]
    fits = (
        LAYOUT_IS_KNOWN
        and len(changing) <= ARRAYS
        and len(call.addresses) <= _MOST_ARRAYS
        and len(call.descriptor) <= _MOST_WORDS
        and all(a.flags.c_contiguous and a.flags.aligned for a in changing)
        and len(set(addresses)) == len(addresses)
        and set(addresses) <= set(call.addresses.tolist())  # else a copy was read or written
        and (keys == NO_KEYS) == (call.table is None)
    )
    arrays, others = call.alive
    constant = [a for a in arrays if address_of_array(a) not in addresses]
    held = sum(map(_extent, constant)) + (0 if call.table is None else call.table.nbytes)
    if not fits or held > _MOST_HELD:
        return None
    bounds: list[int] = []
    for flags, arrays in ((_READ, read), (_WRITTEN, written)):
        for a in arrays:
            bounds += a.nbytes, flags
    bounds += [0] * (2 * ARRAYS - len(bounds))
    places: list[int] = []
    for at in call.addresses.tolist():
        places += addresses.index(at) if at in addresses else ARRAYS, at
    rows = 0 if call.table is None else len(call.table) // samples
    table_at = 0 if call.table is None else address_of_array(call.table)
    at, words = call.descriptor.buffer_info()
    is_shared = call.weight >= work_sharing.PARALLEL_FROM
    head = address_of_kernel(call.kernel), at, 8 * words, len(call.addresses), len(changing)
    more = keys, samples, rows, table_at, int(is_shared)
    record = array.array("Q", [*head, *more, *bounds, *places])
    share = None
    own = None if call.own is None else (call.own.length, call.own.dtype)
    if is_shared:
        share = functools.partial(_share, call.kernel, call.descriptor[0], call.weight, call.own)
        own = _SHARED_WORDS, np.dtype(np.uint64)
    alive = record, call.descriptor, call.table, constant, others
    shape = None if call.table is None else call.table.shape
    return FastRows(_fast_rows(), record.buffer_info()[0], share, own, shape, alive)


def _share(
    kernel: Kernel,
    rows: int,
    weight: int,
    memory: OwnMemory | None,
    own: Array,
    seed: int,
    stream: int,
    alive: Any,
) -> None:
    """Make a call that was prepared in `own`, on several threads if that pays."""
    at = address_of_array(own)
    chunk, threads = work_sharing.shares(rows, weight, 1)
    arguments = at, at + _DESCRIPTOR_AT, at, seed, stream
    run_kernel(kernel, arguments, chunk, threads, (own, alive), memory)


def address_of_array(a: Array) -> int:
    """Return where an array's first element is."""
    at: int = a.__array_interface__["data"][0]
    return at


def _extent(a: Array) -> int:
    """Return over how many bytes elements lie: few, if one value is broadcast to many."""
    steps = zip(a.shape, a.strides, strict=True)
    apart: int = sum((length - 1) * abs(step) for length, step in steps)
    return apart + a.itemsize


@device
def _start(record: Any, k: Any, array_id: Any, starts: Any) -> Any:
    """Note where the k-th array that differs begins; return whether it fits."""
    if k >= load64(record, _CHANGING):
        return True
    bounds = advance(record, _LIMITS + _SIXTEEN * k)
    nbytes, needed = load64(bounds, _ZERO), np.uint32(load64(bounds, _EIGHT))
    if load32(pointer_at(array_id), _FLAGS) & needed != needed:
        return False
    begin = address_of(pointer_in(array_id + _DATA))
    store64(starts, _EIGHT * k, begin)
    for j in range(_ZERO, k):
        other = load64(starts, _EIGHT * j)
        its_bytes = load64(record, _LIMITS + _SIXTEEN * j)
        if begin - other < its_bytes or other - begin < nbytes:
            return False
    return True


@device
def _write_table(record: Any, keys: Any, table: Any, seed: Any, stream: Any) -> Any:
    """Write the keys of rows to a table, and their indices; return whether numbers are in range."""
    given, samples = load64(record, _KEYS), load64(record, _SAMPLES)
    rows, indices = load64(record, _PER_SAMPLE), pointer_at(load64(record, _ROWS_TABLE))
    for s in range(_ZERO, samples):
        if given == _KEYS_ARE_GIVEN:
            first, second = load64(keys, _SIXTEEN * s), load64(keys, _SIXTEEN * s + _EIGHT)
        else:
            first, second = folded(seed, stream, load64(keys, _EIGHT * s))
        for r in range(s * rows, (s + _ONE) * rows):
            entry = advance(table, r * _TABLE_BYTES)
            store64(entry, _ZERO, first)
            store64(entry, _EIGHT, second)
            store64(entry, _SIXTEEN, load64(indices, r * _TABLE_BYTES + _SIXTEEN))


@device
def _are_in_range(record: Any, keys: Any) -> Any:
    """Return whether numbers of samples, if there are any, are below 2**62."""
    if load64(record, _KEYS) == _KEYS_ARE_FOLDED:
        for s in range(_ZERO, load64(record, _SAMPLES)):
            if load64(keys, _EIGHT * s) >= _FOLDS:
                return False
    return True


def prepare() -> None:
    """Compile what plans need, or load it from the cache."""
    if LAYOUT_IS_KNOWN:
        _fast_rows()


@functools.cache
@shielded
def _fast_rows() -> Any:
    """Return the kernel of `FastRows`, one for all plans."""
    three, four = np.uint64(3), np.uint64(4)

    def run(
        record_at: Any,
        first: Any,
        seed: Any,
        stream: Any,
        own_id: Any,
        keys_id: Any,
        table_id: Any,
        a: Any,
        b: Any,
        c: Any,
        d: Any,
        e: Any,
    ) -> Any:
        record, starts = pointer_at(record_at), _starts_memory()
        fits = _start(record, _ZERO, a, starts) and _start(record, _ONE, b, starts)
        fits = fits and _start(record, _TWO, c, starts) and _start(record, three, d, starts)
        if not (fits and _start(record, four, e, starts)):
            return _UNFIT
        has_keys = load64(record, _KEYS) != _NO_KEYS
        if has_keys and not _are_in_range(record, pointer_in(keys_id + _DATA)):
            return _UNFIT
        if first == _LOOK:
            return _FITS
        is_shared, arrays = load64(record, _IS_SHARED) != _ZERO, _prepared_memory()
        if is_shared:
            arrays = pointer_in(own_id + _DATA)
        store64(arrays, _ZERO, address_of(arrays) + _EIGHT)
        for k in range(_ZERO, load64(record, _COUNT)):
            which = load64(record, _PLACES + _SIXTEEN * k)
            begin = load64(record, _PLACES + _SIXTEEN * k + _EIGHT)
            if which < load64(record, _CHANGING):
                begin = load64(starts, _EIGHT * which)
            store64(arrays, _EIGHT * (k + _ONE), begin)
        descriptor = advance(arrays, _BEHIND_ARRAYS)
        copy_bytes(descriptor, pointer_at(load64(record, _DESCRIPTOR)), load64(record, _BYTES))
        store64(descriptor, _FIRST, first)
        if has_keys:
            table = pointer_in(table_id + _DATA)
            _write_table(record, pointer_in(keys_id + _DATA), table, seed, stream)
            store64(descriptor, _TABLE, address_of(table))
        if is_shared:
            return _FITS
        # Kernels without memory of their own read a pointer all the same.
        own_slot = own_id + _DATA if own_id else address_of(arrays)
        arguments = (address_of(arrays), address_of(descriptor), own_slot, seed, stream)
        call_kernel_at(load64(record, _KERNEL), (*arguments, _ZERO, _ALL))
        return _DONE

    return kernel("fast-rows", run, U64(*[U64] * 12))
