"""A first call that compiles for over a second says so, and no other says anything."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fastdrop as fd
from tests.support.internals import notice
from tests.support.subprocesses import run_python

CALLS = """
import numpy as np, fastdrop as fd
from fastdrop_kernels.cpu.codegen import notice
notice._PATIENCE = 0.2
x = np.ones(10, np.float32)
for _ in range(2):
    fd.dropout(x, 0.5)
"""


def test_a_first_call_says_what_it_compiles(tmp_path: Path) -> None:
    cache = {"FASTDROP_CACHE_DIR": str(tmp_path)}
    first, second = (run_python(CALLS, FASTDROP_VERBOSE="1", **cache) for _ in range(2))
    compiling, compiled = first.stderr.splitlines()
    said = f"fastdrop: compiling dropout for float32, once: kernels are kept in {tmp_path}"
    assert compiling == said and compiled.startswith("fastdrop: compiled in "), str(first)
    assert first.status == second.status == 0 and second.stderr == "", str(second)


class Terminal:
    """A terminal that remembers what is written to it, and when."""

    def __init__(self) -> None:
        self.said: list[tuple[float, str]] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.said.append((time.monotonic(), text))

    def flush(self) -> None:
        pass


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, str]]]:
    """What is said, and when, on a terminal, after a hundredth of the time."""
    terminal = Terminal()
    monkeypatch.delenv("FASTDROP_VERBOSE", raising=False)
    # Not sys.stderr itself, which pytest sets again after this.
    standard = SimpleNamespace(stderr=terminal, modules=sys.modules)
    monkeypatch.setattr(f"{notice.__name__}.sys", standard)
    monkeypatch.setattr(f"{notice.__name__}.console.sys", standard)
    monkeypatch.setattr(notice, "_PATIENCE", 0.05)
    monkeypatch.setattr(notice, "_INTERVAL", 0.005)
    monkeypatch.setattr(notice, "_PAUSE", 0.05)
    yield terminal.said
    quiet()


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fastdrop-notice"]


def quiet() -> None:
    """Wait until no compilation is watched."""
    for thread in watchers():
        thread.join(10)
    assert not watchers()


def compiles(seconds: float, kept_in: str = "FOLDER", misses: bool = True) -> float:
    """Compile for a while, and return when that ended."""
    with notice.compilation(lambda: kept_in) as begins:
        if misses:
            begins()
        time.sleep(seconds)
    return time.monotonic()


def test_it_is_said_while_it_is_waited_for(lines: list[Any]) -> None:
    ended = compiles(0.5)
    quiet()
    (begun_at, compiling), (ended_at, compiled) = lines
    assert begun_at < ended - 0.2 and ended_at >= ended
    assert compiling == "fastdrop: compiling kernels, once: kernels are kept in FOLDER\n"
    assert compiled == "fastdrop: compiled in 0.5 s\n"


def test_several_kernels_of_a_call_are_one_notice(lines: list[Any]) -> None:
    with notice.compilation(lambda: "") as begins:
        begins()
        compiles(0.02)  # inside
    for _ in range(8):
        compiles(0.02)
    quiet()
    assert [text.partition(" in ")[0] for _, text in lines] == [
        "fastdrop: compiling kernels\n",
        "fastdrop: compiled",
    ]


def test_calls_that_differ_have_notices_of_their_own(lines: list[Any]) -> None:
    for name in ("dropout", "keep_k"):
        with notice.about(name):
            compiles(0.2)
        assert not watchers() and "compiled in" in lines[-1][1]  # no later than that
    assert [text for _, text in lines if "compiling" in text] == [
        f"fastdrop: compiling {name}, once: kernels are kept in FOLDER\n"
        for name in ("dropout", "keep_k")
    ]


def test_most_say_nothing(lines: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compiles(0.2, misses=False)  # of the cache
    assert not watchers()
    compiles(0.001)
    quiet()
    with notice.about(""):  # there is a bar
        compiles(0.2)
    monkeypatch.setenv("FASTDROP_VERBOSE", "0")
    compiles(0.2)
    assert not watchers() and lines == []


def test_where_nobody_looks_nothing_is_said_unless_wanted(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    compiles(0.2)
    assert not watchers() and lines == []
    monkeypatch.setenv("FASTDROP_VERBOSE", "1")
    compiles(0.2)
    quiet()
    assert len(lines) == 2


def test_who_calls_is_found_through_threads_and_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdrop_kernels import shielded

    class Array:
        dtype = "torch.bfloat16"

    namespace: dict[str, Any] = {"__name__": "fastdrop.anywhere", "run": shielded.run_shielded}
    namespace["work"] = notice._caller
    exec("def dropout(x, p): return run(work)\ndef inner(x): return dropout(x, 0)", namespace)
    exec("class Dropout:\n def __call__(self, x): return inner(x)", namespace)
    assert namespace["dropout"]([1], 0) == "dropout"
    assert namespace["inner"](Array) == "dropout for bfloat16"
    assert namespace["Dropout"]()(Array) == "Dropout for bfloat16"
    assert fd and notice._caller() == "kernels"
    assert not shielded._callers


FORKS = """
import os, time, warnings
from fastdrop_kernels.cpu.codegen import notice
warnings.simplefilter("ignore")  # Python 3.12 warns of threads, one of which watches
notice._PATIENCE, notice._INTERVAL, notice._PAUSE = 0.05, 0.005, 0.05

def compiles(name):
    with notice.about(name), notice.compilation(str) as begins:
        begins()
        time.sleep(0.3)

with notice.compilation(str) as begins:
    begins()
assert notice._current
child = os.fork()
if not child:
    compiles("in the child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
compiles("in the parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_forked_meanwhile_has_a_notice_of_its_own() -> None:
    done = run_python(FORKS, FASTDROP_VERBOSE="1")
    said = [line.partition(" 0.")[0] for line in done.stderr.splitlines()]
    compiled = "fastdrop: compiled in"
    expected = ["fastdrop: compiling in the child", compiled]
    assert said == [*expected, "fastdrop: compiling in the parent", compiled], str(done)


def test_a_process_ends_with_its_main_thread() -> None:
    """It does not wait for more compilations."""
    code = """
import time
from fastdrop_kernels.cpu.codegen import notice
notice._PAUSE = 100.0
with notice.compilation(str) as begins:
    begins()
"""
    begun = time.monotonic()
    done = run_python(code, FASTDROP_VERBOSE="1")
    assert done.status == 0 and done.stderr == "" and time.monotonic() - begun < 60, str(done)
