"""``python -m bench endure``: random calls for half an hour, all compared, beside forks and exits.

The calls run in a process of their own (`tests.support.endurance.run`, which has the references).
This one starts it, watches its memory, threads and open files, and says how to repeat what failed:
``--seed S --case N``. With ``--large`` it goes to `endure_large`, for arrays past 2**32 elements.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import common, endure_large, report
from .common import ROOT, BenchError
from .plot import draw_all
from .results import Row, load, made

MINUTES = 30.0
CHECK_MINUTES = 0.75  # with what imports and the last cases take, a minute
CHECK_SEED = 20261204  # so that CI's cases are the same at every run
THREADS = 6  # that call; each call's own threads come in addition
SAMPLE = 1.0  # seconds between two looks at the process
POINT = 20.0  # seconds that a row of the results is the median of
SILENT = 900.0  # seconds without a word, after which the process counts as one that hangs
STEADY = 0.75  # the part of the time, at the end, that threads and open files are judged by
MOST_GROWTH = 0.05  # of the memory, in that part
LOADING = 60.0  # seconds in which Numba and most of the library are loaded
JUDGED_FROM = 10.0  # minutes: before that, most kernels are still being loaded
MODULE = "tests.support.endurance.run"
# glibc keeps freed blocks of up to 32 MiB in as many arenas as threads need; what is kept there
# depends on chance, and would hide what is lost.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}
_NUMBA_CUDAS = "ignore:The 'generic' unit for NumPy timedelta:DeprecationWarning"


def _command(*arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return a command and its environment: warnings are errors, and crashes show stacks."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), *filter(None, sys.path)])
    command = [sys.executable, "-W", "error", "-W", _NUMBA_CUDAS, "-m", MODULE, *arguments]
    return command, {**os.environ, "PYTHONPATH": paths, "PYTHONFAULTHANDLER": "1", **MALLOC}


def _looked(process: int) -> dict[str, float]:
    """Resident bytes, threads and open files of a process."""
    folder = Path(f"/proc/{process}")
    status = (folder / "status").read_text(encoding="ascii").splitlines()
    given = dict(line.split(":", 1) for line in status if ":" in line)
    return {
        "resident": int(given["VmRSS"].split()[0]) * 1024,
        "threads": int(given["Threads"]),
        "files": len(os.listdir(folder / "fd")),
    }


class _Said:
    """The lines that the process has printed, read from a file as they come."""

    def __init__(self, path: Path) -> None:
        self._file = path.open(encoding="utf-8")
        self._rest = ""
        self.last: dict[str, Any] = {}
        self.at = time.monotonic()

    def read(self) -> dict[str, Any]:
        """Return what it said last."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        if lines:
            self.last, self.at = json.loads(lines[-1]), time.monotonic()
        return self.last

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def _process(arguments: list[str], folder: Path) -> Iterator[tuple[Any, _Said, Path]]:
    out, errors = folder / "out", folder / "errors"
    command, environment = _command(*arguments)
    with out.open("wb") as one, errors.open("wb") as other:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=one, stderr=other, start_new_session=True
        )
    said = _Said(out)
    try:
        yield process, said, errors
    finally:
        said.close()
        if sys.platform == "win32":
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # with its children
        process.wait()


def _failed(seed: int, said: dict[str, Any], status: int | None, errors: Path) -> BenchError:
    """Show what the process wrote, and return an error that says how to repeat it."""
    print(errors.read_text(encoding="utf-8", errors="replace")[-20_000:], file=sys.stderr)
    if "failed" in said:
        again = f"python -m bench endure --seed {seed} --case {said['failed']}"
        return BenchError(f"{said['what']}\n{again}")
    how = "hung" if status is None else f"ended with exit status {status}"
    return BenchError(f"the process {how}, with --seed {seed}; its stacks are above")


def _watched(seed: int, seconds: float) -> tuple[list[Row], dict[str, Any]]:
    """Let it call for some seconds; return rows of its memory, and what it said at the end."""
    arguments = ["--seed", str(seed), "--seconds", str(seconds), "--threads", str(THREADS)]
    begin, samples, rows = time.monotonic(), list[dict[str, float]](), list[Row]()
    due = POINT
    with (
        tempfile.TemporaryDirectory() as folder,
        common.progress() as tell,
        _process(arguments, Path(folder)) as (process, said, errors),
    ):
        while (status := process.poll()) is None:
            with contextlib.suppress(OSError, KeyError):  # it has just ended
                samples.append(_looked(process.pid))
            word, now = said.read(), time.monotonic() - begin
            calls = sum(word.get("calls", {}).values())
            if now >= due:
                rows += _row(now, samples, calls, word)
                samples.clear()
                due += POINT
            tell(f"seed {seed}: {calls:,} calls", min(1.0, now / seconds))
            if time.monotonic() - said.at > SILENT:
                process.send_signal(signal.SIGABRT)
                process.wait(10)
                raise _failed(seed, {}, None, errors)
            time.sleep(SAMPLE)
        word = said.read()
        if status or not word.get("done"):
            raise _failed(seed, word, status, errors)
    calls = sum(word["calls"].values())
    return rows + _row(time.monotonic() - begin, samples, calls, word), word


