"""RNNDropout: its masks over time, what it leaves alone, and an LSTM's gradients through it."""

from __future__ import annotations

import json
import pickle
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.gradients import numerical_gradient
from tests.support.oracle import Array, assert_same, dropped

X = np.linspace(1, 2, 60, dtype=np.float32).reshape(4, 15)


def begun(*args: Any, training: bool | None = None, **kwargs: Any) -> fd.RNNDropout:
    rnn = fd.RNNDropout(*args, **kwargs)
    rnn.begin(training)
    return rnn


def test_each_part_and_step_has_the_mask_of_its_own_key() -> None:
    key = fd.Key(5, 40)
    rnn = begun(0.2, 0.3, 0.4, rng=key)
    for t in (3, 0, 2, 2, 0):  # in any order, and again
        assert_same(rnn.input(X, t), dropped(X, 0.2, key.fold_in(0).advanced(t)))
        assert_same(rnn.output(X, t), dropped(X, 0.3, key.fold_in(1).advanced(t)))
        assert_same(rnn.state(X, t), dropped(X, 0.4, key.fold_in(2).advanced(t)))


def test_variational_masks_are_locked_over_time() -> None:
    key = fd.Key(5, 40)
    rnn = begun(0.2, 0.3, 0.4, rng=key, variational=True)
    for t in range(3):
        assert_same(rnn.input(X, t), dropped(X, 0.2, key.fold_in(0)))
        assert_same(rnn.output(X, t), dropped(X, 0.3, key.fold_in(1)))
        assert_same(rnn.state(X, t), dropped(X, 0.4, key.fold_in(2)))


@pytest.mark.parametrize("variational", [False, True])
def test_sequences_have_masks_of_their_own_unless_shared(variational: bool) -> None:
    x = np.ones((16, 40))
    own = begun(0.5, rng=1, variational=variational).input(x, 2)
    assert len({row.tobytes() for row in own}) == 16
    shared = begun(0.5, rng=1, variational=variational, share_batch=True).input(x, 2)
    assert len({row.tobytes() for row in shared}) == 1
    assert set(shared.ravel()) == {0.0, 2.0}


def test_every_pass_has_new_masks() -> None:
    rnn = fd.RNNDropout(0.5, rng=fd.Key(3, 2**64 - 1), variational=True)
    for stream in (2**64 - 1, 0, 1):
        rnn.begin()
        assert_same(rnn.input(X, 0), dropped(X, 0.5, fd.Key(3, stream).fold_in(0)))
    assert rnn.forwards == 3


class CellFirst(NamedTuple):
    c: Array
    h: Array


class CellLast(NamedTuple):
    h: Array
    c: Array


def test_the_memory_cell_is_never_dropped() -> None:
    rnn = begun(state_p=0.5, rng=1)
    expected_h = dropped(X, 0.5, fd.Key(1).fold_in(3))  # the second array of the state
    c, h = rnn.state((X, X), 0)
    assert c is X
    assert_same(h, expected_h)
    first = rnn.state(CellFirst(X, X), 0)
    assert type(first) is CellFirst and first.c is X
    assert_same(first.h, expected_h)
    last = rnn.state(CellLast(X, X), 0)
    assert type(last) is CellLast and last.c is X
    assert_same(last.h, dropped(X, 0.5, fd.Key(1).fold_in(2)))
    h, c = begun(state_p=0.5, rng=1, drop_state=(True, False)).state((X, X), 0)
    assert c is X
    assert_same(h, last.h)


def test_the_states_of_stacked_cells_have_masks_of_their_own() -> None:
    rnn = begun(state_p=0.5, rng=1)
    (c0, h0), gru, (c1, h1) = rnn.state(((X, X), X, CellFirst(X, X)), 4)
    assert c0 is X and c1 is X
    for part, state in ((3, h0), (4, gru), (6, h1)):
        assert_same(state, dropped(X, 0.5, fd.Key(1).fold_in(part).advanced(4)))


def test_what_has_a_p_of_0_is_passed_on_as_it_is() -> None:
    rnn = begun(output_p=0.5, rng=1)
    assert rnn.input(X, 0) is X
    assert rnn.state(X, 0) is X
    assert rnn.output(X, 0) is not X


def test_evaluation_does_nothing_and_counts_nothing() -> None:
    rnn = begun(0.5, 0.5, 0.5, rng=1, training=False)
    assert rnn.input(X, 0) is X and rnn.output(X, 0) is X
    c, h = rnn.state((X, X), 0)
    assert c is X and h is X
    assert rnn.input_backward(X, 0) is X
    assert rnn.forwards == 0
    rnn.eval().begin()
    assert rnn.input(X, 0) is X
    rnn.begin(training=True)
    assert rnn.input(X, 0) is not X


def test_a_pass_keeps_the_settings_and_the_mode_that_it_began_with() -> None:
    rnn = begun(0.5, rng=1)
    y = rnn.input(X, 0)
    rnn.input_p = 0.1
    rnn.eval()
    assert_same(rnn.input_backward(X, 0), y)
    rnn.train().begin()
    assert_same(rnn.input(X, 0), dropped(X, 0.1, fd.Key(1, 1).fold_in(0)))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_dtypes(dtype: Any) -> None:
    x = X.astype(dtype)
    assert_same(begun(0.5, rng=1).input(x, 1), dropped(x, 0.5, fd.Key(1).fold_in(0).advanced(1)))


