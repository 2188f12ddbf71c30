"""Results of latency and of cold start: the file, tables and goals, for terminal and README."""

from __future__ import annotations

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
COMMANDS = "python -m bench latency and python -m bench start"
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


class LatencyPart(Conditions):
    """What `python -m bench latency` found."""

    rows: list[LatencyRow]


class StartPart(Conditions):
    """What `python -m bench start` found."""

    rows: list[StartRow]


class ProcessResults(Versioned):
    """A whole results file; None for what has not been measured."""

    latency: LatencyPart | None
    start: StartPart | None


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
    return {"schema": SCHEMA, "latency": None, "start": None}


def output_path(given: Path | None, part: object) -> Path | None:
    """Choose where to write: a part of a measurement only where it is told to.

    What is there is read now, so that nothing is timed for a file that cannot be written.
    """
    output = given or (None if part else RESULTS)
    if output is not None:
        present(output)
    return output


def put(path: Path, *, latency: LatencyPart | None = None, start: StartPart | None = None) -> None:
    """Write what was measured, and leave the other as it is."""
    results = present(path)
    if latency is not None:
        results["latency"] = latency
    if start is not None:
        results["start"] = start
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


# The first calls that have goals, and these.
PLAIN = ("float32", "float64", "float16", "float32 and NumPy's import")
WITHIN = {WARM: 0.4, EMPTY: 2.0}  # seconds
AT = MI  # where latency is judged
LIMIT = 2.0  # at most so many times the serial kernel's figure, beside busy processes


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
