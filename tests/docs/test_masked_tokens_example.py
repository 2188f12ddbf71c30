"""The example of masked tokens: it learns, and its gradients and ways of masking are right."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastdrop as fd
from fastdrop.examples import masked_tokens
from fastdrop.examples._python_text import Text
from fastdrop.examples._token_model import WindowModel
from tests.support.gradients import numerical_gradient


def test_a_quick_run_prints_losses_and_the_share_of_masking(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert masked_tokens.main(["--quick", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"step +\d+: loss (\S+)", out)]
    assert len(losses) >= 8 and losses[-1] < losses[0] - 0.5
    assert "characters to train on" in out and "of masked characters guessed" in out
    for way in (masked_tokens.OURS, masked_tokens.THREE_BINOMIALS, masked_tokens.GOOD):
        found = re.search(rf"{re.escape(way)} +(\d+) us, (\S+)% of the step", out)
        assert found and 0 < float(found[2]) < 100
    masked, guessed, original = re.findall(r"^  (\S.*)$", out, re.MULTILINE)[:3]
    assert len(masked) == len(guessed) == len(original)
    assert 2 <= sum(m != o for m, o in zip(masked, original, strict=True)) <= 30


def test_trainings_repeat_themselves() -> None:
    corpus = masked_tokens.load_corpus()
    said: list[str] = []
    first, again = (masked_tokens.train(corpus, 4, 2, 7, said.append).losses for _ in range(2))
    assert first == again and len(said) == 8
    assert masked_tokens.train(corpus, 4, 2, 8, said.append).losses != first


@pytest.mark.parametrize("way", [masked_tokens.three_binomials, masked_tokens.good_numpy])
def test_the_other_ways_mask_as_they_should(way: object) -> None:
    assert callable(way)
    corpus = masked_tokens.load_corpus(Text("letters", "abcdefgh" * 1000))
    ids = np.resize(corpus.train, (50, 2000))
    inputs, labels = way(np.random.default_rng(0), ids, corpus)
    chosen = labels != -100
    np.testing.assert_array_equal(np.where(chosen, labels, inputs), ids)
    assert abs(chosen.mean() - 0.15) < 0.01
    assert abs((inputs[chosen] == corpus.mask_id).mean() - 0.8 - 0.1 / 9) < 0.02


def test_gradients_are_those_of_the_loss() -> None:
    model = WindowModel(tokens=5, side=1, width=3, hidden=4, seed=0)
    model.weights = {name: w.astype(np.float64) for name, w in model.weights.items()}
    inputs = np.random.default_rng(0).integers(0, 5, (2, 6))
    places, targets, key = np.array([0, 3, 7, 11]), np.array([1, 0, 4, 4]), fd.Key(3)
    windows = model.windows(inputs, places)
    assert windows.shape == (4, 3) and (windows == 5).sum() == 2  # beyond either end
    _, gradients = model.loss_and_gradients(windows, targets, key)

    for name, weights in model.weights.items():

        def loss(w: masked_tokens.Array, name: str = name) -> float:
            before, model.weights[name] = model.weights[name], w
            value, _ = model.loss_and_gradients(windows, targets, key)
            model.weights[name] = before
            return value

        np.testing.assert_allclose(
            gradients[name], numerical_gradient(loss, weights), rtol=1e-5, atol=1e-8
        )
