"""The speed and memory that fastdrop promises itself, as data, and how results compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .common import KI, MI, figure
from .results import Results, find, sizes


@dataclass(frozen=True)
class Goal:
    """A figure to reach: at most `limit`, or at least, where `at_least` is set."""

    text: str
    unit: str
    limit: float
    measure: Callable[[Results], float | None]
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a goal: `held` is None where the results do not hold its figure."""

    goal: Goal
    value: float | None
    held: bool | None

    def __str__(self) -> str:
        """Write the verdict first, then the goal and the figure."""
        word = {True: "held", False: "MISSED", None: "not measured"}[self.held]
        bound = "at least" if self.goal.at_least else "at most"
        line = f"{word}: {self.goal.text}: {bound} {self.goal.limit:g}{self.goal.unit}"
        return line if self.value is None else f"{line}, is {figure(self.value)}"


def _ratio(contender: str, elements: int) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        row = find(results, contender, elements)
        return row["ratio"] if row else None

    return measure


def _microseconds(contender: str, elements: int) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        row = find(results, contender, elements)
        return row["seconds"] * 1e6 if row else None

    return measure


def _smallest_lead(
    peers: Sequence[str], ours: str, smallest: int
) -> Callable[[Results], float | None]:
    """How many times slower a peer is: its best row, at its best size from `smallest` on."""

    def measure(results: Results) -> float | None:
        leads = []
        for elements in sizes(results):
            mine = find(results, ours, elements)
            theirs = [row["ratio"] for peer in peers if (row := find(results, peer, elements))]
            if mine and theirs and elements >= smallest:
                leads.append(min(theirs) / mine["ratio"])
        return min(leads, default=None)

    return measure


def _extra_memory(contender: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        for row in results["memory"]:
            if row["contender"] == contender:
                seen = [b for b in (row["traced"], row["resident"]) if b is not None]
                return max(0.0, *seen) if seen else None
        return None

    return measure


GOALS = (
    Goal("ratio at 64 Ki elements, 1 thread", "", 5.0, _ratio("fastdrop-1", 64 * KI)),
    Goal("ratio at 16 Mi elements, all threads", "", 0.8, _ratio("fastdrop", 16 * MI)),
    Goal(
        # torch's better row: on a busy machine its threads wait for each other for milliseconds.
        "torch F.dropout (1 or all threads) slower than fastdrop, least lead from 64 Ki up",
        " times",
        20,
        _smallest_lead(("torch", "torch-1"), "fastdrop", 64 * KI),
        at_least=True,
    ),
    Goal("a call at 1 Ki elements", " us", 6.0, _microseconds("fastdrop", KI)),
    # Not 0: Linux counts resident pages in lumps of some 100 KiB a thread. A stored mask would be
    # 1 byte, and 0.125 even as bits.
    Goal("memory beyond the output, out=y", " bytes an element", 0.05, _extra_memory("fastdrop")),
    Goal(
        "memory beyond the output, new array",
        " bytes an element",
        0.05,
        _extra_memory("fastdrop-new"),
    ),
)


def judge(results: Results) -> list[Verdict]:
    """Compare every goal with the results."""
    verdicts = []
    for goal in GOALS:
        value = goal.measure(results)
        held = None
        if value is not None:
            held = value >= goal.limit if goal.at_least else value <= goal.limit
        verdicts.append(Verdict(goal, value, held))
    return verdicts
