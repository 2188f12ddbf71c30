"""A pytest plugin of ``python -m bench gpu --first``: notes each outcome as it comes.

It appends a line of JSON for each test to FOLDER/tests.jsonl, which a kill does not take away. In a
rehearsal the tests that need a GPU get CuPy's arrays over the host's memory, and the CPU's kernels.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import devices

_stack = ExitStack()
_notes = False
REHEARSAL = bool(os.environ.get("FASTDROP_REHEARSAL"))
if REHEARSAL:  # already now, for conftest.py imports these names
    devices.need_a_gpu = devices.cupy_or_skip
    devices.Device = devices.HostDevice  # type: ignore[misc]


FOLDER, STEP = (os.environ.get(f"FASTDROP_FIRST_{name}", "") for name in ("RUN", "STEP"))


def pytest_configure(config: pytest.Config) -> None:
    """Put the host in the GPU's place."""
    global _notes
    _notes = bool(FOLDER) and not hasattr(config, "workerinput")  # the controller sees all reports
    if REHEARSAL:
        _stack.enter_context(devices.host_device())
        # Softmax alone goes to the CUDA kernels there, too: they run on the host.
        from fastdrop_kernels.cuda import driver
        from tests.support.cuda_host.host import HostLauncher

        driver._launcher = HostLauncher()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give CuPy back its own functions."""
    _stack.close()


def _reason(report: Any) -> str:
    told = report.longrepr
    if isinstance(told, tuple):  # of a skip: file, line, reason
        return str(told[2]).removeprefix("Skipped: ")
    crash = getattr(told, "reprcrash", None)
    lines = (crash.message if crash else str(told)).strip().splitlines()
    return str(lines[0])[:300] if lines else ""


def _append(test: str, outcome: str, why: str) -> None:
    if _notes:
        noted = {"step": STEP, "test": test, "outcome": outcome, "why": why}
        with Path(FOLDER, "tests.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(noted) + "\n")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test that ended, also one whose fixtures failed."""
    if report.when == "call" or report.outcome != "passed":
        why = _reason(report) if report.outcome != "passed" else ""
        _append(report.nodeid, report.outcome, why)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that cannot be imported, or that skips itself."""
    if report.outcome != "passed":
        _append(report.nodeid, report.outcome, _reason(report))
