"""A first run on a GPU: its steps, their limits, what a cut leaves, and the verdict."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import first, verdict
from bench.__main__ import main
from bench.common import ROOT, BenchError
from bench.results import made, save
from bench.verdict import Outcome
from tests.support.cuda_host.host import COMPILER
from tests.support.devices import cupy_or_skip
from tests.support.subprocesses import KILL
from tests.support.systems import needs_proc, needs_signals

FILES, MINUTES = 8, 8  # what a GPU that is lent gives back, and how long it takes


def step(name: str, code: str, limit: float = 30, judge: str = "exit") -> dict[str, Any]:
    """A step that runs Python."""
    command = f"{{python}} -c {shlex.quote(code)}"
    return {"name": name, "what": "a test", "limit": limit, "command": command, "judge": judge}


def state_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "state.json").read_text())["steps"]
    return found


def is_running(process: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_steps_take_eight_minutes_at_most_and_their_files_are_there(tmp_path: Path) -> None:
    steps = first.steps()
    names = [step["name"] for step in steps]
    assert len(set(names)) == len(names) and sum(s["limit"] for s in steps) <= 60 * MINUTES
    outputs = {"state.json", "verdict.txt", "log.txt", "tests.jsonl"}
    for one in steps:
        assert one["judge"] in verdict._JUDGES and one["limit"] > 0
        for rehearse in (False, True):
            command = first.command_of(one, tmp_path, rehearse)
            assert command[:2] == [sys.executable, "-m"] and not any("{" in w for w in command)
            assert importlib.util.find_spec(command[2])
            tests = [w for w in command if w.removeprefix("--ignore=").startswith("tests/")]
            assert all((ROOT / test.removeprefix("--ignore=")).exists() for test in tests)
            assert bool(tests) == (one["judge"] == "tests")
            outputs |= {Path(w).name for w in command if w.startswith(str(tmp_path))}
            assert one["judge"] != "results" or str(tmp_path / f"{one['name']}.json") in command
    assert len(outputs) <= FILES


@needs_proc
def test_a_step_is_ended_at_its_limit_with_all_that_it_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hangs = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
print("begun", flush=True)
time.sleep(600)
"""
    begun, first_folder = time.monotonic(), tmp_path / "out"
    first.GRACE, grace = 0.5, first.GRACE
    try:
        steps = [step("hangs", hangs, limit=2), step("after", "print('done')")]
        assert first.run(first_folder, chosen=steps) == 1
    finally:
        first.GRACE = grace
    assert time.monotonic() - begun < 20
    assert not is_running(int((tmp_path / "child").read_text()))
    assert [s["state"] for s in state_of(first_folder)] == ["cut", "ended"]
    said = (first_folder / "verdict.txt").read_text()
    assert "hangs: cut at its limit, after 2 s" in said and "not finished: hangs" in said
    assert "begun" in (first_folder / "log.txt").read_text()
    assert said.splitlines()[-1] in capsys.readouterr().out.splitlines()


def test_what_a_step_leaves_of_its_time_is_the_next_ones(tmp_path: Path) -> None:
    steps = [step("quick", "", limit=6), step("slow", "import time; time.sleep(2)", limit=0.5)]
    assert first.run(tmp_path / "out", chosen=steps) == 0


@needs_signals
def test_an_interrupted_step_may_sum_up(tmp_path: Path) -> None:
    code = "import time\ntry:\n time.sleep(60)\nexcept KeyboardInterrupt:\n print('3 of 5 passed')"
    assert first.run(tmp_path / "out", chosen=[step("sums", code, limit=1.5)]) == 1
    assert "3 of 5 passed" in (tmp_path / "out" / "log.txt").read_text()


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, KILL])
def test_a_cut_in_the_middle_loses_nothing(tmp_path: Path, number: int) -> None:
    folder, mark = tmp_path / "out", tmp_path / "process"
    long = f"""
import os, time
print("half of it", flush=True)
open({str(mark)!r}, "w").write(str(os.getpid()))
time.sleep(120)
"""
    steps = [step("one", "print('whole')"), step("two", long), step("three", "")]
    code = "from pathlib import Path\nfrom bench import first\n"
    code += f"first.run(Path({str(folder)!r}), chosen={steps!r})"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    running = int(mark.read_text())
    run.send_signal(number)
    run.wait(30)
    if number == signal.SIGTERM:  # the step is ended, too
        assert not is_running(running)
    else:
        os.kill(running, KILL)
    assert [s["state"] for s in state_of(folder)] == ["ended", "running"]
    said = (folder / "verdict.txt").read_text()
    assert "right:\n  one: a test (whole)" in said and "not finished: two" in said
    assert all(text in (folder / "log.txt").read_text() for text in ("whole", "half of it"))


