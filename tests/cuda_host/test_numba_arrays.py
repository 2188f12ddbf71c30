"""Numba device arrays without CuPy, in processes that run Numba's CUDA simulator."""

from __future__ import annotations

import pytest

from tests.support.slow import slow_unless
from tests.support.subprocesses import run_scenario


@pytest.mark.parametrize(
    "scene",
    slow_unless(
        lambda scene: scene in ("new_arrays", "errors"),
        ["new_arrays", "masks", "given_arrays", "layers", "errors"],
    ),
)
def test_numba_device_arrays_go_to_the_numba_kernels(scene: str) -> None:
    run_scenario("numba_arrays", scene, environment={"NUMBA_ENABLE_CUDASIM": "1"})
