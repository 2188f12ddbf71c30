"""Validate every contender, time them side by side, print the tables and write the results."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from . import machine, memory, report, timing
from .check import check
from .common import (
    QUICK_SIZES,
    RESULTS,
    SIZES,
    BenchError,
    P,
    fresh_input,
    parse_seconds,
    parse_sizes,
    size_label,
)
from .contenders import CONTENDERS, Contender, available, by_name, default_threads
from .goals import judge
from .results import SCHEMA, MemoryRow, Results, Row, save

DTYPE = "float32"
SECONDS, QUICK_SECONDS = 90.0, 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--sizes",
        type=parse_sizes,
        help="element counts, such as 1Ki,64Ki,16Mi (default: 1Ki to 64Mi by fours)",
    )
    parser.add_argument(
        "--only",
        type=lambda text: tuple(name.strip() for name in text.split(",")),
        metavar="NAMES",
        help=f"contenders to time beside the roof: {', '.join(c.name for c in CONTENDERS)}",
    )
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        help=f"time for timing, split evenly between the sizes (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few seconds: two small sizes, no memory table; figures are rough",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/cpu.json for a full run, none for a part)",
    )


def _rows(
    contenders: tuple[Contender, ...], sizes: tuple[int, ...], seconds: float, progress: Progress
) -> list[Row]:
    rows: list[Row] = []
    task = progress.add_task("", total=len(sizes))
    for done, elements in enumerate(sizes):

        def show(doing: str, part: float, done: int = done, elements: int = elements) -> None:
            progress.update(
                task, completed=done + part, description=f"{doing} {size_label(elements)}"
            )
            progress.refresh()  # by hand: a refreshing thread would run while calls are timed

        x = fresh_input(elements)
        out = np.ones_like(x)  # ones, not empty: page faults are not what is timed
        for contender in contenders:
            show(f"validating {contender.name},", 0)
            check(contender, x, P, out)
        show("timing", 0)
        entries = [timing.prepare(contender, x, P, out) for contender in contenders]
        samples = timing.measure(entries, seconds / len(sizes), lambda part: show("timing", part))
        summaries = timing.summarise(samples)
        for entry in entries:
            name = entry.contender.name
            summary = summaries[name]
            rows.append(
                {
                    "contender": name,
                    "dtype": DTYPE,
                    "elements": elements,
                    "seconds": summary.seconds,
                    "q1": summary.q1,
                    "q3": summary.q3,
                    "ratio": summary.ratio,
                    "rounds": len(samples[name]),
                    "calls": entry.calls,
                }
            )
    progress.update(task, completed=len(sizes), description="timed")
    return rows


def _memory_rows(contenders: tuple[Contender, ...], progress: Progress) -> list[MemoryRow]:
    rows: list[MemoryRow] = []
    task = progress.add_task("", total=len(contenders))
    for contender in contenders:
        progress.update(task, description=f"memory of {contender.name}")
        progress.refresh()
        extra = memory.measure(contender)
        rows.append(
            {
                "contender": contender.name,
                "dtype": DTYPE,
                "elements": memory.ELEMENTS,
                "traced": extra["traced"],
                "resident": extra["resident"],
            }
        )
        progress.advance(task)
    return rows


def collect(
    contenders: tuple[Contender, ...],
    sizes: tuple[int, ...],
    seconds: float,
    with_memory: bool,
    progress: Progress,
) -> Results:
    """Validate, time and measure; returns what the results file holds."""
    able, notes = available(contenders)
    threads = {c.needs: default_threads(c.needs) for c in able if c.needs and c.threads}
    rows = _rows(able, sizes, seconds, progress)
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": machine.versions(),
        "hardware": machine.hardware(),
        "settings": {"p": P, "seconds": seconds, "threads": threads},
        "notes": notes,
        "contenders": {c.name: {"label": c.label, "role": c.role} for c in able},
        "rows": rows,
        "memory": _memory_rows(able, progress) if with_memory else [],
    }


def show(results: Results, console: Console) -> None:
    """Print ratios first, then times, throughput, memory, losses and goals."""
    tables = [report.ratios(results), report.times(results), report.throughput(results)]
    if extra := report.memory(results):
        tables.append(extra)
    for table in tables:
        console.print(Text(table.title, style="bold"))  # a table's own title wraps at its width
        rich = RichTable()
        for column, head in enumerate(table.head):
            rich.add_column(head, justify="right" if column else "left", no_wrap=True)
        for row in table.rows:
            rich.add_row(*map(Text, row))  # Text: brackets in labels are not markup
        console.print(rich)
        console.print(Text(table.note + "\n"))
    for line in results["notes"] + report.losses(results):
        console.print(Text(line))
    console.print("\nGoals:")
    for verdict in judge(results):
        console.print(Text(f"  {verdict}"))
    console.print(Text("\n" + report.machine(results)))


def output_path(args: argparse.Namespace) -> Path | None:
    """Choose where to write.

    A part of a benchmark is written only where `--output` says so: it must not silently replace
    the file that the README's table is made from.
    """
    output: Path | None = args.output
    if output is not None and output.is_dir():
        raise BenchError(f"--output {output} is a folder, not a file")
    return output or (None if args.quick or args.sizes or args.only else RESULTS)


def main(args: argparse.Namespace) -> int:
    """Run; the exit status is 0 whatever the goals say: benchmarks inform, tests decide."""
    output = output_path(args)
    contenders = by_name(args.only) if args.only else CONTENDERS
    sizes = args.sizes or (QUICK_SIZES if args.quick else SIZES)
    seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console()
    if not console.is_terminal:
        console.width = 160  # in a file or a pipe nothing should be cut off
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        results = collect(contenders, sizes, seconds, not args.quick, progress)
    show(results, console)
    if output is None:
        console.print("Part of a benchmark: nothing written; --output FILE writes it.")
    else:
        save(results, output)
        console.print(Text(f"Written to {output}"))
    return 0
