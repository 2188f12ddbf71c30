"""The masked autoencoder of the examples has right gradients, learns, and draws its figure."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the example needs scikit-learn")
pytest.importorskip("matplotlib", reason="the example needs matplotlib")

import fastdrop as fd
from fastdrop.examples import masked_digits
from fastdrop.examples._autoencoder import Autoencoder, Masking, images_of, patches_of
from tests.support.gradients import numerical_gradient
from tests.support.oracle import Array

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def test_a_short_run_learns_and_writes_the_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "figure.png"
    assert masked_digits.main(["--epochs", "4", "--output", str(figure)]) == 0
    assert figure.read_bytes().startswith(PNG_MAGIC)
    out = capsys.readouterr().out
    rows = re.findall(r"^ +(\d+) +(\d\.\d+) +(\d\.\d+)$", out, re.MULTILINE)
    assert [int(epoch) for epoch, _, _ in rows] == [1, 2, 3, 4]
    errors = [float(error) for _, _, error in rows]
    guess = float(re.findall(r"error (\d\.\d+) of dropped", out)[0])
    assert errors[-1] < errors[0]
    assert errors[-1] < 1.1 * guess  # 120 epochs reach 0.6 times that of the mean scan
    assert len(re.findall(r"\d\.\d+%", out)) == 2
    assert "1,024 images of 196 patches" in out


def test_gradients_are_those_of_differences() -> None:
    rng = np.random.default_rng(0)
    model = Autoencoder(6, 4, rng, width=8, heads=2, blocks=(1, 1), dtype=np.float64)
    patches = rng.random((3, 6, 4))
    masking = Masking(*fd.keep_k((3, 6), 2, rng=1, indices=True))
    loss, grads = model.loss_and_grads(patches, masking)
    assert np.isclose(loss, model.loss(patches, masking))
    assert set(grads) == set(model.params)
    for name, gradient in grads.items():

        def loss_with(value: Array, name: str = name) -> float:
            model.params[name] = value
            return model.loss(patches, masking)

        before = model.params[name]
        numerical = numerical_gradient(loss_with, before)
        model.params[name] = before
        np.testing.assert_allclose(gradient, numerical, rtol=1e-5, atol=1e-8, err_msg=name)


def test_what_is_dropped_is_not_seen() -> None:
    rng = np.random.default_rng(0)
    model = Autoencoder(16, 4, rng)
    patches = rng.random((5, 16, 4), np.float32)
    masking = masked_digits.masking_of(fd.Key(1), 5)
    others = np.where(masking.mask[..., None], patches, 7)
    np.testing.assert_array_equal(model.forward(patches, masking), model.forward(others, masking))


def test_patches_are_cut_and_put_together() -> None:
    images = np.arange(3 * 64).reshape(3, 8, 8).astype(np.float32)
    patches = patches_of(images, 2)
    np.testing.assert_array_equal(patches[1, 5], images[1, 2:4, 2:4].ravel())
    np.testing.assert_array_equal(images_of(patches, 2, 8), images)


def test_both_ways_of_masking_keep_as_many() -> None:
    for made in (
        masked_digits.masking_of(fd.Key(1), 7),
        masked_digits.masking_by_argsort(np.random.default_rng(0), 7),
    ):
        x = np.random.default_rng(1).random((7, 16))
        both = np.concatenate(
            [np.take_along_axis(x, part, 1) for part in (made.kept, made.dropped)], axis=1
        )
        np.testing.assert_array_equal(np.take_along_axis(both, made.restore, 1), x)
        assert (made.mask.sum(1) == 4).all()


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(masked_digits.EXTRAS, "no_such_module", "no-such-package")
    assert masked_digits.main([]) == 1
    assert "no-such-package" in capsys.readouterr().err
    assert "no_such_module" not in sys.modules
