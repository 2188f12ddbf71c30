"""Time small calls beside the idiom, what is made beside them, and where their time goes."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.text import Text

from . import report, small_report
from .collect import Plan
from .common import BenchError, parse_names, parse_seconds, parse_sizes
from .contenders import known
from .goals import judge
from .results import save
from .run import run
from .sections import BY_THEMSELVES, chosen
from .show import STYLES, console, show_tables

TABLES = (small_report.small, small_report.step, small_report.parts, report.profile)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sizes", type=parse_sizes, help="element counts (default: 10 to 4Ki)")
    parser.add_argument(
        "--only", type=parse_names, metavar="NAMES", help="contenders to time beside the roof"
    )
    parser.add_argument(
        "--seconds", type=parse_seconds, default=20.0, help="time for timing (default: 20)"
    )
    parser.add_argument(
        "--sections",
        type=parse_names,
        metavar="NAMES",
        help=f"what to run: {', '.join(BY_THEMSELVES)} (default: all)",
    )
    parser.add_argument(
        "--mode",
        choices=("full", "quick", "check"),
        default="full",
        help="check makes every call once and judges no times (default: full)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--output", type=Path, metavar="FILE", help="results file (default: none)")


def main(args: argparse.Namespace) -> int:
    """Run the sections and print them, with the goals that they have figures for."""
    only = known(args.only) if args.only else None
    sections = BY_THEMSELVES if args.sections is None else chosen(args.sections)
    if others := [name for name in sections if name not in BY_THEMSELVES]:
        raise BenchError(f"section {others[0]!r} is none of small calls: python -m bench has it")
    results = run(Plan(args.mode, args.seconds, sections=sections, only=only, sizes=args.sizes))
    out = console()
    out.quiet = args.quiet
    if args.mode == "check":
        made = sum(map(len, results["timings"].values()))
        out.print(f"All works: {made} calls validated and made. Nothing was judged.")
    else:
        show_tables((table(results) for table in TABLES), out)
        for note in results["notes"]:
            out.print(Text(note))
        for verdict in judge(results):
            if verdict.value is not None:
                out.print(Text(str(verdict), style=STYLES[verdict.state]))
        out.print(Text("\n" + report.machine(results)))
    if args.output is not None:
        save(results, args.output)
        out.print(Text(f"Written to {args.output}"))
    return 0
