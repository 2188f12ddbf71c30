"""``python -m bench steady``: fresh processes, each checked, and the spread between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

pytest.importorskip("bench.steady", reason="bench or its libraries are not here")

from bench import process_report, steady, steady_process
from bench.__main__ import main
from bench.common import KI, BenchError
from bench.process_report import SteadyPart
from bench.timing import ONCE

from .test_bench_start import CONDITIONS, LATENCY


def part(*ratios: list[float]) -> SteadyPart:
    """What was found of some sizes, each with the ratios of its processes."""
    rows: Any = [
        {"dtype": "float32", "elements": KI << k, "processes": len(r), "seconds": 1e-6, "ratios": r}
        for k, r in enumerate(ratios)
    ]
    return {**CONDITIONS, "rows": rows}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_wrong_values_are_not_timed(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = steady_process.time_plain(dtype, 1000, ONCE)
    assert timed["seconds"] > 0 and timed["ratio"] > 0
    assert (timed["dtype"], timed["elements"]) == (dtype, 1000)

    def wrong(x: Any, p: float, *, rng: Any, out: Any) -> None:
        np.multiply(x, x.dtype.type(1 / (1 - p)), out=out)

    monkeypatch.setattr(fd, "dropout", wrong)
    with pytest.raises(BenchError, match=f"fastdrop computes wrong values of {dtype}"):
        steady_process.time_plain(dtype, 1000, ONCE)


def test_each_process_is_fresh_and_the_first_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Sequence[tuple[str, int]], bool]] = []

    def run(settings: Sequence[tuple[str, int]], once: bool) -> list[Any]:
        asked.append((settings, once))
        number = float(len(asked))
        return [{"dtype": d, "elements": n, "seconds": number, "ratio": 9 - number}
                for d, n in settings]  # fmt: skip

    monkeypatch.setattr(steady, "run", run)
    rows = steady.collect(3, [("float32", 5), ("float64", 6)])
    assert [once for _, once in asked] == [True, False, False, False]
    assert [(row["dtype"], row["elements"], row["processes"]) for row in rows] == [
        ("float32", 5, 3),
        ("float64", 6, 3),
    ]
    assert rows[0]["seconds"] == 3 and rows[0]["ratios"] == [5, 6, 7]


def test_a_process_times_what_it_is_asked_for() -> None:
    timed = steady.run([("float32", 1000), ("float16", 998)], True)
    assert [(t["dtype"], t["elements"]) for t in timed] == [("float32", 1000), ("float16", 998)]
    assert all(t["seconds"] > 0 and t["ratio"] > 0 for t in timed)


@pytest.mark.slow
def test_it_prints_a_table_and_writes_its_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steady, "SETTINGS", [("float32", KI), ("float16", KI)])
    saved = tmp_path / "process.json"
    process_report.put(saved, latency=LATENCY)
    assert main(["steady", "--processes", "2", "--output", str(saved)]) == 0
    printed = capsys.readouterr().out
    assert "The plain call in 2 fresh processes" in printed and f"Written to {saved}" in printed
    found = process_report.load(saved)
    assert found["latency"] == LATENCY and found["steady"] is not None
    first, second = found["steady"]["rows"]
    assert (first["dtype"], second["dtype"], first["processes"]) == ("float32", "float16", 2)
    for row in (first, second):
        assert len(row["ratios"]) == 2 and 0 < row["ratios"][0] <= row["ratios"][1]


def test_a_check_judges_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steady, "CHECK_SETTINGS", [("float32", KI)])
    monkeypatch.setattr(process_report, "RESULTS", tmp_path / "process.json")
    assert main(["steady", "--check"]) == 0
    assert "All works: 2 processes. Nothing was judged." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_process_that_fails_is_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steady, "_MODULE", "bench.no_such_module")
    saved = tmp_path / "process.json"
    assert main(["steady", "--output", str(saved)]) == 2
    said = capsys.readouterr().err
    assert "No module named bench.no_such_module; nothing is written" in said
    assert not saved.exists()
    for wrong in ("0", "-1", "many"):
        with pytest.raises(SystemExit):
            main(["steady", "--processes", wrong])
        assert f"{wrong!r} is not a positive number" in capsys.readouterr().err


def test_the_spread_is_shown_and_judged() -> None:
    found = part([2.0, 2.1, 2.2], [1.0, 1.0, 1.0, 4.0])
    table = process_report.steady_table(found)
    assert table.rows == [
        ["float32, 1 Ki", "2.00", "2.10", "2.20", "1.05", "1.00"],
        ["float32, 2 Ki", "1.00", "1.00", "4.00", "4.00", "1.00"],
    ]
    (verdict,) = process_report.judge_steady(found)
    assert verdict.value == 4.0 and verdict.state == "MISSED"
    (verdict,) = process_report.judge_steady(part([2.0, 2.1, 2.2]))
    assert verdict.state == "held"
    (verdict,) = process_report.judge_steady(part())
    assert verdict.state == "not measured"
