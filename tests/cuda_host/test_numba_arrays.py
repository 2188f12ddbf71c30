"""Device arrays of Numba in and out, without CuPy: in processes of Numba's simulator."""

from __future__ import annotations

import pytest

from tests.support.subprocesses import run_scenario
from tests.support.thinning import thinned


@pytest.mark.parametrize(
    "scene",
    thinned(
        lambda scene: scene in ("new_arrays", "errors"),
        ["new_arrays", "masks", "given_arrays", "layers", "errors"],
    ),
)
def test_arrays_of_numba_go_to_the_kernels_of_numba(scene: str) -> None:
    run_scenario("numba_arrays", scene, environment={"NUMBA_ENABLE_CUDASIM": "1"})
