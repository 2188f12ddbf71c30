"""A first call that a signal handler ends by raising, as Ctrl-C does: later calls must work."""

from __future__ import annotations

import signal

import pytest

from tests.support.subprocesses import run_scenario

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")


def test_struck_inside_numba() -> None:
    # Left there, Numba says "partially initialized" for the rest of the process.
    assert run_scenario("interrupted", "numba.core.typing.templates").strip() == "struck 1"


@pytest.mark.slow
def test_struck_again_and_again() -> None:
    modules = "llvmlite.binding", "numba.core.lowering", "fastdrop_kernels.cpu.elements.storage"
    assert run_scenario("interrupted", *modules).strip().startswith("struck ")
