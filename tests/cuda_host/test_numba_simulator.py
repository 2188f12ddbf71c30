"""Numba's kernels for a GPU, and what users build kernels of, in Numba's simulator of a GPU.

In processes of their own, because Numba reads when it is imported that it is to simulate.
"""

from __future__ import annotations

import pytest

from tests.support.subprocesses import run_scenario

pytest.importorskip("numba.cuda", reason="this Numba has no CUDA: pip install numba-cuda")

from tests.support.device_arrays import PROMISES

SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1"}


QUICK = ("the_known_answers", "the_building_blocks_in_a_kernel")


@pytest.mark.parametrize(
    "promise",
    [pytest.param(p, marks=[] if p in QUICK else pytest.mark.slow) for p in PROMISES],
)
def test_the_simulator_keeps_the_promise(promise: str) -> None:
    run_scenario("simulator", promise, environment=SIMULATOR)
