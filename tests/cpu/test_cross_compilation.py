"""Kernels for ARM, macOS and Windows: what they call exists there, and how long their code is."""

from __future__ import annotations

import json

import pytest

from tests.support.subprocesses import run_scenario

SYSTEMS = ["aarch64-linux", "arm64-macos", "x86_64-windows"]
# Instructions an element of plain dropout on cached arrays with Numba 0.68, and some to spare.
# x86-64 without AVX, whose vectors have 128 bits too, takes 16.5 for float32.
MOST = {"float16": 13.5, "bfloat16": 14.5, "float32": 13.0, "float64": 14.5}


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_kernels_call_nothing_that_is_not_there(system: str) -> None:
    assert " kernels and routines for " in run_scenario("cross_compiled", system, seconds=60)


@pytest.mark.slow
def test_code_for_arm_is_no_longer_than_that_for_x86_64() -> None:
    arm, x86 = (
        json.loads(run_scenario("instructions", target))
        for target in ("aarch64-linux", "x86_64-linux")
    )
    assert arm.keys() == MOST.keys()
    for dtype, most in MOST.items():
        assert arm[dtype] <= most
        assert arm[dtype] <= x86[dtype]
