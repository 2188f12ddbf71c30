"""The functions on batches beside their peers: whose ratios, whether goals are held, commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import batch, report, timing
from bench.__main__ import main
from bench.batch import Comparison
from bench.common import BenchError
from bench.results import load, made

# Seconds of three rounds, the second of which something slows down.
TAKEN = {
    **{"fastdrop-1": [1.0, 3.0, 1.1], "fastdrop": [0.5, 1.5, 0.55]},
    **{"a peer": [5.0, 15.0, 5.5], "another": [9.0, 27.0, 9.9]},
}


def comparison(goal: float, note: str = "a peer, on one thread") -> Comparison:
    calls: dict[str, Any] = dict.fromkeys(("ours", "a peer", "another"), lambda: None)
    return Comparison("nothing", calls, "ours", note, goal)


def shown(goal: float, patch: pytest.MonkeyPatch) -> list[list[str]]:
    patch.setattr(timing, "measure", lambda entries, *more, **named: TAKEN)
    rows = list(batch.timed("Naps", comparison(goal), 0.05, timing.ONCE))
    about: Any = {row["contender"]: {"label": row["contender"], "role": "peer"} for row in rows}
    (table,) = report.tables(made(rows, {}, about))
    assert table.title == "Naps"
    assert table.head[1:] == [
        *("its ms", "fastdrop, 1 thread", "all threads"),
        *("times faster, 1 thread", "times faster, all threads", "goal"),
    ]
    return table.rows


@pytest.mark.parametrize(
    ("goal", "verdict"), [(2.0, "2 held"), (7.0, "7 all threads"), (50.0, "50 MISSED")]
)
def test_ratios_are_to_ours_and_goals_are_judged(
    goal: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shown(goal, monkeypatch)
    assert first == ["nothing, beside a peer", "5,500", "1,100", "550", "5.00", "10.0", verdict]
    assert second == ["nothing, beside another", "9,900", "1,100", "550", "9.00", "18.0", ""]


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
