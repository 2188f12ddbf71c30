"""``python -m bench compare OLD NEW``: what has become slower, relative to what ratios are to.

The speed of the machine cancels in these ratios, mostly; how its caches and threads compare with
its memory does not. A figure has changed where it has moved by more than the threshold and the
middle halves of its rounds, before and after, do not overlap.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from .common import size_label
from .report import console
from .results import Results, load

THRESHOLD = 0.1
MEMORY_GRAIN = 0.05  # bytes an element that a measurement of memory may differ by

Place = tuple[str, str, str, str, int]  # section, contender, dtype, variant, elements


class Change(NamedTuple):
    """A figure of both files; `moved` is by how much it has grown, `clear` if beyond the spread."""

    place: Place
    old: float
    new: float
    moved: float
    clear: bool


def figures(results: Results) -> dict[Place, tuple[float, float, float]]:
    """Return ratios with their quartiles, and bytes of memory with their grain, by place."""
    found = {}
    for row in results["rows"]:
        if "contender" not in row or not {"base", "bytes"} & set(row):
            continue
        variant = str(row.get("variant", row.get("measure")))
        ratio, grain = float(row["ratio" if "base" in row else "bytes"]), MEMORY_GRAIN / 2
        low, high = row.get("ratio_q1", ratio - grain), row.get("ratio_q3", ratio + grain)
        place = (row["section"], row["contender"], row["dtype"], variant, row["elements"])
        found[place] = (ratio, ratio if low is None else low, ratio if high is None else high)
    return found


def compare(old: Results, new: Results) -> list[Change]:
    """Match the rows of two results, and say what has moved, the worst first."""
    before, after, changes = figures(old), figures(new), []
    for place in before.keys() & after.keys():
        (was, was_low, was_high), (now, low, high) = before[place], after[place]
        moved = now - was if place[0] == "memory" else now / was - 1
        changes.append(Change(place, was, now, moved, low > was_high or high < was_low))
    return sorted(changes, key=lambda change: (-change.moved, change.place))


def gone(old: Results, new: Results) -> list[tuple[str, str]]:
    """List contenders of ours that have no figure any more in a section that was run."""
    left, about = {place[:2] for place in figures(new)}, old["contenders"]
    lost = {place[:2] for place in figures(old)} - left
    return sorted(p for p in lost if p[0] in dict(left) and about[p[1]]["role"] == "ours")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what of hardware, versions and settings differs."""
    return [
        f"{title}, {name}: {old[title].get(name)} -> {new[title].get(name)}"
        for title in ("hardware", "versions", "settings")
        for name in dict.fromkeys((*old[title], *new[title]))
        if old[title].get(name) != new[title].get(name)
    ]


def main(args: argparse.Namespace) -> int:
    """Print what differs, regressions first; with --fail they, and what is gone, make a status."""
    old, new = load(args.old), load(args.new)
    out, limit = console(), args.threshold or THRESHOLD
    for line in differences(old, new):
        out.print(Text(f"Not under the same conditions: {line}", style="yellow"))
    changes = compare(old, new)
    ours = [c for c in changes if c.clear and new["contenders"][c.place[1]]["role"] == "ours"]
    # More memory is never noise. 10% less than it was is what takes 1 / 1.1 of the time.
    worse = [c for c in ours if c.moved > limit or (c.moved > 0 and c.place[0] == "memory")]
    better = [c for c in reversed(ours) if c.moved < 1 / (1 + limit) - 1]
    for title, found in (("Regressions", worse), ("Improvements", better)):
        heads = ("section", "contender", "dtype", "variant", "elements", "old", "new", "change")
        table = Table(*heads)
        for change in found:
            cells = (*change.place[:4], size_label(change.place[4]))
            moved = f"{change.moved:+.0%}" if change.place[0] != "memory" else ""
            table.add_row(*map(Text, cells), f"{change.old:.3g}", f"{change.new:.3g}", moved)
        if found:
            out.print(Text(title, style="bold"), table, sep="\n")
    lost = gone(old, new)
    for section, contender in lost:
        out.print(Text(f"Gone: {contender} of {section} has no figure any more.", style="bold red"))
    out.print(f"{len(changes)} figures compared, {len(worse)} regressions, {len(better)} better.")
    return int(args.fail and bool(worse or lost))
