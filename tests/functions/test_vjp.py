"""Functions and layers that return a result together with its backward."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.batches import ON_BATCHES
from tests.support.oracle import Array, assert_same

X = np.linspace(-1, 2, 60).reshape(6, 10)
IMAGES = np.linspace(-1, 2, 2 * 3 * 6 * 6).reshape(2, 3, 6, 6)
# Function, its arguments after x, and its backward.
FUNCTIONS: dict[str, tuple[tuple[Any, ...], dict[str, Any], Any]] = {
    "dropout": ((0.4,), {"noise_shape": (None, 1), "scale": 3.0}, fd.dropout),
    "feature_dropout": ((0.4,), {}, fd.feature_dropout),
    "drop_path": ((), {"p": 0.4}, fd.drop_path),
    "alpha_dropout": ((0.4,), {"offset": 5}, fd.alpha_dropout_backward),
    "feature_alpha_dropout": ((), {}, fd.feature_alpha_dropout_backward),
    "gaussian_dropout": ((0.4,), {}, fd.gaussian_dropout),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_result_is_the_functions_and_backward_its_backward(name: str) -> None:
    args, keywords, backward = FUNCTIONS[name]
    function, tied = getattr(fd, name), getattr(fd, f"{name}_vjp")
    key = fd.Key(3, 4)
    y, back = tied(X, *args, rng=key, **keywords)
    assert_same(y, function(X, *args, rng=key, **keywords))
    expected = backward(X, *args, rng=key, **keywords)
    assert_same(back(X), expected)
    assert_same(back(X), expected)  # as often as it is asked
    out = np.empty_like(X)
    assert back(X, out=out) is out
    assert_same(out, expected)
    dy = X.copy()
    assert back(dy, out=dy) is dy
    assert_same(dy, expected)


@pytest.mark.parametrize("name", ["drop_block2d"])
def test_drop_block(name: str) -> None:
    y, back = fd.drop_block2d_vjp(IMAGES, 0.3, 2, rng=5)
    assert_same(y, fd.drop_block2d(IMAGES, 0.3, 2, rng=5))
    assert_same(back(IMAGES), y)
    maps = IMAGES[:, :, :, :, None].repeat(2, axis=4)
    y, back = fd.drop_block3d_vjp(maps, 0.3, 2, rng=5)
    assert_same(back(maps), fd.drop_block3d(maps, 0.3, 2, rng=5))


@pytest.mark.parametrize(
    ("args", "keywords"), [((0.4, 7.0), {}), ((0.4,), {"value": 7.0}), ((), {"p": 0.4, "value": 7})]
)
def test_masked_fill(args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    y, back = fd.masked_fill_vjp(X, *args, rng=5, **keywords)
    assert_same(y, fd.masked_fill(X, 0.4, 7.0, rng=5))
    assert_same(back(X), fd.masked_fill(X, 0.4, 0, rng=5))


def test_gaussian_noise() -> None:
    y, back = fd.gaussian_noise_vjp(X, 0.4, rng=5)
    assert_same(y, fd.gaussian_noise(X, 0.4, rng=5))
    assert back(X) is X


def test_softmax_dropout() -> None:
    y, back = fd.softmax_dropout_vjp(X, 0.4, rng=5, axis=0)
    assert_same(y, fd.softmax_dropout(X, 0.4, rng=5, axis=0))
    assert_same(back(X), fd.softmax_dropout_backward(X, X, 0.4, rng=5, axis=0))


@pytest.mark.parametrize("act", ["identity", "relu"])
@pytest.mark.parametrize("positional", [True, False])
def test_bias_act_dropout_add(act: str, positional: bool) -> None:
    bias, residual = np.linspace(0, 1, 10), np.linspace(0, 1, 6)[:, None]
    given: Any = (
        ((bias, act, 0.4), {}) if positional else ((), {"bias": bias, "act": act, "p": 0.4})
    )
    args, keywords = given
    y, back = fd.bias_act_dropout_add_vjp(X, *args, rng=5, residual=residual, **keywords)
    assert_same(y, fd.bias_act_dropout_add(X, bias, act, 0.4, rng=5, residual=residual))
    dx, dbias, dresidual = back(X)
    expected = fd.bias_act_dropout_add_backward(X, X, bias, act, 0.4, rng=5)
    assert_same(dx, expected[0])
    assert expected[1] is not None
    assert_same(dbias, expected[1])
    np.testing.assert_allclose(dresidual, X.sum(axis=1, keepdims=True))
    y, back = fd.bias_act_dropout_add_vjp(X, None, act, 0.4, rng=5)
    assert back(X)[1:] == (None, None)


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "softmax_dropout"])
def test_fresh_entropy_and_generators_are_asked_once(name: str) -> None:
    tied, function = getattr(fd, f"{name}_vjp"), getattr(fd, name)
    generator, same = np.random.default_rng(3), np.random.default_rng(3)
    y, back = tied(X, 0.4, rng=generator)
    key = fd.as_key(same)
    assert_same(y, function(X, 0.4, rng=key))
    assert_same(back(X), tied(X, 0.4, rng=key)[1](X))
    assert generator.integers(2**40) == same.integers(2**40)
    ones = np.ones((30, 40))
    y, back = tied(ones, 0.4)
    kept = y > 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_array_equal(back(ones) > 0, kept)


def test_what_the_caller_changes_afterwards_changes_no_backward() -> None:
    p, shape = np.full(10, 0.4), [6, 1]
    y, back = fd.dropout_vjp(X, p, rng=5)
    z, back_from_z = fd.dropout_vjp(X, 0.4, rng=5, noise_shape=shape)
    p[:] = 0.9
    shape[:] = [6, 10]
    assert_same(back(X), y)
    assert_same(back_from_z(X), z)


@pytest.mark.parametrize("act", ["relu", "gelu"])
def test_what_the_backward_reads_is_not_written_over(act: str) -> None:
    x, bias = X.copy(), np.ones(10)
    with pytest.raises(ValueError, match="out shares memory"):
        fd.softmax_dropout_vjp(x, 0.4, rng=5, out=x)
    with pytest.raises(ValueError, match="out shares memory"):
        fd.softmax_dropout_vjp(x[:, ::2], 0.4, rng=5, out=x[:, 1::2])
    with pytest.raises(ValueError, match="out shares memory"):
        fd.bias_act_dropout_add_vjp(x, bias, act, rng=5, out=x)
    assert_same(x, X)
    out = np.empty_like(x)
    y, back = fd.softmax_dropout_vjp(x, 0.4, rng=5, out=out)
    assert y is out
    assert_same(back(X), fd.softmax_dropout_backward(X, X, 0.4, rng=5))
    y, back = fd.dropout_vjp(x, 0.4, rng=5, out=x)  # whose backward reads no x
    assert y is x
    assert_same(back(X), fd.dropout(X, 0.4, rng=5))


def test_a_gradient_of_another_dtype_is_called_dy() -> None:
    for _, back in (fd.Dropout(0.5, rng=1).vjp(X), fd.dropout_vjp(X, 0.5, rng=1)):
        with pytest.raises(TypeError, match="dy has dtype int64"):
            back(np.ones((6, 10), int))
    layer = fd.Dropout(0.5, rng=1)
    layer(X)
    with pytest.raises(TypeError, match="dy has dtype int64"):
        layer.backward(np.ones((6, 10), int))
    _, back = fd.masked_fill_vjp(np.ones(5, int), 0.5, 3, rng=1)
    assert back(np.ones(5, int)).dtype == int


def test_a_forward_of_the_users_own_needs_a_vjp_too() -> None:
    class Doubled(fd.Dropout):
        def forward(self, x: Any, training: Any = None) -> Array:
            return 2 * super().forward(x, training)

    with pytest.raises(TypeError, match="Doubled has a forward of its own"):
        Doubled(0.5, rng=1).vjp(X)


def test_a_refused_call_moves_no_generator() -> None:
    generator, same = np.random.default_rng(3), np.random.default_rng(3)
    with pytest.raises(TypeError, match="int64"):
        fd.dropout_vjp(np.arange(5), 0.4, rng=generator)
    with pytest.raises(ValueError, match="p=2"):
        fd.dropout_vjp(X, 2, rng=generator)
    assert generator.integers(2**40) == same.integers(2**40)


def test_without_training_the_gradient_is_dy_itself() -> None:
    y, back = fd.dropout_vjp(X, 0.4, rng=5, training=False)
    assert y is X
    dy = X.copy()
    assert back(dy) is dy


def test_backwards_in_forward_order_meet_their_own_masks() -> None:
    """A GAN's step: the real batch, then its fake one, and then both backwards."""
    layer = fd.Dropout(0.5, rng=1)
    real, back_from_real = layer.vjp(X)
    fake, back_from_fake = layer.vjp(X)
    assert_same(back_from_real(X), real)
    assert_same(back_from_fake(X), fake)
    assert_same(real, fd.dropout(X, 0.5, rng=fd.Key(1, 0)))
    assert_same(fake, fd.dropout(X, 0.5, rng=fd.Key(1, 1)))
    assert layer.forwards == 2


