"""Kernels over rows, each with a key and a first mask index: the base of the functions on batches.

The files beside it make kernels by `row_kernel` of a routine for one row, and run them by
`run_rows`, which shares rows among threads. It calls `host.kernel_call` and `host.work_sharing`.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types

from ...rows import TABLE_WORDS, Rows
from ..codegen.compiler import device, kernel, routine
from ..codegen.fp_environment import restore_fp_env, set_default_fp_env
from ..codegen.intrinsics import advance, pointer_at, pointer_in
from ..codegen.ndarray_layout import slot
from ..elements.sampler import POINTER, U64, load64
from ..host import work_sharing
from ..host.kernel_call import OwnMemory, run_kernel
from ..loops.call_descriptor import counter_in, counter_scratch, take_chunk
from ..loops.loop_nest import Kernel

Array: TypeAlias = npt.NDArray[Any]

# Byte offsets in the descriptor of rows: number of rows, elements of a row and of the last, first
# mask index, index step, address of the table or 0, whether it has keys. The words of a function
# follow.
_COUNT, _LENGTH, _LAST, _FIRST, _STEP, _TABLE, _HAS_KEYS, _WORDS = (
    np.uint64(8 * k) for k in range(8)
)
FIRST_WORD, TABLE_WORD = 3, 5  # the numbers of those that differ from call to call
_ZERO, _ONE, _EIGHT, _SIXTEEN = (np.uint64(n) for n in (0, 1, 8, 16))
_TABLE_BYTES = np.uint64(8 * TABLE_WORDS)

# The signature of a routine for one row: (arrays, words, own, row, length, seed, stream, index).
# `arrays` are the addresses of the arrays, see `array_at`; `words` the numbers that `run_rows` was
# given; `own` is memory of the thread; `row` the row's number; `index` the mask index of its first
# element.
ROW = types.void(POINTER, POINTER, POINTER, *[U64] * 5)


class RowsCall(NamedTuple):
    """A call that was made, from which `fast_rows` makes a plan."""

    kernel: Kernel
    descriptor: array.array[int]
    addresses: npt.NDArray[np.uint64]  # of its arrays
    table: Array | None
    own: OwnMemory | None
    weight: int  # in elements of dropout, see `work_sharing`
    alive: tuple[Sequence[Array], Any]  # the arrays, and what else the descriptor refers to


@device
def array_at(arrays: Any, k: Any) -> Any:
    """Return the pointer to the first element of the k-th array; k is a uint64."""
    return pointer_at(load64(arrays, _EIGHT * k))


@device
def word_at(words: Any, k: Any) -> Any:
    """Return the k-th word, a uint64; k is a uint64."""
    return load64(words, _EIGHT * k)


def row_kernel(name: str, body: Callable[..., None]) -> Kernel:
    """Make a kernel of what a row needs: ``(arrays, words, own, row, length, seed, ...)``; see ROW.

    `body` is compiled as a routine of its own, so it may call `wide_vectors`.
    """
    work = routine(f"{name}-row", body, ROW)

    def run(
        arrays_slot: Any,
        descriptor_at: Any,
        own_slot: Any,
        seed: Any,
        stream: Any,
        counter_slot: Any,
        chunk: Any,
    ) -> None:
        rounding = set_default_fp_env()
        arrays, descriptor = pointer_in(arrays_slot), pointer_at(descriptor_at)
        own = pointer_in(own_slot)
        counter = counter_in(counter_slot, counter_scratch())
        rows, table = load64(descriptor, _COUNT), load64(descriptor, _TABLE)
        first, step = load64(descriptor, _FIRST), load64(descriptor, _STEP)
        has_keys, words = load64(descriptor, _HAS_KEYS), advance(descriptor, _WORDS)
        start = take_chunk(counter, chunk)
        while start < rows:
            stop = min(start + chunk, rows)
            for r in range(start, stop):
                length = load64(descriptor, _LENGTH if r + _ONE < rows else _LAST)
                index = first + r * step
                if table:
                    entry = advance(pointer_at(table), r * _TABLE_BYTES)
                    index = load64(entry, _SIXTEEN)
                    if has_keys:
                        seed, stream = load64(entry, _ZERO), load64(entry, _EIGHT)
                work(arrays, words, own, r, length, seed, stream, index)
            start = take_chunk(counter, chunk)
        restore_fp_env(rounding)

    return kernel(name, run, types.void(*[U64] * 7))


def run_rows(
    kernel: Kernel,
    rows: Rows,
    arrays: Sequence[Array],
    seed: int,
    stream: int,
    words: Sequence[int] = (),
    cost: float = 1.0,
    own: tuple[int, Any] | None = None,
    alive: Any = (),
    ready: Sequence[Array] = (),
) -> RowsCall | None:
    """Process all rows, on several threads if that pays; return how, if there were any.

    Parameters
    ----------
    kernel : Kernel
        Of `row_kernel`.
    rows : Rows
        The rows.
    arrays : sequence of ndarray
        Those whose addresses the kernel gets, in this order; each must be as the kernel expects it.
    seed, stream : int
        The key of all rows, unless they have their own.
    words : sequence of int
        What else the kernel gets, modulo ``2**64``.
    cost : float
        Time of an element relative to dropout, by which threads are chosen.
    own : (int, dtype), optional
        Length and dtype of memory that each thread needs for itself.
    alive : object
        What else must live during the call, such as arrays whose addresses are among the words.
    ready : sequence of ndarray
        Arrays as `own` says that are there already, for the first threads.
    """
    if not rows.number:
        return None
    addresses = np.array([a.__array_interface__["data"][0] for a in arrays] or [0], np.uint64)
    table = None if rows.table is None else np.ascontiguousarray(rows.table)
    head = [rows.number, rows.length, rows.last, rows.first % 2**64, rows.step % 2**64]
    head += [0 if table is None else table.__array_interface__["data"][0], int(rows.has_keys)]
    descriptor = array.array("Q", [*head, *(word % 2**64 for word in words)])
    weight = int(cost * rows.elements)
    chunk, threads = work_sharing.shares(rows.number, weight, 1)
    memory = None if own is None else OwnMemory(2, own[0], np.dtype(own[1]), ready)
    spare = np.zeros(1, np.uint64)  # what kernels without memory of their own get
    arguments = slot(addresses), descriptor.buffer_info()[0], slot(spare), seed, stream
    living = addresses, table, descriptor, spare, arrays, alive
    run_kernel(kernel, arguments, chunk, threads, living, memory)
    return RowsCall(kernel, descriptor, addresses, table, memory, weight, (arrays, alive))
