"""The package needs nothing that Windows lacks, and serves spawned workers, the only ones there.

Both are tested on the system at hand, in processes from which that was taken. Which tests would run
on Windows is seen by ``pytest -p tests.support.without_posix --collect-only``, which CI does.
"""

from __future__ import annotations

import pytest

from tests.support.subprocesses import run_scenario


def test_calls_without_what_windows_lacks() -> None:
    assert run_scenario("windows", "calls").splitlines()[-1] == "done"


@pytest.mark.parametrize("which", ["pool", pytest.param("executor", marks=pytest.mark.slow)])
def test_spawned_workers_are_given_layers_and_keys(which: str) -> None:
    assert run_scenario("windows", which).strip() == "done"
