"""The sample inputs that torch tests its own dropout with."""

from __future__ import annotations

import pytest

from tests.support.subprocesses import run_scenario

FUNCTIONS = ["dropout", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]


@pytest.mark.slow  # importing torch's samples takes 5 s
def test_samples_of_torch() -> None:
    counts = {}
    for line in run_scenario("torch_samples").splitlines():
        count, case = line.split(" ", 1)
        counts[case] = int(count)
    for name in FUNCTIONS:
        assert counts[f"nn.functional.{name}: dropped"] >= 16
        assert counts[f"nn.functional.{name}: as torch's"] >= 64
