"""The verdict of a first run on a GPU: what is right, what is wrong, and which goals hold.

`first` calls it after each step; it reads the logs, the tests' outcomes and the results files in
the folder of the run, as far as they are there.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .common import BenchError, figure, size_label
from .goals import judge
from .results import load, rows

_REHEARSAL = (
    "REHEARSAL on the host: what is right here says that the steps work, and nothing of a GPU; "
    "figures mean nothing."
)
SKIPPED = 77  # the exit status of a step that cannot run here; its last line says why
LISTED = 10  # failures that are named, of a step
RIGHT, WRONG, UNKNOWN = "right", "WRONG", "not known"


class Outcome(NamedTuple):
    """What became of a step."""

    name: str
    what: str
    judge: str  # "tests", "results" or "exit"
    state: str  # "ended", "cut" or "running"
    status: int | None  # exit status
    seconds: float
    last: str = ""  # line that it wrote


class Finding(NamedTuple):
    """One thing that is right, wrong, or not known."""

    state: str
    text: str


def tests_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the tests of a step that ended, as the plugin `tests.support.first_run` notes them."""
    file = folder / "tests.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # of the last line, where the process was killed
            found.append(json.loads(line))
    return [test for test in found if test["step"] == name]


def _of_tests(folder: Path, outcome: Outcome) -> Iterator[Finding]:
    found = tests_of(folder, outcome.name)
    failed = [test for test in found if test["outcome"] == "failed"]
    for test in failed[:LISTED]:
        yield Finding(WRONG, f"{outcome.name}: {test['test']}: {test['why']}")
    if len(failed) > LISTED:
        yield Finding(WRONG, f"{outcome.name}: and {len(failed) - LISTED} tests more")
    for why, count in Counter(t["why"] for t in found if t["outcome"] == "skipped").items():
        yield Finding(UNKNOWN, f"{outcome.name}: {count} skipped: {why}")
    passed = sum(test["outcome"] == "passed" for test in found)
    text = f"{outcome.name}: {outcome.what}: {passed:,} tests passed"
    if outcome.state == "ended" and outcome.status and not failed:
        yield Finding(WRONG, f"{text}, then {outcome.last}")
    elif passed:
        yield Finding(RIGHT, text)
    if outcome.state != "ended":
        yield Finding(UNKNOWN, f"{outcome.name}: {_unfinished(outcome)}")


def _unfinished(outcome: Outcome) -> str:
    how = "cut at its limit" if outcome.state == "cut" else "not finished"
    return f"{how}, after {outcome.seconds:.0f} s; what was found before is here"


def _of_command(folder: Path, outcome: Outcome) -> Iterator[Finding]:
    if outcome.state != "ended":
        yield Finding(UNKNOWN, f"{outcome.name}: {_unfinished(outcome)}")
    elif outcome.status == SKIPPED:
        yield Finding(UNKNOWN, f"{outcome.name}: {outcome.last}")
    elif outcome.status:
        yield Finding(WRONG, f"{outcome.name}: exit status {outcome.status}: {outcome.last}")
    else:
        last = f" ({outcome.last})" if outcome.judge == "exit" else ""
        yield Finding(RIGHT, f"{outcome.name}: {outcome.what}{last}")


def _of_results(folder: Path, outcome: Outcome) -> Iterator[Finding]:
    yield from _of_command(folder, outcome)
    if (file := folder / f"{outcome.name}.json").exists():
        try:
            results = load(file)
        except BenchError as error:
            yield Finding(WRONG, f"{outcome.name}: {error}")
            return
        where: dict[str, list[str]] = {}  # a peer may fail at every size
        for note in results["notes"]:
            place, _, said = note.rpartition(": left out, ")
            where.setdefault(said if place else note, []).append(place)
        for said, places in where.items():
            of = f" ({', '.join(filter(None, places))})" if any(places) else ""
            yield Finding(UNKNOWN, f"{outcome.name}: {said}{of}")


