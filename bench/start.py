"""Time the first call of fresh processes, from a warm and from an empty cache of kernels."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from . import machine, process_report
from .common import ROOT, BenchError, P, parse_names
from .first import FIRST, IMPORTS
from .process_report import EMPTY, WARM, StartPart, StartRow
from .show import STYLES, console, progress, show_tables

SAMPLES, EMPTY_SAMPLES = 7, 3
NAMES = (*IMPORTS, *FIRST)
# Not with `python -m`, which imports modules that are fastdrop's to import.
_CODE = "import sys; from bench.first import main; main(sys.argv[1])"

# What is timed, the cache it finds, and whether it counts or only fills that.
Step = tuple[str, str | None, bool]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--only",
        type=parse_names,
        metavar="NAMES",
        help=f"first calls (default: all): {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--samples",
        type=_parse_samples,
        default=SAMPLES,
        help=f"processes with a warm cache, of each (default: {SAMPLES})",
    )
    parser.add_argument(
        "--empty-samples",
        type=_parse_samples,
        default=EMPTY_SAMPLES,
        help=f"processes with an empty cache, of each; warmup has one (default: {EMPTY_SAMPLES})",
    )
    parser.add_argument(
        "--check", action="store_true", help="one process of each, which share a cache; no times"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/process.json for a full run, none for a part)",
    )


def _parse_samples(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of processes")
    return value


def chosen(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return these names in their order, or all."""
    if unknown := [name for name in names or () if name not in NAMES]:
        raise BenchError(f"no first call {unknown[0]!r}; there are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if names is None or name in names)


def run(name: str, cache: Path, bytecode: Path) -> dict[str, float]:
    """Time one in a fresh process, which also checks what it computes."""
    paths = [str(ROOT), *filter(None, sys.path)]  # so that the child imports what this one does
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "FASTDROP_CACHE_DIR": str(cache),
        # Where Python may write none, or is told not to, each process compiles every module it
        # imports: 0.2 s of the figure then.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(bytecode),
    }
    child = subprocess.run(
        [sys.executable, "-c", _CODE, name],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        raise BenchError(f"first call, {name}: {last}; nothing is written")
    timed: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return timed


def _warm(name: str) -> str | None:
    return WARM if name in FIRST else None


def steps(names: Sequence[str], samples: int, empty_samples: int) -> Iterator[Step]:
    """Yield what to run.

    All take turns, so that what slows the machine for a while slows each of them.
    """
    for name in names:
        yield name, _warm(name), False
    for _ in range(samples):
        for name in names:
            yield name, _warm(name), True
    for turn in range(empty_samples):
        for name in names:
            # Compiling all the kernels of a function takes as long as all else here.
            if name in FIRST and not (FIRST[name].warmup and turn):
                yield name, EMPTY, True


def collect(todo: Sequence[Step]) -> list[StartRow]:
    """Run all, under a progress bar."""
    found: dict[tuple[str, str | None], list[dict[str, float]]] = {}
    with progress() as bar, tempfile.TemporaryDirectory() as folder:
        task = bar.add_task("", total=len(todo))
        for done, (name, cache, counts) in enumerate(todo):
            doing = f"{name}, {cache} cache" if cache else name
            bar.update(task, completed=done, description=doing)
            bar.refresh()
            kernels = Path(folder) / (f"empty{done}" if cache == EMPTY else "warm")
            timed = run(name, kernels, Path(folder) / "bytecode")
            if counts:
                found.setdefault((name, cache), []).append(timed)
        bar.update(task, completed=len(todo), description="done")
        bar.refresh()
    return [_row(name, cache, samples) for (name, cache), samples in found.items()]


def _row(name: str, cache: str | None, samples: list[dict[str, float]]) -> StartRow:
    totals = [sample["total"] for sample in samples]
    calls = [sample["call"] for sample in samples if "call" in sample]
    return {
        "first": name,
        "cache": cache,
        "samples": len(samples),
        "median": statistics.median(totals),
        "worst": max(totals),
        "call": statistics.median(calls) if calls else None,
    }


def main(args: argparse.Namespace) -> int:
    """Print the table; the exit status is 0 whatever it says: benchmarks inform, tests decide."""
    names = chosen(args.only)
    output = process_report.output_path(args.output, args.check or args.only)
    if args.check:
        todo = [(name, _warm(name), True) for name in names]
    else:
        todo = list(steps(names, args.samples, args.empty_samples))
    settings = {
        "p": P,
        "samples": args.samples,
        "empty_samples": args.empty_samples,
        "check": args.check,
    }
    part: StartPart = {**machine.conditions(settings), "rows": collect(todo)}
    out = console()
    if args.check:
        out.print(f"All works: {len(todo)} processes. Nothing was judged.")
    else:
        show_tables([process_report.start_table(part)], out)
        for verdict in process_report.judge_start(part):
            if verdict.value is not None:
                out.print(Text(str(verdict), style=STYLES[verdict.state]))
    if output is not None:
        process_report.put(output, start=part)
        out.print(Text(f"Written to {output}"))
    return 0
