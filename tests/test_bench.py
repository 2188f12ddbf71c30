"""What ``python -m bench`` promises: what it ranks is right, and it says what it found."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import memory, readme, results, timing
from bench.__main__ import main
from bench.check import Wrong, check
from bench.common import KI, MI, ROOT, Array, BenchError, P, figure, fresh_input, size_label
from bench.contenders import CONTENDERS, ROOF, Call, Contender, available, by_name
from bench.goals import GOALS, judge
from bench.report import losses

pytest.importorskip("rich", reason="the benchmark prints with rich: fastdrop[bench]")

ROLES = {contender.name: contender for contender in CONTENDERS}


def peer(forward: Callable[[Array, float, Array], Any]) -> Contender:
    """A made-up contender that computes `forward(x, p, out)`."""

    def setup(x: Array, p: float, out: Array) -> Call:
        return lambda: forward(x, p, out)

    return Contender("made-up", "made-up", "peer", setup)


def check_peer(forward: Callable[[Array, float, Array], Any], elements: int = 64 * KI) -> None:
    x = fresh_input(elements)
    check(peer(forward), x, P, np.empty_like(x))


def made_up(ratios: dict[str, dict[int, float]]) -> results.Results:
    """Results with these ratios, on a machine where the roof takes 1 us."""
    return {
        "schema": results.SCHEMA,
        "date": "2020-01-02T03:04:05+00:00",
        "versions": {"python": "3.10.0", "torch": None},
        "hardware": {"cpu": "A CPU", "simd": None, "usable_cpus": 2, "memory_gib": 1.0, "os": "L"},
        "settings": {"p": 0.1},
        "notes": ["left out, not importable: somebody"],
        "contenders": {
            name: {"label": ROLES[name].label, "role": ROLES[name].role} for name in ratios
        },
        "rows": [
            {
                "contender": name,
                "dtype": "float32",
                "elements": elements,
                "seconds": float(f"{ratio}e-6"),
                "q1": float(f"{ratio}e-6"),
                "q3": float(f"{ratio}e-6"),
                "ratio": ratio,
                "rounds": 5,
                "calls": 1,
            }
            for name, sizes in ratios.items()
            for elements, ratio in sizes.items()
        ],
        "memory": [
            {
                "contender": "fastdrop",
                "dtype": "float32",
                "elements": 16 * MI,
                "traced": 0.0,
                "resident": 0.01,
            }
        ],
    }


GOOD = {
    "multiply": {KI: 1.0, 64 * KI: 1.0, 16 * MI: 1.0},
    "fastdrop-1": {KI: 3.0, 64 * KI: 4.5, 16 * MI: 0.9},
    "fastdrop": {KI: 3.0, 64 * KI: 4.5, 16 * MI: 0.7},
    "numpy-best": {KI: 2.0, 64 * KI: 20.0, 16 * MI: 7.0},
    "torch-1": {KI: 20.0, 64 * KI: 100.0, 16 * MI: 60.0},
    "torch": {KI: 30.0, 64 * KI: 900.0, 16 * MI: 38.0},
}


# Validation


def test_correct_peer_passes() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        out[...] = np.where(np.random.default_rng().random(x.size) >= p, x / np.float32(1 - p), 0)
        return out

    check_peer(forward)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: str(contender.name))
def test_every_contender_passes(contender: Contender) -> None:
    if contender.needs:
        pytest.importorskip(contender.needs, reason=f"{contender.label} needs {contender.needs}")
    x = fresh_input(100_003)  # no multiple of any block or chunk
    check(contender, x, P, np.empty_like(x))


def test_forgotten_scale_is_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        return np.multiply(x, np.random.default_rng().random(x.size) >= p, out=out)

    with pytest.raises(Wrong, match="neither 0 nor x / "):
        check_peer(forward)


def test_wrong_rate_is_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        kept = np.random.default_rng().random(x.size) >= 0.12
        result: Array = x / np.float32(1 - p) * kept
        return result

    with pytest.raises(Wrong, match=r"drops 0\.1[12]\d* of the elements, not 0\.1"):
        check_peer(forward)


def test_unwritten_elements_are_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        out[:-1] = x[:-1] / np.float32(1 - p)
        return out

    with pytest.raises(Wrong, match=r"65535: nan instead"):
        check_peer(forward)


def test_wrong_shape_is_caught() -> None:
    with pytest.raises(Wrong, match=r"\(3,\)"):
        check_peer(lambda x, p, out: x[:3])


def test_one_wrong_bit_of_an_exact_contender_is_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        result: Array = np.where(np.arange(x.size) % 10 != 0, x / np.float32(1 - p), np.float32(0))
        return result

    x = fresh_input(KI)
    expected = forward(x, P, x)
    exact = dataclasses.replace(peer(forward), exact=lambda x, p: iter([("the mask", expected)]))
    check(exact, x, P, np.empty_like(x))
    expected[0] = -0.0  # equal to 0.0 as a number
    with pytest.raises(Wrong, match="differs from the mask"):
        check(exact, x, P, np.empty_like(x))


# Timing


def test_ratio_is_the_median_of_ratios_within_rounds() -> None:
    # The machine is 10 times slower in round 3; the ratio of medians would be 2.5.
    samples = {ROOF.name: [1.0, 2.0, 10.0], "other": [3.0, 5.0, 30.0], "same": [1.0, 2.0, 10.0]}
    summaries = timing.summarise(samples)
    assert summaries["other"] == timing.Summary(seconds=5.0, q1=4.0, q3=17.5, ratio=3.0)
    assert summaries["same"].ratio == summaries[ROOF.name].ratio == 1.0


def test_rounds_are_interleaved_and_rotated() -> None:
    called: list[str] = []
    done: list[float] = []

    def entry(name: str) -> timing.Entry:
        contender = dataclasses.replace(ROOF, name=name)
        return timing.Entry(contender, lambda: called.append(name), calls=2, warm=False)

    samples = timing.measure([entry("a"), entry("b"), entry("c")], 1e-9, done.append)
    assert "".join(called[::2]) == "".join(called[1::2])  # batches of two
    rounds = ["".join(called[i : i + 6 : 2]) for i in range(0, len(called), 6)]
    assert rounds == ["abc", "bca", "cab", "abc", "bca"]  # the budget is spent: the least number
    assert {name: len(values) for name, values in samples.items()} == {"a": 5, "b": 5, "c": 5}
    assert done[-1] == 1.0


def test_fast_calls_are_timed_in_batches() -> None:
    x = fresh_input(KI)
    entry = timing.prepare(ROOF, x, P, np.empty_like(x))
    assert entry.calls > 10 and entry.warm


# Contenders


def test_missing_torch_leaves_its_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # so that importing it fails
    able, notes = available(CONTENDERS)
    assert [c for c in able if c.needs == "torch"] == []
    assert ROOF in able
    assert len(notes) == sum(c.needs == "torch" for c in CONTENDERS)
    assert all("not importable: torch F.dropout" in note for note in notes)


def test_missing_fastdrop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastdrop", None)
    with pytest.raises(BenchError, match="fastdrop cannot be imported"):
        available(CONTENDERS)


def test_contenders_are_picked_by_name() -> None:
    assert [c.name for c in by_name(["cs231n"])] == [ROOF.name, "cs231n"]
    with pytest.raises(BenchError, match="'cs232n'"):
        by_name(["cs232n"])


# Memory


@pytest.mark.parametrize("name", ["fastdrop", "fastdrop-new", "cs231n"])
def test_memory_beyond_the_output(name: str) -> None:
    if name != "cs231n":
        pytest.importorskip("fastdrop")
    extra = memory.measure(ROLES[name], 4 * MI)
    seen = [extra["traced"]] + ([] if extra["resident"] is None else [extra["resident"]])
    for value in seen:
        assert value is not None
        if name == "cs231n":  # 8 of uniforms and 1 of mask at once, or more; less the output's 4
            assert 4.9 < value < 20
        else:  # a mask of 1 bit an element would be 0.125; the pages are counted in lumps
            assert value < 0.12


# Goals, losses, the README


def test_goals_are_judged() -> None:
    verdicts = dict(zip([goal.text for goal in GOALS], judge(made_up(GOOD)), strict=True))
    values = [verdict.value for verdict in verdicts.values()]
    assert values[:2] == [4.5, 0.7]
    assert values[2] == pytest.approx(100 / 4.5)  # torch with 1 thread, at 64 Ki
    assert values[3:] == [pytest.approx(3.0), 0.01, None]
    assert [verdict.held for verdict in verdicts.values()] == [True] * 5 + [None]

    bad = {name: {size: ratio * 1.5 for size, ratio in GOOD[name].items()} for name in GOOD}
    bad["torch"], bad["torch-1"] = GOOD["torch"], GOOD["torch-1"]
    held = [verdict.held for verdict in judge(made_up(bad))]
    assert held == [False, False, False, True, True, None]
    assert str(judge(made_up(bad))[0]).startswith("MISSED: ratio at 64 Ki")


def test_losses_are_listed() -> None:
    lines = losses(made_up(GOOD))
    numpy_best, mine = ROLES["numpy-best"].label, ROLES["fastdrop"].label
    assert f"{mine}: slower than {numpy_best} at 1 Ki (1.50 times)." in lines
    assert not any("torch" in line for line in lines)
    roof = "slower than multiplying by a constant at 1 Ki (3.00 times) and 64 Ki (4.50 times)."
    assert f"All threads: {roof}" in lines

    no_losses = {**GOOD, "numpy-best": GOOD["torch"]}
    assert "No peer is faster than fastdrop at any size measured." in losses(made_up(no_losses))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Results and a README with an empty region, as arguments of the command."""
    saved, text = tmp_path / "cpu.json", tmp_path / "README.md"
    results.save(made_up(GOOD), saved)
    text.write_text(f"# Title\n{readme.START}\n{readme.END}\nThe rest.\n", encoding="utf-8")
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
    assert f"| {ROLES['fastdrop'].label} | 3.00 | 4.50 | 0.70 |" in once
    assert "left out, not importable: somebody" in once
    assert "A CPU" in once and "python 3.10.0" in once


