"""Results of training loops: the file, tables and goals, for terminal and README."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict

from .common import ROOT, figure
from .goals import Goal, Verdict
from .loop_cases import BY_NAME
from .loop_sites import LAYER, MASK, NONE, STORED, VARIANTS
from .results import Measured, check_keys, read
from .table import Table

RESULTS = ROOT / "bench" / "results" / "loops.json"
SCHEMA = 1
COMMAND = "python -m bench loops"
MS = 1e3


class LoopRow(TypedDict):
    """A loop with one kind of dropout: medians over steps, and quartiles of the step, in seconds.

    `ratio` is that of the step to the one with a stored mask in the same round, and `share` is
    dropout's part of a step, medians too. `kept` is bytes of masks between forward and backward,
    and `masks` how many there are. `activations` is the dtype of the scores.
    """

    loop: str
    dtype: str
    variant: str
    steps: int
    step: float
    step_q1: float
    step_q3: float
    ratio: float
    dropout: float
    share: float
    elements: int
    masks: int
    kept: int
    activations: str


class LoopResults(Measured):
    """A whole results file."""

    rows: list[LoopRow]


def load(path: Path) -> LoopResults:
    """Read a results file.

    Raises
    ------
    BenchError
        Where it is missing, is not JSON, has another schema version, or lacks something.
    """
    data = read(path, SCHEMA, COMMAND)
    check_keys(path, "the file", data, LoopResults)
    for number, row in enumerate(data["rows"]):
        check_keys(path, f"rows[{number}]", row, LoopRow)
    results: LoopResults = data
    return results


def cases(results: LoopResults) -> dict[tuple[str, str], dict[str, LoopRow]]:
    """Return the rows by loop and dtype, and by variant."""
    found: dict[tuple[str, str], dict[str, LoopRow]] = {}
    for row in results["rows"]:
        found.setdefault((row["loop"], row["dtype"]), {})[row["variant"]] = row
    return found


def size(kept: int) -> str:
    """Write bytes as people do."""
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if kept >= unit:
            return f"{figure(kept / unit)} {name}"
    return f"{kept} bytes"


def _share(row: LoopRow) -> str:
    return f"{row['share']:.1%}"


def label(loop: str, dtype: str) -> str:
    """Say what a loop is."""
    return f"{BY_NAME[loop].text}, {dtype}"


def summary(results: LoopResults) -> Table:
    """Return what changes where a stored mask becomes an fd.Mask: a line a loop."""
    lines = []
    for (loop, dtype), rows in cases(results).items():
        if STORED not in rows or MASK not in rows:
            continue
        old, new = rows[STORED], rows[MASK]
        types = [row["activations"] for row in (old, new)]
        lines.append(
            [
                label(loop, dtype),
                f"{figure(old['dropout'] * MS)} → {figure(new['dropout'] * MS)} ms",
                f"{old['dropout'] / new['dropout']:.1f}",
                f"{_share(old)} → {_share(new)}",
                f"{figure(old['step'] * MS)} → {figure(new['step'] * MS)} ms",
                f"{size(old['kept'])} → {size(new['kept'])}",
                types[0] if types[0] == types[1] else " → ".join(types),
            ]
        )
    return Table(
        "A training step, from the stored mask to fd.Mask",
        [
            "training step",
            "dropout in it",
            "times cheaper",
            "share of the step",
            "whole step",
            "masks kept",
            "activations",
        ],
        lines,
        "Whole steps (forward, loss, backward, update) of plain NumPy networks on scikit-learn's "
        "data, a new batch each; with masks drawn as public loops draw them, by np.random.rand or "
        "np.random.binomial, and with `fd.Mask(shape, p, rng=np.random)` in their place. Medians "
        "over steps made in turn, BLAS on one thread. Equal masks give equal gradients, bit for "
        "bit, which is checked first.",
    )


def every(results: LoopResults) -> Table:
    """Return all variants of all loops."""
    lines = []
    for (loop, dtype), rows in cases(results).items():
        for variant in VARIANTS:
            if variant not in rows:
                continue
            row = rows[variant]
            lines.append(
                [
                    f"{loop} {dtype}: {variant}",
                    figure(row["step"] * MS),
                    f"{figure(row['step_q1'] * MS)} to {figure(row['step_q3'] * MS)}",
                    "" if variant == NONE else f"{row['dropout'] * MS:.3f}",
                    "" if variant == NONE else _share(row),
                    f"{row['elements']:,}",
                    f"{row['kept']:,}",
                    row["activations"],
                ]
            )
    return Table(
        "All kinds of dropout in all training steps",
        [
            "loop",
            "step, ms",
            "quartiles",
            "dropout, ms",
            "share",
            "elements",
            "masks, bytes",
            "activations",
        ],
        lines,
        "Elements: how many a step drops from, forward. A layer keeps a count and no mask. "
        "Activations: the type of the scores, which a float64 mask may have turned to float64.",
    )


def _worst(
    measure: Callable[[dict[str, LoopRow]], float | None],
    pick: Callable[[Iterable[float]], float],
) -> Callable[[LoopResults], float | None]:
    def over(results: LoopResults) -> float | None:
        found = [value for rows in cases(results).values() if (value := measure(rows)) is not None]
        return pick(found) if found else None

    return over


def _cheaper(variant: str) -> Callable[[dict[str, LoopRow]], float | None]:
    def measure(rows: dict[str, LoopRow]) -> float | None:
        if STORED not in rows or variant not in rows:
            return None
        return rows[STORED]["dropout"] / rows[variant]["dropout"]

    return measure


def _step(variant: str) -> Callable[[dict[str, LoopRow]], float | None]:
    def measure(rows: dict[str, LoopRow]) -> float | None:
        return rows[variant]["ratio"] if variant in rows else None

    return measure


def _bytes_a_mask(rows: dict[str, LoopRow]) -> float | None:
    return rows[MASK]["kept"] / rows[MASK]["masks"] if MASK in rows else None


def _turned(rows: dict[str, LoopRow]) -> float | None:
    ours = [row for name, row in rows.items() if name in (MASK, LAYER)]
    return float(sum(row["activations"] != row["dtype"] for row in ours)) if ours else None


LOOP_GOALS: tuple[Goal[LoopResults], ...] = (
    *(
        Goal(
            f"training steps: dropout by {variant} cheaper than by a stored mask, the least",
            " times",
            1.4,
            _worst(_cheaper(variant), min),
            at_least=True,
        )
        for variant in (MASK, LAYER)
    ),
    *(
        # Whole steps differ by some per cent from run to run.
        Goal(
            f"training steps: with {variant}, time over that with a stored mask, the most",
            "",
            1.0,
            _worst(_step(variant), max),
            1.03,
        )
        for variant in (MASK, LAYER)
    ),
    Goal("training steps: bytes of an fd.Mask", " bytes", 16.0, _worst(_bytes_a_mask, max)),
    Goal(
        "training steps: activations that fastdrop turns to another type",
        "",
        0.0,
        _worst(_turned, max),
    ),
)


def judge(results: LoopResults) -> list[Verdict]:
    """Compare the goals with what was measured."""
    return [Verdict(goal, goal.measure(results)) for goal in LOOP_GOALS]
