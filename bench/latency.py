"""Latency of single calls on a busy machine: threads against the serial kernel, side by side.

A pool whose threads wait for each other at a barrier stalls for milliseconds where other processes
keep the cores; this shows whether fastdrop's does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import fastdrop
from fastdrop_kernels import contract, reference

from .common import MI, Array, BenchError, P, figure, fresh_input, fresh_output, parse_seconds

ELEMENTS = 2 * MI  # several threads share it
LIMIT = 2.0  # at most so many times the serial kernel's figure, beside busy processes
SECONDS = 20.0
TURN = 0.25  # seconds of one setting before the other has its turn
KEY = fastdrop.Key(2026, 1)

# A busy process, which ends with its parent even if that is killed.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n sum(range(100000))"


@dataclass(frozen=True)
class Latency:
    """Of the calls of one setting, in seconds."""

    threads: int
    busy: int
    median: float
    p99: float
    worst: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        default=SECONDS,
        help=f"time for timing, split evenly between four settings (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--busy",
        type=int,
        default=_processors(),
        help="busy processes to run beside (default: as many as processors)",
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _busy_processes(n: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(n)]
    try:
        time.sleep(0.5 if n else 0)  # until they run
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _validate(x: Array, out: Array, threads: int) -> None:
    kept = reference.keep_mask(reference.mask_index(x.shape), P, *KEY)
    expected = np.where(kept, x * np.float32(contract.scale(P)), np.float32(0))
    for n in (1, threads):
        fastdrop.set_num_threads(n)
        out.fill(np.nan)
        fastdrop.dropout(x, P, rng=KEY, out=out)
        if out.tobytes() != expected.tobytes():
            raise BenchError(f"fastdrop with {n} threads computes wrong values; nothing was timed")


def _turn(x: Array, out: Array, samples: list[float]) -> None:
    """Time single calls until the turn is over."""
    clock = time.perf_counter
    now = clock()
    end = now + TURN
    while now < end:
        start = clock()
        fastdrop.dropout(x, P, rng=KEY, out=out)
        now = clock()
        samples.append(now - start)


def measure(
    x: Array, out: Array, threads: int, busy: int, seconds: float
) -> tuple[Latency, Latency]:
    """Time serial and threaded calls in turn, beside busy processes."""
    samples: dict[int, list[float]] = {1: [], threads: []}
    with _busy_processes(busy):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for n, mine in samples.items():
                fastdrop.set_num_threads(n)
                _turn(x, out, mine)
    serial, threaded = (
        Latency(n, busy, *map(float, np.percentile(mine, (50, 99, 100))))
        for n, mine in samples.items()
    )
    return serial, threaded


def table(pairs: list[tuple[Latency, Latency]]) -> Table:
    """Ratios first, as in every table here."""
    result = Table()
    for head in ("beside", "threads", "median", "p99", "median us", "p99 us", "worst us"):
        result.add_column(head, justify="left" if head == "beside" else "right", no_wrap=True)
    for serial, threaded in pairs:
        beside = f"{serial.busy} busy" if serial.busy else "nothing"
        for row in (serial, threaded):
            ratios = (row.median / serial.median, row.p99 / serial.p99)
            times = (row.median, row.p99, row.worst)
            result.add_row(
                beside,
                str(row.threads),
                *(f"{ratio:.2f}" for ratio in ratios),
                *(figure(seconds * 1e6) for seconds in times),
            )
    return result


def main(args: argparse.Namespace) -> int:
    """Print the table; the exit status is 0 whatever it says: benchmarks inform, tests decide."""
    threads = fastdrop.get_num_threads()
    if threads == 1:
        raise BenchError("fastdrop has one thread: give it more, as in FASTDROP_NUM_THREADS=2")
    if args.busy < 0:
        raise BenchError(f"--busy {args.busy} is not a number of processes")
    x = fresh_input(ELEMENTS)
    out = fresh_output(x)
    _validate(x, out, threads)
    pairs = [measure(x, out, threads, busy, args.seconds / 2) for busy in (0, args.busy)]
    console = Console(soft_wrap=True)
    console.print(Text(f"Time of a call, {ELEMENTS // MI} Mi float32, p = {P}", style="bold"))
    console.print(table(pairs))
    console.print(Text("1.00 is what the serial kernel takes in the same conditions.\n"))
    serial, threaded = pairs[-1]
    for name in ("median", "p99"):
        ratio = getattr(threaded, name) / getattr(serial, name)
        word = "held" if ratio <= LIMIT else "MISSED"
        console.print(
            Text(
                f"{word}: beside {args.busy} busy processes, {name} of {threads} threads: "
                f"at most {LIMIT:g} times the serial kernel's, is {figure(ratio)}"
            )
        )
    return 0
