"""Kernels compiled for other processors than this one, which it can run too: the same bits."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

from .subprocesses import run_scenario

HOST = llvm.get_host_cpu_features()
# Name, what Numba is told that it has, and what this machine must have to run its code.
PROCESSORS = [
    ("generic", "", []),  # the oldest of its kind: on x86-64 no AVX, vectors of 128 bits
    ("haswell", "+avx2,+fma,+bmi2,+f16c", ["avx2", "fma", "bmi2", "f16c"]),  # no AVX-512
]


@pytest.mark.minute
@pytest.mark.slow
@pytest.mark.parametrize(("name", "features", "needed"), PROCESSORS)
def test_kernels_for_another_processor_give_the_same_bits(
    name: str, features: str, needed: list[str]
) -> None:
    if missing := [feature for feature in needed if not HOST.get(feature)]:
        pytest.skip(f"this processor has no {', '.join(missing)}")
    settings = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    assert run_scenario("exactness", name, environment=settings).endswith("results are right\n")
