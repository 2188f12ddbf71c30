"""Results of the family: the file, tables, losses and goals, for the terminal and the README."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from . import fused, members
from .common import ROOT, P, figure, listing, size_label
from .losses import NOISE
from .members import ALL, NORMALS, ONE, USUAL, Member
from .report import Table
from .results import Measured, check_keys, read

MEMBERS: tuple[Member, ...] = (*members.MEMBERS, *fused.MEMBERS)
RESULTS = ROOT / "bench" / "results" / "family.json"
SCHEMA = 1


class FamilyRow(TypedDict):
    """A call timed: seconds, and the usual NumPy way's in the same rounds over it."""

    member: str
    way: str
    elements: int
    seconds: float
    q1: float
    q3: float
    faster: float
    rounds: int


class FamilyResults(Measured):
    """A whole results file of the family."""

    rows: list[FamilyRow]


def load(path: Path) -> FamilyResults:
    """Read a results file.

    Raises
    ------
    BenchError
        Where it is missing, is not JSON, has another schema version, or lacks something.
    """
    data = read(path, SCHEMA, "python -m bench family")
    check_keys(path, "the file", data, FamilyResults)
    for number, row in enumerate(data["rows"]):
        check_keys(path, f"rows[{number}]", row, FamilyRow)
    results: FamilyResults = data
    return results


def tables(rows: Sequence[FamilyRow]) -> Iterator[Table]:
    """Yield ratios first, then milliseconds: of each member a row, of each way a column."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    ways.sort(key=lambda way: way == NORMALS)
    for elements in dict.fromkeys(row["elements"] for row in rows):
        here = [row for row in rows if row["elements"] == elements]
        shown: tuple[tuple[str, str, list[str], Callable[[FamilyRow], str]], ...] = (
            (
                f"Times faster than the usual NumPy way, {size_label(elements)} elements",
                f"float32, p = {P:g} (gaussian_noise: stddev). Medians over rounds of the ratio "
                "within a round; higher is faster.",
                [way for way in ways if way not in (USUAL, NORMALS)],
                lambda row: figure(row["faster"]),
            ),
            (
                f"Milliseconds a call, {size_label(elements)} elements",
                f"Medians. {NORMALS}: Generator.standard_normal of float32, to a given array.",
                ways,
                lambda row: figure(row["seconds"] * 1e3),
            ),
        )
        for title, note, columns, cell in shown:
            found = {(row["member"], row["way"]): row for row in here}
            yield Table(
                title,
                ["", *columns],
                [
                    [name, *(cell(found[name, w]) if (name, w) in found else "" for w in columns)]
                    for name in dict.fromkeys(row["member"] for row in here)
                ],
                note,
            )


def losses(rows: Sequence[FamilyRow]) -> list[str]:
    """Say where fastdrop is slower than another way to do the same, with as many threads."""
    faster = {(row["member"], row["elements"], row["way"]): row["faster"] for row in rows}
    found: dict[tuple[str, str, str], list[str]] = {}
    for (name, elements, way), theirs in faster.items():
        if way in (NORMALS, ONE, ALL):
            continue
        mine = ONE if way == "torch, 1 thread" else ALL
        ratio = theirs / faster[name, elements, mine]
        if ratio > NOISE:
            where = f"{size_label(elements)} ({figure(ratio)} times)"
            found.setdefault((name, mine, way), []).append(where)
    return [
        f"{name}: {mine} slower than {way} at {listing(where)}."
        for (name, mine, way), where in found.items()
    ] or ["Nothing of this is slower than NumPy's way or torch's."]


def verdicts(rows: Sequence[FamilyRow]) -> list[str]:
    """Say which goals of members hold."""
    seconds = {(row["member"], row["elements"], row["way"]): row["seconds"] for row in rows}
    lines = []
    for member in MEMBERS:
        goal = member.goal
        if goal is None:
            continue
        for (name, elements, way), base in seconds.items():
            if (
                name != member.name
                or way != goal.base
                or elements not in (goal.sizes or [elements])
            ):
                continue
            faster = base / seconds[name, elements, goal.way]
            lines.append(
                f"{'held' if faster >= goal.least else 'MISSED'}: {name} at "
                f"{size_label(elements)}, {goal.way}: at least {goal.least:g} times faster than "
                f"{goal.base}, is {figure(faster)}"
            )
    return lines
