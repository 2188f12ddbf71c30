"""The functions on batches beside their peers: whose ratios, whether goals are held, commands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bench import batch, report, timing
from bench.__main__ import main
from bench.batch import Comparison
from bench.common import BenchError
from bench.results import load, made


def comparison(goal: float, note: str = "a peer, on one thread") -> Comparison:
    """Ours takes 1 ms, and others 5 and 9."""
    calls: dict[str, Any] = {
        name: lambda ms=ms: time.sleep(ms / 1e3)
        for name, ms in {"ours": 1, "a peer": 5, "another": 9}.items()
    }
    return Comparison("sleeps", calls, "ours", note, goal)


def shown(goal: float) -> list[list[str]]:
    rows = list(batch.timed("Naps", comparison(goal), 0.05, timing.FULL))
    about: Any = {row["contender"]: {"label": row["contender"], "role": "peer"} for row in rows}
    (table,) = report.tables(made(rows, {}, about))
    assert table.title == "Naps"
    assert table.head[1:] == [
        *("its ms", "fastdrop, 1 thread", "all threads"),
        *("times faster, 1 thread", "times faster, all threads", "goal"),
    ]
    return table.rows


@pytest.mark.parametrize(("goal", "verdict"), [(2.0, "2 held"), (50.0, "50 MISSED")])
def test_ratios_are_to_ours_and_goals_are_judged(goal: float, verdict: str) -> None:
    first, second = shown(goal)
    assert (first[0], second[0]) == ("sleeps, beside a peer", "sleeps, beside another")
    assert 3 < float(first[4]) < 5.5 < float(second[4]) < 9.5
    assert (first[6], second[6]) == (verdict, "")


def test_a_goal_may_need_all_threads() -> None:
    row = {"goal": 20.0}
    assert report.reached(row, 21.0, 30.0) == "20 held"
    assert report.reached(row, 15.0, 30.0) == "20 all threads"
    assert report.reached(row, 15.0, 19.0) == "20 MISSED"


def test_a_goal_is_of_a_contender() -> None:
    assert batch.goal_peer(comparison(2.0)) == "a peer"
    with pytest.raises(BenchError, match="the goal is of none of a peer, another"):
        batch.goal_peer(comparison(2.0, "somebody"))


@pytest.mark.slow
@pytest.mark.parametrize("family", list(batch.modules()))
def test_every_family_works(family: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    assert main(["batch", "--family", family, "--check", "--output", str(file)]) == 0
    rows = load(file)["rows"]
    assert {"fastdrop", "fastdrop-1"} < {row["contender"] for row in rows}
    assert any(row["goal"] for row in rows)
