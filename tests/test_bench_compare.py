"""Comparing two results files, and drawing one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import results
from bench.__main__ import main
from bench.common import KI, MI
from tests.test_bench_results import LABELS, full

pytest.importorskip("rich", reason="the benchmark prints with rich: pip install -e '.[bench]'")

from bench.compare import compare  # noqa: E402 - which needs rich


def changed(change: Callable[[results.Results], object]) -> results.Results:
    found = copy.deepcopy(full())
    change(found)
    return found


def scale(section: str, contender: str, factor: float, spread: float = 0.0) -> results.Results:
    """Results in which one contender is slower by a factor, with quartiles spread around it."""

    def change(found: results.Results) -> None:
        for row in found["timings"][section]:
            if row["contender"] == contender:
                row["ratio"] *= factor
                row["ratio_q1"] = row["ratio"] * (1 - spread)
                row["ratio_q3"] = row["ratio"] * (1 + spread)

    return changed(change)


def test_equal_results_have_not_changed() -> None:
    found = compare(full(), full())
    assert found.changes and {change.moved for change in found.changes} == {0.0}
    assert not (found.regressions(0.1) or found.improvements(0.1) or found.differences)
    assert found.only_old == found.only_new == 0


def test_a_slower_call_is_a_regression_and_a_faster_one_an_improvement() -> None:
    slower = scale("forward", "fastdrop", 1.2)
    regressions = compare(full(), slower).regressions(0.1)
    assert {change.place for change in regressions} == {
        ("forward", "fastdrop", "float32", "", n) for n in (KI, 64 * KI, 16 * MI)
    }
    assert regressions[0].moved == pytest.approx(0.2)
    assert compare(full(), slower).regressions(0.25) == []
    # The other way round it is as much of an improvement.
    back = compare(slower, full())
    assert back.regressions(0.1) == [] and len(back.improvements(0.1)) == 3


def test_the_worst_comes_first() -> None:
    worse = scale("forward", "fastdrop", 1.2)
    worse["timings"]["small"][1]["ratio"] *= 1.5
    worse["timings"]["small"][1]["ratio_q1"] *= 1.5
    sections = [change.place[0] for change in compare(full(), worse).regressions(0.1)]
    assert sections == ["small", "forward", "forward", "forward"]


def test_a_change_within_the_spread_of_the_rounds_is_none() -> None:
    noisy = scale("forward", "fastdrop", 1.2, spread=0.3)
    assert compare(full(), noisy).regressions(0.1) == []


def test_peers_do_not_regress() -> None:
    assert compare(full(), scale("forward", "torch", 2.0)).regressions(0.1) == []


def test_the_speed_of_the_machine_cancels() -> None:
    def slow_down(found: results.Results) -> None:
        for rows in found["timings"].values():
            for row in rows:
                row["seconds"] *= 3

    assert compare(full(), changed(slow_down)).regressions(0.1) == []


def test_more_memory_is_a_regression() -> None:
    def keep_a_mask(found: results.Results) -> None:
        found["memory"][2]["resident"] = 1.0

    regressions = compare(full(), changed(keep_a_mask)).regressions(0.1)
    assert [change.place[0] for change in regressions] == ["memory"]
    assert regressions[0].new == 1.0


def test_rows_of_one_file_only_are_counted() -> None:
    fewer = changed(lambda found: found["timings"].pop("dtypes"))
    found = compare(full(), fewer)
    assert (found.only_old, found.only_new) == (6, 0)


def test_other_conditions_are_named() -> None:
    def elsewhere(found: results.Results) -> None:
        found["hardware"]["cpu"] = "Another CPU"
        found["versions"]["numpy"] = "9.9"

    assert compare(full(), changed(elsewhere)).differences == [
        "hardware cpu: A CPU -> Another CPU",
        "version of numpy: None -> 9.9",
    ]


@pytest.mark.parametrize(
    ("factor", "options", "status"),
    [(1.2, [], 0), (1.2, ["--fail"], 1), (1.0, ["--fail"], 0), (1.2, ["--threshold", "0.3"], 0)],
)
def test_the_command(
    tmp_path: Path,
    factor: float,
    options: list[str],
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [str(tmp_path / name) for name in ("old.json", "new.json")]
    results.save(full(), Path(paths[0]))
    results.save(scale("forward", "fastdrop", factor), Path(paths[1]))
    assert main(["compare", *paths, "--all", *options]) == status
    out = capsys.readouterr().out
    assert ("Regressions" in out) == (factor > 1 and "--threshold" not in options)
    assert "figures compared" in out
    assert main(["compare", paths[0], str(tmp_path / "none.json")]) == 2
    assert main(["compare", *paths, "--threshold", "-1"]) == 2


# Plots


@pytest.mark.slow
def test_plots_are_small_and_deterministic(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib: pip install -e '.[bench]'")
    saved = tmp_path / "cpu.json"
    results.save(full(), saved)
    for name in ("a", "b"):
        assert main(["plot", "--results", str(saved), "--output", str(tmp_path / name)]) == 0
    first = sorted((tmp_path / "a").iterdir())
    assert [path.name for path in first] == [
        f"cpu-{name}.svg" for name in ("memory", "step", "threads", "throughput")
    ]
    for path in first:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.stat().st_size < 300_000
    throughput = first[-1].read_text(encoding="utf-8")
    assert "np.multiply by a constant" in throughput and "best NumPy" in throughput


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    plot = pytest.importorskip(
        "bench.plot", reason="plots need matplotlib: pip install -e '.[bench]'"
    )
    found = full()
    found["timings"] = {"forward": found["timings"]["forward"][:1]}  # one size, one contender
    found["memory"] = []
    paths = plot.draw_all(found, tmp_path / "cpu.json")
    assert [path.name for path in paths] == ["cpu-throughput.svg"]


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    plot = pytest.importorskip(
        "bench.plot", reason="plots need matplotlib: pip install -e '.[bench]'"
    )
    assert plot.spread([3.0, 0.0, 1.0], 0.5) == [3.0, 0.0, 1.0]
    assert plot.spread([1.0, 1.0], 1.0) == [0.5, 1.5]
    placed = plot.spread([2.0, 2.1, 0.0, 2.05], 1.0)
    order = sorted(range(4), key=placed.__getitem__)
    assert order == [2, 0, 3, 1]
    assert all(b - a > 0.999 for a, b in zip(sorted(placed), sorted(placed)[1:], strict=False))
    # No further than needed: the three close ones stay around their middle.
    assert sum(placed[i] for i in (0, 1, 3)) / 3 == pytest.approx(2.05, abs=0.01)


def test_every_label_of_a_plot_is_that_of_a_contender() -> None:
    plot = pytest.importorskip(
        "bench.plot", reason="plots need matplotlib: pip install -e '.[bench]'"
    )
    assert set(plot.SHORT) | set(plot.PEERS) | set(plot.OURS) <= set(LABELS)


def test_a_contender_that_is_gone_is_named_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(found: results.Results) -> None:
        rows = found["timings"]["forward"]
        found["timings"]["forward"] = [r for r in rows if r["contender"] != "fastdrop"]

    gone = changed(without)
    assert compare(full(), gone).gone == [("forward", "fastdrop")]
    assert compare(gone, full()).gone == []
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    results.save(full(), old)
    results.save(gone, new)
    assert main(["compare", str(old), str(new)]) == 0
    assert main(["compare", "--fail", str(old), str(new)]) == 1
    assert "Gone: fastdrop of forward" in capsys.readouterr().out
