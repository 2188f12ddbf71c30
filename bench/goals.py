"""The speed and memory that fastdrop promises itself, as data, and how results compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from . import small_report
from .common import HALF, KI, MI, figure
from .report import seen_bytes
from .results import Results, Row, find, rows, sizes

Measure: TypeAlias = Callable[[Results], float | None]
State: TypeAlias = Literal["held", "acceptable", "MISSED", "not measured"]
R = TypeVar("R")  # what a results file holds


@dataclass(frozen=True)
class Goal(Generic[R]):
    """A figure to reach: at most `limit`, or at least, where `at_least` is set.

    Where there is an `acceptable` figure too, missing the first and reaching that is no miss.
    """

    text: str
    unit: str
    limit: float
    measure: Callable[[R], float | None]
    acceptable: float | None = None
    at_least: bool = False

    def state(self, value: float | None) -> State:
        """Say what a figure makes of the goal."""
        if value is None:
            return "not measured"
        if self.reaches(value, self.limit):
            return "held"
        if self.acceptable is not None and self.reaches(value, self.acceptable):
            return "acceptable"
        return "MISSED"

    def reaches(self, value: float, bound: float) -> bool:
        """Say whether a figure is as good as a bound."""
        return value >= bound if self.at_least else value <= bound


@dataclass(frozen=True)
class Verdict:
    """What became of a goal."""

    goal: Goal[Any]
    value: float | None

    @property
    def state(self) -> State:
        """Held, acceptable, missed, or not measured."""
        return self.goal.state(self.value)

    def __str__(self) -> str:
        """Write the verdict first, then the goal and the figure."""
        goal = self.goal
        line = f"{self.state}: {goal.text}: {'at least' if goal.at_least else 'at most'} "
        line += f"{goal.limit:g}{goal.unit}"
        if goal.acceptable is not None:
            line += f" (acceptable: {goal.acceptable:g})"
        return line if self.value is None else f"{line}, is {figure(self.value)}"


@dataclass(frozen=True)
class Which:
    """The row of a section, at each size."""

    section: str
    contender: str
    dtype: str = "float32"
    variant: str = ""

    def at(self, results: Results, elements: int) -> Row | None:
        """Return the row at a size."""
        return find(
            results,
            self.section,
            self.contender,
            elements,
            dtype=self.dtype,
            variant=self.variant,
        )


def _ratio(which: Which, elements: int) -> Measure:
    def measure(results: Results) -> float | None:
        row = which.at(results, elements)
        return row["ratio"] if row else None

    return measure


def _microseconds(which: Which, elements: int) -> Measure:
    def measure(results: Results) -> float | None:
        row = which.at(results, elements)
        return row["seconds"] * 1e6 if row else None

    return measure


def _over_roof(name: str, section: str) -> Measure:
    """Microseconds over np.multiply, the most at any size."""

    def measure(results: Results) -> float | None:
        over = []
        for elements in sizes(results, section):
            roof = find(results, section, "multiply", elements)
            row = find(results, section, name, elements)
            if roof and row:
                over.append((row["seconds"] - roof["seconds"]) * 1e6)
        return max(over, default=None)

    return measure


def _relative(
    pairs: Iterable[tuple[Which, Which]],
    worst: Callable[..., float | None] = max,
    smallest: int = 0,
    largest: float = float("inf"),
    rate: bool = False,
) -> Measure:
    """Time of the first over that of the second, or of rates: the worst of all pairs and sizes.

    A time is its ratio to the base, in which what slows a whole round cancels.
    """
    both = list(pairs)

    def measure(results: Results) -> float | None:
        found = []
        for mine, other in both:
            for elements in sizes(results, mine.section):
                rows = mine.at(results, elements), other.at(results, elements)
                if rows[0] and rows[1] and smallest <= elements <= largest:
                    quotient = rows[0]["ratio"] / rows[1]["ratio"]
                    found.append(1 / quotient if rate else quotient)
        return worst(found, default=None)

    return measure


def _smallest_lead(peers: Sequence[str], ours: str, smallest: int) -> Measure:
    """How many times slower a peer is: its best row, at its best size from `smallest` on."""

    def measure(results: Results) -> float | None:
        leads = []
        for elements in sizes(results):
            mine = find(results, "forward", ours, elements)
            theirs = [
                row["ratio"] for peer in peers if (row := find(results, "forward", peer, elements))
            ]
            if mine and theirs and elements >= smallest:
                leads.append(min(theirs) / mine["ratio"])
        return min(leads, default=None)

    return measure


def _extra_memory(contender: str) -> Measure:
    """Take the most that was seen: of a call, of a step, and between its passes."""

    def measure(results: Results) -> float | None:
        found = [
            seen_bytes(row["traced"], row["resident"])
            for row in results["memory"]
            if row["contender"] == contender
        ]
        value = seen_bytes(*found)
        return None if value is None else max(0.0, value)

    return measure


def _variant(name: str, contender: str) -> Which:
    return Which("variants", contender, variant=name)


def _to_plain(*prefixes: str) -> Measure:
    """Rate of variants, named by how they begin, relative to the plain call: the lowest."""

    def measure(results: Results) -> float | None:
        names = {r["variant"] for r in rows(results, "variants") if r["variant"]}
        pairs = [
            (_variant(name, ours), _variant("", ours))
            for name in sorted(names)
            if name.startswith(prefixes)
            for ours in (ONE.contender, ALL.contender)
        ]
        return _relative(pairs, min, rate=True)(results)

    return measure


ONE, ALL = Which("forward", "fastdrop-1"), Which("forward", "fastdrop")
# Of the section over threads: all threads are two on some machines only.
BY_ONE, BY_TWO = (Which("threads", "fastdrop", variant=text) for text in ("1 thread", "2 threads"))
BOTH = (ONE.contender, ALL.contender)
OURS = ("fastdrop", *(f"fastdrop-{how}" for how in ("new", "layer", "generator", "unseeded")))
OURS += ("fastdrop-mask", "fastdrop-layer-step", "fastdrop-mask-step")
# Figures that differ by less are the same, on a machine that is not quiet.
SAME = small_report.SAME


def _in_dtype(dtype: str, contender: str = ONE.contender) -> Which:
    return Which("dtypes", contender, dtype)


def _ratios() -> list[Goal[Results]]:
    figures = (
        ("64 Ki", 64 * KI, (3.0, 4.0), None),
        ("1 Mi", MI, (1.8, 2.2), (1.0, 1.3)),
        ("16 Mi", 16 * MI, (0.85, 1.0), (0.5, 0.6)),
        ("64 Mi", 64 * MI, (0.85, 1.0), (0.5, 0.6)),
    )
    goals = []
    for label, elements, one, two in figures:
        text = f"ratio at {label} elements"
        goals.append(Goal(f"{text}, 1 thread", "", one[0], _ratio(ONE, elements), one[1]))
        if two:
            goals.append(Goal(f"{text}, 2 threads", "", two[0], _ratio(BY_TWO, elements), two[1]))
    return goals


def _half(dtype: str) -> list[Goal[Results]]:
    pairs = [(_in_dtype(dtype, name), _in_dtype("float32", name)) for name in BOTH]
    return [
        Goal(
            f"{dtype}, time over float32's in cache (64 Ki and 1 Mi), the most",
            "",
            1.0,
            _relative(pairs, largest=MI),
            SAME,
        ),
        Goal(
            f"{dtype}, rate over float32's from 64 Mi up, the least",
            " times",
            1.5,
            _relative(pairs, min, smallest=64 * MI, rate=True),
            at_least=True,
        ),
    ]


GOALS = (
    *_ratios(),
    Goal(
        "2 threads, time over 1 thread's at 64 Ki",
        "",
        1.0,
        _relative([(BY_TWO, BY_ONE)], largest=64 * KI),
        SAME,
    ),
    Goal(
        "dropout_mask at 64 Ki, time over np.multiply's of float32",
        "",
        3.5,
        _ratio(_variant("dropout_mask", ONE.contender), 64 * KI),
    ),
    Goal(
        "packed dropout_mask, time over the bool one's, the most",
        "",
        1.0,
        _relative(
            (_variant("dropout_mask, packed", name), _variant("dropout_mask", name))
            for name in BOTH
        ),
        SAME,
    ),
    *(goal for dtype in HALF for goal in _half(dtype)),
    Goal(
        "float64, ratio to its np.multiply over float32's to its, 1 thread, the most",
        "",
        1.0,
        _relative([(_in_dtype("float64"), _in_dtype("float32"))]),
        SAME,
    ),
    Goal(
        "p = 0.5, time over p = 0.1's, the most",
        "",
        1.05,
        _relative((_variant("p = 0.5", name), _variant("", name)) for name in BOTH),
    ),
    Goal(
        "ties: time over that of a key without any, at 64 Ki",
        "",
        1.05,
        _relative(
            [(_variant("", ONE.contender), _variant("no tie up to 64 Ki", ONE.contender))],
            largest=64 * KI,
        ),
    ),
    Goal(
        "ties: time of p = 0.1 over p = 0.125's, whose ties need no more bits, the most",
        "",
        1.05,
        _relative((_variant("", name), _variant("p = 0.125", name)) for name in BOTH),
    ),
    Goal(
        "noise_shape, runs of 4,096, rate over the plain call's, the least",
        "",
        0.8,
        _to_plain("long noise_shape"),
        at_least=True,
    ),
    Goal(
        "offset and shards, runs of 4,096, rate over the plain call's, the least",
        "",
        0.8,
        _to_plain("offset", "shard of rows", "long shard"),
        at_least=True,
    ),
    Goal(
        "Fortran order, rate over C order's, the least",
        "",
        0.7,
        _to_plain("Fortran"),
        at_least=True,
    ),
    Goal(
        "calls of 10 to 4 Ki elements, over np.multiply, the most",
        " us",
        3.0,
        _over_roof("fastdrop", "small"),
    ),
    # The roof writes to a given output here too: making the array counts.
    Goal(
        "calls of 10 to 4 Ki elements, new array, over np.multiply, the most",
        " us",
        3.0,
        _over_roof("fastdrop-new", "small"),
    ),
    Goal(
        "time over the cs231n idiom's, the most at any size from 10 elements up",
        "",
        1.0,
        _relative(
            (Which(section, name), Which(section, "cs231n"))
            for section in ("small", "forward", "small-step", "step")
            for name in OURS
        ),
    ),
    Goal(
        # torch's better row: on a busy machine its threads wait for each other for milliseconds.
        "torch F.dropout (1 or all threads) slower than fastdrop, least lead from 64 Ki up",
        " times",
        20,
        _smallest_lead(("torch", "torch-1"), "fastdrop", 64 * KI),
        at_least=True,
    ),
    *(Goal(*goal) for goal in small_report.GOALS),
    Goal("a call at 1 Ki elements", " us", 6.0, _microseconds(ALL, KI)),
    # Not 0: Linux counts resident pages in lumps of some 100 KiB a thread. A stored mask would be
    # 1 byte, and 0.125 even as bits.
    Goal("memory beyond the results, out=y", " bytes an element", 0.05, _extra_memory("fastdrop")),
    Goal(
        "memory beyond the results, new array",
        " bytes an element",
        0.05,
        _extra_memory("fastdrop-new"),
    ),
)


def judge(results: Results) -> list[Verdict]:
    """Compare every goal with the results."""
    return [Verdict(goal, goal.measure(results)) for goal in GOALS]
