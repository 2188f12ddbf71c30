"""``python -m bench latency``: it runs, cleans up, and times nothing that is wrong."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

pytest.importorskip("bench.latency", reason="bench or its libraries are not here")

from bench import latency
from bench.__main__ import main
from bench.common import BenchError


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
    assert printed.count("1 busy") >= 2
    assert printed.count("at most 2 times the serial kernel's, is ") == 2
    assert [process.poll() for process in started] == [-9]


def test_wrong_values_are_not_timed(monkeypatch: pytest.MonkeyPatch, set_threads: Any) -> None:
    def wrong(x: Any, p: float, *, rng: Any, out: Any) -> Any:
        out[...] = x
        return out

    monkeypatch.setattr(fd, "dropout", wrong)
    x = np.ones(1000, np.float32)
    with pytest.raises(BenchError, match="wrong values"):
        latency._validate(x, np.empty_like(x), 2)


def test_one_thread_is_nothing_to_compare(
    capfd: pytest.CaptureFixture[str], set_threads: Any
) -> None:
    set_threads(1)
    assert main(["latency", "--seconds", "0.1"]) == 2
    assert "FASTDROP_NUM_THREADS" in capfd.readouterr().err
