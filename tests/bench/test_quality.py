"""The quality report accepts the masks of fastdrop, and rejects those of bad generators."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bench import plot, quality, quality_statistics
from bench.__main__ import main
from bench.common import RESULTS
from bench.quality import NAMES, folded, measure, rejected, unfolded
from bench.quality_source import FromUniforms, Source, key_of
from bench.quality_statistics import judge, of_cells
from bench.results import load, rows
from tests.support import bad_masks

KEY = key_of("tests of the report", 0)


@pytest.fixture
def quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each test a quarter of what the short report looks at."""
    cases = [dataclasses.replace(c, chunks=max(1, c.chunks // 4)) for c in quality.CASES]
    monkeypatch.setattr(quality, "CASES", tuple(cases))


# What is wrong, and which test is to see it, in one repetition; the short report has five.
BAD: dict[str, tuple[Source, str]] = {
    "one decision in a hundred is copied": (bad_masks.Lagged(), "autocorrelation"),
    "p is wrong by one part in 10,000": (bad_masks.Biased(), "counts"),
    "the counter begins again": (bad_masks.Stuck(), "flipped bits"),
    "stream added to seed": (bad_masks.Added(), "neighbours"),
    "stream xored to seed": (bad_masks.Xored(), "neighbours"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if BAD[n][1] == "counts" else ()) for n in BAD]
)
def test_a_bad_generator_is_rejected(name: str) -> None:
    source, test = BAD[name]
    assert rejected(measure(source, [test], 1)), f"not rejected: {name}"
    assert not rejected(measure(Source(), [test], 1))


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 6])
def test_philox_of_fewer_rounds_is_rejected(rounds: int, quarter: None) -> None:
    assert rejected(measure(bad_masks.Rounds(rounds), ["flipped bits"], 1))


@pytest.mark.slow
def test_the_same_in_numpy_with_all_rounds_is_not(quarter: None) -> None:
    names = ["avalanche", "neighbours", "flipped bits", "spectra"]
    assert not rejected(measure(bad_masks.Rounds(10), names, 1))


def test_the_slow_generator_of_ten_rounds_is_the_contracts() -> None:
    slow, fast = bad_masks.Rounds(10), Source()
    assert np.array_equal(slow.uniforms(KEY, 999, 800), fast.uniforms(KEY, 999, 800))
    assert np.array_equal(slow.fold_in(KEY, np.arange(9)), fast.fold_in(KEY, np.arange(9)))
    for p in (0.5, 0.1, 1e-4):
        assert np.array_equal(slow.packed(KEY, p, 6400, 64), fast.packed(KEY, p, 6400, 64))
        assert np.array_equal(slow.kept(KEY, p, 6400, 64), fast.kept(KEY, p, 6400, 64))


class _NotNested(FromUniforms):
    """What is dropped depends on p beyond the threshold."""

    def threshold(self, p: float) -> int:
        return super().threshold(p) if p < 0.3 else super().threshold(p) // 8


def test_masks_that_are_not_nested_are_rejected(quarter: None) -> None:
    found = measure(_NotNested(), ["nestedness"], 1)
    assert rejected(found) and found[0]["value"] == 0


class _Normals(Source):
    """Normal numbers whose tails are cut, or that are a little too large."""

    def __init__(self, factor: float, most: float) -> None:
        self.factor, self.most = factor, most

    def normals(self, key: object, n: int, dtype: object = np.float32) -> np.ndarray:
        x = super().normals(key, n, dtype) * self.factor  # type: ignore[arg-type]
        return np.clip(x, -self.most, self.most)


@pytest.mark.parametrize(
    ("factor", "most", "name"),
    [(1.01, 9.0, "moments of normals"), (1.01, 9.0, "normals in cells")]
    + [(1.0, 4.5, "tails of normals")],
)
def test_bad_normal_numbers_are_rejected(factor: float, most: float, name: str) -> None:
    assert rejected(measure(_Normals(factor, most), [name], 1))


