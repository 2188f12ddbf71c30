"""``python -m bench batch``: the functions on batches, beside what people use in their place.

The comparisons come from modules ``batch_*``, each of which has ``FAMILY`` and ``rows(seconds)``;
see `Comparison`. Ours is timed on one thread and on all, the others as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import common, report, timing
from .common import BenchError, Tell, chosen, identity, load
from .results import Row, made

# The names of modules behind ``batch_``; these come first.
FIRST = ("tokens", "keep", "spans", "swap", "weights", "fill")
SECONDS = 20.0  # for a family
USUAL = 4  # comparisons of a family, among which its time is divided
FOLDER = Path(__file__).parent
ONE, ALL = "fastdrop-1", "fastdrop"
LABELS = {ONE: "fastdrop, 1 thread", ALL: "fastdrop, all threads"}


class Comparison(NamedTuple):
    """What ``rows(seconds)`` of a module yields: calls that do the same, checked.

    `seconds` is how long the timing of a family may take; 0 means that each is called once, so that
    arrays may be small.
    """

    what: str  # is done, and on how much
    calls: dict[str, Callable[[], object]]  # by the contender's name; each does all of it
    ours: str  # the name of ours
    goal_note: str  # the name of the contender that the goal is of, perhaps with a remark
    goal: float  # how many times as fast as that ours is meant to be


def modules(names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Import the modules that there are, by names of families, all if None."""
    found = sorted(path.stem.removeprefix("batch_") for path in FOLDER.glob("batch_*.py"))
    there = [*(name for name in FIRST if name in found), *(n for n in found if n not in FIRST)]
    return {n: load(f"bench.batch_{n}") for n in chosen(names, there, "family")}


def goal_peer(given: Comparison) -> str:
    """Return the contender that a goal is of."""
    peers = [name for name in given.calls if name != given.ours]
    named = [name for name in peers if name in given.goal_note]
    if not named:
        raise BenchError(f"{given.what}: the goal is of none of {', '.join(peers)}")
    return max(named, key=len)


def timed(family: str, given: Comparison, seconds: float, effort: timing.Effort) -> Iterator[Row]:
    """Time the calls of a comparison by turns; ratios are to ours on one thread."""
    fd, ours = load("fastdrop"), given.calls[given.ours]
    threads = fd.get_num_threads()

    def on(count: int) -> Callable[[], object]:
        def call() -> object:
            with fd.threads(count):
                return ours()

        return call

    calls = {ONE: on(1), ALL: on(threads)}
    calls |= {name: call for name, call in given.calls.items() if name != given.ours}
    entries = [
        timing.prepare(name, call, spins="torch" if "torch" in name else "", effort=effort)
        for name, call in calls.items()
    ]
    samples = timing.measure(entries, seconds, effort=effort)
    found = timing.summarise(samples, dict.fromkeys(calls, ONE))
    peer = goal_peer(given)
    for name in calls:
        yield {
            **{"section": "batch", "family": family, "contender": name, "dtype": "float32"},
            **{"variant": given.what, "elements": 0, "base": identity(ONE, "", given.what)},
            **{"goal": float(given.goal) if name == peer else 0.0, **found[name]},
        }


def collect(args: argparse.Namespace, tell: Tell) -> tuple[list[Row], dict[str, dict[str, str]]]:
    """Time the comparisons of all families; returns their rows, and the contenders."""
    rows: list[Row] = []
    families = modules(args.family)
    effort = timing.ONCE if args.check else timing.FULL
    seconds = 0.0 if args.check else args.seconds or SECONDS
    seen = set()
    for done, module in enumerate(families.values()):
        tell(module.FAMILY, done / len(families))
        for given in module.rows(seconds):
            comparison = Comparison(*given)
            if comparison.what in seen:  # with another goal
                what = f"{comparison.what}, against {goal_peer(comparison)}"
                comparison = comparison._replace(what=what)
            seen.add(comparison.what)
            tell(comparison.what, done / len(families))
            rows += timed(module.FAMILY, comparison, max(seconds / USUAL, 1e-9), effort)
    names = dict.fromkeys((ONE, ALL, *(row["contender"] for row in rows)))
    about = {
        name: {
            "label": LABELS.get(name, name),
            "role": "ours" if name.startswith("fastdrop") else "peer",
        }
        for name in names
    }
    return rows, about


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say."""
    with common.progress() as tell:
        rows, about = collect(args, tell)
    settings = {"seconds": args.seconds or SECONDS, "check": args.check}
    report.finish(made(rows, settings, about), args, "batch")
    return 0
