"""The goals of `goals.toml`, and whether results meet them.

A value of a goal is an expression over the functions of `values`; the report shows the verdicts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .common import KI, MI, dtype_of, figure, toml
from .results import Results, Row, place, rows

GOALS = toml("goals")["goal"]


@dataclass(frozen=True)
class Verdict:
    """A goal, its figure (None: not measured), and what became of it."""

    text: str
    value: float | None
    limit: float
    at_least: bool = False
    acceptable: float | None = None
    unit: str = ""

    @property
    def state(self) -> str:
        """Held, acceptable, MISSED, or not measured."""
        if self.value is None:
            return "not measured"
        sign = -1 if self.at_least else 1
        for bound, state in ((self.limit, "held"), (self.acceptable, "acceptable")):
            if bound is not None and sign * self.value <= sign * bound:
                return state
        return "MISSED"

    def __str__(self) -> str:
        """Write the verdict first, then the goal and the figure."""
        line = f"{self.state}: {self.text}: {'at least' if self.at_least else 'at most'} "
        line += f"{self.limit:g}{self.unit}"
        if self.acceptable is not None:
            line += f" (acceptable: {self.acceptable:g})"
        return line if self.value is None else f"{line}, is {figure(self.value)}"


def values(results: Results) -> dict[str, Any]:
    """Return what the expressions of goals are made of.

    Contenders are given by their ids. Times are ratios to the base of each, in which what slows a
    whole round cancels; they come as lists, of all sizes from `low` to `high`.
    """
    ours = [name for name, about in results["contenders"].items() if about["role"] == "ours"]

    def found(section: str, **wanted: Any) -> list[Row]:
        return rows(results, section, **wanted)

    def val(section: str, contender: str, elements: int, key: str = "ratio") -> float:
        here = found(section, elements=elements)
        return next(float(row[key]) for row in here if place(row) == contender)

    def pairs(section: str, mine: str, other: str, low: int, high: float) -> list[tuple[Row, Row]]:
        by = {(place(row), row["elements"]): row for row in found(section) if "base" in row}
        sizes = sorted({n for _, n in by if low <= n <= high})
        return [(by[mine, n], by[other, n]) for n in sizes if {(mine, n), (other, n)} <= set(by)]

    def times(section: str, mine: str, other: str, low: int = 0, high: float = 1e99) -> list[float]:
        return [a["ratio"] / b["ratio"] for a, b in pairs(section, mine, other, low, high)]

    def both(section: str, mine: str, other: str, **limits: Any) -> list[float]:
        names = ("fastdrop-1", "fastdrop")  # which the ids begin with: of one thread and of all
        return [t for n in names for t in times(section, n + mine, n + other, **limits)]

    def over(section: str, mine: str, other: str, low: int = 0, high: float = 1e99) -> list[float]:
        here = pairs(section, mine, other, low, high)
        return [(a["seconds"] - b["seconds"]) * 1e6 for a, b in here]

    def to_plain(begins: str | tuple[str, ...]) -> list[float]:
        names = {row["variant"] for row in found("variants") if row["variant"].startswith(begins)}
        return [t for name in names for t in both("variants", "", f"/{name}")]

    def to_idiom() -> list[float]:
        sections = ("small", "forward", "small-step", "step")
        return [t for s in sections for name in ours for t in times(s, name, "cs231n")]

    def loops(one: str, other: str) -> Iterator[tuple[Row, Row]]:
        for a in found("loops", variant=one):
            for b in found("loops", variant=other, loop=a["loop"], dtype=a["dtype"]):
                yield a, b

    def torch_steps(one: str, other: str) -> Iterator[tuple[Row, Row]]:
        for a in found("steps", variant=one):
            for b in found("steps", variant=other, loop=a["loop"]):
                yield a, b

    def latency(elements: int) -> Iterator[tuple[Row, Row]]:
        for a in found("latency", elements=elements, threads=1):
            for b in found("latency", elements=elements, busy=a["busy"]):
                if b["threads"] > 1:
                    yield a, b

    def large(section: str, dtype: str, name: str) -> list[float]:  # from 256 MiB up
        end = "" if dtype == "float32" else f"/{dtype}"
        low = (256 << 20) // dtype_of(dtype).itemsize
        return times(section, name + end, f"fastdrop{end}", low=low)

    vectors = results["settings"].get("vector_bytes")
    return {"KI": KI, "MI": MI, "statistics": statistics, **locals()}


def judge(results: Results) -> list[Verdict]:
    """Compare every goal with the results."""
    names, verdicts = values(results), []
    for goal in GOALS:
        least = "least" in goal
        for item in goal.get("each", [[]]):
            try:
                value = None
                if goal["text"].startswith("GPU:") == ("gpu" in results["hardware"]):
                    value = float(eval(goal["value"].format(*item), names))
            except (StopIteration, ValueError):  # max() of nothing is a ValueError
                pass
            # Of a list an integer is the place of the bound in an item.
            bounds = (goal["least" if least else "limit"], goal.get("acceptable"))
            limit, acceptable = (item[b] if isinstance(b, int) and item else b for b in bounds)
            more = (least, acceptable, goal.get("unit", ""))
            verdicts.append(Verdict(goal["text"].format(*item), value, limit, *more))
    return verdicts
