"""Python in other processes, which may crash or hang without harm to the test run.

A process that does not end in time is told to abort, with its children, and each then prints where
all of its threads are: that is what a failed test shows.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.oracle import ROOT
from tests.support.scenarios import SKIPPED

KILL: signal.Signals = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none
PATIENCE = 120.0  # seconds, far more than anything here takes
# As in pyproject.toml: numba-cuda 0.30, when it is imported with NumPy 2.5.
_NUMBA_CUDAS = "ignore:The 'generic' unit for NumPy timedelta:DeprecationWarning"


# Code that appends to `made` the name of each kernel that is compiled or loaded.
COUNTING = """
import numpy as np, fastdrop as fd
from fastdrop_kernels.cpu.codegen import compiler

made = []
compile_ = compiler._compile
def counted(name, *rest):
    made.append(name)
    return compile_(name, *rest)
compiler._compile = counted
"""


@dataclass(frozen=True)
class Finished:
    """How a process ended, and what it wrote."""

    status: int | None  # None: it hung
    stdout: str
    stderr: str

    def __str__(self) -> str:
        how = "it hung" if self.status is None else f"exit status {self.status}"
        return f"{how}\n-- stdout:\n{self.stdout}\n-- stderr:\n{self.stderr}"


class Process:
    """A running Python that finds the packages as this one does, and takes warnings for errors."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        before: Sequence[str] = (),
        tree: Path = ROOT,
    ) -> None:
        settings = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "kernels")]),
            "PYTHONFAULTHANDLER": "1",  # and so for the children it spawns
            **environment,
        }
        self._popen = subprocess.Popen(
            [*before, sys.executable, "-W", "error", "-W", _NUMBA_CUDAS, *arguments],
            env=settings,
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that its children can be ended with it
        )

    def finish(self, patience: float = PATIENCE) -> Finished:
        """Wait until the process has ended."""
        status: int | None = None
        try:
            stdout, stderr = self._popen.communicate(timeout=patience)
            status = self._popen.returncode
        except subprocess.TimeoutExpired:
            self._abort_all()
            try:
                stdout, stderr = self._popen.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self._signal_all(KILL)
                stdout, stderr = self._popen.communicate()
        finally:
            self._signal_all(KILL)  # a child that outlived its parent
        return Finished(status, stdout, stderr)

    def _abort_all(self) -> None:
        """Let one process after the other print its stacks, children before their parents."""
        children = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if sys.platform == "win32" or os.getpgid(int(folder.name)) == self._popen.pid:
                    children.append(int(folder.name))
        for process in sorted(children, reverse=True):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGABRT)
            time.sleep(0.5)
        self._signal_all(signal.SIGABRT)

    def _signal_all(self, number: int) -> None:
        if sys.platform == "win32":
            self._popen.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)


def run_python(code: str, **environment: str) -> Finished:
    """Run code in a new process."""
    return Process(["-c", code], environment).finish()


def run_scenario(
    name: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    seconds: float = 0,
) -> str:
    """Run a module of `tests.support.scenarios` that must succeed, and return what it prints.

    It may say that it cannot run here, and why: then the test that asked for it is skipped. It has
    time for the seconds that it is told to go on for.
    """
    command = ["-m", f"tests.support.scenarios.{name}", *map(str, arguments)]
    done = Process(command, environment or {}).finish(PATIENCE + 3 * seconds)
    if done.status == SKIPPED:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    return assert_succeeds(done)


def assert_succeeds(done: Finished) -> str:
    """Exit status 0 and no word of complaint; returns what was printed."""
    assert done.status == 0, str(done)
    assert done.stderr == "", str(done)
    return done.stdout
