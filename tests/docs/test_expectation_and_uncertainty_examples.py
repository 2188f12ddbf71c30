"""The examples of expectation and uncertainty show what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the examples need scikit-learn")
pytest.importorskip("matplotlib", reason="the examples need matplotlib")
pytest.importorskip("rich", reason="the examples need rich")

import fastdrop as fd
from fastdrop.examples import _regression, expectation, uncertainty
from tests.support.gradients import numerical_gradient

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def rows(out: str) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    return [row for row in cells if row]


def test_the_expectation_is_kept_by_the_scale_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    figure = tmp_path / "figure.png"
    command = ["--units", "100000", "--masks", "40", "--output", str(figure)]
    assert expectation.main(command) == 0
    assert figure.read_bytes().startswith(PNG_MAGIC)
    out = capsys.readouterr().out
    found = rows(out)
    assert [row[0] for row in found] == ["1.0", "0.7", "0.5", "0.3"]
    for keep, _, unscaled, _, scaled, spread in found:
        # 40 masks of 100,000 units, half of them 0: the mean is off by some 0.1% at most.
        assert abs(float(unscaled) - float(keep)) < 0.005
        assert abs(float(scaled) - 1) < 0.005
        assert (float(spread.rstrip("%")) > 0) == (keep != "1.0")
    assert "32,000,000 elements" in " ".join(out.split())


def test_the_expectation_needs_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert expectation.main(["--units", "1000", "--masks", "2"]) == 0
    assert "Figure" not in capsys.readouterr().out


def test_intervals_of_passes_and_noise_are_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    figure = tmp_path / "figure.png"
    assert uncertainty.main(["--samples", "100", "--output", str(figure)]) == 0
    assert figure.read_bytes().startswith(PNG_MAGIC)
    out = capsys.readouterr().out
    found = rows(out)
    assert [row[0] for row in found] == ["50%", "80%", "90%", "95%"]
    for level, inside, width, alone, narrow in found:
        # 442 patients: a part has a standard deviation of at most 2.4%.
        assert abs(float(inside.rstrip("%")) - float(level.rstrip("%"))) < 6
        assert float(alone.rstrip("%")) < float(inside.rstrip("%"))
        assert int(narrow) < int(width)
    errors = re.findall(r"\d+\.\d", " ".join(out.split("Root mean")[1].split()))
    passes, plain, none = map(float, errors[:3])
    assert passes < 60 and plain < 60 and none > 75


def test_each_patient_is_predicted_once_and_never_trained_on() -> None:
    seen = []
    for train, noise, test in _regression.folds(442, np.random.default_rng(0)):
        assert sorted([*train, *noise, *test]) == list(range(442))
        seen += list(test)
    assert sorted(seen) == list(range(442))


def test_the_gradients_are_the_numerical_ones(rng: np.random.Generator) -> None:
    x, y, key = rng.standard_normal((5, 3)), rng.standard_normal(5), fd.Key(4)
    params = _regression.initial_params(3, rng)
    # Away from 0, where a ReLU has its kink.
    params["b1"] += 0.3
    params["b2"] += 0.3
    _, grads = _regression.gradients(params, x, y, key)
    for name in ("b1", "b2", "W1", "W3", "b3"):

        def loss(value: _regression.Array, name: str = name) -> float:
            return _regression.gradients({**params, name: value}, x, y, key)[0]

        numerical = numerical_gradient(loss, params[name])
        np.testing.assert_allclose(grads[name], numerical, rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_pass_alone_is_that_pass_among_others(rng: np.random.Generator) -> None:
    params = _regression.initial_params(3, rng)
    x = rng.standard_normal((6, 3))
    keys = [fd.Key(1).fold_in(t) for t in range(4)]
    together = _regression.stochastic(params, x, keys)
    for key, one in zip(keys, together, strict=True):
        np.testing.assert_allclose(_regression.predict(params, x, key), one, rtol=1e-12)
    assert np.ptp(together, axis=0).min() > 0


@pytest.mark.parametrize("example", [expectation, uncertainty])
def test_bad_options_are_refused(
    example: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for option, complaint in (
        ("--output=figure.txt", "has to end in"),
        (f"--output={tmp_path}/no/figure.png", "cannot write"),
        ("--seed=-1", "has to be in"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            example.main([option])
        assert exit_info.value.code == 2
        assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("example", [expectation, uncertainty])
def test_a_missing_package_is_named(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)  # what makes Python's import fail
    assert example.main([]) == 1
    assert "rich: pip install 'fastdrop-kernels[examples]'" in capsys.readouterr().err
