"""Latency of single calls on a busy machine: threads against the serial kernel, side by side.

A pool whose threads wait for each other at a barrier stalls for milliseconds where other processes
keep the cores; this shows whether fastdrop's does.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.text import Text

import fastdrop
from fastdrop_kernels import contract, reference

from . import machine, process_report, show
from .common import (
    MI,
    Array,
    BenchError,
    P,
    fresh_input,
    fresh_output,
    parse_seconds,
    size_label,
)
from .process_report import LatencyPart, LatencyRow
from .show import progress

# Threads share both (`driver.PARALLEL_FROM`): 1 Mi only just, so that a thread which waits for
# another has the least to make up for it.
SIZES = (MI, 2 * MI)
SECONDS, CHECK_SECONDS = 24.0, 0.01
TURN = 0.25  # seconds of one setting before the other has its turn
KEY = fastdrop.Key(2026, 1)

# A busy process, which ends with its parent even if that is killed.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n sum(range(100000))"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        default=SECONDS,
        help=f"time for timing, split evenly between all settings (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--busy",
        type=int,
        help="busy processes to run beside (default: as many as processors)",
    )
    parser.add_argument(
        "--check", action="store_true", help="a few calls of each setting; judges no times"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/process.json for a full run, none for a part)",
    )


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


def _turn(x: Array, out: Array, samples: list[float], seconds: float) -> None:
    """Time single calls until the turn is over."""
    clock = time.perf_counter
    now = clock()
    end = now + seconds
    while True:
        start = clock()
        fastdrop.dropout(x, P, rng=KEY, out=out)
        now = clock()
        samples.append(now - start)
        if now >= end:
            break


def measure(
    x: Array, out: Array, threads: int, busy: int, seconds: float, tell: Callable[[float], object]
) -> list[LatencyRow]:
    """Time serial and threaded calls in turn, beside busy processes."""
    samples: dict[int, list[float]] = {1: [], threads: []}
    clock = time.perf_counter
    with _busy_processes(busy):
        start = now = clock()
        while now - start < seconds:
            tell((now - start) / seconds)
            for n, mine in samples.items():
                fastdrop.set_num_threads(n)
                _turn(x, out, mine, min(TURN, seconds / 2))
            now = clock()
    rows: list[LatencyRow] = []
    for n, mine in samples.items():
        median, p99, worst = map(float, np.percentile(mine, (50, 99, 100)))
        rows.append(
            {
                "elements": x.size,
                "busy": busy,
                "threads": n,
                "calls": len(mine),
                "median": median,
                "p99": p99,
                "worst": worst,
            }
        )
    return rows


def collect(threads: int, busy: int, seconds: float) -> list[LatencyRow]:
    """Time all settings, under a progress bar that moves between turns."""
    rows: list[LatencyRow] = []
    settings = [(elements, n) for elements in SIZES for n in (0, busy)]
    with progress() as bar:
        task = bar.add_task("", total=len(settings))
        for done, (elements, n) in enumerate(settings):

            def tell(part: float, done: int = done, elements: int = elements, n: int = n) -> None:
                doing = f"{size_label(elements)} beside {n} busy"
                bar.update(task, completed=done + part, description=doing)
                bar.refresh()

            x = fresh_input(elements)
            out = fresh_output(x)
            _validate(x, out, threads)
            rows += measure(x, out, threads, n, seconds / len(settings), tell)
        bar.update(task, completed=len(settings), description="done")
        bar.refresh()
    return rows


def main(args: argparse.Namespace) -> int:
    """Print the table; the exit status is 0 whatever it says: benchmarks inform, tests decide."""
    threads = fastdrop.get_num_threads()
    busy = machine.usable_cpus() if args.busy is None else args.busy
    if threads == 1:
        raise BenchError("fastdrop has one thread: give it more, as in FASTDROP_NUM_THREADS=2")
    if busy < 1:
        raise BenchError(f"--busy {busy} is not a number of busy processes")
    part = args.check or args.busy is not None
    output = process_report.output_path(args.output, part)
    seconds = CHECK_SECONDS if args.check else args.seconds
    try:
        rows = collect(threads, busy, seconds)
    finally:
        fastdrop.set_num_threads(threads)
    settings = {"p": P, "seconds": seconds, "turn": TURN, "check": args.check}
    found: LatencyPart = {**machine.conditions(settings), "rows": rows}
    console = show.console()
    if args.check:
        calls = sum(row["calls"] for row in rows)
        console.print(f"All works: {calls} calls of {len(rows)} settings. Nothing was judged.")
    else:
        show.show_tables([process_report.latency_table(found)], console)
        for verdict in process_report.judge_latency(found):
            console.print(Text(str(verdict), style=show.STYLES[verdict.state]))
    if output is not None:
        process_report.put(output, latency=found)
        console.print(Text(f"Written to {output}"))
    return 0
