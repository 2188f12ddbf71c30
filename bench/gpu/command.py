"""``python -m bench gpu``: the options, and what is done with the results."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from ..common import ROOT, BenchError, parse_names, parse_sizes
from ..results import Results, save
from . import report, sweep
from .collect import QUICK, Plan, collect
from .contenders import BY_NAME, DTYPES

RESULTS = ROOT / "bench" / "results" / "gpu.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--quick", action="store_true", help="three sizes, few rounds")
    parser.add_argument("--sizes", type=parse_sizes, help="element counts, such as 64Ki,256Mi")
    parser.add_argument(
        "--dtypes", type=parse_names, metavar="NAMES", help=f"of {', '.join(DTYPES)}"
    )
    parser.add_argument(
        "--only",
        type=parse_names,
        metavar="NAMES",
        help=f"contenders beside the copies: {', '.join(BY_NAME)}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/gpu.json for a full run, none for a part)",
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="time fastdrop alone, with other numbers of threads a block and groups a thread",
    )


def plan_of(args: argparse.Namespace) -> Plan:
    """Turn the options into a plan.

    Raises
    ------
    BenchError
        Naming a dtype or contender that does not exist.
    """
    for given, known, what in ((args.dtypes, DTYPES, "dtype"), (args.only, BY_NAME, "contender")):
        if unknown := sorted(set(given or ()) - set(known)):
            raise BenchError(f"no {what} {unknown[0]!r}; there are {', '.join(known)}")
    usual = Plan()
    if any(n % 16 for n in args.sizes or ()):
        raise BenchError("sizes have to be multiples of 16, which the copies move")
    return Plan(
        mode="quick" if args.quick else usual.mode,
        sizes=args.sizes or (QUICK if args.quick else usual.sizes),
        dtypes=args.dtypes or usual.dtypes,
        only=frozenset(args.only) if args.only else None,
        rounds=5 if args.quick else usual.rounds,
    )


def output_path(args: argparse.Namespace) -> Path | None:
    """Choose where to write: a part of a benchmark only where `--output` says so."""
    output: Path | None = args.output
    if output is not None and output.is_dir():
        raise BenchError(f"--output {output} is a folder, not a file")
    part = args.quick or args.sizes or args.dtypes or args.only
    return output or (None if part else RESULTS)


def show(results: Results) -> None:
    """Print tables, losses, notes, goals and the machine."""
    for table, _ in report.tables(results):
        print(report.text(table), end="\n\n")
    for line in results["notes"] + report.losses(results):
        print(line)
    print("\nGoals:")
    for verdict in report.judge(results):
        print(f"  {verdict}")
    print("\n" + report.machine(results))


def main(args: argparse.Namespace) -> int:
    """Run; the exit status is 0 whatever the goals say."""
    output, plan = output_path(args), plan_of(args)
    if args.sweep:
        sweep.run(plan)
        return 0
    results = collect(plan, lambda doing: print(f"... {doing}", file=sys.stderr, flush=True))
    show(results)
    if output is None:
        print("Part of a benchmark: nothing written; --output FILE writes it.")
        return 0
    save(results, output)
    print(f"Written to {output}")
    if importlib.util.find_spec("matplotlib"):
        from . import plot

        for path in plot.draw_all(results, output):
            print(f"Written to {path}")
    else:
        print("No plots, for lack of matplotlib: python -m bench plot draws them elsewhere.")
    return 0
