"""``python -m bench start`` and the file of cold start and latency: data in, text out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

pytest.importorskip("bench.start", reason="bench or its libraries are not here")

from bench import first, process_report, readme, start
from bench.__main__ import main
from bench.common import KI, MI, ROOT
from bench.ours import scaled
from bench.process_report import (
    EMPTY,
    WARM,
    LatencyPart,
    LatencyRow,
    StartPart,
    StartRow,
    SteadyPart,
)
from bench.results import Conditions, save
from fastdrop_kernels import reference

SMALL = [name for name in first.FIRST if first.LARGE not in first.FIRST[name].shape]
CONDITIONS: Conditions = {
    "date": "2020-01-02T03:04:05+00:00",
    "versions": {"python": "3.10.0"},
    "hardware": {
        "cpu": "A CPU",
        "simd": None,
        "usable_cpus": 2,
        "l1d_kib": None,
        "l2_kib": None,
        "l3_kib": None,
        "memory_gib": 1.0,
        "os": "Linux",
    },
    "settings": {},
}


def row(name: str, cache: str | None, median: float, call: float | None = None) -> StartRow:
    return {
        "first": name,
        "cache": cache,
        "samples": 3,
        "median": median,
        "worst": 2 * median,
        "call": call,
    }


def started(**plain: float) -> StartPart:
    """Return what was found of float32 with a cache, and of Numba."""
    rows = [row("Numba's import alone", None, 0.25)]
    rows += [row("float32", cache, seconds, seconds / 2) for cache, seconds in plain.items()]
    return {**CONDITIONS, "rows": rows}


def called(elements: int, busy: int, threads: int, median: float, p99: float) -> LatencyRow:
    return {
        "elements": elements,
        "busy": busy,
        "threads": threads,
        "calls": 100,
        "median": median,
        "p99": p99,
        "worst": 2 * p99,
    }


LATENCY: LatencyPart = {
    **CONDITIONS,
    "rows": [
        called(MI, 0, 1, 100e-6, 200e-6),
        called(MI, 0, 4, 500e-6, 900e-6),
        called(MI, 2, 1, 100e-6, 400e-6),
        called(MI, 2, 4, 150e-6, 1000e-6),
        called(2 * MI, 2, 1, 200e-6, 400e-6),
        called(2 * MI, 2, 4, 900e-6, 4000e-6),
    ],
}


STEADY: SteadyPart = {
    **CONDITIONS,
    "rows": [
        {
            "dtype": "float32",
            "elements": 64 * KI,
            "processes": 3,
            "seconds": 8e-6,
            "ratios": [2.0, 2.5, 10.0],
        },
    ],
}


def expected(name: str) -> tuple[Any, Any]:
    """Return what is given to a first call, and what the reference makes of it."""
    how = first.FIRST[name]
    x = how.array()
    kept = reference.keep_mask(
        reference.mask_index(how.shape, **how.place), how.p, first.SEED, first.STREAM
    )
    return x, kept if how.mask else np.where(kept, scaled(x, how.p), x.dtype.type(0))


# What is timed


@pytest.mark.parametrize("name", SMALL)
def test_what_is_wrong_is_told(name: str) -> None:
    how = first.FIRST[name]
    x, y = expected(name)
    assert x.all() and x.shape == how.shape and x.dtype == how.dtype
    assert x.flags.f_contiguous == (how.order == "F")
    assert how.complaint(x, y) == ""
    one_off = y.copy()
    one_off[-1, -1] = not y[-1, -1] if how.mask else y[-1, -1] + 1
    other = y.astype(np.float64 if y.dtype != np.float64 else np.float32)
    for wrong in (one_off, np.roll(y, 1, axis=0) if how.p else -y, other):
        assert how.complaint(x, wrong) == "computes wrong values"
    assert (
        how.complaint(x, y[1:])
        == how.complaint(x, x)
        == ("does not return a new array of the shape")
    )


def test_large_arrays_are_checked_in_every_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "CHECKED", 1 << 14)
    how = first.First(shape=(2 * first.CHECKED + 5,))
    x = how.array()
    kept = reference.keep_mask(reference.mask_index(x.shape), how.p, first.SEED, first.STREAM)
    y = np.where(kept, scaled(x, how.p), np.float32(0))
    assert how.complaint(x, y) == ""
    for lane in range(8):
        wrong = y.copy()
        wrong[lane::8] += 1
        assert how.complaint(x, wrong) == "computes wrong values"


def test_a_wrong_first_call_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fd, "dropout", lambda x, p, *, rng: x.copy())
    with pytest.raises(ValueError, match="fastdrop computes wrong values"):
        first.time_first(first.FIRST["float32"])


def test_what_times_imports_nothing_that_is_timed() -> None:
    code = "import sys; before = set(sys.modules); import bench.first; "
    code += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"__future__", "bench", "bench.first"}


def test_all_take_turns_and_the_cache_is_filled_first() -> None:
    warmed = next(name for name, how in first.FIRST.items() if how.warmup)
    names = ("Numba's import alone", "float32", warmed)
    steps = list(start.steps(names, 2, 2))
    warm = [("Numba's import alone", None), ("float32", WARM), (warmed, WARM)]
    assert [step[:2] for step in steps] == [*warm * 3, ("float32", EMPTY), (warmed, EMPTY)] + [
        ("float32", EMPTY)
    ]
    assert [counts for *_, counts in steps] == [False] * 3 + [True] * 9


def test_each_empty_cache_is_a_new_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[Path, Path]] = []

    def run(_: str, cache: Path, bytecode: Path) -> dict[str, float]:
        used.append((cache, bytecode))
        return {"total": float(len(used)), "call": 0.5}

    monkeypatch.setattr(start, "run", run)
    rows = start.collect(list(start.steps(["float32"], 3, 2)))
    folders = [cache for cache, _ in used]
    assert len(set(folders[:4])) == 1 and len(set(folders)) == 3
    (bytecode,) = {bytecode for _, bytecode in used}
    assert bytecode not in folders
    assert [(r["cache"], r["samples"], r["median"], r["worst"]) for r in rows] == [
        (WARM, 3, 3.0, 4.0),  # the first, which filled the cache, is not among them
        (EMPTY, 2, 5.5, 6.0),
    ]


@pytest.mark.slow
def test_every_first_call_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "process.json"
    some = ["float32", "dropout_mask"]  # all take a minute: ``python -m bench start --check``
    arguments = ["start", "--check", "--only", ",".join(some), "--output", str(saved)]
    assert main(arguments) == 0
    assert "All works" in capsys.readouterr().out
    found = process_report.load(saved)["start"]
    assert found is not None and [r["first"] for r in found["rows"]] == some


@pytest.mark.slow
def test_an_empty_cache_is_filled_and_a_warm_one_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    cache, bytecode = tmp_path / "cache", tmp_path / "bytecode"
    empty = start.run("float32", cache, bytecode)
    kernels = {path: path.stat().st_ino for path in cache.iterdir()}
    assert any("float32" in path.name for path in kernels)
    files = {path: path.stat().st_ino for path in bytecode.rglob("*.pyc")}
    assert {"driver", "dispatcher"} <= {path.name.partition(".")[0] for path in files}
    warm = start.run("float32", cache, bytecode)
    assert {path: path.stat().st_ino for path in cache.iterdir()} == kernels
    assert {path: path.stat().st_ino for path in bytecode.rglob("*.pyc")} == files
    for timed in (empty, warm):
        assert 0 < timed["call"] < timed["total"]


def test_it_prints_a_table_and_writes_its_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "process.json"
    process_report.put(saved, latency=LATENCY)
    arguments = ["--samples", "2", "--only", "NumPy's import alone", "--output", str(saved)]
    assert main(["start", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "The first call in a process, seconds" in printed and f"Written to {saved}" in printed
    found = process_report.load(saved)
    assert found["latency"] == LATENCY and found["start"] is not None
    (only,) = found["start"]["rows"]
    assert (only["first"], only["cache"], only["samples"]) == ("NumPy's import alone", None, 2)
    assert 0 < only["median"] <= only["worst"] and only["call"] is None


def test_a_process_that_fails_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "_CODE", "raise SystemExit('it broke')")
    saved = tmp_path / "process.json"
    assert main(["start", "--only", "float64", "--output", str(saved)]) == 2
    assert "first call, float64: it broke; nothing is written" in capsys.readouterr().err
    assert not saved.exists()


def test_what_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--only", "nobody"]) == 2
    assert "no first call 'nobody'; there are NumPy's import alone, " in capsys.readouterr().err
    for wrong in ("0", "-1", "many"):
        with pytest.raises(SystemExit):
            main(["start", "--samples", wrong])
        assert f"{wrong!r} is not a positive number" in capsys.readouterr().err


# The file


def test_each_command_replaces_its_own_part(tmp_path: Path) -> None:
    saved = tmp_path / "process.json"
    process_report.put(saved, start=started(warm=0.3))
    assert process_report.load(saved)["latency"] is None
    process_report.put(saved, latency=LATENCY)
    process_report.put(saved, start=started(warm=0.5))
    process_report.put(saved, steady=STEADY)
    found = process_report.load(saved)
    whole = {"schema": 1, "latency": LATENCY, "start": started(warm=0.5), "steady": STEADY}
    assert found == whole


def test_a_part_does_not_replace_the_full_results(tmp_path: Path) -> None:
    assert process_report.output_path(None, "part") is None
    assert process_report.output_path(None, False) == process_report.RESULTS
    assert process_report.output_path(tmp_path / "a", True) == tmp_path / "a"


def test_broken_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "process.json"
    whole = {"schema": 1, "latency": LATENCY, "start": started(warm=0.3), "steady": None}
    lacking: Any = json.loads(json.dumps(whole))
    del lacking["start"]["rows"][1]["worst"]
    for broken, says in (
        ({**whole, "schema": 7}, "has results schema 7; this code reads 1"),
        ({"schema": 1, "start": None}, "the file lacks ['latency', 'steady']"),
        ({**whole, "latency": {"rows": []}}, "latency lacks ['date', "),
        (lacking, "start.rows[1] lacks ['worst']"),
    ):
        save(broken, saved)
        # Before anything is timed: the calls would take minutes.
        assert main(["start", "--output", str(saved)]) == 2
        assert f"{saved}" in (said := capsys.readouterr().err) and says in said


# What is shown


def test_tables_show_medians_and_ratios() -> None:
    table = process_report.start_table(started(warm=0.3, empty=1.5))
    assert table.rows == [
        ["Numba's import alone", "0.25", "0.50", "", "", ""],
        ["float32", "0.30", "0.60", "0.15", "1.50", "3.00"],
    ]
    assert process_report.start_table(started(empty=1.5)).rows[1][1:4] == ["", "", ""]
    table = process_report.latency_table(LATENCY)
    assert table.rows[0] == [
        *("1 Mi, 1 thread, beside nothing", "1.00", "1.00", "100", "200", "400"),
    ]
    assert table.rows[3] == [
        *("1 Mi, 4 threads, beside 2 busy", "1.50", "2.50", "150", "1,000", "2,000"),
    ]


def test_goals_are_judged_honestly() -> None:
    # At 1 Mi beside busy processes alone.
    median, p99 = process_report.judge_latency(LATENCY)
    assert median.value == pytest.approx(1.5) and median.state == "held"
    assert p99.value == pytest.approx(2.5) and p99.state == "MISSED"
    verdicts = process_report.judge_start(started(warm=0.4, empty=2.1))
    states = {verdict.goal.text: verdict.state for verdict in verdicts}
    assert len(states) == len(verdicts) == 2 * len(process_report.PLAIN)
    assert states["first call, float32, warm cache, median"] == "held"
    assert states["first call, float32, empty cache, median"] == "MISSED"
    assert states["first call, float64, warm cache, median"] == "not measured"
    assert set(process_report.PLAIN) <= set(start.NAMES)


@pytest.fixture
def page(tmp_path: Path) -> list[str]:
    """A README with the region, and no results, as arguments of the command."""
    text = tmp_path / "README.md"
    regions = "\n".join((*readme.CPU, *readme.PROCESS))
    text.write_text(f"# Title\n{regions}\nThe rest.\n", encoding="utf-8")
    saved = tmp_path / "process.json"
    return ["readme", "--process-results", str(saved), "--readme", str(text)]


def test_the_readme_shows_what_was_measured(page: list[str]) -> None:
    saved, text = Path(page[2]), Path(page[-1])
    process_report.put(saved, start=started(warm=0.5))
    assert main([*page, "--check"]) == 1
    assert main(page) == 0
    assert main([*page, "--check"]) == 0
    shown = text.read_text(encoding="utf-8").split(readme.PROCESS[0])[1]
    assert "| float32 | 0.50 | 1.00 | 0.25 |  |  |" in shown
    assert "- MISSED: first call, float32, warm cache, median: at most 0.4 s, is 0.50" in shown
    assert "Not measured yet: `python -m bench latency` does it." in shown
    assert "Not measured yet: `python -m bench steady` does it." in shown
    assert shown.count("Measured 2020-01-02 on A CPU") == 1 and shown.endswith("The rest.\n")

    process_report.put(saved, latency=LATENCY, steady=STEADY)
    assert main([*page, "--check"]) == 1  # out of date again
    assert main(page) == 0
    shown = text.read_text(encoding="utf-8")
    assert "| 1 Mi, 4 threads, beside 2 busy | 1.50 | 2.50 |" in shown
    assert "| float32, 64 Ki | 2.00 | 2.50 | 10.0 | 4.00 | 8.00 |" in shown
    assert (
        "- MISSED: plain calls, the slowest process over the median: at most 1.5, is 4.00" in shown
    )
    assert "Not measured" not in shown


def test_a_region_without_results_is_an_error(
    page: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(page[-1]).read_text(encoding="utf-8")
    assert main([*page, "--check"]) == 2
    assert f"no results in {page[2]}; python -m bench latency" in capsys.readouterr().err
    assert Path(page[-1]).read_text(encoding="utf-8") == before


def test_results_without_a_region_are_not_asked_for(page: list[str]) -> None:
    text = Path(page[-1])
    text.write_text("\n".join(readme.CPU), encoding="utf-8")
    assert main(page) == 0
    assert main([*page, "--check"]) == 0


def test_half_a_region_is_an_error(page: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    process_report.put(Path(page[2]), latency=LATENCY)
    text = "\n".join((*readme.CPU, readme.PROCESS[1]))
    Path(page[-1]).write_text(text, encoding="utf-8")
    assert main(page) == 2
    assert f"{readme.PROCESS[0]} 0 times" in capsys.readouterr().err
