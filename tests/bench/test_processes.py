"""What is measured in processes of its own: memory, first calls, other checkouts, busy machines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from bench import files, layouts, processes
from bench.__main__ import main
from bench.cases import BY_NAME, CASES
from bench.common import MI, ROOT, BenchError, child
from bench.layouts import Cell
from bench.results import load
from tests.support.systems import needs_proc


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(("name", "kept"), [("fastdrop", 0), ("fastdrop-new", 0), ("cs231n", 8)])
def test_memory_beyond_the_results(name: str, kept: float) -> None:
    rows = {row["measure"]: row["bytes"] for row in processes.memory(BY_NAME[name], 4 * MI)}
    assert list(rows) == ["forward", "step", "kept"]
    assert abs(rows["kept"] - kept) < 0.1
    assert rows["forward"] < 0.1 if not kept else rows["forward"] > 4


@pytest.mark.parametrize("name", ["float32", "shard", "p = 0", "float32 and NumPy's import"])
def test_a_first_call_is_timed_and_checked(name: str) -> None:
    timed = child(["-c", processes.first_code(name)])
    assert 0 < timed["call"] <= timed["total"]


def test_a_wrong_first_call_is_not_timed() -> None:
    code = processes.first_code("float32").replace("rng=key", "rng=1")
    with pytest.raises(BenchError, match="fastdrop computes wrong values"):
        child(["-c", code])


def test_what_times_imports_nothing_that_is_timed() -> None:
    code = processes.first_code("float32 and NumPy's import").split("start = ")[0]
    assert code.split() == ["import", "time"]


@pytest.mark.slow
def test_start_and_steady_write_every_row(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    assert main(["start", "--check", "--output", str(file)]) == 0
    assert {row["first"] for row in load(file)["rows"]} == {*processes.IMPORTS, *processes.FIRST}
    assert main(["steady", "--check", "--output", str(file)]) == 0
    rows = load(file)["rows"]
    assert {row["dtype"] for row in rows} == {"float32", "float64", "float16"}
    assert all(len(row["ratios"]) == row["processes"] == 2 for row in rows)


def test_latency_times_every_setting_and_ends_what_it_started(tmp_path: Path) -> None:
    threads = fd.get_num_threads()
    if threads == 1:
        assert main(["latency", "--check"]) == 2
        return
    file = tmp_path / "file.json"
    assert main(["latency", "--check", "--output", str(file)]) == 0
    rows = load(file)["rows"]
    assert [row["threads"] for row in rows] == [1, threads] * 4
    assert all(row["median"] <= row["p99"] <= row["worst"] for row in rows)
    assert fd.get_num_threads() == threads


def test_layouts_are_measured_in_two_checkouts_by_turns(tmp_path: Path) -> None:
    file, part = tmp_path / "file.json", ["--only", "plain,every row", "--sizes", "8192"]
    arguments = ["layouts", "--check", *part, "--against", str(ROOT), "--output", str(file)]
    assert main(arguments) == 0
    rows = load(file)["rows"]
    assert [row["layout"] for row in rows] == ["plain", "p of every row"]
    for row in rows:
        assert len(row["rate"]) == len(row["seconds"]) == 2 and len(row["faster"]) == 2


def test_a_layout_with_wrong_values_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fd.dropout
    assert len(Cell("Fortran order", 8192).round()) == len(layouts.CALLS)
    monkeypatch.setattr(fd, "dropout", lambda *given, **more: np.negative(right(*given, **more)))
    with pytest.raises(BenchError, match="Fortran order, 8192 elements: computes wrong values"):
        Cell("Fortran order", 8192)


def test_checkouts_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter((1, 2))
    monkeypatch.setattr(layouts, "prepare", lambda name, n: next(digests))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        with pytest.raises(BenchError, match="the checkouts give different results"):
            layouts.measure([one, other], "plain", 8192, 0.0)


def test_a_file_with_wrong_values_is_not_timed(tmp_path: Path) -> None:
    file = tmp_path / "x"
    files._write(file, 2 * MI)
    files._check(file, 0)
    np.memmap(file, np.uint32, "r+")[-1] ^= 1
    with pytest.raises(BenchError, match="apply_blocks computes wrong values"):
        files._check(file, 0)


def test_every_layout_with_a_goal_has_one_for_each_size() -> None:
    goals = [row["goals"] for row in CASES["form"] if "goals" in row]
    assert len(goals) == 9 and all(len(each) == len(layouts.SIDES) for each in goals)
