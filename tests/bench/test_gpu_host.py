"""The benchmark of a GPU, as far as it runs without one: a run on a GPU is in tests/gpu."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import gpu
from bench.__main__ import main
from bench.cases import CASES
from bench.check import draw, scaled
from bench.common import KI, fresh_input


def test_without_a_gpu_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(module: str) -> Any:
        raise ImportError("no CuPy")

    monkeypatch.setattr(gpu, "load", missing)
    assert main(["gpu"]) == 2
    assert "CuPy cannot be imported (no CuPy)" in capsys.readouterr().err


def test_sets_are_four_times_the_cache() -> None:
    assert gpu.sets_needed(1 << 20, 50 << 20) == 200 and gpu.sets_needed(1 << 30, 50 << 20) == 1


def test_wrong_results_are_found() -> None:
    x = fresh_input(64 * KI)
    kept = draw((x.size + 8,), 0.1)
    right = np.where(kept[8:], scaled(x, 0.1), np.float32(0))
    assert gpu.complaint("ours", x, right, 8) == "" == gpu.complaint("peer", x, right, 8)
    assert gpu.complaint("roof", x, x.copy(), 8) == ""
    assert "from element 0" in gpu.complaint("ours", x, right, 0)
    assert "is no copy" in gpu.complaint("roof", x, right, 0)
    assert "instead of" in gpu.complaint("peer", x, x.copy(), 0)


def test_the_copies_are_the_roof_and_come_first() -> None:
    assert [row["name"] for row in CASES["gpu"] if row.get("role") == "roof"] == [
        "copy",
        "copy-kernel",
    ]
    assert CASES["gpu"][0]["name"] == "copy"
