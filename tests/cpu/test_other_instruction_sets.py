"""Kernels compiled for other instruction sets that this processor can run give the same bits."""

from __future__ import annotations

import json
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from tests.support.scenarios import digests
from tests.support.subprocesses import run_scenario

HOST = llvm.get_host_cpu_features()
# Features that Numba is to compile for, which this machine must have to run the code. The oldest of
# its kind has nothing: on x86-64 no AVX, and vectors of 128 bits.
PROCESSORS = {
    "generic": [],
    "nehalem": ["sse4.2", "popcnt"],
    "haswell": ["avx2", "fma", "bmi2", "f16c"],
    "skylake-avx512": [
        *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"),
        *("avx2", "fma", "bmi2", "f16c"),
    ],
}


def settings_of(name: str) -> dict[str, str]:
    """Return what tells Numba to compile for a processor, or skip the test."""
    if name != "generic" and not llvm.get_process_triple().startswith("x86_64"):
        pytest.skip("this processor is no x86-64")
    if missing := [feature for feature in PROCESSORS[name] if not HOST.get(feature)]:
        pytest.skip(f"this processor has no {', '.join(missing)}")
    features = ",".join(f"+{feature}" for feature in PROCESSORS[name])
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}


@pytest.mark.minute
@pytest.mark.slow
@pytest.mark.parametrize("name", ["generic", "haswell"])
def test_kernels_for_another_processor_give_the_same_bits(name: str) -> None:
    settings = settings_of(name)
    assert run_scenario("exactness", name, environment=settings).endswith("results are right\n")


@pytest.mark.minute
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"), [(name, "all" if name == "generic" else "sums") for name in PROCESSORS]
)
def test_functions_give_what_they_give_on_all_processors(name: str, part: str) -> None:
    """What is summed or approximated too, for which there is no reference of the same bits."""
    printed = run_scenario("digests", name, part, environment=settings_of(name), seconds=120)
    found, expected = json.loads(printed), json.loads(digests.FILE.read_text(encoding="utf-8"))
    assert found and (found.keys() == expected.keys() or part == "sums")
    assert [what for what in found if found[what] != expected[what]] == []


@pytest.mark.parametrize("dtype", digests.DTYPES[2:], ids=str)
def test_softmax_gives_here_what_it_gives_on_all_processors(dtype: np.dtype[Any]) -> None:
    expected = json.loads(digests.FILE.read_text(encoding="utf-8"))
    found = digests.digests(digests.of_dtypes(digests.softmaxes, [dtype]))
    assert len(found) == 2
    assert found == {what: expected[what] for what in found}
