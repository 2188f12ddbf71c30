"""Layers whose backward reads the forward's input: softmax, and the epilogue."""

from __future__ import annotations

import copy
import doctest
import gc
import json
import pickle
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop._layers import fused as _input_layers
from fastdrop._layers.fused import InputLayer
from tests.support.gradients import assert_backward_is_the_gradient
from tests.support.oracle import Array, assert_same

SHAPE = (3, 4, 10)
DTYPES = [
    np.float64,
    *[
        pytest.param(d, marks=pytest.mark.slow)
        for d in (np.float16, ml_dtypes.bfloat16, np.float32)
    ],
]


class Case(NamedTuple):
    """A layer, what its forwards are given beside x, and the functions that say what it must do."""

    layer: Any
    settings: dict[str, Any]
    forward: Callable[..., Array]  # (x, *, rng, training, **settings, **given)
    backward: Callable[..., Any]  # (dy, x, *, rng, training, **settings, **given)
    bias: tuple[int, ...] | None = None
    residual: tuple[int, ...] | None = None

    def given(self, dtype: Any, rng: np.random.Generator) -> dict[str, Array]:
        shapes = {"bias": self.bias, "residual": self.residual}
        return {
            name: rng.standard_normal(shape).astype(dtype)
            for name, shape in shapes.items()
            if shape is not None
        }

    def call(self, layer: Any, x: Array, given: dict[str, Array], **more: Any) -> Array:
        return np.asarray(layer.forward(x, **given, **more))

    def back(self, dy: Array, x: Array, given: dict[str, Array], **more: Any) -> Any:
        return self.backward(dy, x, **given, **more, **self.settings)


def epilogue_backward(dy: Array, x: Array, *, residual: Array | None = None, **more: Any) -> Any:
    dx, dbias, _ = fd.bias_act_dropout_add_backward(dy, x, **more)
    if residual is None:
        return dx, dbias, None
    if residual.shape == dy.shape:
        return dx, dbias, dy
    summed = fd.bias_act_dropout_add_backward(dy, dy, np.zeros_like(residual), training=False)[1]
    return dx, dbias, summed


def epilogue(act: str, bias: Any, residual: Any) -> Case:
    return Case(
        fd.BiasActDropoutAdd,
        {"act": act, "p": 0.4},
        fd.bias_act_dropout_add,
        epilogue_backward,
        bias,
        residual,
    )


SOFTMAX = Case(fd.SoftmaxDropout, {"p": 0.4}, fd.softmax_dropout, fd.softmax_dropout_backward)
CASES = [
    SOFTMAX,
    epilogue("identity", (4, 1), (3, 1, 1)),
]
# Which compile more kernels.
MORE_CASES = [
    epilogue("tanh", (10,), SHAPE),
    SOFTMAX._replace(settings={"p": 0.4, "axis": 1}),
    epilogue("gelu_tanh", None, None),
]


def name_of(case: Case) -> str:
    settings = case.settings.values()
    return "-".join([case.layer.__name__, *[str(v) for v in settings if v != 0.4]])


@pytest.fixture(
    params=[*CASES, *[pytest.param(c, marks=pytest.mark.slow) for c in MORE_CASES]], ids=name_of
)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def same(got: Any, true: Any) -> None:
    """Compare arrays, or tuples of arrays and None, bit for bit."""
    if not isinstance(true, tuple):
        got, true = (got,), (true,)
    for mine, its in zip(got, true, strict=True):
        if its is None:
            assert mine is None
        else:
            assert_same(mine, its)


