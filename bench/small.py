"""Time small calls, and show where their time goes from call to kernel."""

from __future__ import annotations

import argparse

from rich.text import Text

from . import report
from .collect import Plan
from .common import parse_seconds, parse_sizes
from .goals import judge
from .run import run
from .sections import PROFILE
from .show import STYLES, console, show_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sizes", type=parse_sizes, help="element counts (default: 64 to 4Ki)")
    parser.add_argument(
        "--seconds", type=parse_seconds, default=10.0, help="time for timing (default: 10)"
    )


def main(args: argparse.Namespace) -> int:
    """Run the two sections and print them, with the goals that they have figures for."""
    results = run(Plan(seconds=args.seconds, sections=("small", PROFILE), sizes=args.sizes))
    out = console()
    show_tables((report.small(results), report.profile(results)), out)
    for note in results["notes"]:
        out.print(Text(note))
    for verdict in judge(results):
        if verdict.value is not None:
            out.print(Text(str(verdict), style=STYLES[verdict.state]))
    out.print(Text("\n" + report.machine(results)))
    return 0
