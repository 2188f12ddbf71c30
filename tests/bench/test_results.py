"""Results: the file, tables, goals, losses, comparison and pages say what was measured."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import compare, plot, readme, report, results
from bench.__main__ import main
from bench.common import KI, MI, RESULTS, BenchError
from bench.goals import GOALS, Verdict, judge
from bench.results import Results, Row

FILES = sorted(RESULTS.glob("*.json"))


def row(contender: str, elements: int, ratio: float, section: str = "forward", **more: Any) -> Row:
    about = {"section": section, "contender": contender, "variant": "", "dtype": "float32"}
    times = {"base": "multiply", "seconds": ratio * 1e-6, "q1": 1e-6, "q3": 1e-6, "rounds": 5}
    ratios = {"ratio": ratio, "ratio_q1": ratio * 0.99, "ratio_q3": ratio * 1.01}
    return {**about, "elements": elements, **times, **ratios, **more}


@pytest.fixture
def found() -> Results:
    rows = [
        row("multiply", 64 * KI, 1.0),
        row("fastdrop", 64 * KI, 2.0),
        row("torch", 64 * KI, 50.0),
    ]
    rows += [row("fastdrop-1", 64 * KI, 2.5), row("cs231n", 64 * KI, 30.0)]
    kept = {"section": "memory", "dtype": "float32", "elements": MI, "measure": "kept"}
    rows += [
        {**kept, "contender": "fastdrop", "bytes": 0.0},
        {**kept, "contender": "cs231n", "bytes": 8.0},
    ]
    roles = {"multiply": "roof", "fastdrop": "ours", "fastdrop-1": "ours"}
    names = ("multiply", "fastdrop-1", "fastdrop", "cs231n", "torch")
    labels = {n: {"label": f"the {n}", "role": roles.get(n, "peer")} for n in names}
    return results.made(rows, {"p": 0.1}, labels, ["a note"])


def changed(found: Results, contender: str, **values: Any) -> Results:
    other = copy.deepcopy(found)
    for each in other["rows"]:
        if each["contender"] == contender and "base" in each:
            each.update(values)
    return other


def state(found: Results, text: str) -> str:
    return next(verdict.state for verdict in judge(found) if verdict.text == text)


def test_results_survive_the_file(found: Results, tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.json"
    results.save(found, file)
    assert results.load(file) == results._rounded(found)
    assert sum('"section"' in line for line in file.read_text().splitlines()) == len(found["rows"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_committed_results_are_read_and_shown(file: Path) -> None:
    data = results.load(file)
    assert not re.search(r'"/\w', file.read_text(encoding="utf-8"))  # no paths of a machine
    shown = list(report.tables(data))
    assert shown and all(len(line) == len(table.head) for table in shown for line in table.rows)
    assert report.machine(data).startswith(("Measured 20", "Counted 20"))


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": 3}'])
def test_foreign_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(BenchError, match="file.json"):
        results.load(file)
    with pytest.raises(BenchError, match="no results in"):
        results.load(tmp_path / "none.json")


def test_a_row_that_lacks_something_is_named(found: Results, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    found["rows"][1].pop("ratio")
    results.save(found, file)
    with pytest.raises(BenchError, match=r"row 1 .*'ratio'"):
        results.load(file)
    found["rows"][1] |= {"ratio": 1.0, "contender": "nobody"}
    results.save(found, file)
    with pytest.raises(BenchError, match=r"row 1 is of 'nobody'"):
        results.load(file)


@pytest.mark.parametrize(
    ("value", "least", "expected"),
    [(2.9, False, "held"), (3.5, False, "acceptable"), (4.1, False, "MISSED")]
    + [(4.1, True, "held"), (2.0, True, "MISSED"), (None, True, "not measured")],
)
def test_a_goal_has_its_states(value: float | None, least: bool, expected: str) -> None:
    verdict = Verdict("what", value, 3.0, least, None if least else 4.0, " us")
    assert verdict.state == expected and str(verdict).startswith(f"{expected}: what: at ")


def test_what_is_missed_is_said(found: Results) -> None:
    text = "ratio at 64 Ki elements, 1 thread"
    assert state(found, text) == "held"
    assert state(changed(found, "fastdrop-1", ratio=3.5), text) == "acceptable"
    assert state(changed(found, "fastdrop-1", ratio=5.0), text) == "MISSED"
    assert state(found, "ratio at 1 Mi elements, 1 thread") == "not measured"
    lead = "torch F.dropout (1 or all threads) slower than fastdrop, least lead from 64 Ki up"
    assert (
        state(found, lead) == "held"
        and state(changed(found, "torch", ratio=30.0), lead) == "MISSED"
    )
    idiom = "time over the cs231n idiom's, the most at any size from 10 elements up"
    assert (
        state(found, idiom) == "held"
        and state(changed(found, "fastdrop", ratio=31.0), idiom) == "MISSED"
    )
    memory = "memory beyond the results, out=y"
    assert state(found, memory) == "held"
    found["rows"][5]["bytes"] = 1.0
    assert state(found, memory) == "MISSED"


def test_every_goal_can_be_judged_by_some_committed_results() -> None:
    measured = {v.text for file in FILES for v in judge(results.load(file)) if v.value is not None}
    texts = {v.text for v in judge(results.load(FILES[0]))}
    assert len(texts) == sum(len(goal.get("each", [0])) for goal in GOALS)
    assert {text for text in texts - measured if not text.startswith("GPU:")} == set()


def test_losses_are_told(found: Results) -> None:
    assert "No peer is faster than fastdrop at any size measured." in report.losses(found)
    slow = report.losses(changed(found, "torch", ratio=1.0))
    assert "the fastdrop: slower than the torch at 64 Ki (2.00 times)." in slow
    assert report.fastest_peer(found)[0].endswith("15.0 at 64 Ki.")


def test_tables_show_what_was_measured(found: Results) -> None:
    ratios, memory, times = report.tables(found)
    assert ratios.head == ["", "64 Ki"] and ["the fastdrop", "2.00"] in ratios.rows
    assert memory.rows == [["the fastdrop", "0.00"], ["the cs231n", "8.00"]]
    assert ["the torch", "50.0"] in times.rows and times.folded and not ratios.folded


def test_what_moved_beyond_its_spread_is_found(found: Results) -> None:
    assert not [c for c in compare.compare(found, found) if c.clear]
    slower = changed(found, "fastdrop", ratio=2.5, ratio_q1=2.4, ratio_q3=2.6)
    (worst, *_) = compare.compare(found, slower)
    assert worst.place[1] == "fastdrop" and worst.clear and round(worst.moved, 2) == 0.25
    noisy = changed(found, "fastdrop", ratio=2.5, ratio_q1=1.5, ratio_q3=3.0)
    assert not compare.compare(found, noisy)[0].clear
    slower["rows"] = [r for r in slower["rows"] if r["contender"] != "fastdrop-1"]
    assert compare.gone(found, slower) == [("forward", "fastdrop-1")]
    assert "settings, p: 0.1 -> 0.5" in compare.differences(
        found, {**found, "settings": {"p": 0.5}}
    )


def test_the_command_compares_files(
    found: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    results.save(found, Path(old))
    results.save(changed(found, "fastdrop", ratio=3.0, ratio_q1=2.9, ratio_q3=3.1), Path(new))
    assert main(["compare", old, new]) == 0 and "Regressions" in capsys.readouterr().out
    assert main(["compare", old, new, "--fail"]) == 1
    assert main(["compare", new, old, "--fail"]) == 0 and "Improvements" in capsys.readouterr().out


def test_the_pages_show_the_committed_results() -> None:
    assert main(["readme", "--check"]) == 0


def test_a_stale_or_broken_page_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    markers = ["<!-- bench:loops:start -->", "<!-- bench:loops:end -->"]
    page.write_text("\n".join(["before", *markers, "after"]), "utf-8")
    monkeypatch.setattr(readme, "PAGES", {page: ("loops",)})
    assert main(["readme", "--check"]) == 1 and main(["readme"]) == 0
    assert main(["readme", "--check"]) == 0
    text = page.read_text("utf-8")
    assert text.startswith("before") and text.endswith("after") and "times cheaper" in text
    page.write_text(text.replace("held", "HELD", 1), "utf-8")
    assert main(["readme", "--check"]) == 1
    page.write_text(markers[1] + markers[0], "utf-8")
    assert main(["readme"]) == 2 and "in this order" in capsys.readouterr().err


@pytest.mark.slow
def test_plots_are_deterministic(tmp_path: Path) -> None:
    data = results.load(RESULTS / "cpu.json")
    paths = [list(plot.draw_all(data, tmp_path / name)) for name in ("cpu.json", "cpu.json")]
    texts = [[path.read_text("utf-8") for path in found] for found in paths]
    assert texts[0] == texts[1] and len(texts[0]) == 2
    assert json.loads((RESULTS / "cpu.json").read_text("utf-8"))["schema"] == results.SCHEMA
