"""The Dropout layer: keys, modes, backwards and state."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop as fd
from tests.support.oracle import Array, assert_same, data

X = np.linspace(1, 2, 300, dtype=np.float32).reshape(15, 20)
X.flags.writeable = False


def test_the_nth_training_forward_uses_the_nth_stream() -> None:
    layer = fd.Dropout(0.3, rng=fd.Key(5, 40))
    for n in range(6):
        assert_same(layer(X), fd.dropout(X, 0.3, rng=fd.Key(5, 40 + n)))
        assert layer.forwards == n + 1


def test_the_stream_wraps_around() -> None:
    layer = fd.Dropout(0.3, rng=fd.Key(5, 2**64 - 1))
    assert_same(layer(X), fd.dropout(X, 0.3, rng=fd.Key(5, 2**64 - 1)))
    assert_same(layer(X), fd.dropout(X, 0.3, rng=fd.Key(5, 0)))
    assert_same(layer.backward(X), fd.dropout(X, 0.3, rng=fd.Key(5, 0)))
    assert_same(layer.backward(X), fd.dropout(X, 0.3, rng=fd.Key(5, 2**64 - 1)))


def test_p_is_one_half_unless_given_and_the_key_fresh() -> None:
    assert fd.Dropout().p == 0.5
    assert fd.Dropout().key != fd.Dropout().key


def test_forward_is_the_call() -> None:
    first, second = fd.Dropout(0.3, rng=5), fd.Dropout(0.3, rng=5)
    for _ in range(3):
        assert_same(first(X), second.forward(X))


def test_backwards_go_back_through_the_forwards_in_reverse(rng: np.random.Generator) -> None:
    layer = fd.Dropout(0.4, rng=fd.Key(1, 2))
    shapes = [(4, 5), (4, 5), (6,), (4, 5), (6,), (6,), (2, 3, 4)]
    for shape in shapes:
        layer(np.ones(shape))
    for n, shape in reversed(list(enumerate(shapes))):
        dy = rng.standard_normal(shape)
        assert_same(layer.backward(dy), fd.dropout(dy, 0.4, rng=fd.Key(1, 2 + n)))
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(np.ones((4, 5)))


@given(steps=st.lists(st.sampled_from(["f", "g", "b", "e", "p"]), max_size=40))
def test_any_order_of_forwards_and_backwards_pairs_up_like_a_stack(steps: list[str]) -> None:
    layer = fd.Dropout(0.4, rng=7)
    stack: list[tuple[int, int, float]] = []
    n = 0
    for step in steps:
        size = 50 if step == "f" else 60
        if step in "fg":
            layer(np.ones(size))
            stack.append((n, size, layer.p))
            n += 1
        elif step == "e":
            layer.forward(np.ones(9), training=False)
        elif step == "p":
            layer.p = 0.2 if layer.p == 0.4 else 0.4
        elif stack:
            m, size, p = stack.pop()
            dx = layer.backward(np.ones(size))
            assert_same(dx, fd.dropout(np.ones(size), p, rng=fd.Key(7, m)))
        else:
            with pytest.raises(RuntimeError, match="backward without a forward"):
                layer.backward(np.ones(size))
    assert layer.forwards == n


def test_evaluation_returns_x_itself_and_counts_nothing() -> None:
    layer = fd.Dropout(0.5, rng=1).eval()
    assert not layer.training
    assert layer(X) is X
    assert layer.forwards == 0
    assert layer.backward(X) is X


def test_train_and_eval_return_the_layer() -> None:
    layer = fd.Dropout(0.5, rng=1)
    assert layer.training
    assert layer.eval() is layer
    assert layer.train() is layer
    assert layer.training
    assert layer.train(False) is layer
    assert not layer.training


@pytest.mark.parametrize("mode", [2, 1.0, None, "yes"])
def test_a_mode_that_is_no_bool_is_a_type_error(mode: Any) -> None:
    layer = fd.Dropout(0.5, rng=1)
    with pytest.raises(TypeError, match="mode="):
        layer.train(mode)
    assert layer.training


@pytest.mark.parametrize("training", [2, 1.0, "yes", []])
def test_a_training_that_is_no_bool_is_a_type_error(training: Any) -> None:
    layer = fd.Dropout(0.5, rng=1)
    with pytest.raises(TypeError, match="training="):
        layer.forward(X, training=training)
    assert layer.forwards == 0


def test_training_overrides_the_mode_for_one_call() -> None:
    layer = fd.Dropout(0.5, rng=1)
    assert layer.forward(X, training=False) is X
    assert_same(layer(X), fd.dropout(X, 0.5, rng=fd.Key(1, 0)))
    layer.eval()
    assert_same(layer.forward(X, training=True), fd.dropout(X, 0.5, rng=fd.Key(1, 1)))
    assert not layer.training
    assert layer(X) is X
    assert_same(layer.backward(X), fd.dropout(X, 0.5, rng=fd.Key(1, 1)))


def test_evaluation_between_forward_and_backward_disturbs_nothing() -> None:
    layer = fd.Dropout(0.5, rng=1)
    y = layer(X)
    layer.eval()
    layer(np.ones((3, 3)))
    layer.train()
    assert_same(layer.backward(X), y)
    assert_same(layer(X), fd.dropout(X, 0.5, rng=fd.Key(1, 1)))


def test_a_backward_without_a_forward_is_a_runtime_error() -> None:
    layer = fd.Dropout(0.5, rng=1)
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(X)
    layer.forward(X, training=False)
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(X)


@pytest.mark.parametrize("shape", [(20, 15), (300,), (15,), (15, 20, 1), ()])
def test_a_gradient_of_another_shape_is_a_value_error_and_loses_nothing(
    shape: tuple[int, ...],
) -> None:
    layer = fd.Dropout(0.5, rng=1)
    y = layer(X)
    with pytest.raises(ValueError, match=r"dy has shape .*\(15, 20\)"):
        layer.backward(np.ones(shape, np.float32))
    assert_same(layer.backward(X), y)


def test_a_failed_forward_counts_nothing() -> None:
    layer = fd.Dropout(0.5, rng=1)
    y = layer(X)
    with pytest.raises(TypeError):
        layer(np.ones(3, np.int64))
    assert layer.forwards == 1
    assert_same(layer.backward(X), y)


def test_a_failed_backward_can_be_repeated() -> None:
    layer = fd.Dropout(0.5, rng=1)
    y = layer(X)
    with pytest.raises(TypeError):
        layer.backward(X.astype(np.int64))
    assert_same(layer.backward(X), y)


def test_the_backward_takes_gradients_of_another_layout_and_dtype() -> None:
    layer = fd.Dropout(0.5, rng=1)
    layer(X)
    layer(X)
    dy = np.asfortranarray(X.astype(np.float64))
    assert_same(layer.backward(dy), fd.dropout(dy, 0.5, rng=fd.Key(1, 1)))
    items: Any = X.tolist()
    assert_same(layer.backward(items), fd.dropout(items, 0.5, rng=fd.Key(1, 0)))


def test_a_backward_uses_the_p_of_its_forward() -> None:
    layer = fd.Dropout(0.2, rng=1)
    first = layer(X)
    layer.p = 0.7
    second = layer(X)
    layer.p = 0.4
    assert_same(second, fd.dropout(X, 0.7, rng=fd.Key(1, 1)))
    assert_same(layer.backward(X), second)
    assert_same(layer.backward(X), first)


def test_a_wrong_p_is_refused_and_the_old_one_stays() -> None:
    layer = fd.Dropout(0.2, rng=1)
    with pytest.raises(ValueError, match=r"p=1\.5"):
        layer.p = 1.5
    assert layer.p == 0.2


def test_noise_shape_holds_for_forward_and_backward() -> None:
    layer = fd.Dropout(0.5, rng=1, noise_shape=(None, 1))
    y = layer(X)
    assert_same(y, fd.dropout(X, 0.5, rng=1, noise_shape=(None, 1)))
    assert ((y == 0).all(axis=1) | (y != 0).all(axis=1)).all()
    assert_same(layer.backward(X), y)


def test_the_gradient_is_the_numerical_one(rng: np.random.Generator) -> None:
    x, weights = rng.standard_normal((2, 6, 7))
    key = fd.Key(3, 9)
    layer = fd.Dropout(0.4, rng=key)

    def loss(x: Array) -> float:
        return float(np.sum(np.tanh(fd.dropout(x, 0.4, rng=key)) * weights))

    y = layer(x)
    gradient = layer.backward((1 - np.tanh(y) ** 2) * weights)
    numerical = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-6
        numerical[place] = (loss(x + step) - loss(x - step)) / 2e-6
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(gradient == 0, y == 0)
    assert (y == 0).any()


def test_layers_of_one_int_draw_the_same_masks() -> None:
    assert_same(fd.Dropout(0.5, rng=4)(X), fd.Dropout(0.5, rng=4)(X))


def test_layers_of_one_generator_or_of_folds_draw_different_masks() -> None:
    generator = np.random.default_rng(4)
    layers = [fd.Dropout(0.5, rng=generator) for _ in range(4)]
    layers += [fd.Dropout(0.5, rng=fd.Key(4).fold_in(n)) for n in range(4)]
    assert len({data(layer(X)) for layer in layers}) == 8


def test_a_generator_is_asked_once_when_the_layer_is_made() -> None:
    generator, same = np.random.default_rng(4), np.random.default_rng(4)
    layer = fd.Dropout(0.5, rng=generator)
    assert layer.key == fd.as_key(same)
    layer.backward(layer(X))
    assert generator.integers(2**40) == same.integers(2**40)


def test_a_resumed_run_draws_the_same_masks() -> None:
    layer = fd.Dropout(0.5, rng=fd.Key(2**64 - 1, 2**64 - 2))
    for _ in range(3):
        layer.backward(layer(X))
    state = json.loads(json.dumps(layer.state_dict()))
    assert state == {"seed": 2**64 - 1, "stream": 2**64 - 2, "forwards": 3}
    rest = [layer(X) for _ in range(3)]
    resumed = fd.Dropout(0.5, rng=0)
    resumed.load_state_dict(state)
    assert resumed.forwards == 3
    for y in rest:
        assert_same(resumed(X), y)
    assert_same(resumed.backward(X), rest[-1])


def test_a_state_is_a_copy() -> None:
    layer = fd.Dropout(0.5, rng=1)
    state = layer.state_dict()
    layer(X)
    assert state["forwards"] == 0
    state["forwards"] = 9
    assert layer.forwards == 1


def test_loading_forgets_forwards_that_have_not_gone_back() -> None:
    layer = fd.Dropout(0.5, rng=1)
    layer(X)
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(X)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"stream": 2**64}, ValueError, f"stream={2**64}"),
        ({"forwards": -1}, ValueError, "forwards=-1"),
        ({"seed": "1"}, TypeError, "seed='1'"),
        ({"stream": 1.5}, TypeError, r"stream=1\.5"),
        ({"forwards": None}, TypeError, "forwards=None"),
        ({"forwards": True}, TypeError, "forwards=True"),
        ({"other": 1}, ValueError, "other"),
    ],
)
def test_a_wrong_state_is_refused_and_changes_nothing(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    layer = fd.Dropout(0.5, rng=fd.Key(1, 2))
    y = layer(X)
    with pytest.raises(error, match=message):
        layer.load_state_dict({"seed": 8, "stream": 9, "forwards": 10, **change})
    assert layer.state_dict() == {"seed": 1, "stream": 2, "forwards": 1}
    assert_same(layer.backward(X), y)


@pytest.mark.parametrize("state", [{}, {"seed": 1, "stream": 2}])
def test_a_state_of_other_entries_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match="state has .*forwards"):
        fd.Dropout(rng=1).load_state_dict(state)


@pytest.mark.parametrize("state", [[1, 2, 3], None, "state"])
def test_a_state_that_is_no_dict_is_refused(state: Any) -> None:
    with pytest.raises(TypeError, match="state.*: give what state_dict returned"):
        fd.Dropout(rng=1).load_state_dict(state)


def test_forwards_that_never_go_back_do_not_pile_up() -> None:
    layer = fd.Dropout(0.5, rng=1)
    x = np.ones(3, np.float32)
    for _ in range(10_000):
        layer(x)
    assert len(layer._pending) < 10
    assert len(pickle.dumps(layer)) < 1000
    assert_same(layer.backward(x), fd.dropout(x, 0.5, rng=fd.Key(1, 9_999)))
    assert_same(layer.backward(x), fd.dropout(x, 0.5, rng=fd.Key(1, 9_998)))


def test_repr_is_code_that_makes_the_layer() -> None:
    layer = fd.Dropout(0.25, rng=fd.Key(1, 2), noise_shape=(None, 1))
    assert repr(layer) == "Dropout(p=0.25, rng=Key(seed=1, stream=2), noise_shape=(None, 1))"
    assert repr(fd.Dropout(0.25, rng=3)) == "Dropout(p=0.25, rng=Key(seed=3, stream=0))"
    made = eval(repr(layer), {"Dropout": fd.Dropout, "Key": fd.Key})
    assert_same(made(X), layer(X))


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_go_on_by_themselves(how: str) -> None:
    layer = fd.Dropout(0.25, rng=fd.Key(1, 2), noise_shape=(None, 1))
    y = layer(X)
    twin = pickle.loads(pickle.dumps(layer)) if how == "pickle" else copy.deepcopy(layer)
    assert_same(twin.backward(X), y)
    assert_same(twin(X), fd.dropout(X, 0.25, rng=fd.Key(1, 3), noise_shape=(None, 1)))
    assert layer.forwards == 1
    assert_same(layer.backward(X), y)


def test_a_backward_uses_the_noise_shape_and_key_of_its_forward() -> None:
    layer = fd.Dropout(0.5, rng=fd.Key(2**62 + 9, 5), noise_shape=(None, 1))
    x = np.ones((30, 20))
    y = layer(x)
    layer.noise_shape, layer.key, layer.p = None, fd.Key(1), 0.1
    second = layer(x)
    assert (layer.backward(x) == second).all()
    assert (layer.backward(x) == y).all()