def numbers(dtype: Any, rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> Array:
    return np.asarray(rng.standard_normal(shape).astype(dtype))


def test_all_layers_are_here() -> None:
    public = {each for each in vars(fd).values() if isinstance(each, type)}
    assert {c.layer for c in CASES} == set(InputLayer.__subclasses__()) & public


@pytest.mark.parametrize("dtype", DTYPES)
def test_forwards_then_backwards_are_the_functions(
    case: Case, dtype: Any, rng: np.random.Generator
) -> None:
    layer = case.layer(rng=fd.Key(5, 2**64 - 2), **case.settings)
    steps = []
    for n in range(4):
        x, given = numbers(dtype, rng), case.given(dtype, rng)
        key = fd.Key(5, (2**64 - 2 + n) % 2**64)
        y = case.call(layer, x, given)
        same(y, case.forward(x, rng=key, **given, **case.settings))
        steps.append((x, given, key))
    assert layer.forwards == 4
    for x, given, key in reversed(steps):
        dy = numbers(dtype, rng)
        same(layer.backward(dy), case.back(dy, x, given, rng=key))
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(dy)


def test_the_gradient_is_the_numerical_one(case: Case, rng: np.random.Generator) -> None:
    layer = case.layer(rng=2, **{**case.settings, "p": 0.2})
    given, start = case.given(np.float64, rng), layer.state_dict()

    def forward(x: Array) -> Array:
        layer.load_state_dict(start)
        return case.call(layer, x, given)

    def backward(dy: Array) -> Array:
        made = layer.backward(dy)
        return np.asarray(made[0] if isinstance(made, tuple) else made)

    x = numbers(np.float64, rng)
    # Of a softmax, what is dropped has a gradient all the same.
    assert_backward_is_the_gradient(forward, backward, x, case.layer is fd.BiasActDropoutAdd)


@pytest.mark.parametrize("name", ["bias", "residual"])
def test_the_gradients_of_bias_and_residual_are_numerical_too(
    name: str, rng: np.random.Generator
) -> None:
    case = epilogue("tanh", (4, 1), (3, 1, 10))
    layer, given = fd.BiasActDropoutAdd("tanh", 0.4, rng=2), case.given(np.float64, rng)
    x = numbers(np.float64, rng)

    def forward(varied: Array) -> Array:
        return case.call(layer, x, {**given, name: varied})

    def backward(dy: Array) -> Array:
        return np.asarray(layer.backward(dy)[1 if name == "bias" else 2])

    start = layer.state_dict()
    weights = rng.standard_normal(SHAPE)

    def loss(varied: Array) -> float:
        layer.load_state_dict(start)
        return float(np.sum(np.tanh(forward(varied)) * weights))

    loss(given[name])
    y = case.forward(x, act="tanh", p=0.4, rng=2, **given)
    gradient = backward((1 - np.tanh(y) ** 2) * weights)
    assert gradient.shape == given[name].shape
    numerical = np.zeros_like(given[name])
    for place in np.ndindex(numerical.shape):
        step = np.zeros_like(numerical)
        step[place] = 1e-6
        numerical[place] = (loss(given[name] + step) - loss(given[name] - step)) / 2e-6
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


def test_evaluation_computes_without_dropout_and_goes_back(
    case: Case, rng: np.random.Generator
) -> None:
    layer = case.layer(rng=1, **case.settings).eval()
    x, dy, given = numbers(np.float64, rng), numbers(np.float64, rng), case.given(np.float64, rng)
    y = case.call(layer, x, given)
    same(y, case.forward(x, training=False, **given, **case.settings))
    assert y is not x and layer.forwards == 0
    true = case.back(dy, x, given, training=False)
    same(layer.backward(dy), true)
    with pytest.raises(RuntimeError, match="only the last one is remembered"):
        layer.backward(dy)
    case.call(layer, dy, given)
    case.call(layer, x, given)  # which takes the place of that one
    same(layer.backward(dy), true)
    with pytest.raises(RuntimeError, match="only the last one is remembered"):
        layer.backward(dy)
    layer.train()
    case.call(layer, x, given, training=False)
    same(layer.backward(dy), true)


def test_evaluation_between_forward_and_backward_disturbs_nothing(
    case: Case, rng: np.random.Generator
) -> None:
    layer = case.layer(rng=1, **case.settings)
    x, dy, given = numbers(np.float64, rng), numbers(np.float64, rng), case.given(np.float64, rng)
    case.call(layer, x, given)
    case.call(layer, dy, given, training=False)
    layer.eval()
    case.call(layer, dy, given)
    layer.train()
    same(layer.backward(dy), case.back(dy, x, given, rng=1))


def test_in_evaluation_mode_the_last_forward_goes_back_first(
    case: Case, rng: np.random.Generator
) -> None:
    layer = case.layer(rng=1, **case.settings)
    x, dy, given = numbers(np.float64, rng), numbers(np.float64, rng), case.given(np.float64, rng)
    case.call(layer, x, given)
    layer.eval()
    y = case.call(layer, x, given, training=True)
    same(y, case.forward(x, rng=fd.Key(1, 1), **given, **case.settings))
    same(layer.backward(dy), case.back(dy, x, given, rng=fd.Key(1, 1)))
    same(layer.backward(dy), case.back(dy, x, given, rng=fd.Key(1, 0)))
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(dy)


@pytest.mark.slow
def test_no_array_is_held_longer_than_it_is_needed(case: Case, rng: np.random.Generator) -> None:
    layer, given = case.layer(rng=1, **case.settings), case.given(np.float64, rng)
    alive: list[weakref.ref[Array]] = []

    def run(**more: Any) -> Array:
        x = np.ones(SHAPE)
        alive.append(weakref.ref(x))
        return case.call(layer, x, given, **more)

    def held() -> int:
        gc.collect()
        return sum(ref() is not None for ref in alive)

    needed = case.settings.get("act") != "identity"
    dy = run()
    run()
    assert held() == 2 * needed
    layer.backward(dy)
    assert held() == needed
    layer.backward(dy)
    assert held() == 0
    layer.eval()
    for n in range(20):
        run(training=n % 2 == 0)
    assert held() == needed
    layer.train()
    run()
    assert held() == needed
    layer.forget()
    assert held() == 0
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(dy)
    assert layer.forwards == 13


def test_passes_over_the_same_array_do_not_pile_up(case: Case, rng: np.random.Generator) -> None:
    layer, given = case.layer(rng=1, **case.settings), case.given(np.float64, rng)
    x = np.ones(SHAPE)
    for _ in range(50):
        case.call(layer, x, given)
    assert len(layer._pending) == 1
    same(layer.backward(x), case.back(x, x, given, rng=fd.Key(1, 49)))
    same(layer.backward(x), case.back(x, x, given, rng=fd.Key(1, 48)))
    case.call(layer, x.copy(), given)
    assert len(layer._pending) == 2


def test_a_wrong_gradient_is_refused_and_loses_nothing(
    case: Case, rng: np.random.Generator
) -> None:
    layer, given = case.layer(rng=1, **case.settings), case.given(np.float64, rng)
    x = np.ones(SHAPE)
    case.call(layer, x, given)
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(x[1:])
    with pytest.raises(TypeError):
        layer.backward(x.astype(np.int64))
    same(layer.backward(x), case.back(x, x, given, rng=1))


def test_a_failed_forward_counts_nothing(case: Case, rng: np.random.Generator) -> None:
    layer, given = case.layer(rng=1, **case.settings), case.given(np.float64, rng)
    x = np.ones(SHAPE)
    case.call(layer, x, given)
    with pytest.raises(TypeError):
        layer(np.ones(SHAPE, np.int64))
    with pytest.raises(TypeError, match="training=2"):
        layer.forward(x, training=2)
    assert layer.forwards == 1
    same(layer.backward(x), case.back(x, x, given, rng=1))


def test_a_backward_uses_the_settings_of_its_forward(case: Case, rng: np.random.Generator) -> None:
    layer, given = case.layer(rng=1, **case.settings), case.given(np.float64, rng)
    x = np.ones(SHAPE)
    case.call(layer, x, given)
    layer.p = 0.9
    case.call(layer, x, given)
    layer.p = 0.1
    same(layer.backward(x), case._replace(settings={**case.settings, "p": 0.9}).back(
        x, x, given, rng=fd.Key(1, 1)))  # fmt: skip
    same(layer.backward(x), case.back(x, x, given, rng=1))


def test_a_state_is_three_integers_and_a_resumed_run_goes_on_alike(
    case: Case, rng: np.random.Generator
) -> None:
    layer, given = case.layer(rng=fd.Key(1, 2), **case.settings), case.given(np.float64, rng)
    x = np.ones(SHAPE)
    case.call(layer, x, given)
    state = json.loads(json.dumps(layer.state_dict()))
    assert state == {"seed": 1, "stream": 2, "forwards": 1}
    resumed = case.layer(rng=0, **case.settings)
    case.call(resumed, x, given)
    resumed.load_state_dict(state)
    with pytest.raises(RuntimeError, match="backward without a forward"):
        resumed.backward(x)
    same(case.call(resumed, x, given), case.call(layer, x, given))


def test_copies_go_on_by_themselves(case: Case, rng: np.random.Generator) -> None:
    layer = case.layer(rng=fd.Key(1, 2), **case.settings)
    x, dy, given = numbers(np.float64, rng), numbers(np.float64, rng), case.given(np.float64, rng)
    case.call(layer, x, given)
    true = case.back(dy, x, given, rng=fd.Key(1, 2))
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        same(twin.backward(dy), true)
        assert twin.forwards == 1
        same(case.call(twin, x, given), case.forward(x, rng=fd.Key(1, 3), **given, **case.settings))
    assert layer.forwards == 1
    same(layer.backward(dy), true)


def test_repr_is_code_that_makes_the_layer(case: Case) -> None:
    layer = case.layer(rng=fd.Key(1, 2), **case.settings)
    made = eval(repr(layer), vars(fd))
    assert repr(made) == repr(layer)
    assert (made.key, made._settings) == (layer.key, layer._settings)


def test_reprs() -> None:
    assert (
        repr(fd.SoftmaxDropout(0.25, rng=3)) == "SoftmaxDropout(p=0.25, rng=Key(seed=3, stream=0))"
    )
    assert repr(fd.BiasActDropoutAdd(rng=3)) == (
        "BiasActDropoutAdd(act='identity', p=0.5, rng=Key(seed=3, stream=0))"
    )


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="act='swish'"):
        fd.BiasActDropoutAdd("swish")
    with pytest.raises(TypeError, match="axis=1.5"):
        fd.SoftmaxDropout(axis=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="p=1.5"):
        fd.SoftmaxDropout(1.5)
    layer = fd.SoftmaxDropout(0.5, axis=7, rng=1)
    with pytest.raises(np.exceptions.AxisError):
        layer(np.ones((2, 3)))
    assert layer.forwards == 0


def test_the_call_is_forward_and_takes_lists_and_numbers() -> None:
    layer = fd.BiasActDropoutAdd(p=0.0, rng=1)
    assert_same(layer([[1.0, -2.0]], [1.0, 2.0], residual=3.0), np.array([[5.0, 3.0]]))
    dx, dbias, dresidual = layer.backward([[1.0, 2.0]])
    assert_same(dx, np.array([[1.0, 2.0]]))
    assert_same(np.asarray(dbias), np.array([1.0, 2.0]))
    assert_same(np.asarray(dresidual), np.array(3.0))
    scores = [[0.0, 0.0]]
    assert_same(fd.SoftmaxDropout(0.0, rng=1)(scores), np.array([[0.5, 0.5]]))


def test_a_residual_of_the_shape_of_x_has_the_gradient_itself() -> None:
    layer, x = fd.BiasActDropoutAdd(rng=1), np.ones((2, 3))
    layer(x, x, residual=x)
    dy = np.ones((2, 3))
    assert layer.backward(dy)[2] is dy


def test_the_examples_of_docstrings_are_true() -> None:
    assert doctest.testmod(_input_layers).failed == 0
