"""Calls beside each threading layer of Numba, at work in the same process, give the right bits.

Numba's own limits are kept: workqueue ends a process in which two threads run parallel code at
once, and omp ends a forked child that runs any. Calls of fastdrop must survive both.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.scenarios import calls
from tests.support.subprocesses import run_scenario
from tests.support.systems import needs_fork

SHORT, MEDIUM, LONG = 0.3, 1.0, 10.0
LAYERS = ["workqueue", "omp", "tbb"]


def long(*scenarios: str, seconds: float = MEDIUM) -> list[Any]:
    """Every scenario with every threading layer, for the slow tests."""
    return [
        pytest.param(scenario, layer, seconds, marks=pytest.mark.slow)
        for scenario in scenarios
        for layer in LAYERS
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the mask lies, and what Numba caches of the parallel code."""
    folder = tmp_path_factory.mktemp("layers")
    calls.save_mask(folder / "mask.npy")
    return folder


def run(layer: str, scenario: str, name: str, seconds: float, folder: Path) -> None:
    # In a virtual environment TBB's library lies outside the loader's search path.
    libraries = [str(Path(sys.prefix, "lib")), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = {
        "NUMBA_THREADING_LAYER": layer,
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        calls.MASK_FILE: str(folder / "mask.npy"),
    }
    output = run_scenario(scenario, name, seconds, environment=environment, seconds=seconds)
    assert output.splitlines()[-1] == "done", output


@pytest.mark.parametrize(
    ("scenario", "layer", "seconds"),
    [("executor", "workqueue", SHORT), *long("executor", seconds=LONG), *long("dask")],
)
def test_threads_call_beside_parallel_code(
    scenario: str, layer: str, seconds: float, folder: Path
) -> None:
    run(layer, "callers", scenario, seconds, folder)


@needs_fork
@pytest.mark.parametrize(
    ("scenario", "layer", "seconds"),
    [("after_use", "omp", SHORT), *long("after_use", "during_calls")],
)
def test_forked_children_call(scenario: str, layer: str, seconds: float, folder: Path) -> None:
    run(layer, "forks", scenario, seconds, folder)


@pytest.mark.parametrize(
    ("method", "layer", "seconds"),
    [("fork", "omp", SHORT), *long("fork", "forkserver", "spawn")],
)
def test_workers_of_multiprocessing_call(
    method: str, layer: str, seconds: float, folder: Path
) -> None:
    if method != "spawn" and sys.platform == "win32":
        pytest.skip(f"this system has no {method}")
    run(layer, "workers", method, seconds, folder)
