"""Validate every contender, time them side by side, print the tables and write the results."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .collect import Plan, collect
from .common import RESULTS, ROOT, BenchError, parse_names, parse_seconds, parse_sizes
from .contenders import BY_NAME, CONTENDERS, known
from .results import Results, load, save
from .sections import BY_THEMSELVES, NAMES, SECTIONS, chosen
from .show import console, progress, show

SECONDS = {"full": Plan.seconds, "quick": 4.0, "check": 1e-9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--sections",
        type=parse_names,
        metavar="NAMES",
        help=f"what to run: {', '.join(NAMES)} (default: all; without memory, if --quick)",
    )
    parser.add_argument(
        "--sizes",
        type=parse_sizes,
        help="element counts, such as 1Ki,64Ki,16Mi (default: each section has its own)",
    )
    parser.add_argument(
        "--only",
        type=parse_names,
        metavar="NAMES",
        help=f"contenders to time beside the roof: {', '.join(c.name for c in CONTENDERS)}",
    )
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        help="time for timing, shared between sections and sizes "
        f"(default: {SECONDS['full']:g}); every size gets some rounds whatever they cost",
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--quick",
        action="store_const",
        const="quick",
        dest="mode",
        help="half a minute: a size or two, no memory; figures are rough",
    )
    modes.add_argument(
        "--check",
        action="store_const",
        const="check",
        dest="mode",
        help="seconds: make every call once, at tiny sizes, to see that all works; no times",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/cpu.json for a full run, none for a part)",
    )


def output_path(args: argparse.Namespace) -> Path | None:
    """Choose where to write.

    A part of a benchmark is written only where `--output` says so: it must not silently replace
    the file that the README's table is made from.
    """
    output: Path | None = args.output
    if output is not None and output.is_dir():
        raise BenchError(f"--output {output} is a folder, not a file")
    part = args.mode or args.sizes or args.only or args.sections
    return output or (None if part else RESULTS)


def plan_of(args: argparse.Namespace) -> Plan:
    """Turn the options into a plan."""
    mode = args.mode or "full"
    sections = chosen(args.sections)
    if args.sections is None and mode == "quick":
        sections = tuple(name for name in sections if name != "memory")
    return Plan(
        mode=mode,
        seconds=args.seconds or SECONDS[mode],
        sections=sections,
        only=known(args.only) if args.only else None,
        sizes=args.sizes,
    )


def run(plan: Plan) -> Results:
    """Collect results under a progress bar; small calls in a process of their own."""
    alone = tuple(name for name in plan.sections if name in BY_THEMSELVES)
    if plan.mode == "check" or len(alone) in (0, len(plan.sections)):
        return run_here(plan)
    seconds = plan.seconds * sum(SECTIONS[name].share for name in alone if name in SECTIONS)
    small = run_alone(replace(plan, sections=alone, seconds=seconds or plan.seconds))
    others = tuple(name for name in plan.sections if name not in alone)
    found = run_here(replace(plan, sections=others, seconds=plan.seconds - seconds))
    return merged(found, small)


def run_alone(plan: Plan) -> Results:
    """Collect results of small calls in a fresh process, in which no peer's threads are."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "small.json"
        options = {
            "--mode": plan.mode,
            "--sections": ",".join(plan.sections),
            "--seconds": str(plan.seconds),
            "--output": str(output),
            "--only": ",".join(sorted(plan.only)) if plan.only is not None else "",
            "--sizes": ",".join(map(str, plan.sizes or ())),
        }
        given = [word for option, value in options.items() if value for word in (option, value)]
        paths = [str(ROOT), *filter(None, sys.path)]  # so that the child imports what this one does
        child = subprocess.run(
            [sys.executable, "-m", "bench", "small", "--quiet", *given],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        if child.returncode:
            raise BenchError("small calls have failed, as said above")
        return load(output)


def merged(found: Results, small: Results) -> Results:
    """Return results with those of small calls in their places."""
    timings = {**found["timings"], **small["timings"]}
    entrants = {**found["contenders"], **small["contenders"]}
    return {
        **found,
        "notes": list(dict.fromkeys([*found["notes"], *small["notes"]])),
        "contenders": {name: entrants[name] for name in BY_NAME if name in entrants},
        "timings": {name: timings[name] for name in SECTIONS if name in timings},
        "profile": found["profile"] or small["profile"],
    }


def run_here(plan: Plan) -> Results:
    """Collect results under a progress bar."""
    with progress() as bar:
        task = bar.add_task("", total=plan.groups())

        def shown(doing: str, done: float) -> None:
            bar.update(task, completed=done, description=doing)
            bar.refresh()

        results = collect(plan, shown)
        shown("done", plan.groups())
    return results


def check_the_rest(results: Results) -> None:
    """Print, save, read again, compare and draw results, and throw all of that away."""
    from . import compare, plot, readme  # only here: a run needs no matplotlib

    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "cpu.json"
        save(results, saved)
        again = load(saved)
        show(again, Console(file=io.StringIO(), width=240))
        readme.region(again)
        compare.compare(again, again)
        plot.draw_all(again, saved)


def main(args: argparse.Namespace) -> int:
    """Run; the exit status is 0 whatever the goals say: benchmarks inform, tests decide."""
    output, plan, out = output_path(args), plan_of(args), console()
    results = run(plan)
    if plan.mode == "check":
        check_the_rest(results)
        made = sum(map(len, results["timings"].values()))
        for note in results["notes"]:
            out.print(Text(note))
        out.print(
            f"All works: {made} calls of {len(results['contenders'])} contenders validated and "
            f"made, {len(results['memory'])} measurements of memory. Nothing was judged."
        )
    else:
        show(results, out)
    if output is not None:
        save(results, output)
        out.print(Text(f"Written to {output}"))
    elif plan.mode != "check":
        out.print("Part of a benchmark: nothing written; --output FILE writes it.")
    return 0
