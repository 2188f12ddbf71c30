"""Results of the benchmark: the file, and the tables, goals and sentences made from it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench import readme, report, results, small_report
from bench.__main__ import main
from bench.common import KI, MI, BenchError
from bench.contenders import BY_NAME
from bench.goals import GOALS, Goal, judge
from bench.losses import losses

Ratios = dict[str, dict[int, float]]
LABELS = {name: contender.label for name, contender in BY_NAME.items()}


def row(contender: str, elements: int, ratio: float, **other: Any) -> results.Row:
    """A row on a machine where the roof takes 1 us."""
    made: dict[str, Any] = {
        "contender": contender,
        "dtype": "float32",
        "variant": "",
        "elements": elements,
        "seconds": float(f"{ratio}e-6"),
        "q1": float(f"{ratio}e-6"),
        "q3": float(f"{ratio}e-6"),
        "base": "multiply",
        "ratio": ratio,
        "ratio_q1": ratio,
        "ratio_q3": ratio,
        "rounds": 5,
        "calls": 1,
    }
    found: results.Row = made | other  # type: ignore[assignment]
    return found


def made_up(forward: Ratios, more: dict[str, list[results.Row]] | None = None) -> results.Results:
    """Results of some forward ratios, and rows of other sections."""
    rows = [row(name, n, ratio) for name, sizes in forward.items() for n, ratio in sizes.items()]
    timings = {"forward": rows, **(more or {})}
    return {
        "schema": results.SCHEMA,
        "date": "2020-01-02T03:04:05+00:00",
        "versions": {"python": "3.10.0", "torch": None},
        "hardware": {"cpu": "A CPU", "simd": None, "usable_cpus": 2, "memory_gib": 1.0, "os": "L"},
        "settings": {"mode": "full", "p": 0.1},
        "notes": ["left out, not importable: somebody"],
        "contenders": {
            name: {"label": LABELS[name], "role": BY_NAME[name].role}
            for name in dict.fromkeys(r["contender"] for rows in timings.values() for r in rows)
        },
        "timings": timings,
        "memory": [
            {
                "contender": "fastdrop",
                "dtype": "float32",
                "elements": 16 * MI,
                "measure": measure,
                "traced": 0.0,
                "resident": resident,
            }
            for measure, resident in (("forward", 0.01), ("step", 0.02), ("kept", -0.001))
        ],
        "profile": [
            {"elements": n, "step": step, "depth": depth, "seconds": 2e-6, "own": 1e-6}
            for n in (64, KI)
            for depth, step in enumerate(("dropout", "apply"))
        ],
    }


GOOD: Ratios = {
    "multiply": {KI: 1.0, 64 * KI: 1.0, 16 * MI: 1.0},
    "fastdrop-1": {KI: 3.0, 64 * KI: 3.5, 16 * MI: 0.8},
    "fastdrop": {KI: 3.0, 64 * KI: 3.5, 16 * MI: 0.7},
    "numpy-best": {KI: 2.0, 64 * KI: 20.0, 16 * MI: 7.0},
    "torch-1": {KI: 20.0, 64 * KI: 100.0, 16 * MI: 60.0},
    "torch": {KI: 30.0, 64 * KI: 900.0, 16 * MI: 38.0},
}


def full() -> results.Results:
    """Results with a row or two in every section."""
    roof = row("multiply", 64 * KI, 1.0)
    variants = [row("fastdrop-1", 64 * KI, 3.0, variant=v) for v in ("", "p = 0.5")]
    variants += [
        row("fastdrop-1", 64 * KI, ratio, variant=v)
        for v, ratio in (
            ("p = 0.125", 2.9),
            ("no tie up to 64 Ki", 2.8),
            ("Fortran order", 4.0),
            ("offset", 3.1),
            ("shard of rows", 6.0),
            ("long noise_shape (N, 1, C)", 3.5),
            ("dropout_mask", 2.0),
            ("dropout_mask, packed", 2.08),
        )
    ]
    threads = [row("fastdrop", 64 * KI, 3.0, variant=v) for v in ("1 thread", "2 threads")]
    dtypes = [
        row("fastdrop-1", n, ratio, dtype=dtype)
        for n in (64 * KI, 64 * MI)
        for dtype, ratio in (("float32", 1.0), ("float64", 0.8), ("float16", 0.5))
    ]
    small = [row("multiply", 64, 1.0), row("fastdrop", 64, 3.5), row("cs231n", 64, 10.0)]
    steps = [roof, row("fastdrop", 64 * KI, 2.0), row("torch", 64 * KI, 1.5)]
    more = {"variants": [roof, *variants], "threads": [roof, *threads]}
    return made_up(GOOD, {**more, "dtypes": dtypes, "small": small, "step": steps})


# The file


def test_results_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cpu.json"
    original = full()
    original["timings"]["forward"][0]["seconds"] = 1.23456789e-5
    results.save(original, path)
    loaded = results.load(path)
    assert loaded["timings"]["forward"][0]["seconds"] == 1.235e-5
    loaded["timings"]["forward"][0]["seconds"] = original["timings"]["forward"][0]["seconds"]
    assert loaded == original
    assert list(loaded) == list(original)
    rows = sum(map(len, original["timings"].values()))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert rows < len(lines) < rows + 80  # a line a row, so that a diff shows what moved


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": 2}'])
def test_foreign_results_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cpu.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchError, match=r"cpu\.json"):
        results.load(path)
    with pytest.raises(BenchError, match=r"other\.json"):
        results.load(tmp_path / "other.json")
    with pytest.raises(BenchError, match="is a folder"):
        results.load(tmp_path)


def test_a_row_that_lacks_something_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    broken: Any = json.loads(results.dumps(full()))
    del broken["timings"]["small"][1]["ratio"]
    path.write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(BenchError, match=r"timings\.small\[1\] lacks \['ratio'\]"):
        results.load(path)
    broken = json.loads(results.dumps(full()))
    broken["memory"][2]["contender"] = "nobody"
    path.write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(BenchError, match=r"memory\[2\] names no contender"):
        results.load(path)


# Goals and losses


def verdicts(found: results.Results) -> dict[str, tuple[Any, str]]:
    return {verdict.goal.text: (verdict.value, verdict.state) for verdict in judge(found)}


def test_every_goal_has_a_text_of_its_own() -> None:
    assert len({goal.text for goal in GOALS}) == len(GOALS)


def test_a_goal_has_three_states() -> None:
    goal: Goal[results.Results] = Goal("a goal", " us", 3.0, lambda _: None, acceptable=4.0)
    states = {3.0: "held", 3.5: "acceptable", 4.0: "acceptable", 4.1: "MISSED"}
    assert {value: goal.state(value) for value in states} == states
    assert goal.state(None) == "not measured"
    least: Goal[results.Results] = Goal("a goal", "", 20, lambda _: None, at_least=True)
    assert [least.state(v) for v in (20.0, 19.9)] == ["held", "MISSED"]


def test_goals_are_judged() -> None:
    found = verdicts(made_up(GOOD))
    assert found["ratio at 64 Ki elements, 1 thread"] == (3.5, "acceptable")
    assert found["ratio at 16 Mi elements, 1 thread"] == (0.8, "held")
    assert found["a call at 1 Ki elements"] == (pytest.approx(3.0), "held")
    lead = "torch F.dropout (1 or all threads) slower than fastdrop, least lead from 64 Ki up"
    assert found[lead] == (pytest.approx(100 / 3.5), "held")  # with 1 thread, at 64 Ki
    assert found["memory beyond the results, out=y"] == (0.02, "held")
    assert found["memory beyond the results, new array"] == (None, "not measured")

    bad = {name: {size: ratio * 1.5 for size, ratio in GOOD[name].items()} for name in GOOD}
    bad["torch"], bad["torch-1"] = GOOD["torch"], GOOD["torch-1"]
    worse = verdicts(made_up(bad))
    assert worse["ratio at 64 Ki elements, 1 thread"] == (5.25, "MISSED")
    assert worse[lead][1] == "MISSED"
    line = next(str(v) for v in judge(made_up(bad)) if v.state == "MISSED")
    expected = "MISSED: ratio at 64 Ki elements, 1 thread: at most 3 (acceptable: 4), is 5.25"
    assert line == expected


@pytest.mark.parametrize(
    ("text", "value", "state"),
    [
        ("2 threads, time over 1 thread's at 64 Ki", 1.0, "held"),
        ("dropout_mask at 64 Ki, time over np.multiply's of float32", 2.0, "held"),
        ("packed dropout_mask, time over the bool one's, the most", 1.04, "acceptable"),
        ("float16, time over float32's in cache (64 Ki and 1 Mi), the most", 0.5, "held"),
        ("float16, rate over float32's from 64 Mi up, the least", 2.0, "held"),
        ("bfloat16, rate over float32's from 64 Mi up, the least", None, "not measured"),
        (
            "float64, ratio to its np.multiply over float32's to its, 1 thread, the most",
            0.8,
            "held",
        ),
        ("p = 0.5, time over p = 0.1's, the most", 1.0, "held"),
        (
            "ties: time of p = 0.1 over p = 0.125's, whose ties need no more bits, the most",
            3 / 2.9,
            "held",
        ),
        ("ties: time over that of a key without any, at 64 Ki", 3 / 2.8, "MISSED"),
        ("noise_shape, runs of 4,096, rate over the plain call's, the least", 3 / 3.5, "held"),
        ("offset and shards, runs of 4,096, rate over the plain call's, the least", 0.5, "MISSED"),
        ("Fortran order, rate over C order's, the least", 0.75, "held"),
        ("calls of 10 to 4 Ki elements, over np.multiply, the most", 2.5, "held"),
        ("time over the cs231n idiom's, the most at any size from 10 elements up", 0.35, "held"),
    ],
)
def test_goals_of_other_sections(text: str, value: float | None, state: str) -> None:
    expected = None if value is None else pytest.approx(value)
    assert verdicts(full())[text] == (expected, state)


def test_losses_are_listed() -> None:
    lines = losses(made_up(GOOD))
    numpy_best, mine = LABELS["numpy-best"], LABELS["fastdrop"]
    assert f"{mine}: slower than {numpy_best} at 1 Ki (1.50 times)." in lines
    assert not any("torch" in line for line in lines)
    roof = "slower than multiplying by a constant at 1 Ki (3.00 times) and 64 Ki (3.50 times)."
    assert f"All threads: {roof}" in lines
    step = f"{mine}, forward plus backward: slower than {LABELS['torch']} at 64 Ki (1.33 times)."
    assert step in losses(full())

    no_losses = {**GOOD, "numpy-best": GOOD["torch"]}
    assert "No peer is faster than fastdrop at any size measured." in losses(made_up(no_losses))


# Tables and the README


def test_tables_show_what_was_measured() -> None:
    found = full()
    small = small_report.small(found)
    assert small is not None
    assert small.rows[-1] == [f"{LABELS['fastdrop']}: over np.multiply", "2.50"]
    variants = report.variants(found)
    assert variants is not None
    assert ["Fortran order", "75%"] in variants.rows
    dtypes = report.dtypes(found)
    assert dtypes is not None and dtypes.rows[1][0] == f"float64: {LABELS['fastdrop-1']}"
    memory = report.memory(found)
    assert memory is not None
    assert memory.rows == [[LABELS["fastdrop"], "0.01", "0.00", "0.02"]]
    profile = report.profile(found)
    assert profile is not None
    assert profile.rows[1] == ["· apply", "2.00", "1.00", "2.00", "1.00"]
    threads = report.threads(found)
    assert threads is not None and [line[0] for line in threads.rows] == ["1 thread", "2 threads"]


def test_sections_that_were_not_run_have_no_table() -> None:
    found = made_up({})
    found["memory"], found["profile"] = [], []
    tables = (
        report.ratios,
        small_report.small,
        small_report.step,
        report.profile,
        report.variants,
        report.dtypes,
        report.step,
        report.threads,
        report.memory,
    )
    assert [table(found) for table in tables] == [None] * len(tables)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Results and a README with an empty region, as arguments of the command."""
    saved, text = tmp_path / "cpu.json", tmp_path / "README.md"
    results.save(full(), saved)
    text.write_text(f"# Title\n{readme.CPU[0]}\n{readme.CPU[1]}\nThe rest.\n", encoding="utf-8")
    return ["readme", "--results", str(saved), "--readme", str(text)]


