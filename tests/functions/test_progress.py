"""Progress is shown where people look at it: bars on terminals and in notebooks, lines in logs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

import fastdrop as fd
from tests.support.internals import progress_bars


class Stream:
    """Standard error that says it is a terminal, or not."""

    def __init__(self, is_terminal: bool = False) -> None:
        self.is_terminal, self.text = is_terminal, ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


class NotebookStream(Stream):
    """Jupyter's, by the name of its module."""


NotebookStream.__module__ = "ipykernel.iostream"


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    now = [0.0]
    monkeypatch.setattr(progress_bars, "time", type("Clock", (), {"monotonic": lambda: now[0]}))

    def passes(n: float) -> None:
        now[0] += n

    return passes


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let packages not be installed."""

    def are_absent(*names: str) -> None:
        monkeypatch.setattr(
            progress_bars, "find_spec", lambda name: None if name in names else find_spec(name)
        )

    return are_absent


def shown(
    stream: Stream, progress: Any, patch: pytest.MonkeyPatch, each: Callable[[], object], n: int = 4
) -> str:
    """Return what a loop that counts writes to a stream."""
    patch.setattr(sys, "stderr", stream)
    patch.setenv("TERM", "xterm")
    done = []
    for item in progress_bars.progress_bar(progress, "counting")(range(n), n):
        done.append(item)
        each()
    assert done == list(range(n))
    return stream.text


@pytest.mark.parametrize("progress", [True, "rich", "tqdm", False, None])
def test_a_progress_bar_changes_nothing(progress: Any) -> None:
    if isinstance(progress, str):
        pytest.importorskip(progress)
    fd.warmup([], ["dropout"], progress=progress)
    assert list(progress_bars.progress_bar(progress, "counting")([1, 2, 3], 3)) == [1, 2, 3]


@pytest.mark.parametrize(("is_terminal", "each"), [(True, 2.0), (True, 0.01), (False, 20.0)])
def test_a_bar_appears_on_a_terminal_if_it_takes_long(
    is_terminal: bool,
    each: float,
    seconds: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("rich")
    text = shown(Stream(is_terminal), None, monkeypatch, lambda: seconds(each))
    assert ("counting" in text) == (is_terminal and each > 1)


@pytest.mark.parametrize("progress", [True, "rich", "tqdm"])
def test_bars_are_shown_on_a_terminal(progress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich" if progress is True else progress)
    text = shown(Stream(True), progress, monkeypatch, lambda: None)
    assert "counting" in text and "100%" in text and "4 of 4" not in text


def test_without_rich_nothing_appears_unasked_on_a_terminal(
    seconds: Callable[[float], None],
    absent: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent("rich")
    assert shown(Stream(True), None, monkeypatch, lambda: seconds(2.0)) == ""


def test_without_packages_there_are_lines(
    absent: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent("rich", "tqdm")
    for stream in (Stream(True), NotebookStream()):
        assert shown(stream, True, monkeypatch, lambda: None) == "counting: 4 of 4 (100%), 0 s\n"


@pytest.mark.parametrize("progress", [True, "rich", "tqdm"])
def test_a_log_has_a_line_now_and_then(
    progress: Any, seconds: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(progress, str):
        pytest.importorskip(progress)
    quick = shown(Stream(), progress, monkeypatch, lambda: seconds(0.1), 60)
    assert quick == "counting: 60 of 60 (100%), 6 s\n"
    # Every tenth, which is done in 30 seconds.
    slow = shown(Stream(), progress, monkeypatch, lambda: seconds(3.0), 100).splitlines()
    assert slow == [f"counting: {n} of 100 ({n}%), {3 * n} s" for n in range(10, 101, 10)]
    # A tenth takes 5 s: every second tenth.
    middling = shown(Stream(), progress, monkeypatch, lambda: seconds(0.5), 100).splitlines()
    assert middling == [f"counting: {n} of 100 ({n}%), {n // 2} s" for n in range(20, 101, 20)]
    # A tenth takes 1,000 s: each minute.
    long = shown(Stream(), progress, monkeypatch, lambda: seconds(10.0), 1000).splitlines()
    assert len(long) == 167 and long[0] == "counting: 6 of 1000 (1%), 60 s"


@pytest.mark.parametrize("progress", [True, "tqdm", None])
def test_a_notebook_without_widgets_has_a_bar_of_text(
    progress: Any,
    seconds: Callable[[float], None],
    absent: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """tqdm.auto would warn here, and warnings are errors."""
    pytest.importorskip("tqdm")
    absent("ipywidgets")
    text = shown(NotebookStream(), progress, monkeypatch, lambda: seconds(2.0))
    assert "counting" in text and "4/4" in text


def test_rich_without_widgets_is_lines_in_a_notebook(
    absent: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    absent("ipywidgets")
    text = shown(NotebookStream(), "rich", monkeypatch, lambda: None)
    assert text == "counting: 4 of 4 (100%), 0 s\n"
