"""The recipes: each runs and holds, and cannot hold where what it says is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop.examples import recipes
from fastdrop.examples.recipes import __main__ as command
from fastdrop.examples.recipes import dropconnect as weights_of
from fastdrop.examples.recipes import padding, returned_mask, workers
from fastdrop.examples.recipes.vanilla import vanilla_dropout
from tests.support.gradients import numerical_gradient
from tests.support.oracle import Array, applied, assert_same, mask

NEEDS = {  # the module that a recipe imports, and what installs it
    "hips_autograd": ("autograd", "autograd"),
    "jax_callback": ("jax", "jax"),
    "cubed_arrays": ("cubed", "cubed"),
    "ray_data": ("ray.data", "'ray[data]'"),
}

# Ray 2.60, of itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_each_holds(name: str) -> None:
    if name in NEEDS:
        needed, package = NEEDS[name]
        pytest.importorskip(needed, reason=f"the recipe needs it: pip install {package}")
    module = recipes.recipe(name)
    module.run()
    assert len(str(module.__doc__).partition("\n")[0]) <= 100


def test_they_are_listed_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "recipes" not in line][
        : len(recipes.RECIPES)
    ] == list(recipes.RECIPES)
    assert "All that were run hold." in out
    assert command.main(["dropconnect"]) == 0
    assert "def dropconnect_backward(" in capsys.readouterr().out


def test_one_that_does_not_hold_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise AssertionError("another mask")

    monkeypatch.setattr(padding, "run", run)
    assert command.main(["padding"]) == 1
    assert "DOES NOT HOLD: another mask" in capsys.readouterr().out


def test_one_that_needs_what_is_not_installed_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'autograd'", name="autograd")

    monkeypatch.setattr(command, "recipe", missing)
    assert command.main(["hips_autograd"]) == 1
    assert "pip install autograd" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "any_order",
        "checkpointing",
        "workers",
        "padding",
        "masked_tokens",
        "function_object",
        "shared_memory",
    ],
)
def test_none_holds_where_masks_are_drawn_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = recipes.recipe(name)
    changed = np.random.default_rng(0)
    for function in ("dropout", "dropout_mask", "masked_fill"):
        right = getattr(fd, function)

        def wrong(*args: Any, right: Any = right, rng: Any = None, **other: Any) -> Any:
            return right(*args, rng=changed, **other)

        monkeypatch.setattr(fd, function, wrong)
    with pytest.raises(AssertionError):
        module.run()


def test_samples_are_those_of_any_loader() -> None:
    data_loader = pytest.importorskip("torch.utils.data", reason="torch is not installed")
    samples = np.random.default_rng(0).uniform(1, 2, (32, 100)).astype(np.float32)
    data = workers.Masked(samples, 0.15, fd.Key(7))
    loader = data_loader.DataLoader(data, batch_size=8, shuffle=True)
    for masked, given in loader:
        for one, sample in zip(masked.numpy(), given.numpy(), strict=True):
            n = int(np.flatnonzero((samples == sample).all(axis=1))[0])
            assert_same(one, data[n][0])


def test_a_mask_that_is_asked_for_is_that_of_the_result() -> None:
    x = np.ones((6, 9), np.float32)
    key = fd.Key(4)
    y, kept = returned_mask.dropout_and_mask(x, 0.4, key)
    assert_same(kept, mask(x.shape, 0.4, key))
    assert_same(y, applied(kept, x, 1 / 0.6))


def test_dropconnect_drops_weights_unscaled(rng: np.random.Generator) -> None:
    x, weights = rng.standard_normal((5, 6)), rng.standard_normal((6, 7))
    key = fd.Key(3)
    dropped = applied(mask(weights.shape, 0.4, key), weights, 1.0)
    assert_same(weights_of.dropconnect(x, weights, 0.4, key), x @ dropped)
    assert_same(fd.dropout(weights, 0.4, rng=key, scale=1.0), dropped)


def test_dropconnect_goes_back_to_inputs_and_weights(rng: np.random.Generator) -> None:
    x, weights = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    key = fd.Key(3)
    target = rng.standard_normal((3, 5))

    def loss(x: Array, weights: Array) -> float:
        return float(np.sum(np.tanh(weights_of.dropconnect(x, weights, 0.4, key)) * target))

    dy = (1 - np.tanh(weights_of.dropconnect(x, weights, 0.4, key)) ** 2) * target
    dx, dweights = weights_of.dropconnect_backward(dy, x, weights, 0.4, key)
    of_x = numerical_gradient(lambda v: loss(v, weights), x)
    of_weights = numerical_gradient(lambda v: loss(x, v), weights)
    np.testing.assert_allclose(dx, of_x, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dweights, of_weights, rtol=1e-6, atol=1e-8)
    assert (dweights == 0).any()


def test_dropconnect_by_sample_as_its_docs_say(rng: np.random.Generator) -> None:
    x, weights = rng.standard_normal((5, 6)), rng.standard_normal((6, 7))
    each = np.broadcast_to(weights, (len(x), *weights.shape))
    kept = mask(each.shape, 0.4, fd.Key(3))
    y = weights_of.dropconnect(x[:, None], each, 0.4, fd.Key(3))[:, 0]
    np.testing.assert_allclose(y, np.einsum("ni,nij->nj", x, kept * weights), rtol=1e-12)


def test_expectations_in_training_are_those_at_test(rng: np.random.Generator) -> None:
    p, passes = 0.3, 4000
    x, weights = rng.standard_normal((3, 8)), rng.standard_normal((8, 4))
    keys = [fd.Key(5).fold_in(t) for t in range(passes)]
    key = fd.Key(0)

    connected = np.mean([weights_of.dropconnect(x, weights, p, k) for k in keys], axis=0)
    at_test = weights_of.dropconnect(x, weights, p, key, training=False)
    deviation = np.sqrt(p * (1 - p) * (x**2 @ weights**2) / passes)
    assert (abs(connected - at_test) < 5 * deviation).all()

    vanilla = np.mean([vanilla_dropout(x, p, k) for k in keys], axis=0)
    at_test = vanilla_dropout(x, p, key, training=False)
    deviation = abs(x) * np.sqrt(p * (1 - p) / passes)
    assert (abs(vanilla - at_test) < 5 * deviation).all()
    assert (abs(vanilla - x) > 5 * deviation).all()  # which is what the rule is for
