"""What layers offer beside forward and backward: fixed masks, configurations, in-place results."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array, assert_same

X = np.linspace(1, 2, 60, dtype=np.float32).reshape(6, 10)
X.flags.writeable = False


def test_in_a_fixed_context_all_forwards_draw_the_next_mask() -> None:
    layer = fd.Dropout(0.5, rng=fd.Key(1, 5))
    layer.backward(layer(X))
    with layer.fixed() as same:
        assert same is layer
        ys = [layer(X) for _ in range(4)]
        for y in ys:
            assert_same(y, fd.dropout(X, 0.5, rng=fd.Key(1, 6)))
        for y in reversed(ys):
            assert_same(layer.backward(X), y)
        layer(X)
    assert layer.forwards == 2
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(X)
    assert_same(layer(X), fd.dropout(X, 0.5, rng=fd.Key(1, 7)))


def test_a_fixed_context_of_the_last_forward_leaves_the_count_and_the_forwards_before() -> None:
    layer = fd.Dropout(0.5, rng=1)
    layer(X)
    y = layer(X)
    with layer.fixed(layer.forwards - 1):
        assert_same(layer(X), y)
        with layer.fixed(0):
            assert_same(layer(X), fd.dropout(X, 0.5, rng=1))
        assert_same(layer(X), y)
    assert layer.forwards == 2
    assert_same(layer.backward(X), y)
    assert_same(layer.backward(X), fd.dropout(X, 0.5, rng=1))


def test_a_fixed_context_ends_where_its_block_raises() -> None:
    layer = fd.Dropout(0.5, rng=1)
    with pytest.raises(ZeroDivisionError), layer.fixed():
        raise ZeroDivisionError
    assert_same(layer(X), fd.dropout(X, 0.5, rng=fd.Key(1, 1)))


@pytest.mark.parametrize("how", ["forget", "load_state_dict"])
def test_forgetting_in_a_fixed_context_does_not_end_it(how: str) -> None:
    layer = fd.Dropout(0.5, rng=1)
    layer(X)
    with layer.fixed(4):
        first = layer(X)
        if how == "forget":
            layer.forget()
        else:
            layer.load_state_dict(layer.state_dict())
        assert_same(layer(X), first)
        assert_same(layer.backward(X), first)
        assert not layer._pending
    assert layer.forwards == 1
    assert not layer._pending  # what was there before has been forgotten too
    assert_same(layer(X), fd.dropout(X, 0.5, rng=fd.Key(1, 1)))


@pytest.mark.parametrize(("n", "error"), [(-1, ValueError), (1.5, TypeError), ("0", TypeError)])
def test_a_wrong_number_of_a_forward_is_refused(n: Any, error: type[Exception]) -> None:
    layer = fd.Dropout(0.5, rng=1)
    with pytest.raises(error, match="n="), layer.fixed(n):
        pass
    assert layer.forwards == 0


LAYERS = [
    fd.Dropout(0.4, rng=3),
    fd.AlphaDropout(0.4, rng=3),
    fd.GaussianDropout(0.4, rng=3),
    fd.GaussianNoise(0.4, rng=3),
    fd.FeatureDropout(0.4, rng=3),
    fd.FeatureAlphaDropout(0.4, rng=3),
    fd.DropPath(0.4, rng=3),
    fd.SoftmaxDropout(0.4, rng=3),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_the_gradient_in_a_fixed_context_is_the_numerical_one(
    layer: Any, rng: np.random.Generator
) -> None:
    x, weights = rng.standard_normal((2, 4, 5))

    def loss(x: Array) -> float:
        return float(np.sum(layer(x) * weights))

    with layer.fixed():
        loss(x)
        gradient = layer.backward(weights)
        numerical = np.zeros_like(x)
        for place in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[place] = 1e-5
            numerical[place] = (loss(x + step) - loss(x - step)) / 2e-5
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


def test_an_rnn_dropout_has_a_fixed_context_too() -> None:
    rnn = fd.RNNDropout(0.5, rng=3)
    found = []
    with rnn.fixed():
        for _ in range(3):
            rnn.begin()
            found.append(rnn.input(X, 2).tobytes())
    assert len(set(found)) == 1
    assert rnn.forwards == 1


@pytest.mark.parametrize(
    "layer",
    [
        fd.Dropout(0.25, rng=fd.Key(2**64 - 1, 3), noise_shape=(None, 1), scale=1.0, inplace=True),
        fd.Dropout([0.0, 0.5] * 5, rng=1),
        fd.FeatureDropout(0.5, rng=1, data_format="channels_last"),
        fd.AlphaDropout(0.5, rng=1),
        fd.FeatureAlphaDropout(0.5, rng=1),
        fd.GaussianDropout(0.5, rng=1),
        fd.GaussianNoise(0.5, rng=1),
        fd.DropPath(0.5, rng=1, mode="batch", scale_by_keep=False),
        fd.DropBlock2d(0.5, 3, rng=1, eps=0.0),
        fd.DropBlock3d(0.5, 3, rng=1),
        fd.SoftmaxDropout(0.5, axis=0, rng=1),
        fd.BiasActDropoutAdd("relu", 0.25, rng=1),
        fd.RNNDropout(0.1, 0.2, 0.3, rng=1, variational=True, drop_state=(True, False)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_configuration_makes_the_same_layer_by_way_of_json(layer: Any) -> None:
    config = json.loads(json.dumps(layer.get_config()))
    made = type(layer).from_config(config)
    assert repr(made) == repr(layer)
    assert made.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rate": 0.5}, ValueError, "rate"),
        ({"seed": None}, TypeError, "seed=None"),
        ({"p": 2.0}, ValueError, r"p=2\.0"),
    ],
)
def test_a_wrong_configuration_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fd.Dropout.from_config({**fd.Dropout(0.5, rng=1).get_config(), **change})


def test_a_configuration_needs_what_has_no_default() -> None:
    with pytest.raises(ValueError, match="'p', 'seed', 'stream'"):
        fd.Dropout.from_config({})
    not_a_dict: Any = [1]
    with pytest.raises(TypeError, match="get_config"):
        fd.Dropout.from_config(not_a_dict)


def test_training_may_be_given_to_the_call() -> None:
    layer = fd.Dropout(0.5, rng=1)
    assert layer(X, training=False) is X
    assert layer.forwards == 0
    layer.eval()
    assert_same(layer(X, training=True), fd.dropout(X, 0.5, rng=1))


@pytest.mark.parametrize("name", ["rate", "keep_prob", "seed", "noise", "P", "mask"])
def test_an_attribute_that_there_is_not_cannot_be_set(name: str) -> None:
    layer: Any = fd.Dropout(0.5, rng=1)
    with pytest.raises(AttributeError, match=name):
        setattr(layer, name, 0.9)
    with pytest.raises(AttributeError, match=name):
        getattr(layer, name)


def test_the_error_of_an_attribute_of_another_library_names_ours() -> None:
    layer: Any = fd.Dropout(0.5, rng=1)
    with pytest.raises(AttributeError, match=r"'rate'.* p is the probability of dropping"):
        layer.rate = 0.9
    with pytest.raises(AttributeError, match="1 - keep_prob"):
        layer.keep_prob = 0.9


def test_a_subclass_of_the_users_may_have_attributes_of_its_own() -> None:
    class Named(fd.Dropout):
        def __init__(self, name: str) -> None:
            super().__init__(0.5, rng=1)
            self.name = name

    layer = Named("first")
    assert layer.name == "first"
    assert_same(layer(X), fd.dropout(X, 0.5, rng=1))


@pytest.mark.parametrize("name", ["mask", "rate", "keep_prob"])
def test_also_those_that_other_libraries_have(name: str) -> None:
    class Own(fd.Dropout):
        pass

    layer: Any = Own(0.5, rng=1)
    with pytest.raises(AttributeError, match=name):
        getattr(layer, name)
    setattr(layer, name, 3)
    assert getattr(layer, name) == 3
    assert getattr(copy.deepcopy(layer), name) == 3


class Slotted(fd.Dropout):
    __slots__ = ("name", "unset")


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_have_the_attributes_in_slots_of_a_subclass(how: Any) -> None:
    layer: Any = Slotted(0.5, rng=1)
    layer.name = "first"
    assert how(layer).name == "first"
    assert not hasattr(how(layer), "unset")


def test_the_advice_for_a_layers_mask_draws_that_of_the_last_forward() -> None:
    layer: Any = fd.Dropout(0.5, rng=1)
    layer(X)
    y = layer(X)
    with pytest.raises(AttributeError) as caught:
        _ = layer.mask
    code = str(caught.value).rpartition("is ")[2]
    mask = eval(f"fd.{code}", {"fd": fd, "layer": layer, "x": X})
    assert_same(mask, y != 0)


def test_a_subclass_that_overrides_forward_is_called_so() -> None:
    class Doubled(fd.Dropout):
        def forward(self, x: Any, training: Any = None) -> Array:
            y: Array = 2 * super().forward(x, training)
            return y

    assert_same(Doubled(0.5, rng=1)(X), 2 * fd.dropout(X, 0.5, rng=1))


INPLACE = [
    (fd.Dropout, {"p": 0.5}, fd.dropout),
    (fd.Dropout, {"p": [0.5] * 10}, fd.dropout),
    (fd.AlphaDropout, {"p": 0.5}, fd.alpha_dropout),
    (fd.GaussianDropout, {"p": 0.5}, fd.gaussian_dropout),
    (fd.GaussianNoise, {"stddev": 0.5}, fd.gaussian_noise),
    (fd.FeatureDropout, {"p": 0.5}, fd.feature_dropout),
    (fd.FeatureAlphaDropout, {"p": 0.5}, fd.feature_alpha_dropout),
    (fd.DropPath, {"p": 0.5}, fd.drop_path),
]


@pytest.mark.parametrize(("make", "settings", "function"), INPLACE)
def test_an_inplace_layer_writes_to_x_in_training_and_not_in_the_backward(
    make: Any, settings: dict[str, Any], function: Any
) -> None:
    layer = make(**settings, rng=1, inplace=True)
    expected = function(X, **settings, rng=1)
    for _ in range(2):  # the second call may go another way
        layer.forwards = 0
        x, dy = X.copy(), X.copy()
        assert layer(x) is x
        assert_same(x, expected)
        dx = layer.backward(dy)
        assert dx is not dy or make is fd.GaussianNoise
        assert_same(dy, X)
    assert layer.eval()(X) is X


def test_an_inplace_layer_refuses_what_cannot_be_written_to() -> None:
    layer = fd.Dropout(0.5, rng=1, inplace=True)
    for n in range(4):  # by several ways
        with pytest.raises(ValueError, match="read-only"):
            layer(X)
        with pytest.raises(TypeError, match="x is a list, and a layer with inplace=True writes"):
            layer(X.tolist())
        assert layer.forwards == n
        layer(X.copy())
    assert "inplace=True" in repr(layer)


def test_scale_is_a_setting() -> None:
    layer = fd.Dropout(0.5, rng=1, scale=1.0)
    for n in range(3):
        assert_same(layer(X), fd.dropout(X, 0.5, rng=fd.Key(1, n), scale=1.0))
        assert_same(layer.backward(X), fd.dropout(X, 0.5, rng=fd.Key(1, n), scale=1.0))
    layer.scale = None
    assert_same(layer(X), fd.dropout(X, 0.5, rng=fd.Key(1, 3)))
    with pytest.raises(TypeError, match="scale="):
        layer.scale = "1"
