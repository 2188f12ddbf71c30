"""Results of latency, cold start and steadiness: file, tables, goals, for terminal and README."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from .common import MI, ROOT, P, figure, size_label
from .first import ELEMENTS
from .goals import Goal, Verdict
from .report import Table
from .results import Conditions, Versioned, check_keys, read, save

RESULTS = ROOT / "bench" / "results" / "process.json"
SCHEMA = 1
COMMANDS = "python -m bench latency, start and steady"
WARM, EMPTY = "warm", "empty"  # caches of compiled kernels


class LatencyRow(TypedDict):
    """Single calls of a size by so many threads, beside so many busy processes, in seconds."""

    elements: int
    busy: int
    threads: int
    calls: int
    median: float
    p99: float
    worst: float


class StartRow(TypedDict):
    """The first call of fresh processes, or an import alone, in seconds.

    `cache` is that of the compiled kernels; None for other packages' imports. `call` is the median
    of the call alone, when `import fastdrop` was over.
    """

    first: str
    cache: str | None
    samples: int
    median: float
    worst: float
    call: float | None


class SteadyRow(TypedDict):
    """A plain call in fresh processes.

    `seconds` is the median over processes; `ratios` has the ratio to np.multiply of each process,
    in rising order.
    """

    dtype: str
    elements: int
    processes: int
    seconds: float
    ratios: list[float]


class LatencyPart(Conditions):
    """What `python -m bench latency` found."""

    rows: list[LatencyRow]


class StartPart(Conditions):
    """What `python -m bench start` found."""

    rows: list[StartRow]


class SteadyPart(Conditions):
    """What `python -m bench steady` found."""

    rows: list[SteadyRow]


class ProcessResults(Versioned):
    """A whole results file; None for what has not been measured."""

    latency: LatencyPart | None
    start: StartPart | None
    steady: SteadyPart | None


def load(path: Path) -> ProcessResults:
    """Read a results file.

    Raises
    ------
    BenchError
        Where it is missing, is not JSON, has another schema version, or lacks something.
    """
    data = read(path, SCHEMA, COMMANDS)
    check_keys(path, "the file", data, ProcessResults)
    for name, part, row in (
        ("latency", LatencyPart, LatencyRow),
        ("start", StartPart, StartRow),
        ("steady", SteadyPart, SteadyRow),
    ):
        if data[name] is None:
            continue
        check_keys(path, name, data[name], part)
        for number, found in enumerate(data[name]["rows"]):
            check_keys(path, f"{name}.rows[{number}]", found, row)
    results: ProcessResults = data
    return results


def present(path: Path) -> ProcessResults:
    """Read a results file, or begin one where there is none."""
    if path.exists():
        return load(path)
    return {"schema": SCHEMA, "latency": None, "start": None, "steady": None}


def output_path(given: Path | None, part: object) -> Path | None:
    """Choose where to write: a part of a measurement only where it is told to.

    What is there is read now, so that nothing is timed for a file that cannot be written.
    """
    output = given or (None if part else RESULTS)
    if output is not None:
        present(output)
    return output


def put(
    path: Path,
    *,
    latency: LatencyPart | None = None,
    start: StartPart | None = None,
    steady: SteadyPart | None = None,
) -> None:
    """Write what was measured, and leave the rest as it is."""
    results = present(path)
    if latency is not None:
        results["latency"] = latency
    if start is not None:
        results["start"] = start
    if steady is not None:
        results["steady"] = steady
    save(results, path)


def pairs(latency: LatencyPart) -> Iterator[tuple[LatencyRow, LatencyRow]]:
    """Yield the serial kernel's rows with those of several threads in the same conditions."""
    rows = latency["rows"]
    for row in rows:
        for serial in rows:
            same = (serial["elements"], serial["busy"]) == (row["elements"], row["busy"])
            if same and serial["threads"] == 1 < row["threads"]:
                yield serial, row


def latency_table(latency: LatencyPart) -> Table:
    """Ratios first, as in every table here."""
    lines = []
    for serial, threaded in pairs(latency):
        beside = f"{serial['busy']} busy" if serial["busy"] else "nothing"
        for row in (serial, threaded):
            threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
            ratios = (row["median"] / serial["median"], row["p99"] / serial["p99"])
            times = (row["median"], row["p99"], row["worst"])
            lines.append(
                [
                    f"{size_label(row['elements'])}, {threads}, beside {beside}",
                    *(f"{ratio:.2f}" for ratio in ratios),
                    *(figure(seconds * 1e6) for seconds in times),
                ]
            )
    return Table(
        "Single calls beside busy processes",
        ["elements", "median", "p99", "median, us", "p99, us", "worst, us"],
        lines,
        f"fastdrop.dropout(x, {P:g}, rng=key, out=y) of float32, by threads in turn. 1.00 is what "
        "the serial kernel takes in the same conditions; p99 is the time that one call in a "
        "hundred takes longer than.",
    )


