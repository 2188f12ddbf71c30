"""Compare two results files: what has become slower, relative to multiplying by a constant.

The speed of the machine cancels in these ratios, mostly; how its caches and threads compare with
its memory does not. A figure has changed where it has moved by more than the threshold and the
middle halves of its rounds, before and after, do not overlap.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from .common import BenchError, identity, size_label
from .report import seen_bytes
from .results import Results, Row, load
from .show import console

THRESHOLD = 0.1
# Bytes an element that a measurement of memory may differ by.
MEMORY_GRAIN = 0.05

Place = tuple[str, str, str, str, int]  # section, contender, dtype, variant, elements


@dataclass(frozen=True)
class Change:
    """A figure of both files.

    `moved` is by how much it has grown: a part of what it was, or bytes an element of memory.
    `clear` says whether that is more than the spread of the rounds.
    """

    place: Place
    old: float
    new: float
    moved: float
    clear: bool
    ours: bool


@dataclass(frozen=True)
class Comparison:
    """All figures of both files, and how many only one of them has.

    `gone` are contenders of ours of which the new file has no figure more in a section it has.
    """

    changes: list[Change]
    only_old: int
    only_new: int
    gone: list[tuple[str, str]]
    differences: list[str]

    def regressions(self, threshold: float) -> list[Change]:
        """List what of ours has become slower or larger, the worst first."""
        found = [c for c in self.changes if c.ours and c.clear and c.moved > threshold]
        return sorted(found, key=lambda change: -change.moved)

    def improvements(self, threshold: float) -> list[Change]:
        """List what of ours has become faster or smaller, the best first."""
        # 10% less than it was is what takes 1 / 1.1 of the time.
        limit = 1 / (1 + threshold) - 1
        found = [c for c in self.changes if c.ours and c.clear and c.moved < limit]
        return sorted(found, key=lambda change: change.moved)


def _timed(results: Results) -> dict[Place, Row]:
    return {
        (section, row["contender"], row["dtype"], row["variant"], row["elements"]): row
        for section, rows in results["timings"].items()
        for row in rows
        # Not the roof, over itself.
        if identity(row["contender"], row["dtype"], row["variant"]) != row["base"]
    }


def _remembered(results: Results) -> dict[Place, float]:
    return {
        ("memory", row["contender"], row["dtype"], row["measure"], row["elements"]): value
        for row in results["memory"]
        if (value := seen_bytes(row["traced"], row["resident"])) is not None
    }


def compare(old: Results, new: Results) -> Comparison:
    """Match the rows of two results by contender, dtype, variant and size within a section."""

    def ours(place: Place) -> bool:
        return new["contenders"][place[1]]["role"] == "ours"

    before, after = _timed(old), _timed(new)
    changes = []
    for place in before.keys() & after.keys():
        was, now = before[place], after[place]
        apart = now["ratio_q1"] > was["ratio_q3"] or now["ratio_q3"] < was["ratio_q1"]
        moved = now["ratio"] / was["ratio"] - 1
        changes.append(Change(place, was["ratio"], now["ratio"], moved, apart, ours(place)))
    held, holds = _remembered(old), _remembered(new)
    for place in held.keys() & holds.keys():
        bytes_moved = holds[place] - held[place]
        clear = abs(bytes_moved) > MEMORY_GRAIN
        changes.append(
            # More memory is never noise: it counts in full, and not as a part of what was 0.
            Change(
                place,
                held[place],
                holds[place],
                _signed_infinity(bytes_moved) if clear else 0.0,
                clear,
                ours(place),
            )
        )
    keys_old, keys_new = before.keys() | held.keys(), after.keys() | holds.keys()
    sections, left = {place[0] for place in keys_new}, {place[:2] for place in keys_new}
    gone = {
        place[:2]
        for place in keys_old
        if place[0] in sections
        and place[:2] not in left
        and old["contenders"][place[1]]["role"] == "ours"
    }
    return Comparison(
        changes,
        len(keys_old - keys_new),
        len(keys_new - keys_old),
        sorted(gone),
        differences(old, new),
    )


def _signed_infinity(value: float) -> float:
    return float("inf") if value > 0 else float("-inf")


def differences(old: Results, new: Results) -> list[str]:
    """Say what of hardware, versions and settings differs."""
    found = []
    for title, a, b in (
        ("hardware", old["hardware"], new["hardware"]),
        ("version of", old["versions"], new["versions"]),
        ("setting", old["settings"], new["settings"]),
    ):
        for name in dict.fromkeys((*a, *b)):
            if a.get(name) != b.get(name):
                found.append(f"{title} {name}: {a.get(name)} -> {b.get(name)}")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("old", type=Path, help="results file, before")
    parser.add_argument("new", type=Path, help="results file, after")
    parser.add_argument(
        "--threshold",
        type=float,
        default=THRESHOLD,
        help=f"least change that counts, as a part (default: {THRESHOLD:g})",
    )
    parser.add_argument(
        "--fail", action="store_true", help="exit 1 if there is a regression, or a figure gone"
    )
    parser.add_argument("--all", action="store_true", help="show every figure, peers' too")


def _table(title: str, changes: Iterable[Change], style: str = "") -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for head in ("section", "contender", "dtype", "variant", "elements"):
        table.add_column(head, no_wrap=True)
    for head in ("old", "new", "change"):
        table.add_column(head, justify="right", no_wrap=True)
    for change in changes:
        section, contender, dtype, variant, elements = change.place
        moved = "" if section == "memory" else f"{change.moved:+.0%}"
        if not change.clear and moved:
            moved = f"({moved})"
        table.add_row(
            *map(Text, (section, contender, dtype, variant, size_label(elements))),
            f"{change.old:.3g}",
            f"{change.new:.3g}",
            Text(moved, style=style),
        )
    return table


def main(args: argparse.Namespace) -> int:
    """Print what differs, regressions first."""
    if not 0 < args.threshold < float("inf"):
        raise BenchError(f"--threshold {args.threshold:g} is not a positive part, such as 0.1")
    found = compare(load(args.old), load(args.new))
    out = console()
    if found.differences:
        out.print(Text("Not measured under the same conditions:", style="bold yellow"))
        for line in found.differences:
            out.print(Text(f"  {line}"))
    regressions, improvements = (
        found.regressions(args.threshold),
        found.improvements(args.threshold),
    )
    if regressions:
        out.print(_table("Regressions: time over the roof's, or bytes", regressions, "bold red"))
    if improvements:
        out.print(_table("Improvements", improvements, "green"))
    if args.all:
        out.print(_table("All figures; in brackets: no clear change", sorted_by_place(found)))
    text = f"{len(found.changes)} figures compared, {len(regressions)} regressions, "
    text += f"{len(improvements)} improvements of more than {args.threshold:.0%}."
    if found.only_old or found.only_new:
        text += f" Only in old: {found.only_old}, only in new: {found.only_new}."
    out.print(Text(text))
    for section, contender in found.gone:
        out.print(Text(f"Gone: {contender} of {section} has no figure any more.", style="bold red"))
    return 1 if (regressions or found.gone) and args.fail else 0


def sorted_by_place(comparison: Comparison) -> list[Change]:
    """List all figures by section, contender, dtype, variant and size."""
    return sorted(comparison.changes, key=lambda change: change.place)
