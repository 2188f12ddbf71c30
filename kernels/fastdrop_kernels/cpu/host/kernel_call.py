"""Kernel calls that threads share: a kernel, its arguments, and the counter of chunks.

`call_plan`, `sums`, `softmax` and the functions on batches call `run_kernel`. The pool's threads
call a `KernelCall` in Python. The threads of an OpenMP team (see `openmp`) call compiled code,
`team_entry`, with the address of words in memory, from `KernelCall.words`, or from `fast_call`,
which makes regions in compiled code. A Python callback in place of `team_entry` takes 50 us more,
for 1 Mi float32 (Zen 5, November 2026).
"""

from __future__ import annotations

import array
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ...shielded import shielded
from ...threads import run_together
from ..codegen.compiler import address_of_kernel, callback, device
from ..codegen.intrinsics import (
    address_of,
    advance,
    call_at,
    call_kernel_at,
    scratch,
    take,
)
from ..codegen.ndarray_layout import slot
from ..elements.sampler import GROUP, POINTER, load64, store64
from ..loops.loop_nest import Kernel
from .work_sharing import CHUNKS_PER_THREAD

# Byte offsets in the words: the kernel's address, the number of its arguments, which of them is the
# first of the slots of the threads' own memory, the number of threads that have begun, and the
# arguments.
_ADDRESS, _COUNT, _OWN, _BEGUN, _ARGUMENTS = (np.uint64(8 * k) for k in range(5))
_MOST = 8  # arguments
# Behind the words that compiled code makes: the counter, and its address.
_COUNTER, _COUNTER_SLOT = (np.uint64(8 * k) for k in (12, 13))
words_scratch = scratch(8 * 14)
# Byte offsets in the words of a region: the addresses of the runtime's function and of
# `team_entry`, the number of threads, and the least elements of a chunk.
_PARALLEL, _ENTRY, _THREADS, _CHUNK = (np.uint64(8 * k) for k in range(4))
_ZERO, _ONE, _EIGHT, _GROUP = (np.uint64(n) for n in (0, 1, 8, GROUP))
_MOST_CHUNKS = np.uint64(CHUNKS_PER_THREAD)


class OwnMemory(NamedTuple):
    """Memory that each thread needs for itself."""

    argument: int  # which argument is its slot
    length: int  # numbers
    dtype: np.dtype[Any]
    ready: Sequence[Any] = ()  # arrays of these that are there, for the first threads

    def arrays(self, threads: int) -> list[Any]:
        """Return an array for each thread."""
        missing = threads - len(self.ready)
        made = [np.empty(self.length, self.dtype) for _ in range(missing)]
        return [*self.ready[:threads], *made]


class KernelCall:
    """A call of a kernel whose last two arguments are the counter and the length of chunks.

    It is made once, by up to `threads` threads that call it. `alive` are the arrays and other
    objects whose memory the arguments refer to. With `own`, that argument is filled in for each
    thread; its memory is allocated here, so that an array is written by all threads or by none.
    """

    __slots__ = ("_alive", "_arguments", "_kernel", "_memory", "_own")

    def __init__(
        self,
        kernel: Kernel,
        arguments: tuple[int, ...],
        chunk: int,
        alive: Any,
        own: OwnMemory | None = None,
        threads: int = 1,
    ) -> None:
        counter = array.array("Q", (0, 0))  # and the slot of it
        at, _ = counter.buffer_info()
        counter[1] = at
        self._kernel, self._arguments = kernel, (*arguments, at + 8, chunk)
        self._alive, self._own = (alive, counter), own
        self._memory: list[Any] = [] if own is None else own.arrays(threads)

    def __call__(self) -> None:
        """Take chunks until none is left."""
        arguments = self._arguments
        if self._own is None:
            self._kernel(*arguments)
            return
        memory, place = self._memory.pop(), self._own.argument  # an atomic pop
        self._kernel(*arguments[:place], slot(memory), *arguments[place + 1 :])

    def words(self, threads: int) -> tuple[array.array[int], Any]:
        """Return the words for `team_entry` on so many threads, and what else must be alive."""
        arguments, place, slots = self._arguments, _MOST, None
        if self._own is not None:
            place, length, dtype, _ = self._own
            memory = np.empty((threads, length), dtype)
            first, step = memory.__array_interface__["data"][0], memory.strides[0]
            slots = array.array("Q", [first + step * t for t in range(threads)]), memory
            at, _ = slots[0].buffer_info()
            arguments = (*arguments[:place], at, *arguments[place + 1 :])
        missing = (0,) * (_MOST - len(arguments))
        address = address_of_kernel(self._kernel)
        words = array.array("Q", (address, len(arguments), place, 0, *arguments, *missing))
        return words, slots


