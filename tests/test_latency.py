"""``python -m bench latency``: it runs, cleans up, and times nothing that is wrong."""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

pytest.importorskip("bench.latency", reason="bench or its libraries are not here")

from bench import latency, process_report
from bench.__main__ import main
from bench.common import BenchError
from fastdrop_kernels.cpu.host import work_sharing


@pytest.mark.slow
def test_it_prints_ratios_and_verdicts_and_ends_what_it_started(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, set_threads: Any
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    set_threads(2)
    assert main(["latency", "--seconds", "0.2", "--busy", "1"]) == 0
    printed = capfd.readouterr().out
    assert printed.count("2 threads, beside 1 busy") == len(latency.SIZES)
    assert printed.count("over the serial kernel's: at most 2, is ") == 2
    assert "Written" not in printed  # fewer processes than usual: part of a measurement
    assert [process.poll() for process in started] == [-9] * len(latency.SIZES)
    assert fd.get_num_threads() == 2


@pytest.mark.slow
def test_the_check_mode_writes_every_setting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], set_threads: Any
) -> None:
    set_threads(2)
    saved = tmp_path / "process.json"
    assert main(["latency", "--check", "--busy", "1", "--output", str(saved)]) == 0
    assert "All works" in capfd.readouterr().out
    found = process_report.load(saved)["latency"]
    assert found is not None
    settings = [(row["elements"], row["busy"], row["threads"]) for row in found["rows"]]
    assert settings == list(product(latency.SIZES, (0, 1), (1, 2)))
    assert all(
        row["calls"] and row["median"] <= row["p99"] <= row["worst"] for row in found["rows"]
    )


def test_threads_share_what_is_timed() -> None:
    # Else both settings are the serial kernel, and every ratio is 1.
    assert min(latency.SIZES) >= work_sharing.PARALLEL_FROM
    assert process_report.AT == min(latency.SIZES)


def test_a_broken_file_is_told_before_anything_is_timed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], set_threads: Any
) -> None:
    set_threads(2)
    saved = tmp_path / "process.json"
    saved.write_text("[]")
    assert main(["latency", "--seconds", "1e9", "--output", str(saved)]) == 2
    assert f"{saved} has results schema None" in capfd.readouterr().err


def test_wrong_values_are_not_timed(monkeypatch: pytest.MonkeyPatch, set_threads: Any) -> None:
    def wrong(x: Any, p: float, *, rng: Any, out: Any) -> Any:
        out[...] = x
        return out

    monkeypatch.setattr(fd, "dropout", wrong)
    x = np.ones(1000, np.float32)
    with pytest.raises(BenchError, match="wrong values"):
        latency._validate(x, np.empty_like(x), 2)


def test_no_busy_process_is_nothing_to_time_beside(
    capfd: pytest.CaptureFixture[str], set_threads: Any
) -> None:
    set_threads(2)
    assert main(["latency", "--busy", "0"]) == 2
    assert "--busy 0" in capfd.readouterr().err


def test_one_thread_is_nothing_to_compare(
    capfd: pytest.CaptureFixture[str], set_threads: Any
) -> None:
    set_threads(1)
    assert main(["latency", "--seconds", "0.1"]) == 2
    assert "FASTDROP_NUM_THREADS" in capfd.readouterr().err
