"""On a GPU: the benchmark runs, and what it writes can be read and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rich", reason="the benchmark's packages are not here: pip install '.[bench]'")

from bench import report
from bench.__main__ import main
from bench.results import load, rows
from tests.support.devices import Device, need_a_gpu

need_a_gpu()
pytestmark = pytest.mark.gpu


def test_a_small_run(gpu: Device, tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    small = ["--quick", "--sizes", "64Ki,16Mi", "--dtypes", "float16,float32,float64"]
    assert main(["gpu", *small, "--output", str(file)]) == 0
    results = load(file)
    for section in ("forward", "step"):
        found = {
            (row["contender"], row["dtype"], row["elements"]) for row in rows(results, section)
        }
        for name in ("copy", "copy-kernel", "fastdrop", "fastdrop-new", "cupy"):
            for dtype in ("float16", "float32", "float64"):
                assert {(name, dtype, 1 << 16), (name, dtype, 1 << 24)} <= found, results["notes"]
    kept = {row["contender"]: row["bytes"] for row in rows(results, "memory")}
    assert kept["fastdrop"] == kept["fastdrop-new"] == 0.0 and kept["cupy"] == 1.0
    assert any("relative to copying" in table.title for table in report.tables(results))