def run_kernel(
    kernel: Kernel,
    arguments: tuple[int, ...],
    chunk: int,
    threads: int,
    alive: Any,
    own: OwnMemory | None = None,
) -> None:
    """Make a `KernelCall` on up to so many threads."""
    if threads > 1:
        run_together(KernelCall(kernel, arguments, chunk, alive, own, threads), threads)
    elif own is None:
        kernel(*arguments, 0, chunk)  # without a counter
    else:
        place, (memory,) = own.argument, own.arrays(1)
        kernel(*arguments[:place], slot(memory), *arguments[place + 1 :], 0, chunk)


@device
def _argument(words: Any, k: Any, own: Any, turn: Any) -> Any:
    value = load64(words, _ARGUMENTS + _EIGHT * k)
    return value + _EIGHT * turn if k == own else value


@functools.cache
@shielded
def team_entry() -> int:
    """Return the address of the C function ``(words) -> None``: a thread's share of a call."""
    k0, k1, k2, k3, k4, k5, k6, k7 = (np.uint64(k) for k in range(_MOST))

    def run(words: Any) -> None:
        own, turn = load64(words, _OWN), take(advance(words, _BEGUN), _ONE)
        a0, a1 = _argument(words, k0, own, turn), _argument(words, k1, own, turn)
        a2, a3 = _argument(words, k2, own, turn), _argument(words, k3, own, turn)
        a4, a5 = _argument(words, k4, own, turn), _argument(words, k5, own, turn)
        a6, a7 = _argument(words, k6, own, turn), _argument(words, k7, own, turn)
        address = load64(words, _ADDRESS)
        if load64(words, _COUNT) == k7:
            call_kernel_at(address, (a0, a1, a2, a3, a4, a5, a6))
        else:
            call_kernel_at(address, (a0, a1, a2, a3, a4, a5, a6, a7))

    return callback("team-entry", run, types.void(POINTER))


# Of compiled code that makes regions itself, for kernels over contiguous elements


def region_words(parallel_at: int, threads: int, chunk: int) -> array.array[int]:
    """Return the words of a region: the address of `GOMP_parallel`, threads, least chunk."""
    return array.array("Q", (parallel_at, team_entry(), threads, chunk))


@device
def chunk_on_team(region: Any, n: Any, elements: Any) -> Any:
    """Return the length of chunks, as `work_sharing.shares` does for a team."""
    most = load64(region, _THREADS) * _MOST_CHUNKS
    chunks = min(most, max(_ONE, elements // load64(region, _CHUNK)))
    size = (n + chunks - _ONE) // chunks
    return (size + _GROUP - _ONE) // _GROUP * _GROUP


@device
def set_words(words: Any, address: Any, arguments: Any, chunk: Any) -> None:
    """Write the words for a kernel of eight arguments, whose first six are given."""
    store64(words, _ADDRESS, address)
    store64(words, _COUNT, _EIGHT)
    store64(words, _OWN, _EIGHT)  # none
    store64(words, _BEGUN, _ZERO)
    x_slot, y_slot, descriptor, index, seed, stream = arguments
    store64(words, _ARGUMENTS, x_slot)
    store64(words, _ARGUMENTS + _EIGHT, y_slot)
    store64(words, _ARGUMENTS + np.uint64(16), descriptor)
    store64(words, _ARGUMENTS + np.uint64(24), index)
    store64(words, _ARGUMENTS + np.uint64(32), seed)
    store64(words, _ARGUMENTS + np.uint64(40), stream)
    store64(words, _ARGUMENTS + np.uint64(48), address_of(words) + _COUNTER_SLOT)
    store64(words, _ARGUMENTS + np.uint64(56), chunk)
    store64(words, _COUNTER, _ZERO)
    store64(words, _COUNTER_SLOT, address_of(words) + _COUNTER)


@device
def run_region(region: Any, words: Any) -> None:
    """Run `team_entry` on all threads of a team; returns when all have ended."""
    none, threads = types.uint32(_ZERO), types.uint32(load64(region, _THREADS))
    entry = load64(region, _ENTRY)
    call_at(load64(region, _PARALLEL), (entry, address_of(words), threads, none))