def _row(
    now: float, samples: list[dict[str, float]], calls: int, word: dict[str, Any]
) -> list[Row]:
    """Return a row of the medians of samples; none before the process has begun."""
    if not samples or "rest" not in word:
        return []
    middle = {k: statistics.median(s[k] for s in samples) for k in samples[0]}
    figures = {"seconds": now, **middle, "calls": calls, **word["rest"]}
    return [{"section": "endure", **figures}]


def _range(rows: list[Row], key: str) -> list[float]:
    """Return the least and the most of a figure; zeros if the run was too short for any."""
    figures = [float(row[key]) for row in rows] or [0.0]
    return [min(figures), max(figures)]


def _steady(rows: list[Row]) -> list[Row]:
    return rows[int(len(rows) * (1 - STEADY)) :]


def growth_at_rest(rows: list[Row]) -> tuple[float, float, float]:
    """Return by how many bytes memory at rest grows: a kernel loaded, one compiled, and an hour.

    Kernels that are called for the first time stay in memory, with what Numba keeps of those that
    it has compiled, and there are ever fewer that have not been. So memory is fitted by all three,
    by least squares, but for the first minute, in which Numba itself is loaded.
    """
    steady = [row for row in rows if row["seconds"] > LOADING]
    if len(steady) < 4:
        return 0.0, 0.0, 0.0
    keys = ("at_rest", "kernels", "compiled", "seconds")
    at_rest, kernels, compiled, seconds = (np.array([float(r[k]) for r in steady]) for k in keys)
    columns = np.stack([kernels - compiled, compiled, seconds / 3600], 1)
    found, *_ = np.linalg.lstsq(columns - columns.mean(0), at_rest - at_rest.mean(), rcond=None)
    loaded_bytes, compiled_bytes, hourly = found.tolist()
    return loaded_bytes, compiled_bytes, hourly


def growth(rows: list[Row], key: str) -> float:
    """Return how much a figure grows an hour: the median of all slopes in the steady part."""
    steady = _steady(rows)
    slopes = [
        (b[key] - a[key]) / (b["seconds"] - a["seconds"]) * 3600
        for n, a in enumerate(steady)
        for b in steady[n + 1 :]
    ]
    return statistics.median(slopes) if slopes else 0.0


def _again(seed: int, case: str) -> int:
    """Repeat a case."""
    command, environment = _command("--seed", str(seed), "--case", case)
    status = subprocess.run(command, env=environment, cwd=ROOT).returncode
    return int(status != 0)


def main(args: argparse.Namespace) -> int:
    """Run it; exit status 1 where memory, threads or open files grow."""
    if args.large:
        return endure_large.main(args)
    if not Path("/proc/self/status").exists():
        raise BenchError("endure reads /proc, which this system does not have")
    seed = args.seed
    if seed is None:
        seed = CHECK_SEED if args.check else secrets.randbelow(1 << 32)
    if args.case is not None:
        return _again(seed, args.case)
    minutes = CHECK_MINUTES if args.check else args.minutes or MINUTES
    print(f"seed {seed}: python -m bench endure --seed {seed} repeats all cases", file=sys.stderr)
    samples, word = _watched(seed, minutes * 60)
    rows = samples + [
        {"section": "endure-calls", "function": name, "times": times}
        for name, times in sorted(word["calls"].items())
    ]
    rows += [
        {"section": "endure-events", "event": name, "times": times}
        for name, times in word["events"].items()
    ]
    (loaded, compiled, per_hour), steady = growth_at_rest(samples), _steady(samples)
    more = per_hour * minutes / 60
    total = {
        "section": "endure-total",
        "seconds": minutes * 60,
        "calls": sum(word["calls"].values()),
        "elements": word["elements"],
        "events": sum(word["events"].values()),
        "resident": statistics.median(row["resident"] for row in steady) if steady else 0.0,
        "at_rest": steady[-1]["at_rest"] if steady else 0,
        "kernels": steady[-1]["kernels"] if steady else 0,
        "compiled": steady[-1]["compiled"] if steady else 0,
        "loaded_bytes": loaded,
        "compiled_bytes": compiled,
        "growth": per_hour,
        **{key: _range(steady, key) for key in ("threads", "files")},
    }
    settings = {"seed": seed, "minutes": minutes, "threads": THREADS, "check": args.check}
    results = made([*rows, total], settings)
    report.finish(results, args, "endure" if minutes == MINUTES else None)
    file = args.output or common.RESULTS / "endure.json"
    if not args.check and file.exists():
        for path in draw_all(load(file), file):
            print(f"Written to {path}")
    grown = growth(samples, "files"), growth(samples, "threads")
    judged = minutes >= JUDGED_FROM
    if judged and (more > MOST_GROWTH * total["at_rest"] or max(grown) > 60):
        print(f"bench: it grows by {per_hour / 2**20:.0f} MiB an hour", file=sys.stderr)
        return 1
    return 0