@pytest.mark.slow
def test_fastdrop_is_not_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.json"
    assert main(["quality", "--check", "--output", str(file)]) == 0
    assert "Nothing is rejected" in capsys.readouterr().out
    found = load(file)
    assert [row["test"] for row in rows(found, "pvalues")] == [c.name for c in quality.CASES]
    first, second = (measure(Source(), ["keep_k", "gaps"], 1) for _ in range(2))
    assert first == second  # fixed keys: no run says anything else


def test_what_rejects_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "Source", bad_masks.Added)
    part = ["quality", "--short", "--only", "neighbours"]
    assert main(part) == 1
    error = capsys.readouterr().err
    assert "The generator is rejected" in error and "4 x 4 keys" in error
    assert main(["quality", "--only", "nothing"]) == 2


def test_the_committed_report_is_of_all_tests_and_rejects_nothing() -> None:
    found = load(RESULTS / "quality.json")
    assert [row["test"] for row in rows(found, "pvalues")] == [c.name for c in quality.CASES]
    assert not rejected(found["rows"]) and set(NAMES) == {c.name for c in quality.CASES}
    assert min(row["elements"] for row in rows(found, "counts")) >= 10**10


def test_pvalues_are_judged() -> None:
    uniform = (np.arange(100) + 0.5) / 100
    assert judge(uniform.tolist()).value > 0.5
    assert judge([*uniform, 1e-9]).smallest < 1e-6 and judge([*uniform, 1 - 1e-9]).smallest < 1e-6
    assert judge((uniform**2).tolist()).uniform < 1e-3
    assert judge([0.0]).value == judge([1.0]).value == 0
    for p in (0.0, 1e-12, 0.3, 0.5, 0.7, 1 - 1e-12, 1.0):
        assert unfolded(folded(p)) == pytest.approx(p, abs=1e-15)


def test_cells_of_few_counts_are_merged() -> None:
    assert of_cells(np.array([50, 50]), np.array([0.5, 0.5])) == 0
    # 9 and 3 are expected of the rare ones, so the third goes with the second.
    seen, probability = np.array([999_988, 7, 5]), np.array([999_988, 9, 3])
    assert of_cells(seen, probability) == 0
    seen = np.array([999_979, 16, 5])
    expected = quality_statistics.of_chi_square(81 / 12 + 81 / 999_988, 1)
    assert of_cells(seen, probability) == pytest.approx(expected)


def test_dieharders_output_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, file = tmp_path / "out.txt", tmp_path / "file.json"
    head = "#===#\n        test_name   |ntup| tsamples |psamples|  p-value |Assessment\n#===#\n"
    line = "   diehard_birthdays|   0|       100|     100|{}|  {}  \n"
    text.write_text(head + line.format("0.12211272", "PASSED") + line.format("0.9991", "WEAK"))
    assert main(["quality", "--dieharder", str(text), "--output", str(file)]) == 0
    (row,) = load(file)["rows"]
    assert row["pvalues"] == [0.1221, 0.9991] and row["assessments"] == ["PASSED", "WEAK"]
    assert (row["samples"], row["repetitions"], row["ntuples"]) == (100, 100, [0, 0])
    assert "2 p-values, 1 weak, 0 failed" in capsys.readouterr().out
    text.write_text(head + line.format("0.00000000", "FAILED"))
    assert main(["quality", "--dieharder", str(text), "--output", str(file)]) == 1
    text.write_text(head)
    assert main(["quality", "--dieharder", str(text)]) == 2
    assert "no line of a result" in capsys.readouterr().err


@pytest.mark.slow
def test_pvalues_are_drawn(tmp_path: Path) -> None:
    data = load(RESULTS / "quality.json")
    (path,) = plot.draw_all(data, tmp_path / "quality.json")
    assert path.name == "quality-pvalues.svg" and "p-values" in path.read_text("utf-8")
    data["rows"] = [row for row in data["rows"] if row["section"] != "all-pvalues"]
    assert not [*plot.draw_all(data, tmp_path / "quality.json")]
