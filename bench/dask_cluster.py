"""Dask's workers in processes of their own: runs of a graph there, with their time and peak memory.

`bench.dask_calls` calls it; what the graphs are made of is in `dask_pipeline`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import logging
import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import dask_pipeline as pipeline
from .common import load
from .processes import resident

WORKERS, THREADS = 2, 1
LEAST = 3  # rounds, whatever they take
MEMORY = 3 << 30  # of a worker, from which on Dask would spill


class Run(NamedTuple):
    """What the computing of a graph took, and its result; memory is that of the worker with most.

    CPU times are of the scheduler with the client, in this process, and of all workers.
    """

    seconds: float
    result: int
    peak: int
    before: int
    scheduler_cpu: float
    workers_cpu: float


def settled() -> tuple[int, float]:
    """Give freed memory back, and set the peak to the present; returns it, and the CPU time."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return resident("VmRSS"), time.process_time()


def reached() -> tuple[int, float]:
    """Return the peak of a worker's memory, and its CPU time."""
    return resident("VmHWM"), time.process_time()


def rehearse() -> None:
    """Compute every call once in a worker: it imports what they need, and has its kernels."""
    for name, row in pipeline.CALLS.items():
        x = pipeline.source((8, 8), (4, 8), f"rehearsal-{name}")
        pipeline.reduced(pipeline.called(row["call"], x, 0)).compute(scheduler="synchronous")


def repeated(task: bytes, seconds: float) -> float:
    """Run a pickled task again and again in a worker; returns the median of its CPU times."""
    # Of this thread: what else runs on the machine is of no account.
    run, taken, clock = pickle.loads(task), list[float](), time.thread_time
    run()
    end = clock() + seconds
    while not taken or clock() < end:
        begin = clock()
        run()
        taken.append(clock() - begin)
    return statistics.median(taken)


class Cluster:
    """A scheduler in this process, and workers of one thread each in others."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._numbers = itertools.count()
        client.run(rehearse)

    def graph(self, name: str, shape: pipeline.Chunks, chunks: Any, placed: bool = False) -> Any:
        """Return the reduced result of a call, with a name and a mask that were not there yet."""
        number = next(self._numbers)
        # Masks have to be those of another chunking where checksums are compared.
        x = pipeline.source(shape, chunks, f"{os.getpid()}-{number}")
        call = pipeline.CALLS[name]["call"]
        return pipeline.reduced(pipeline.called(call, x, 0 if placed else number), placed)

    def run(self, lazy: Any) -> Run:
        """Compute a graph that is built; what is timed begins with Dask's optimising it."""
        before = self.client.run(settled).values()
        cpu, begin = time.process_time(), time.perf_counter()
        result = int(self.client.compute(lazy).result())
        seconds, own = time.perf_counter() - begin, time.process_time() - cpu
        after = self.client.run(reached).values()
        workers = sum(each[1] for each in after) - sum(each[1] for each in before)
        peak = max(each[0] for each in after)
        return Run(seconds, result, peak, max(each[0] for each in before), own, workers)

    def block_seconds(self, name: str, chunks: pipeline.Chunks, seconds: float) -> float:
        """Return the CPU time of a block's task by itself, on all workers at once."""
        (lazy,) = load("dask").optimize(self.graph(name, chunks, chunks))
        made = _joined(dict(lazy.__dask_graph__()), lazy.__dask_keys__()[0])
        where = sorted(self.client.scheduler_info(n_workers=-1)["workers"])
        given = pickle.dumps(made)
        more = [
            self.client.submit(repeated, given, seconds, workers=[worker], pure=False)
            for worker in where
        ]
        return statistics.mean([float(future.result()) for future in more])


class Tasks:
    """The tasks of a small graph, one after the other, without a scheduler."""

    def __init__(self, tasks: list[tuple[Any, Any]]) -> None:
        self.tasks = tasks

    def __call__(self) -> Any:
        """Run them; returns the last one's result."""
        results: dict[Any, Any] = {}
        for key, task in self.tasks:
            given = {name: results[name] for name in task.dependencies}
            results[key] = task(given)
            del given
        return results[key]


def _joined(graph: dict[Any, Any], last: Any) -> Tasks:
    order: list[tuple[Any, Any]] = []

    def add(key: Any) -> None:
        for name in sorted(graph[key].dependencies, key=str):
            add(name)
        if key not in dict(order):
            order.append((key, graph[key]))

    add(last)
    return Tasks(order)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Yield a cluster on this machine, and end its processes afterwards."""
    distributed = load("distributed")
    settings: dict[str, Any] = {
        "n_workers": WORKERS,
        "threads_per_worker": THREADS,
        "processes": True,
    }
    settings |= {"memory_limit": MEMORY, "dashboard_address": None, "silence_logs": logging.ERROR}
    with distributed.LocalCluster(**settings) as made, distributed.Client(made) as client:
        yield Cluster(client)


def interleaved(
    calls: Mapping[str, Callable[[], Run]], turns: int, until: float
) -> Iterator[tuple[str, Run]]:
    """Yield runs, in rounds that begin with another call each, so many or until a time."""
    names = list(calls)
    for turn in range(turns):
        if turn >= LEAST and time.perf_counter() > until:
            return
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            yield name, calls[name]()
