"""Write the tables of README.md and docs/performance.md from the results, or check them.

The README has one small table, and the page has all of them. ``python -m bench readme`` calls it;
it reads the results and asks the report modules for the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from . import family_report, loops_report, process_report, report, small_report
from .common import RESULTS, ROOT, BenchError
from .goals import judge
from .gpu import report as gpu_report
from .gpu.command import RESULTS as GPU_RESULTS
from .losses import losses
from .results import Results, load, rows

# What `bench.plot` draws beside the results: what is to be seen, and whether there is something.
PLOTS: dict[str, tuple[str, Callable[[Results], object]]] = {
    "throughput": ("Elements a second, by size", lambda results: rows(results, "forward")),
    "step": ("Time of forward plus backward", lambda results: rows(results, "step")),
    "memory": ("Memory beyond the results", lambda results: results["memory"]),
    "threads": ("Rates by the number of threads", lambda results: rows(results, "threads")),
}
README, PAGE = ROOT / "README.md", ROOT / "docs" / "performance.md"
PLOT_FOLDER = "../bench/results"  # as the page sees it
Markers = tuple[str, str]
HEADLINE: Markers = ("<!-- bench:headline:start -->", "<!-- bench:headline:end -->")
CPU: Markers = ("<!-- bench:cpu:start -->", "<!-- bench:cpu:end -->")
FAMILY: Markers = ("<!-- bench:family:start -->", "<!-- bench:family:end -->")
PROCESS: Markers = ("<!-- bench:process:start -->", "<!-- bench:process:end -->")
LOOPS: Markers = ("<!-- bench:loops:start -->", "<!-- bench:loops:end -->")
GPU: Markers = ("<!-- bench:gpu:start -->", "<!-- bench:gpu:end -->")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if out of date")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument(
        "--family-results", type=Path, default=family_report.RESULTS, metavar="FILE"
    )
    parser.add_argument(
        "--process-results", type=Path, default=process_report.RESULTS, metavar="FILE"
    )
    parser.add_argument("--loop-results", type=Path, default=loops_report.RESULTS, metavar="FILE")
    parser.add_argument("--gpu-results", type=Path, default=GPU_RESULTS, metavar="FILE")
    parser.add_argument("--readme", type=Path, default=README, metavar="FILE")


def _markdown(table: report.Table, folded: bool = False) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    # Labels that are code go into code spans, where an asterisk is an asterisk.
    lines = [
        [f"`{row[0]}`" if "(x" in row[0] or "*" in row[0] else row[0].replace("_", r"\_"), *row[1:]]
        for row in table.rows
    ]
    rule = "|---|" + "---:|" * (len(table.head) - 1)
    body = "\n".join([line(table.head), rule, *map(line, lines)])
    if folded:
        return _folded(table.title, f"{body}\n\n{table.note}")
    return f"**{table.title}**\n\n{body}\n\n{table.note}"


def _folded(title: str, body: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _goals(verdicts: list[str]) -> str:
    return _folded(
        "What it is meant to reach, and whether it does on this machine",
        "A second figure, where there is one, is acceptable.\n\n" + _bullets(verdicts),
    )


def headline_region(results: Results) -> str:
    """Build the README's table: one row a library, the time and memory of a training step."""
    table = report.headline(results)
    return "Nothing has been measured yet." if table is None else _markdown(table)


def region(results: Results) -> str:
    """Build the text between the markers: tables, losses, goals, machine.

    What most readers come for is open, the rest is folded.
    """
    tables = (
        (report.ratios, False),
        (report.step, False),
        (report.memory, False),
        (small_report.small, False),
        (small_report.step, False),
        (small_report.parts, False),
        (report.times, True),
        (report.profile, True),
        (report.variants, True),
        (report.dtypes, True),
        (report.threads, True),
    )
    parts = [_markdown(made, folded) for table, folded in tables if (made := table(results))]
    plots = {
        name: f"![{text}]({PLOT_FOLDER}/cpu-{name}.svg)"
        for name, (text, present) in PLOTS.items()
        if present(results)
    }
    if first := plots.pop("throughput", None):
        parts.insert(1, first)
    if plots:
        parts.append(_folded("Plots", "\n\n".join(plots.values())))
    parts.append("What it loses:\n\n" + _bullets(losses(results)))
    if results["notes"]:
        parts.append(_folded("Notes on the measurement", _bullets(results["notes"])))
    parts.append(_goals([str(verdict) for verdict in judge(results)]))
    parts.append(
        report.machine(results) + " Generated from the results by `python -m bench readme`."
    )
    return "\n\n".join(parts)


def family_region(results: family_report.FamilyResults) -> str:
    """Build the text on the family: the ratios at the first size are open, the rest is folded."""
    rows = results["rows"]
    parts = [_markdown(t, folded=n > 0) for n, t in enumerate(family_report.tables(rows))]
    parts.append("What it loses:\n\n" + _bullets(family_report.losses(rows)))
    parts.append(_goals(family_report.verdicts(rows)))
    parts.append(report.machine(results))
    return "\n\n".join(parts)


