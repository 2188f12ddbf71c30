"""Timing: rounds are interleaved and rotated, and ratios are taken within rounds."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest

from bench import timing
from bench.timing import Effort, Entry, measure, prepare, summarise


def test_the_ratio_is_the_median_of_ratios_within_rounds() -> None:
    # The second round was slow for all, which cancels.
    samples = {"base": [1.0, 10.0, 2.0], "mine": [2.0, 30.0, 4.0]}
    found = summarise(samples, {"base": "base", "mine": "base"})
    assert found["mine"]["ratio"] == 2.0 and found["mine"]["seconds"] == 4.0
    assert found["base"]["ratio"] == 1.0 and found["base"]["rounds"] == 3
    assert found["mine"]["ratio_q1"] == 2.0 and found["mine"]["ratio_q3"] == 2.5


def test_rounds_are_interleaved_and_rotated() -> None:
    calls: list[str] = []
    entries = [Entry(name, functools.partial(calls.append, name), 1, 1.0) for name in "abc"]
    samples = measure(entries, 1e-9, effort=Effort(least=3, most=3, settle=0.0))
    assert calls == list("abcbcacab")
    assert [len(samples[name]) for name in "abc"] == [3, 3, 3]


def test_short_calls_are_timed_in_batches_that_last() -> None:
    entry = prepare("nothing", lambda: None)
    assert entry.calls * entry.seconds >= 0.5e-3 and entry.calls > 1000
    assert prepare("long", lambda: time.sleep(2e-3)).calls == 1


def test_threads_settle_before_another_library_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    spins = [
        Entry(n, lambda: None, 1, 1.0, spins=s) for n, s in (("a", "x"), ("b", "x"), ("c", ""))
    ]
    measure(spins, 1e-9, effort=Effort(least=1, most=1, settle=7.0))
    assert slept == [7.0]  # not between two calls of one library


def test_ready_is_called_before_each_batch() -> None:
    made: list[Any] = []
    entry = prepare(
        "call", lambda: made.append("call"), lambda: made.append("ready"), effort=timing.ONCE
    )
    measure([entry], 1e-9, effort=timing.ONCE)
    assert made == ["ready", "call", "ready", "call"]