_JUDGES = {"tests": _of_tests, "exit": _of_command, "results": _of_results}


def findings(folder: Path, outcomes: Sequence[Outcome]) -> list[Finding]:
    """Return what the steps found."""
    return [finding for outcome in outcomes for finding in _JUDGES[outcome.judge](folder, outcome)]


def goals(folder: Path) -> list[str]:
    """Return the goals for a GPU, and whether what was measured meets them."""
    found = []
    for name in ("bandwidth", "dtypes"):
        with contextlib.suppress(BenchError):  # which is among the findings
            found.append(load(folder / f"{name}.json"))
    if not found:
        return []
    results = found[0]
    for other in found[1:]:
        results["rows"] += other["rows"]
        results["contenders"] |= other["contenders"]
    return [str(goal) for goal in judge(results) if goal.text.startswith("GPU:")]


def masks(folder: Path, outcomes: Sequence[Outcome]) -> list[str]:
    """Return the goal that masks are the CPU's, as the step "bits" has found it."""
    found = []
    for outcome in outcomes:
        if outcome.name == "bits":
            tests = tests_of(folder, outcome.name)
            failed = sum(test["outcome"] == "failed" for test in tests)
            passed = sum(test["outcome"] == "passed" for test in tests)
            whole = outcome.state == "ended" and outcome.status == 0 and passed
            state = "MISSED" if failed else "held" if whole else "not measured"
            found.append(
                f"{state}: GPU: masks and results are the CPU's: {passed:,} tests passed, "
                f"{failed:,} failed"
            )
    return found


def shapes(folder: Path) -> Iterator[str]:
    """Yield the fastest launch shape of each dtype and size, beside the present one."""
    file = folder / "sweep.json"
    try:
        results = load(file)
    except BenchError:
        return
    present = results["settings"]["present"]
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows(results, "sweep", contender="fastdrop"):
        found.setdefault((row["dtype"], row["elements"]), {})[row["variant"]] = row["ratio"]
    for (dtype, n), ratios in found.items():
        if present not in ratios:
            continue
        best = min(ratios, key=ratios.__getitem__)
        lead = figure(ratios[present] / ratios[best])
        yield (
            f"{dtype}, {size_label(n)}: threads x groups in flight: {best} is the fastest, "
            f"{figure(1 / ratios[best])} of the copy; the present {present} takes {lead} times as "
            "long"
        )


def status(folder: Path, outcomes: Sequence[Outcome]) -> int:
    """Return the exit status: 1 if anything is wrong or not finished."""
    finished = all(outcome.state == "ended" for outcome in outcomes)
    return int(not finished or any(f.state == WRONG for f in findings(folder, outcomes)))


def text(folder: Path, outcomes: Sequence[Outcome], rehearsal: bool) -> str:
    """Return the verdict as text; the last line says it in one sentence."""
    found, best = findings(folder, outcomes), list(shapes(folder))
    met = masks(folder, outcomes) + goals(folder)
    lines = [_REHEARSAL] * rehearsal
    for state in (RIGHT, UNKNOWN, WRONG):
        if here := [finding.text for finding in found if finding.state == state]:
            lines += [f"{state}:", *(f"  {one}" for one in here)]
    aside = " (of a rehearsal, which mean nothing)" * rehearsal
    for title, listed in (("goals", met), ("launch shapes", best)):
        if listed:
            lines += [f"{title}{aside}:", *(f"  {one}" for one in listed)]
    wrong = sum(finding.state == WRONG for finding in found)
    states = Counter(goal.partition(":")[0] for goal in met)
    cut = [outcome.name for outcome in outcomes if outcome.state != "ended"]
    said = "nothing is wrong" if not wrong else f"{wrong} things are WRONG"
    said += f" in {len(outcomes)} steps" + (f", not finished: {', '.join(cut)}" if cut else "")
    if states:
        said += "; goals: " + ", ".join(f"{n} {state}" for state, n in states.items())
    return "\n".join([*lines, f"verdict: {said}."]) + "\n"