def process_region(results: process_report.ProcessResults) -> str:
    """Build the text on cold start, latency and steadiness, whichever was measured."""
    start, latency, steady = results["start"], results["latency"], results["steady"]
    parts, verdicts, machines = [], [], []
    if start is not None:
        parts.append(_markdown(process_report.start_table(start)))
        verdicts += process_report.judge_start(start)
        machines.append(report.machine(start))
    if latency is not None:
        parts.append(_markdown(process_report.latency_table(latency)))
        verdicts += process_report.judge_latency(latency)
        machines.append(report.machine(latency))
    if steady is not None:
        parts.append(_markdown(process_report.steady_table(steady)))
        verdicts += process_report.judge_steady(steady)
        machines.append(report.machine(steady))
    for command, part in (("start", start), ("latency", latency), ("steady", steady)):
        if part is None:
            parts.append(f"Not measured yet: `python -m bench {command}` does it.")
    if verdicts:
        parts.append(_goals([str(verdict) for verdict in verdicts]))
    return "\n\n".join([*parts, *dict.fromkeys(machines)])


def loops_region(results_file: Path) -> str:
    """Build the text on training loops: what an fd.Mask changes is open, the rest is folded."""
    if not results_file.exists():
        return f"Nothing has been measured yet: `{loops_report.COMMAND}` does it."
    results = loops_report.load(results_file)
    return "\n\n".join(
        [
            _markdown(loops_report.summary(results)),
            f"![Time of training steps]({PLOT_FOLDER}/{results_file.stem}.svg)",
            _markdown(loops_report.every(results), folded=True),
            _goals([str(verdict) for verdict in loops_report.judge(results)]),
            report.machine(results),
        ]
    )


def gpu_region(results_file: Path) -> str:
    """Build the text on the GPU: its results, or that there are none."""
    if not results_file.exists():
        return gpu_report.NOT_MEASURED
    results = load(results_file)
    parts = [_markdown(table, folded) for table, folded in gpu_report.tables(results)]
    parts.append(
        _folded(
            "Plots",
            "\n\n".join(
                f"![Gigabytes a second, {gpu_report.TITLES[section]}]"
                f"({PLOT_FOLDER}/{results_file.stem}-{section}.svg)"
                for section in gpu_report.PASSES
                if rows(results, section)
            ),
        )
    )
    parts.append("What it loses:\n\n" + _bullets(gpu_report.losses(results)))
    if results["notes"]:
        parts.append(_folded("Notes on the measurement", _bullets(results["notes"])))
    parts.append(_goals([str(v) for v in gpu_report.judge(results)]))
    parts.append(gpu_report.machine(results))
    return "\n\n".join(parts)


def replaced(text: str, new: str, where: str = "README.md", markers: Markers = CPU) -> str:
    """Return the text with the region between the markers replaced.

    Raises
    ------
    BenchError
        Unless each marker is there exactly once, in order.
    """
    start, end = markers
    for marker in markers:
        if (count := text.count(marker)) != 1:
            raise BenchError(f"{where} has the marker {marker} {count} times; it needs it once")
    before, rest = text.split(start)
    if end not in rest:
        raise BenchError(f"{where} has the marker {end} before {start}")
    after = rest.split(end)[1]
    return f"{before}{start}\n\n{new}\n\n{end}{after}"


def renewed(text: str, args: argparse.Namespace, where: str) -> str:
    """Return a page with all the regions that it has renewed."""
    made: dict[Markers, Callable[[], str]] = {
        HEADLINE: lambda: headline_region(load(args.results)),
        CPU: lambda: region(load(args.results)),
        LOOPS: lambda: loops_region(args.loop_results),
        FAMILY: lambda: family_region(family_report.load(args.family_results)),
        PROCESS: lambda: process_region(process_report.load(args.process_results)),
        GPU: lambda: gpu_region(args.gpu_results),
    }
    for markers, make in made.items():
        if any(marker in text for marker in markers):
            text = replaced(text, make(), where, markers)
    return text


def main(args: argparse.Namespace) -> int:
    """Rewrite the regions of all pages, or with --check only compare them."""
    pages = {README: HEADLINE, PAGE: CPU} if args.readme == README else {args.readme: CPU}
    stale = False
    for page, first in pages.items():
        try:
            old = page.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BenchError(f"no {page}") from None
        if not any(marker in old for marker in first):
            raise BenchError(f"{page} has no marker {first[0]}")
        new = renewed(old, args, str(page))
        if new == old:
            print(f"{page} is up to date")
        elif args.check:
            print(f"{page} does not show the results; run python -m bench readme", file=sys.stderr)
            stale = True
        else:
            page.write_text(new, encoding="utf-8")
            print(f"{page} rewritten")
    return int(stale)