def test_readme_round_trip(files: list[str]) -> None:
    path = Path(files[-1])
    assert main([*files, "--check"]) == 1  # stale: still empty
    assert main(files) == 0
    assert main([*files, "--check"]) == 0
    once = path.read_text(encoding="utf-8")
    assert main(files) == 0
    assert path.read_text(encoding="utf-8") == once
    assert once.startswith("# Title\n") and once.endswith("\nThe rest.\n")
    assert "| elements | 1 Ki | 64 Ki | 16 Mi |" in once
    assert f"| {LABELS['fastdrop']} | 3.00 | 3.50 | 0.70 |" in once
    assert once.count("<details>") == once.count("</details>") > 3
    assert "left out, not importable: somebody" in once
    assert "A CPU" in once and "python 3.10.0" in once


def test_readme_check_detects_a_stale_table(files: list[str]) -> None:
    assert main(files) == 0
    changed = copy.deepcopy(full())
    changed["timings"]["forward"][8]["ratio"] += 0.01
    results.save(changed, Path(files[2]))
    path = Path(files[-1])
    before = path.read_text(encoding="utf-8")
    assert main([*files, "--check"]) == 1
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("text", ["nothing", readme.CPU[0], f"{readme.CPU[1]} {readme.CPU[0]}"])
def test_readme_without_markers_is_an_error(
    files: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(files[-1]).write_text(text, encoding="utf-8")
    assert main(files) == 2
    assert "bench:cpu:" in capsys.readouterr().err
    assert Path(files[-1]).read_text(encoding="utf-8") == text


def test_both_pages_are_renewed_and_checked(
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = Path(files[-1]), tmp_path / "performance.md"
    first.write_text("\n".join(["# Title", *readme.HEADLINE, ""]), "utf-8")
    regions = (*readme.CPU, *readme.FAMILY, *readme.PROCESS)
    second.write_text("\n".join(["# More", *regions, ""]), "utf-8")
    monkeypatch.setattr(readme, "README", first)
    monkeypatch.setattr(readme, "PAGE", second)
    arguments = files[:3]
    assert main([*arguments, "--check"]) == 1
    assert capsys.readouterr().err.count("does not show the results") == 2
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    shown = first.read_text("utf-8")
    assert f"| {LABELS['fastdrop']} | 2.00 | 0.00 |" in shown
    text = second.read_text("utf-8")
    assert text.startswith("# More") and "Times faster than the usual NumPy way" in text
    assert "The first call in a process" in text
    second.write_text(text + "changed", "utf-8")
    assert main([*arguments, "--check"]) == 0  # outside the regions
    second.write_text(text.replace("gaussian", "Gaussian"), "utf-8")
    assert main([*arguments, "--check"]) == 1
    second.write_text("nothing", "utf-8")
    assert main(arguments) == 2
    assert "performance.md has no marker" in capsys.readouterr().err
    second.unlink()
    assert main(arguments) == 2