def test_a_log_that_is_too_long_keeps_its_begin_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first, "LOG_BYTES", 10_000)
    code = "print('the begin')\nfor n in range(100_000): print(n)\nprint('the end')"
    assert first.run(tmp_path / "out", chosen=[step("long", code)]) == 0
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "the begin" in log and "cut here" in log and "\nthe end\n" in log
    assert len(log) < 15_000
    (only,) = state_of(tmp_path / "out")
    assert only["last"] == "the end"


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    steps = [
        step("gone", ""),
        step("fails", "import sys; print('a reason'); sys.exit(3)"),
        step("absent", f"import sys; print('no tool'); sys.exit({verdict.SKIPPED})"),
        step("fine", "print('well')"),
    ]
    steps[0]["command"] = "/nowhere/a-program"
    assert first.run(tmp_path / "out", chosen=steps) == 1
    said = (tmp_path / "out" / "verdict.txt").read_text()
    for line in (
        "right:\n  fine: a test (well)\n",
        "not known:\n  absent: no tool\n",
        "fails: exit status 3: a reason",
        "gone: exit status 127: [Errno 2] No such file",
        "verdict: 2 things are WRONG in 4 steps.",
    ):
        assert line in said


def test_a_folder_with_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "older").write_text("")
    assert main(["gpu", "--first", str(tmp_path)]) == 2
    assert "there are files in it; give a new folder" in capsys.readouterr().err
    assert main(["gpu", "--rehearse"]) == 2
    assert "give --first FOLDER, too" in capsys.readouterr().err
    with pytest.raises(BenchError):
        first.run(tmp_path)


TESTS = """
import pytest
def test_right(): pass
def test_wrong(): assert 1 == 2, "not equal"
@pytest.fixture
def broken(): raise RuntimeError("no GPU memory")
def test_error(broken): pass
@pytest.mark.parametrize("n", range(3))
def test_left(n): pytest.skip("there is one GPU")
"""


