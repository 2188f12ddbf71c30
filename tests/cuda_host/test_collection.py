"""The tests that run on a GPU are collected here, and where there is none they say so."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys

import pytest

from tests.support.devices import cupy_or_skip, numba_cuda_complaint
from tests.support.oracle import ROOT

cupy = cupy_or_skip()
pytest.importorskip("numba.cuda", reason="this Numba has no CUDA: pip install numba-cuda")
pytestmark = pytest.mark.slow


def run_gpu_tests(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests marked gpu in another process."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *options, "tests"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_all_of_them_are_collected() -> None:
    run = run_gpu_tests("--collect-only", "-p", "tests.support.scenarios.pretended_gpu")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    found = {line.partition("::")[0] for line in run.stdout.splitlines() if "::" in line}
    every = {f"tests/gpu/{file.name}" for file in (ROOT / "tests/gpu").glob("test_*.py")}
    left_out = {"tests/gpu/test_numba_arrays.py"} if numba_cuda_complaint() else set()
    if importlib.util.find_spec("torch") is None:
        left_out.add("tests/gpu/test_torch_functions.py")
    assert every - found == left_out


def test_without_a_gpu_they_say_why_they_are_skipped() -> None:
    with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):
        cupy.cuda.runtime.getDeviceCount()
        pytest.skip("there is a GPU")
    run = run_gpu_tests("-rs")
    reasons = re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", run.stdout, re.MULTILINE)
    assert len(reasons) == 2, run.stdout
    for reason in reasons:
        assert reason.startswith("no GPU: cuda") or reason == "Numba finds no CUDA"
