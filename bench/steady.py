"""Time the plain calls in many fresh processes, and show whether any process is slower.

Where the stack and the heap of a process lie is chance, and fixed until it ends. Code that depends
on it (by addresses that share their lowest 12 bits, say) has one speed in most processes and
another in some, which no measurement inside one process shows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from . import machine, process_report
from .common import KI, MI, ROOT, BenchError, P
from .process_report import SteadyPart, SteadyRow
from .show import STYLES, console, progress, show_tables
from .steady_process import Timed

PROCESSES = 40
DTYPES = ("float32", "float64", "float16")
SIZES = (64 * KI, MI, 16 * MI)
SETTINGS = [(dtype, elements) for dtype in DTYPES for elements in SIZES]
CHECK_SETTINGS = [(dtype, KI) for dtype in DTYPES]
_MODULE = "bench.steady_process"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--processes",
        type=_parse_processes,
        default=PROCESSES,
        help=f"fresh processes (default: {PROCESSES}, which take about three minutes)",
    )
    parser.add_argument(
        "--check", action="store_true", help="two processes, every call once; judges no times"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/process.json for a full run, none for a part)",
    )


def _parse_processes(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of processes")
    return value


def run(settings: Sequence[tuple[str, int]], once: bool) -> list[Timed]:
    """Time settings in a fresh process, which also checks what it computes."""
    paths = [str(ROOT), *filter(None, sys.path)]  # so that the child imports what this one does
    command = [sys.executable, "-m", _MODULE, json.dumps(settings), *["once"] * once]
    child = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        raise BenchError(f"a process of {_MODULE}: {last}; nothing is written")
    timed: list[Timed] = json.loads(child.stdout.splitlines()[-1])
    return timed


def collect(
    processes: int, settings: Sequence[tuple[str, int]], once: bool = False
) -> list[SteadyRow]:
    """Run all, one after the other, under a progress bar."""
    with progress() as bar:
        task = bar.add_task("", total=processes + 1)
        found = []
        # The first fills the cache of kernels, and is not counted.
        for done in range(processes + 1):
            doing = f"process {done} of {processes}" if done else "filling the cache of kernels"
            bar.update(task, completed=done, description=doing)
            bar.refresh()
            timed = run(settings, once or not done)
            if done:
                found.append(timed)
        bar.update(task, completed=processes + 1, description="done")
        bar.refresh()
    return [_row(samples) for samples in zip(*found, strict=True)]


def _row(samples: Sequence[Timed]) -> SteadyRow:
    return {
        "dtype": samples[0]["dtype"],
        "elements": samples[0]["elements"],
        "processes": len(samples),
        "seconds": statistics.median(sample["seconds"] for sample in samples),
        "ratios": sorted(sample["ratio"] for sample in samples),
    }


def main(args: argparse.Namespace) -> int:
    """Print the table; the exit status is 0 whatever it says: benchmarks inform, tests decide."""
    part = args.check or args.processes < PROCESSES // 2
    output = process_report.output_path(args.output, part)
    processes = 2 if args.check else args.processes
    rows = collect(processes, CHECK_SETTINGS if args.check else SETTINGS, args.check)
    settings = {"p": P, "processes": processes, "check": args.check}
    found: SteadyPart = {**machine.conditions(settings), "rows": rows}
    out = console()
    if args.check:
        out.print(f"All works: {processes} processes. Nothing was judged.")
    else:
        show_tables([process_report.steady_table(found)], out)
        for verdict in process_report.judge_steady(found):
            out.print(Text(str(verdict), style=STYLES[verdict.state]))
    if output is not None:
        process_report.put(output, steady=found)
        out.print(Text(f"Written to {output}"))
    return 0