def test_forwards_beside_a_vjp_go_back_as_if_it_were_not_there() -> None:
    layer = fd.Dropout(0.5, rng=1)
    first = layer(X)
    y, back = layer.vjp(X)
    last = layer(X)
    layer.p = 0.1
    assert_same(layer.backward(X), last)
    assert_same(back(X), y)
    assert_same(layer.backward(X), first)
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(X)


LAYERS: list[tuple[Any, Array, int]] = [
    (fd.Dropout(0.5, rng=1), X, 0),
    (fd.Dropout([0.5] * 10, rng=1), X, 0),
    (fd.FeatureDropout(0.5, rng=1), X, 0),
    (fd.AlphaDropout(0.5, rng=1), X, 0),
    (fd.FeatureAlphaDropout(0.5, rng=1), X, 0),
    (fd.GaussianDropout(0.5, rng=1), X, 0),
    (fd.GaussianNoise(0.5, rng=1), X, 0),
    (fd.DropPath(0.5, rng=1), X, 0),
    (fd.DropBlock2d(0.3, 2, rng=1), IMAGES, 0),
    (fd.SoftmaxDropout(0.5, rng=1), X, 0),
    (fd.BiasActDropoutAdd("relu", 0.5, rng=1), X, 1),
]


@pytest.mark.parametrize(("layer", "x", "several"), LAYERS, ids=lambda v: type(v).__name__)
def test_every_layer_ties_a_forward_to_its_backward(layer: Any, x: Array, several: int) -> None:
    layer.forwards = 0
    results = [layer.vjp(x) for _ in range(3)]
    assert layer.forwards == 3
    for n, (y, back) in enumerate(results):
        layer.forwards = n
        assert_same(layer(x), y)
        expected, found = layer.backward(x), back(x)
        assert_same(found[0] if several else found, expected[0] if several else expected)
    y, back = layer.vjp(x, training=False)
    assert_same(y, layer(x, training=False))