def test_readme_check_detects_a_stale_table(files: list[str]) -> None:
    assert main(files) == 0
    changed = made_up({**GOOD, "fastdrop": {KI: 3.0, 64 * KI: 4.5, 16 * MI: 0.71}})
    results.save(changed, Path(files[2]))
    path = Path(files[-1])
    before = path.read_text(encoding="utf-8")
    assert main([*files, "--check"]) == 1
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("text", ["nothing", readme.START, f"{readme.END} {readme.START}"])
def test_readme_without_markers_is_an_error(
    files: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(files[-1]).write_text(text, encoding="utf-8")
    assert main(files) == 2
    assert "bench:cpu:" in capsys.readouterr().err
    assert Path(files[-1]).read_text(encoding="utf-8") == text


def test_plot_is_small_and_deterministic(tmp_path: Path, files: list[str]) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib: fastdrop[bench]")
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        assert main(["plot", "--results", files[2], "--output", str(path)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size < 300_000
    assert ROLES["numpy-best"].label in paths[0].read_text(encoding="utf-8")


# The results file and the command line


def test_results_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cpu.json"
    original = made_up(GOOD)
    original["rows"][0]["seconds"] = 1.23456789e-5
    results.save(original, path)
    loaded = results.load(path)
    assert loaded["rows"][0].pop("seconds") == 1.235e-5  # type: ignore[misc]
    del original["rows"][0]["seconds"]  # type: ignore[misc]
    assert loaded == original
    assert list(loaded) == list(original)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 99}'])
def test_foreign_results_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cpu.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchError, match=r"cpu\.json"):
        results.load(path)
    with pytest.raises(BenchError, match=r"other\.json"):
        results.load(tmp_path / "other.json")


def test_quick_run(tmp_path: Path) -> None:
    pytest.importorskip("fastdrop")
    output = tmp_path / "out.json"
    command = [sys.executable, "-m", "bench", "--quick", "--seconds", "0.3"]
    wanted = ["multiply", "fastdrop-1", "fastdrop", "numpy-best", "cs231n"]
    done = subprocess.run(
        [*command, "--only", ",".join(wanted), "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 0 < done.stdout.index("relative to multiplying") < done.stdout.index("Microseconds")
    assert "Goals:" in done.stdout

    written = json.loads(output.read_text(encoding="utf-8"))
    assert list(written) == list(results.Results.__annotations__)
    assert all(list(row) == list(results.Row.__annotations__) for row in written["rows"])
    assert list(written["contenders"]) == wanted
    pairs = [(row["elements"], row["contender"]) for row in written["rows"]]
    assert pairs == [(elements, name) for elements in (KI, 64 * KI) for name in wanted]
    assert all(row["q1"] <= row["seconds"] <= row["q3"] for row in written["rows"])
    assert all(row["ratio"] == 1.0 for row in written["rows"] if row["contender"] == "multiply")
    assert written["versions"]["numpy"] == np.__version__
    assert written["hardware"]["usable_cpus"] >= 1


def test_a_part_does_not_replace_the_full_results() -> None:
    from bench import run

    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    for part in (["--quick"], ["--sizes", "1Ki"], ["--only", "cs231n"]):
        assert run.output_path(parser.parse_args(part)) is None
    assert run.output_path(parser.parse_args(["--quick", "--output", "a"])) == Path("a")
    assert run.output_path(parser.parse_args([])) == ROOT / "bench" / "results" / "cpu.json"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--sizes", "1Ki,64Kb"], "'64Kb'"),
        (["--sizes", "0"], "'0'"),
        (["--seconds", "-1"], "'-1'"),
        (["redme"], "'redme'"),
        (["plot", "--quick"], "--quick"),
    ],
)
def test_errors_name_the_value(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "bench.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot"]) == 2
    assert "matplotlib is missing: pip install 'fastdrop[bench]'" in capsys.readouterr().err


def test_figures_for_people() -> None:
    assert [figure(v) for v in (0.8, 9.994, 12.34, 474_999.6)] == [
        "0.80",
        "9.99",
        "12.3",
        "475,000",
    ]
    assert [size_label(n) for n in (1000, KI, 64 * KI, 64 * MI)] == [
        "1000",
        "1 Ki",
        "64 Ki",
        "64 Mi",
    ]
