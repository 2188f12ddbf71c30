"""The recipes: DropConnect, and vanilla dropout with the weight-scaling rule."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import fastdrop as fd
from fastdrop.examples import recipes

from .gradients import numerical_gradient
from .oracle import Array, applied, assert_same, mask


def test_their_examples_are_true_and_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    result = doctest.testmod(recipes)
    assert result.failed == 0 and result.attempted >= 10
    assert recipes.main() == 0
    out = capsys.readouterr().out
    assert "def dropconnect_backward(" in out
    assert f"{result.attempted} examples were run, and 0 gave" in out


def test_dropconnect_drops_weights_unscaled(rng: np.random.Generator) -> None:
    x, weights = rng.standard_normal((5, 6)), rng.standard_normal((6, 7))
    key = fd.Key(3)
    dropped = applied(mask(weights.shape, 0.4, key), weights, 1.0)
    assert_same(recipes.dropconnect(x, weights, 0.4, key), x @ dropped)
    assert_same(fd.dropout(weights, 0.4, rng=key, scale=1.0), dropped)


def test_dropconnect_goes_back_to_inputs_and_weights(rng: np.random.Generator) -> None:
    x, weights = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    key = fd.Key(3)
    target = rng.standard_normal((3, 5))

    def loss(x: Array, weights: Array) -> float:
        return float(np.sum(np.tanh(recipes.dropconnect(x, weights, 0.4, key)) * target))

    dy = (1 - np.tanh(recipes.dropconnect(x, weights, 0.4, key)) ** 2) * target
    dx, dweights = recipes.dropconnect_backward(dy, x, weights, 0.4, key)
    of_x = numerical_gradient(lambda v: loss(v, weights), x)
    of_weights = numerical_gradient(lambda v: loss(x, v), weights)
    np.testing.assert_allclose(dx, of_x, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dweights, of_weights, rtol=1e-6, atol=1e-8)
    assert (dweights == 0).any()


def test_dropconnect_by_sample_as_its_docs_say(rng: np.random.Generator) -> None:
    x, weights = rng.standard_normal((5, 6)), rng.standard_normal((6, 7))
    each = np.broadcast_to(weights, (len(x), *weights.shape))
    kept = mask(each.shape, 0.4, fd.Key(3))
    y = recipes.dropconnect(x[:, None], each, 0.4, fd.Key(3))[:, 0]
    np.testing.assert_allclose(y, np.einsum("ni,nij->nj", x, kept * weights), rtol=1e-12)


def test_expectations_in_training_are_those_at_test(rng: np.random.Generator) -> None:
    p, passes = 0.3, 4000
    x, weights = rng.standard_normal((3, 8)), rng.standard_normal((8, 4))
    keys = [fd.Key(5).fold_in(t) for t in range(passes)]
    key = fd.Key(0)

    connected = np.mean([recipes.dropconnect(x, weights, p, k) for k in keys], axis=0)
    at_test = recipes.dropconnect(x, weights, p, key, training=False)
    deviation = np.sqrt(p * (1 - p) * (x**2 @ weights**2) / passes)
    assert (abs(connected - at_test) < 5 * deviation).all()

    vanilla = np.mean([recipes.vanilla_dropout(x, p, k) for k in keys], axis=0)
    at_test = recipes.vanilla_dropout(x, p, key, training=False)
    deviation = abs(x) * np.sqrt(p * (1 - p) / passes)
    assert (abs(vanilla - at_test) < 5 * deviation).all()
    assert (abs(vanilla - x) > 5 * deviation).all()  # which is what the rule is for