@pytest.mark.parametrize("parallel", [[], ["-n", "2"]], ids=["alone", "parallel"])
def test_each_test_is_noted_as_it_ends(tmp_path: Path, parallel: list[str]) -> None:
    if parallel and not importlib.util.find_spec("xdist"):
        pytest.skip("pytest-xdist is not installed")
    (tmp_path / "test_it.py").write_text(TESTS)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    noted = {"FASTDROP_FIRST_RUN": str(tmp_path), "FASTDROP_FIRST_STEP": "bits"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.first_run"]
    command += ["-p", "no:cacheprovider", "-p", "no:benchmark", *parallel]
    done = subprocess.run(
        [*command, "test_it.py"],
        env={**os.environ, "PYTHONPATH": paths, **noted},
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 1, done
    outcome = Outcome("bits", "all is exact", "tests", "ended", done.returncode, 1.0)
    found = verdict.findings(tmp_path, [outcome])
    assert sorted(text.partition("\n")[0] for _, text in found) == [
        "bits: 3 skipped: there is one GPU",
        "bits: all is exact: 1 tests passed",
        "bits: test_it.py::test_error: RuntimeError: no GPU memory",
        "bits: test_it.py::test_wrong: AssertionError: not equal",
    ]
    assert {finding.state for finding in found} == {verdict.RIGHT, verdict.WRONG, verdict.UNKNOWN}
    assert verdict.status(tmp_path, [outcome]) == 1
    said = verdict.text(tmp_path, [outcome], False)
    assert "MISSED: GPU: masks and results are the CPU's: 1 tests passed, 2 failed" in said
    assert said.endswith("verdict: 2 things are WRONG in 1 steps; goals: 1 MISSED.\n")
    # The last line of a process that is killed may be half.
    with (tmp_path / "tests.jsonl").open("a") as file:
        file.write('{"step": "bits", "te')
    cut = outcome._replace(state="cut", status=-9)
    assert len(verdict.findings(tmp_path, [cut])) == len(found) + 1


def test_tests_that_end_badly_without_a_failure_are_wrong(tmp_path: Path) -> None:
    outcome = Outcome("bits", "all is exact", "tests", "ended", 5, 1.0, "no tests ran")
    assert verdict.masks(tmp_path, [outcome])[0].startswith("not measured: ")
    (finding,) = verdict.findings(tmp_path, [outcome])
    assert finding == (verdict.WRONG, "bits: all is exact: 0 tests passed, then no tests ran")


def results(rows: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """Results of a GPU."""
    about = {name: {"label": name, "role": "ours"} for name in ("fastdrop", "fastdrop-softmax")}
    about |= {name: {"label": name, "role": "peer"} for name in ("torch", "cupy")}
    about |= {name: {"label": name, "role": "roof"} for name in ("copy", "copy-kernel")}
    found: dict[str, Any] = dict(made(rows, settings, about))
    return {**found, "hardware": {**found["hardware"], "gpu": "a GPU"}}


def row(section: str, contender: str, dtype: str, elements: int, ratio: float) -> dict[str, Any]:
    same = {name: ratio for name in ("ratio", "ratio_q1", "ratio_q3")}
    seconds = {name: ratio * 1e-5 for name in ("seconds", "q1", "q3")}
    where = {"section": section, "contender": contender, "dtype": dtype, "elements": elements}
    return {**where, "variant": "", "base": "copy", "rounds": 5, **same, **seconds}


def test_goals_are_judged_by_what_was_measured(tmp_path: Path) -> None:
    large, ratios = 256 << 20, {"copy": 1.0, "copy-kernel": 1.0, "fastdrop": 1.05, "torch": 1.2}
    rows = [row("forward", name, "bfloat16", large, ratio) for name, ratio in ratios.items()]
    rows += [row("softmax", "fastdrop-softmax", "float32", large, 2.0)]
    rows += [row("launch", "fastdrop", "float32", 64 << 10, 0.9)]
    save(results(rows), tmp_path / "bandwidth.json")  # type: ignore[arg-type]
    others = {"copy": 1.0, "copy-kernel": 0.9, "fastdrop": 1.05}
    rows = [row("forward", name, "float64", large, ratio) for name, ratio in others.items()]
    save(results(rows), tmp_path / "dtypes.json")  # type: ignore[arg-type]
    found = verdict.goals(tmp_path)
    for begin, end in (
        ("held: GPU: bfloat16 from 256 MiB up", "is 0.95"),
        ("MISSED: GPU: float64 from 256 MiB up", "is 0.86"),
        ("MISSED: GPU: torch F.dropout slower than fastdrop, bfloat16, a forward call", "is 1.14"),
        ("MISSED: GPU: softmax_dropout, float32", "is 0.50"),
        ("held: GPU: a call at 64 Ki elements", "is 9.00"),
        ("not measured: GPU: float32 from 256 MiB up", "at least 0.92"),
    ):
        assert [goal for goal in found if goal.startswith(begin) and goal.endswith(end)], found
    assert verdict.goals(tmp_path / "nowhere") == []
    shapes = [row("sweep", "fastdrop", "bfloat16", large, r) for r in (1.1, 1.0)]
    for one, name in zip(shapes, ("256x4", "512x2"), strict=True):
        one["variant"] = name
    swept = results([row("sweep", "copy", "bfloat16", large, 1.0), *shapes], present="256x4")
    save(swept, tmp_path / "sweep.json")  # type: ignore[arg-type]
    (line,) = verdict.shapes(tmp_path)
    assert "512x2 is the fastest" in line and "the present 256x4 takes 1.10 times" in line


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="g++ is not here to compile the kernels for the host")
def test_a_rehearsal_ends_with_a_verdict(tmp_path: Path) -> None:
    cupy_or_skip()
    if not importlib.util.find_spec("nvidia"):
        pytest.skip("NVRTC is not here")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "gpu", "--first", str(tmp_path / "out"), "--rehearse"],
        cwd=ROOT,
        env={**os.environ, "CUPY_CACHE_DIR": str(tmp_path / "cupy")},
        capture_output=True,
        text=True,
        timeout=500,
    )
    said = done.stdout[-6000:]
    assert done.returncode == 0, said + done.stderr[-2000:]
    assert "REHEARSAL on the host" in said and "verdict: nothing is wrong in 10 steps" in said
    files = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert len(files) <= FILES and max(files.values()) < 16 << 20
    assert {"bandwidth.json", "sweep.json", "verdict.txt"} <= set(files)
    assert (tmp_path / "out" / "verdict.txt").read_text() in done.stdout
    for outcome in state_of(tmp_path / "out"):
        assert outcome["state"] == "ended" and outcome["status"] == 0
    shutil.rmtree(tmp_path / "out")