@pytest.mark.parametrize("shape", [(10, 6), (60,), (6, 10, 1)])
def test_a_gradient_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    for _, back in (fd.Dropout(0.5, rng=1).vjp(X), fd.dropout_vjp(X, 0.5, rng=1)):
        with pytest.raises(ValueError, match=r"dy has shape .*\(6, 10\)"):
            back(np.ones(shape))


def test_lists_are_taken_and_backward_shows_what_it_is() -> None:
    y, back = fd.dropout_vjp([1.0, 2.0, 3.0], 0.5, rng=1)
    assert_same(back([1.0, 2.0, 3.0]), y)
    assert repr(back) == "<backward of a result of shape (3,)>"


NAMES = [name for name in fd.__all__ if name.endswith("_vjp")]


@pytest.mark.parametrize("name", NAMES)
def test_signatures_and_examples_are_the_functions(name: str) -> None:
    tied, function = getattr(fd, name), getattr(fd, name.removesuffix("_vjp"))
    mine, its = inspect.signature(tied), inspect.signature(function)
    assert list(mine.parameters.values()) == list(its.parameters.values())
    assert tied.__name__ == name
    examples = doctest.DocTestFinder(recurse=False).find(tied, name, globs={})
    assert examples[0].examples
    for example in examples:
        assert doctest.DocTestRunner().run(example).failed == 0


def test_every_function_of_the_family_has_one() -> None:
    without = {"dropout_mask", "mc_dropout", "warmup", "as_key", "get_num_threads"}
    without |= {"set_num_threads", "threads", "cuda"}
    functions = {
        name
        for name in fd.__all__
        if name[0].islower() and not name.endswith(("_backward", "_vjp"))
    }
    functions -= {"show_versions", *ON_BATCHES}
    assert {name.removesuffix("_vjp") for name in NAMES} == functions - without
