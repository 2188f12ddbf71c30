"""What holds for every layer of a function: keys, modes, backwards, state, and settings."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop._layers.function_layer import FunctionLayer
from tests.support.gradients import assert_backward_is_the_gradient
from tests.support.oracle import Array, assert_same
from tests.support.thinning import thinned


class Case(NamedTuple):
    layer: Any
    function: Callable[..., Array]
    settings: dict[str, Any]
    shape: tuple[int, ...] = (6, 4, 7, 8)
    backward: Callable[..., Array] | None = None  # where it is not the function
    drops: bool = True

    def back(self, dy: Array, key: fd.Key, **settings: Any) -> Array:
        """The gradient, by functions."""
        return (self.backward or self.function)(dy, rng=key, **(settings or self.settings))


CASES = [
    Case(fd.Dropout, fd.dropout, {"p": 0.4}),
    Case(fd.Dropout, fd.dropout, {"p": 0.4, "noise_shape": (None, 1, 7, 1)}),
    Case(fd.FeatureDropout, fd.feature_dropout, {"p": 0.4}),
    Case(fd.FeatureDropout, fd.feature_dropout, {"p": 0.4, "data_format": "channels_last"}),
    Case(fd.DropPath, fd.drop_path, {"p": 0.4}),
    Case(fd.DropPath, fd.drop_path, {"p": 0.4, "mode": "batch", "scale_by_keep": False}),
    Case(fd.AlphaDropout, fd.alpha_dropout, {"p": 0.4}, backward=fd.alpha_dropout_backward),
    Case(
        fd.FeatureAlphaDropout,
        fd.feature_alpha_dropout,
        {"p": 0.4, "data_format": "channels_last"},
        backward=fd.feature_alpha_dropout_backward,
    ),
    Case(fd.GaussianDropout, fd.gaussian_dropout, {"p": 0.4}, drops=False),
    Case(
        fd.GaussianNoise,
        fd.gaussian_noise,
        {"stddev": 0.4},
        backward=lambda dy, **settings: dy,
        drops=False,
    ),
    Case(fd.DropBlock2d, fd.drop_block2d, {"p": 0.3, "block_size": 3}),
    Case(fd.DropBlock2d, fd.drop_block2d, {"p": 0.3, "block_size": 2, "eps": 1.0}),
    Case(fd.DropBlock3d, fd.drop_block3d, {"p": 0.3, "block_size": 2}, (2, 3, 4, 5, 4)),
]


@pytest.fixture(params=CASES, ids=lambda c: f"{c.layer.__name__}-{len(c.settings)}")
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def test_all_layers_are_here() -> None:
    def below(layer: type) -> set[type]:
        return {layer}.union(*map(below, layer.__subclasses__()))

    public = {each for each in vars(fd).values() if isinstance(each, type)}
    assert {c.layer for c in CASES} == below(FunctionLayer) & public - {FunctionLayer}


@pytest.mark.parametrize(
    "dtype",
    thinned(
        lambda dtype: dtype == np.float32,
        [np.float16, ml_dtypes.bfloat16, np.float32, np.float64],
    ),
)
def test_the_nth_forward_and_its_backward_are_the_function(
    case: Case, dtype: Any, rng: np.random.Generator
) -> None:
    layer = case.layer(rng=fd.Key(5, 2**64 - 2), **case.settings)
    xs = rng.standard_normal((4, *case.shape)).astype(dtype)
    keys = [fd.Key(5, (2**64 - 2 + n) % 2**64) for n in range(4)]
    for x, key in zip(xs, keys, strict=True):
        assert_same(layer(x), case.function(x, rng=key, **case.settings))
    for x, key in reversed(list(zip(xs, keys, strict=True))):
        assert_same(layer.backward(x), case.back(x, key))
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(xs[0])


# Of a batch dropped as a whole, one forward shows nothing; that its backward is the same call, the
# test above shows.
@pytest.mark.parametrize(
    "case",
    thinned(
        lambda case: case.layer is not fd.FeatureAlphaDropout,
        [c for c in CASES if "mode" not in c.settings],
    ),
    ids=lambda c: c.layer.__name__,
)
def test_the_gradient_is_the_numerical_one(case: Case, rng: np.random.Generator) -> None:
    shape = (3, 3, 4, 4) if len(case.shape) == 4 else (2, 2, 3, 3, 3)
    settings = case.settings
    if "noise_shape" in settings:
        settings = {**settings, "noise_shape": (None, 1, 4, 1)}
    layer = case.layer(rng=2, **settings)
    start = layer.state_dict()

    def forward(x: Array) -> Array:
        layer.load_state_dict(start)
        return np.asarray(layer(x))

    def backward(dy: Array) -> Array:
        return np.asarray(layer.backward(dy))

    x = rng.standard_normal(shape)
    assert_backward_is_the_gradient(forward, backward, x, case.drops)


def test_evaluation_returns_x_itself(case: Case) -> None:
    x = np.ones(case.shape, np.float32)
    layer = case.layer(rng=1, **case.settings)
    assert layer.forward(x, training=False) is x
    assert layer.eval() is layer
    assert layer(x) is x and layer.backward(x) is x
    assert layer.forwards == 0
    assert layer.train()(x) is not x


def test_a_gradient_of_another_shape_is_refused_and_loses_nothing(case: Case) -> None:
    layer = case.layer(rng=1, **case.settings)
    x = np.ones(case.shape, np.float32)
    layer(x)
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(x[1:])
    assert_same(layer.backward(x), case.back(x, fd.Key(1)))


def test_a_backward_uses_the_settings_of_its_forward(case: Case) -> None:
    layer = case.layer(rng=1, **case.settings)
    x = np.ones(case.shape, np.float32)
    layer(x)
    name = next(iter(case.settings))
    setattr(layer, name, 0.9)
    others = {**case.settings, name: 0.9}
    assert_same(layer(x), case.function(x, rng=fd.Key(1, 1), **others))
    setattr(layer, name, 0.1)
    assert_same(layer.backward(x), case.back(x, fd.Key(1, 1), **others))
    assert_same(layer.backward(x), case.back(x, fd.Key(1)))


def test_repr_is_code_that_makes_the_layer(case: Case) -> None:
    layer = case.layer(rng=fd.Key(1, 2), **case.settings)
    made = eval(repr(layer), vars(fd))
    assert repr(made) == repr(layer)
    for name, value in case.settings.items():
        assert f"{name}={value!r}" in repr(layer)
    x = np.ones(case.shape, np.float32)
    assert_same(made(x), layer(x))


def test_defaults_are_not_shown() -> None:
    assert repr(fd.DropPath(0.2, rng=1)) == "DropPath(p=0.2, rng=Key(seed=1, stream=0))"
    assert repr(fd.DropBlock3d(0.2, 3, rng=1)) == (
        "DropBlock3d(p=0.2, block_size=3, rng=Key(seed=1, stream=0))"
    )


def test_copies_and_resumed_runs_go_on_alike(case: Case) -> None:
    layer = case.layer(rng=fd.Key(1, 2), **case.settings)
    x = np.ones(case.shape, np.float32)
    layer(x)
    resumed = case.layer(rng=0, **case.settings)
    resumed.load_state_dict(json.loads(json.dumps(layer.state_dict())))
    twins = [pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)]
    for twin in twins:
        assert_same(twin.backward(x), case.back(x, fd.Key(1, 2)))
    following = layer(x)
    for each in (*twins, resumed):
        assert_same(each(x), following)


def test_forwards_that_never_go_back_do_not_pile_up(case: Case) -> None:
    layer = case.layer(rng=1, **case.settings)
    x = np.ones(case.shape, np.float32)
    for _ in range(50):
        layer(x)
    assert len(layer._pending) == 1


@pytest.mark.parametrize(
    ("make", "name", "value", "error"),
    [
        (lambda: fd.FeatureDropout(rng=1), "data_format", "NHWC", ValueError),
        (lambda: fd.DropPath(rng=1), "mode", "column", ValueError),
        (lambda: fd.DropPath(rng=1), "scale_by_keep", 1, TypeError),
        (lambda: fd.DropBlock2d(0.1, 3, rng=1), "block_size", 0, ValueError),
        (lambda: fd.DropBlock3d(0.1, 3, rng=1), "eps", -1.0, ValueError),
        (lambda: fd.DropPath(rng=1), "p", 2.0, ValueError),
    ],
)
def test_a_wrong_setting_is_refused_and_the_old_one_stays(
    make: Callable[[], Any], name: str, value: Any, error: type[Exception]
) -> None:
    layer = make()
    before = getattr(layer, name)
    with pytest.raises(error, match=f"{name}="):
        setattr(layer, name, value)
    assert getattr(layer, name) == before


def test_a_list_given_as_noise_shape_may_change_later() -> None:
    noise: Any = [None, 1]
    layer = fd.Dropout(0.5, rng=1, noise_shape=noise)
    x = np.ones((9, 9))
    y = layer(x)
    noise[1] = 9
    assert_same(layer.backward(x), y)
