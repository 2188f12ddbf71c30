"""The digits example keeps what its help and its table promise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the digits example needs scikit-learn")
pytest.importorskip("matplotlib", reason="the digits example needs matplotlib")
pytest.importorskip("rich", reason="the digits example needs rich")

import fastdrop as fd
from fastdrop.examples import _checks, digits
from fastdrop.examples._network import Array, Params
from fastdrop.examples._training import Trainer, load_data, minibatches
from fastdrop.examples._variants import P_DROP, StoredMask, bytes_kept, fastdrop_layers

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def run_quick(folder: Path, *args: str) -> Path:
    figure = folder / "figure.png"
    assert digits.main(["--quick", "--output", str(figure), *args]) == 0
    return figure


def test_quick_run_prints_the_table_and_writes_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    figure = run_quick(tmp_path, "--seeds", "2")
    assert figure.read_bytes().startswith(PNG_MAGIC)
    out = capsys.readouterr().out
    assert "of 2 seeds" in " ".join(out.split())
    cells = [[cell.strip() for cell in line.split("│")] for line in out.splitlines()]
    rows = {row[1]: row[2:-1] for row in cells if len(row) > 2}
    assert list(rows) == ["no dropout", "stored mask", "fastdrop"]
    accuracies = {variant: float(row[0].split("±")[0]) for variant, row in rows.items()}
    # All have learned, and dropout is seen to help.
    assert 80 < accuracies["no dropout"] < accuracies["fastdrop"] - 2
    assert abs(accuracies["stored mask"] - accuracies["fastdrop"]) < 2
    assert "Dropout gains +" in out
    for _, step, dropout, share, *_ in rows.values():
        assert 0 <= float(dropout) < float(step)
        assert 0 <= float(share.rstrip("%")) < 100
    # One float32 for each of the 64 inputs and 2 x 256 hidden units of 100 scans.
    assert [row[-1] for row in rows.values()] == ["0", "230,400", "0"]


def test_check_passes_and_prints_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert digits.main(["--check"]) == 0
    out = capsys.readouterr().out
    assert out.count("passed") == 2
    assert "largest difference of any weight       0.0e+00" in out


def test_some_labels_to_train_on_are_wrong_and_none_of_the_test() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rows = (images / 16).astype(np.float32)
    known = {row.tobytes(): label for row, label in zip(rows, labels, strict=True)}
    for seed in (0, 1):
        data = load_data(seed=seed)
        right = [
            np.array([known[x.tobytes()] for x in part]) for part in (data.x_train, data.x_test)
        ]
        assert (right[0] != data.y_train).sum() == 100 and len(data.y_train) == 500
        assert np.array_equal(right[1], data.y_test) and len(data.y_test) == 1297
    assert not np.array_equal(load_data(seed=0).x_test, load_data(seed=1).x_test)


class ForgetsScale(fd.Dropout):
    """Drops right, but passes gradients on unscaled."""

    def __init__(self, p: float, *, rng: fd.Key) -> None:
        super().__init__(p, rng=rng)
        self.keep = 1 - p

    def backward(self, dy: Any) -> Any:
        return super().backward(dy) * self.keep


class OtherMask(fd.Dropout):
    """Draws a new mask for the backward pass."""

    def backward(self, dy: Any) -> Any:
        super().backward(dy)
        return fd.dropout(dy, 0.5, rng=1)


@pytest.mark.parametrize("wrong", [ForgetsScale, OtherMask])
def test_gradient_check_finds_a_wrong_backward(wrong: type[Any]) -> None:
    def make_layers(seed: int) -> list[fd.Dropout]:
        return [wrong(p, rng=fd.Key(seed).fold_in(i)) for i, p in enumerate(P_DROP)]

    errors = _checks.gradient_check(make_layers)
    assert errors.pop("W3") < 1e-6 and errors.pop("b3") < 1e-6  # behind all dropout
    assert min(errors.values()) > 1e-2


@pytest.mark.parametrize("function", ["gradient_check", "resume_check"])
def test_check_fails_if_either_check_fails(
    function: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "gradient_check": {"W1": 1e-9, "W2": 2e-6},
        "resume_check": _checks.Resume(False, 1e-7, 0.1),
    }
    monkeypatch.setattr(_checks, "gradient_check", lambda: {"W1": 1e-9})
    monkeypatch.setattr(_checks, "resume_check", lambda: _checks.Resume(True, 0.0, 0.1))
    assert digits.main(["--check"]) == 0
    monkeypatch.setattr(_checks, function, lambda: found[function])
    assert digits.main(["--check"]) == 1
    assert capsys.readouterr().out.count("FAILED") == 1


def test_fastdrop_trains_as_explicit_masks_do() -> None:
    seed, lr, momentum = 3, 0.1, 0.9
    data = load_data()
    trainer = Trainer(data, fastdrop_layers(seed), seed=seed, hidden=32, epochs=20)
    plain: Params = {name: param.copy() for name, param in trainer.network.params.items()}
    velocity = {name: np.zeros_like(param) for name, param in plain.items()}
    trainer.train_epoch()

    for step, batch in enumerate(minibatches(len(data.x_train), seed, epoch=0)):
        x, labels = data.x_train[batch], data.y_train[batch]

        def drop(layer: int, a: Array, step: int = step) -> Array:
            key = fd.Key(seed).fold_in(layer)
            key = fd.Key(key.seed, (key.stream + step) % 2**64)
            kept = fd.dropout_mask(a.shape, P_DROP[layer], rng=key)
            return (a * kept / (1 - P_DROP[layer])).astype(a.dtype)

        x = drop(0, x)
        a1 = x @ plain["W1"] + plain["b1"]
        h1 = drop(1, np.where(a1 > 0, a1, 0))
        a2 = h1 @ plain["W2"] + plain["b2"]
        h2 = drop(2, np.where(a2 > 0, a2, 0))
        scores = h2 @ plain["W3"] + plain["b3"]
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        d3 = (odds / odds.sum(axis=1, keepdims=True) - np.eye(10)[labels]) / len(labels)
        d2 = np.where(a2 > 0, drop(2, d3 @ plain["W3"].T), 0)
        d1 = np.where(a1 > 0, drop(1, d2 @ plain["W2"].T), 0)
        grads = {
            "W1": x.T @ d1, "W2": h1.T @ d2, "W3": h2.T @ d3,
            "b1": d1.sum(axis=0), "b2": d2.sum(axis=0), "b3": d3.sum(axis=0),
        }  # fmt: skip
        for name, grad in grads.items():
            velocity[name] = momentum * velocity[name] - lr * grad
            plain[name] = plain[name] + velocity[name]

    assert step == 4
    for name, ours in trainer.network.params.items():
        np.testing.assert_allclose(ours, plain[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stored_mask_is_inverted_dropout(dtype: type[np.floating[Any]]) -> None:
    layer = StoredMask(0.2, np.random.default_rng(0))
    ones = np.ones((100, 100), dtype)
    assert layer.forward(ones, training=False) is ones
    y = layer.forward(ones)
    assert y.dtype == dtype
    assert bytes_kept(layer) == ones.nbytes
    assert set(np.unique(y)) == {dtype(0), dtype(1 / dtype(0.8))}
    assert abs((y == 0).mean() - 0.2) < 0.02
    assert np.array_equal(layer.backward(ones), y)
    assert bytes_kept(layer) == 0


def test_missing_package_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)  # what makes Python's import fail
    assert digits.main(["--quick"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "This example needs scikit-learn: pip install 'fastdrop-kernels[examples]'"
    ]


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--epochs", "0", "'0' is not a whole number"),
        ("--seeds", "-1", "'-1' is not a whole number"),
        ("--hidden", "many", "'many' is not a whole number"),
        ("--output", "figure.txt", "has to end in"),
        ("--output", "no/such/folder/figure.png", "cannot write"),
    ],
)
def test_a_bad_option_is_refused_before_training(
    option: str, value: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        digits.main([f"{option}={value}"])
    assert exit_info.value.code == 2
    assert complaint in capsys.readouterr().err
