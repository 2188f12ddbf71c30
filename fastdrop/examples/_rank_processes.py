"""Ranks as processes of one machine, which exchange values through shared memory.

`launch` starts them for the example `ranks` and the recipe `shared_memory`. Each is given a
communicator with the names of mpi4py's, so that what it runs also runs under MPI, unchanged.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from threading import BrokenBarrierError
from typing import Any, ClassVar, Protocol

SLOT = 1 << 20  # bytes for what one rank sends at once
PATIENCE = 300.0  # seconds that a rank waits for the others


class Communicator(Protocol):
    """What of mpi4py's communicators the examples use."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many processes there are."""

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the values of all ranks, by rank."""

    def allreduce(self, value: Any, /) -> Any:
        """Return the sum of the values of all ranks."""


class OneProcess:
    """A process without others."""

    rank, size = 0, 1

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the one value, in a list."""
        return [value]

    def allreduce(self, value: Any, /) -> Any:
        """Return the one value."""
        return value


class SharedMemoryRanks:
    """One of several processes; each writes into its slot of the memory, and reads all slots."""

    started: ClassVar[SharedMemoryRanks]  # in a process that `launch` started

    def __init__(self, rank: int, size: int, barrier: Any, memory: SharedMemory) -> None:
        self.rank, self.size, self._barrier, self._memory = rank, size, barrier, memory
        self._bytes: Any = memory.buf

    def allgather(self, value: Any, /) -> list[Any]:
        """Return the values of all ranks, by rank."""
        data = pickle.dumps(value)
        if len(data) > SLOT:
            raise ValueError(f"a rank can send {SLOT:,} bytes at once, and this is {len(data):,}")
        start = self.rank * SLOT
        self._bytes[start : start + len(data)] = data
        self._barrier.wait(PATIENCE)  # all have written
        slots = range(0, self.size * SLOT, SLOT)
        # What is in a slot behind a pickle is not read.
        values = [pickle.loads(bytes(self._bytes[at : at + SLOT])) for at in slots]
        self._barrier.wait(PATIENCE)  # all have read
        return values

    def allreduce(self, value: Any, /) -> Any:
        """Return the sum of the values of all ranks, added in their order."""
        first, *others = self.allgather(value)
        return sum(others, first)


def launch(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(communicator, *arguments)`` in `size` processes; return all results.

    The function has to be one that `pickle` can name. If it raises in one rank, the others are
    told, and what it raised is raised here.
    """
    if size == 1:
        return [function(OneProcess(), *arguments)]
    context = get_context("spawn")
    barrier, ranks = context.Barrier(size), context.Value("i", 0)
    memory = SharedMemory(create=True, size=size * SLOT)
    try:
        start = (barrier, ranks, memory.name)
        with ProcessPoolExecutor(size, context, _start, start) as pool:
            futures = [pool.submit(_call, function, arguments) for _ in range(size)]
        return [result for _, result in sorted(_results(futures), key=lambda each: each[0])]
    finally:
        memory.close()
        memory.unlink()


def _start(barrier: Any, ranks: Any, name: str) -> None:
    with ranks:
        rank, ranks.value = ranks.value, ranks.value + 1
    SharedMemoryRanks.started = SharedMemoryRanks(
        rank, barrier.parties, barrier, SharedMemory(name)
    )


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any]:
    communicator = SharedMemoryRanks.started
    try:
        communicator._barrier.wait(PATIENCE)  # so that no process is given two calls
        return communicator.rank, function(communicator, *arguments)
    except BaseException:
        communicator._barrier.abort()  # nobody waits for this rank
        raise


def _results(futures: list[Future[Any]]) -> list[Any]:
    errors = [error for future in futures if (error := future.exception())]
    if errors:  # of those that waited for the rank that failed, none says why
        raise min(errors, key=lambda error: isinstance(error, BrokenBarrierError))
    return [future.result() for future in futures]
