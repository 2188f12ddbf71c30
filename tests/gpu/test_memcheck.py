"""On a GPU: no kernel touches memory that is not its arrays', by NVIDIA's checker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.devices import Device, need_a_gpu
from tests.support.oracle import ROOT

need_a_gpu()
pytestmark = pytest.mark.gpu


def checker() -> str | None:
    """Return the path of compute-sanitizer, which CUDA's toolkit has."""
    folders = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    folders += ["/usr/local/cuda"]
    beside = os.pathsep.join(str(Path(folder) / "bin") for folder in folders if folder)
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=beside)


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_a_checker_finds_nothing(gpu: Device, tool: str) -> None:
    program = checker()
    if program is None:
        pytest.skip("compute-sanitizer is not here; CUDA's toolkit has it")
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = subprocess.run(
        [*command, "-m", "tests.support.scenarios.gpu_memory"],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "all right" in done.stdout