def start_table(start: StartPart) -> Table:
    """Of each first call a row."""
    found = {(row["first"], row["cache"]): row for row in start["rows"]}
    lines = []
    for name in dict.fromkeys(row["first"] for row in start["rows"]):
        warm = found.get((name, WARM)) or found.get((name, None))
        empty = found.get((name, EMPTY))
        call = warm and warm["call"]
        lines.append(
            [
                name,
                *([figure(warm["median"]), figure(warm["worst"])] if warm else ["", ""]),
                "" if call is None else figure(call),
                *([figure(empty["median"]), figure(empty["worst"])] if empty else ["", ""]),
            ]
        )
    return Table(
        "The first call in a process, seconds",
        [
            "first call",
            "warm cache, median",
            "warm cache, worst",
            "of it, the call",
            "empty cache, median",
            "empty cache, worst",
        ],
        lines,
        "From just before `import fastdrop` to the end of the first call, each in a fresh process, "
        f"of {size_label(ELEMENTS)} elements unless a row says another size. Numba's import is "
        "part of the first call; NumPy had been imported before, unless a row says that it is "
        "included. The cache is that of compiled kernels; Python's bytecode is there in both. "
        "`fastdrop.warmup` is asked for that call's function and dtype alone.",
    )


def _slowest(row: SteadyRow) -> float:
    """Return how many times the median process's ratio the slowest has."""
    return row["ratios"][-1] / statistics.median(row["ratios"])


def steady_table(steady: SteadyPart) -> Table:
    """Of each dtype and size a row."""
    lines = []
    for row in steady["rows"]:
        ratios = row["ratios"]
        spread = ratios[0], statistics.median(ratios), ratios[-1], _slowest(row)
        lines.append(
            [
                f"{row['dtype']}, {size_label(row['elements'])}",
                *map(figure, spread),
                figure(row["seconds"] * 1e6),
            ]
        )
    count = max((row["processes"] for row in steady["rows"]), default=0)
    return Table(
        f"The plain call in {count} fresh processes, relative to multiplying by a constant",
        ["elements", "fastest", "median", "slowest", "slowest over median", "median, us"],
        lines,
        f"fastdrop.dropout(x, {P:g}, rng=key, out=y) on one thread. Each process has one ratio, "
        "of its time to that of np.multiply(x, s, out=y) over the same memory (float16 as "
        "float32), by turns, each the lower quartile over rounds, which shared cores disturb "
        "least; the table shows the fastest, the median and the slowest process. "
        "Slowest over median is 1 where no process is slower than the others; a speed that "
        "depends on where the memory of a process lies shows as 1.5 and more.",
    )


# The first calls that have goals, and these.
PLAIN = ("float32", "float64", "float16", "float32 and NumPy's import")
WITHIN = {WARM: 0.4, EMPTY: 2.0}  # seconds
AT = MI  # where latency is judged
LIMIT = 2.0  # at most so many times the serial kernel's figure, beside busy processes
# At most so many times the median process's ratio. Processes of one machine differ by some tenths
# where others share its caches.
STEADY = 1.5


def _times_serial(part: Callable[[LatencyRow], float]) -> Callable[[LatencyPart], float | None]:
    def measure(latency: LatencyPart) -> float | None:
        found = [
            part(threaded) / part(serial)
            for serial, threaded in pairs(latency)
            if serial["busy"] and serial["elements"] == AT
        ]
        return max(found, default=None)

    return measure


def _seconds(first: str, cache: str) -> Callable[[StartPart], float | None]:
    def measure(start: StartPart) -> float | None:
        found = (
            row["median"] for row in start["rows"] if (row["first"], row["cache"]) == (first, cache)
        )
        return next(found, None)

    return measure


_BESIDE = f"{size_label(AT)} beside busy processes"
LATENCY_GOALS = (
    Goal(
        f"{_BESIDE}, median, all threads' over the serial kernel's",
        "",
        LIMIT,
        _times_serial(lambda row: row["median"]),
    ),
    Goal(
        f"{_BESIDE}, 99th percentile, all threads' over the serial kernel's",
        "",
        LIMIT,
        _times_serial(lambda row: row["p99"]),
    ),
)
START_GOALS = tuple(
    Goal(f"first call, {first}, {cache} cache, median", " s", limit, _seconds(first, cache))
    for cache, limit in WITHIN.items()
    for first in PLAIN
)


def judge_latency(latency: LatencyPart) -> list[Verdict]:
    """Compare the goals of latency with what was measured."""
    return [Verdict(goal, goal.measure(latency)) for goal in LATENCY_GOALS]


def judge_start(start: StartPart) -> list[Verdict]:
    """Compare the goals of cold start with what was measured."""
    return [Verdict(goal, goal.measure(start)) for goal in START_GOALS]


def _slowest_of_all(steady: SteadyPart) -> float | None:
    return max(map(_slowest, steady["rows"]), default=None)


STEADY_GOALS = (
    Goal("plain calls, the slowest process over the median", "", STEADY, _slowest_of_all),
)


def judge_steady(steady: SteadyPart) -> list[Verdict]:
    """Compare the goal of steadiness with what was measured."""
    return [Verdict(goal, goal.measure(steady)) for goal in STEADY_GOALS]