def test_a_resumed_run_draws_the_same_masks() -> None:
    rnn = begun(0.5, rng=fd.Key(9, 8))
    rnn.begin()
    state = json.loads(json.dumps(rnn.state_dict()))
    assert state == {"seed": 9, "stream": 8, "forwards": 2}
    resumed = fd.RNNDropout(0.5, rng=0)
    resumed.load_state_dict(state)
    for each in (rnn, resumed, pickle.loads(pickle.dumps(rnn))):
        each.begin()
        assert_same(each.input(X, 0), dropped(X, 0.5, fd.Key(9, 10).fold_in(0)))


def test_repr_is_code_that_makes_it() -> None:
    assert repr(fd.RNNDropout(0.1, 0.2, 0.3, rng=1)) == (
        "RNNDropout(input_p=0.1, output_p=0.2, state_p=0.3, rng=Key(seed=1, stream=0))"
    )
    rnn = fd.RNNDropout(rng=1, variational=True, share_batch=True, drop_state=(True, False))
    assert repr(eval(repr(rnn), vars(fd))) == repr(rnn)
    assert "variational=True, share_batch=True, drop_state=(True, False)" in repr(rnn)


def test_steps_before_the_first_pass_are_a_runtime_error() -> None:
    rnn = fd.RNNDropout(0.5, rng=1)
    for call in (rnn.input, rnn.output, rnn.state, rnn.input_backward):
        with pytest.raises(RuntimeError, match=r"begin\(\)"):
            call(X, 0)
    rnn.begin()
    rnn.load_state_dict(rnn.state_dict())
    with pytest.raises(RuntimeError, match=r"begin\(\)"):
        rnn.input(X, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fd.RNNDropout(1.5), ValueError, r"input_p=1\.5"),
        (lambda: fd.RNNDropout(state_p="a"), TypeError, "state_p='a'"),  # type: ignore[arg-type]
        (lambda: fd.RNNDropout(variational=1), TypeError, "variational=1"),  # type: ignore[arg-type]
        (lambda: fd.RNNDropout(share_batch=1), TypeError, "share_batch"),  # type: ignore[arg-type]
        (lambda: fd.RNNDropout(drop_state=True), TypeError, "drop_state=True"),  # type: ignore[arg-type]
        (lambda: fd.RNNDropout(drop_state=(1,)), TypeError, r"drop_state\[0\]=1"),  # type: ignore[arg-type]
        (lambda: begun(state_p=0.1, drop_state=(True,)).state((X, X), 0), ValueError, "1 entries"),
        (lambda: begun(state_p=0.1).state((X, X, X), 0), ValueError, "tuple of 3.*drop_state"),
        (lambda: begun(0.1).input(X, -1), ValueError, "t=-1"),
        (lambda: begun(0.1).input(X, 0.5), TypeError, r"t=0\.5"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# An LSTM in NumPy, of two sequences of four steps.

Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm_forward(rnn: fd.RNNDropout, w: Weights) -> tuple[list[Array], list[Any]]:
    """Outputs of all steps, and what the backward needs."""
    outputs, tape = [], []
    c = h = np.zeros((2, 5))
    rnn.begin()
    for t, x in enumerate(w["x"]):
        joined = np.concatenate([rnn.input(x, t), h], axis=1)
        i, f, o, g = np.split(joined @ w["W"] + w["b"], 4, axis=1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        new = f * c + i * g
        tape.append((joined, i, f, o, g, c, new))
        h = o * np.tanh(new)
        outputs.append(rnn.output(h, t))
        c, h = rnn.state((new, h), t)
    return outputs, tape


def lstm_backward(rnn: fd.RNNDropout, w: Weights, tape: list[Any], dys: list[Array]) -> Weights:
    """Gradients of weights and inputs by backpropagation through time."""
    grads = {name: np.zeros_like(value) for name, value in w.items()}
    dc = dh = np.zeros((2, 5))
    for t in reversed(range(len(tape))):
        joined, i, f, o, g, c, new = tape[t]
        dc, dh = rnn.state_backward((dc, dh), t)
        dh = dh + rnn.output_backward(dys[t], t)
        dc = dc + dh * o * (1 - np.tanh(new) ** 2)
        do, df, di, dg = dh * np.tanh(new), dc * c, dc * g, dc * i
        dz = np.concatenate(
            [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)], axis=1
        )
        grads["W"] += joined.T @ dz
        grads["b"] += dz.sum(axis=0)
        djoined = dz @ w["W"].T
        grads["x"][t] = rnn.input_backward(djoined[:, :3], t)
        dc, dh = dc * f, djoined[:, 3:]
    return grads


@pytest.mark.parametrize("variational", [False, True])
def test_an_lstms_gradients_are_the_numerical_ones(
    variational: bool, rng: np.random.Generator
) -> None:
    weights = {
        "x": rng.standard_normal((4, 2, 3)),
        "W": 0.5 * rng.standard_normal((8, 20)),
        "b": 0.1 * rng.standard_normal(20),
    }
    targets = rng.standard_normal((4, 2, 5))
    rnn = fd.RNNDropout(0.3, 0.3, 0.4, rng=6, variational=variational)
    start = rnn.state_dict()

    def forward(w: Weights) -> tuple[float, list[Array], list[Any]]:
        rnn.load_state_dict(start)  # the same masks each time
        outputs, tape = lstm_forward(rnn, w)
        dys = [y - target for y, target in zip(outputs, targets, strict=True)]
        return 0.5 * sum(float((dy**2).sum()) for dy in dys), dys, tape

    _, dys, tape = forward(weights)
    grads = lstm_backward(rnn, weights, tape, dys)
    for name, value in weights.items():

        def loss(changed: Array, name: str = name) -> float:
            return forward({**weights, name: changed})[0]

        numerical = numerical_gradient(loss, value)
        np.testing.assert_allclose(grads[name], numerical, rtol=1e-6, atol=1e-8, err_msg=name)
    assert (grads["x"] == 0).any()
