"""Zoneout chooses between two states, bit for bit, and its gradients are those of the choice."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.gradients import numerical_gradient
from tests.support.layouts import LAYOUTS
from tests.support.oracle import Array, assert_same, mask, poisoned
from tests.support.slow import slow_unless

KEY = fd.Key(2**40 + 9, 2**61 + 5)
DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
SHAPE = 37, 83
P = 0.3
of_dtype = pytest.mark.parametrize("dtype", slow_unless(lambda d: d.itemsize == 4, DTYPES), ids=str)


def state(dtype: Any, rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> Array:
    x = rng.standard_normal(shape).astype(dtype)
    x.flat[: 3 if x.size > 3 else 0] = np.nan, np.inf, -0.0
    return x


@of_dtype
@pytest.mark.parametrize("name", LAYOUTS)
def test_dropped_elements_are_the_previous_ones(
    name: str, dtype: Any, rng: np.random.Generator
) -> None:
    laid = LAYOUTS[name]
    x, h_prev = state(dtype, rng), state(dtype, rng)[::-1]
    places: list[dict[str, Any]] = [{}, {"offset": 2**35 - 3}]
    places.append({"offset": (5, 3), "global_shape": (50, 100)})
    for place in places:
        kept = mask(SHAPE, P, KEY, **place)
        expected = np.where(kept, x, h_prev)
        new, previous = laid(x.copy()), laid(h_prev.copy())
        assert_same(fd.zoneout(new, previous, P, rng=KEY, **place), expected)
        out = laid(poisoned(SHAPE, dtype))
        assert fd.zoneout(new, previous, P, rng=KEY, out=out, **place) is out
        assert_same(np.ascontiguousarray(out), expected)
        dx, dh_prev = fd.zoneout_backward(new, P, rng=KEY, **place)
        assert_same(np.ascontiguousarray(dx), np.where(kept, x, dtype.type(0)))
        assert_same(np.ascontiguousarray(dh_prev), np.where(kept, dtype.type(0), x))


@of_dtype
def test_evaluation_is_the_expectation(dtype: Any, rng: np.random.Generator) -> None:
    x, h_prev = state(dtype, rng), state(dtype, rng)[::-1]
    computed = np.float64 if dtype == np.float64 else np.float32
    p, q = computed(P), computed(1 - P)
    with np.errstate(all="ignore"):
        expected = (h_prev.astype(computed) * p + x.astype(computed) * q).astype(dtype)
        shares = [(x.astype(computed) * factor).astype(dtype) for factor in (q, p)]
    assert_same(fd.zoneout(x, h_prev, P, training=False), expected)
    gradients = fd.zoneout_backward(x, P, training=False)
    for gradient, share in zip(gradients, shares, strict=True):
        assert_same(gradient, share)


def test_evaluation_is_the_mean_of_training(rng: np.random.Generator) -> None:
    x, h_prev = rng.standard_normal((2, 4, 8))
    draws = [fd.zoneout(x, h_prev, P, rng=fd.Key(7, n)) for n in range(4000)]
    mean = fd.zoneout(x, h_prev, P, training=False)
    spread = np.abs(x - h_prev) * (P * (1 - P) / len(draws)) ** 0.5
    assert (np.abs(np.mean(draws, 0) - mean) < 5 * spread).all()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_new_or_all_previous(p: float, rng: np.random.Generator) -> None:
    x, h_prev = state(np.float32, rng), state(np.float32, rng)
    for training in (True, False):
        new, previous = (np.nan_to_num(a, posinf=1.0) for a in (x, h_prev))
        made = fd.zoneout(new, previous, p, rng=KEY, training=training)
        assert np.array_equal(made, previous if p else new)
    assert_same(fd.zoneout(x, h_prev, p, rng=KEY), (x, h_prev)[int(p)])


@pytest.mark.parametrize("shape", [(83,), (37, 1), (1, 83), ()], ids=str)
def test_a_previous_state_that_is_broadcast(
    shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    x, h_prev = state(np.float64, rng), rng.standard_normal(shape)
    dy = rng.standard_normal(SHAPE)
    kept = mask(SHAPE, P, KEY)
    y, backward = fd.zoneout_vjp(x, h_prev, P, rng=KEY)
    assert_same(y, np.where(kept, x, h_prev))
    dx, dh_prev = backward(dy)
    assert_same(dx, np.where(kept, dy, 0.0))
    whole = np.where(kept, 0.0, dy)
    full = (1,) * (2 - len(shape)) + shape
    axes = tuple(a for a in range(2) if full[a] == 1)
    expected = whole.sum(axes, keepdims=True).reshape(shape)
    assert np.shape(dh_prev) == shape
    assert np.allclose(dh_prev, expected, rtol=1e-13, atol=1e-13)
    initial, _ = fd.zoneout_vjp(x, 0.0, P, rng=KEY)  # a number, as at the first step
    assert_same(initial, np.where(kept, x, 0.0))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_the_function(training: bool, rng: np.random.Generator) -> None:
    x, h_prev, dy = rng.standard_normal((3, 5, 7))
    where: dict[str, Any] = {"rng": KEY, "training": training}
    dx, dh_prev = fd.zoneout_backward(dy, P, **where)

    def loss(x: Array, h_prev: Array) -> float:
        return float((fd.zoneout(x, h_prev, P, **where) * dy).sum())

    assert np.allclose(dx, numerical_gradient(lambda a: loss(a, h_prev), x), atol=1e-6)
    assert np.allclose(dh_prev, numerical_gradient(lambda a: loss(x, a), h_prev), atol=1e-6)


def test_arrays_may_be_overwritten(rng: np.random.Generator) -> None:
    x, h_prev, dy = (rng.standard_normal(SHAPE) for _ in "abc")
    kept = mask(SHAPE, P, KEY)
    expected = np.where(kept, x, h_prev)
    for which in range(2):
        new, previous = x.copy(), h_prev.copy()
        fd.zoneout(new, previous, P, rng=KEY, out=(new, previous)[which])
        assert_same((new, previous)[which], expected)
    board = np.concatenate([x, x[:1]])  # an output that overlaps the state by all but a row
    fd.zoneout(x, board[:-1], P, rng=KEY, out=board[1:])
    assert_same(board[1:], x)
    gradient = dy.copy()
    dx, dh_prev = fd.zoneout_backward(gradient, P, rng=KEY, out=gradient)
    assert dx is gradient
    assert_same(dx, np.where(kept, dy, 0.0))
    assert_same(dh_prev, np.where(kept, 0.0, dy))


def test_a_generator_is_asked_once(rng: np.random.Generator) -> None:
    x, h_prev, dy = rng.standard_normal((3, *SHAPE))
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    y, backward = fd.zoneout_vjp(x, h_prev, P, rng=first)
    key = fd.as_key(second)
    assert_same(y, fd.zoneout(x, h_prev, P, rng=key))
    dx, dh_prev = backward(dy)
    kept = mask(SHAPE, P, key)
    assert_same(dx, np.where(kept, dy, 0.0))
    assert_same(dh_prev, np.where(kept, 0.0, dy))
    gradients = fd.zoneout_backward(dy, P, rng=first)
    assert_same(gradients[0] + gradients[1], dy)
    assert first.bit_generator.state == (fd.as_key(second), second)[1].bit_generator.state


def test_what_does_not_fit_is_refused_before_anything_is_written(rng: np.random.Generator) -> None:
    x, out = rng.standard_normal(SHAPE), poisoned(SHAPE, np.float64)
    before, generator = out.copy(), np.random.default_rng(3)
    wrong: list[tuple[Any, str]] = [
        (np.zeros(5), "h_prev has shape"),
        (np.zeros(SHAPE, np.float32), "h_prev has dtype float32"),
        ("state", "h_prev"),
    ]
    for h_prev, message in wrong:
        with pytest.raises((TypeError, ValueError), match=message):
            fd.zoneout(x, h_prev, P, rng=generator, out=out)
    with pytest.raises(ValueError, match="probability of dropping"):
        fd.zoneout(x, x, 1.5, rng=generator, out=out)
    with pytest.raises(TypeError, match="missing 1 required"):
        fd.zoneout(x)  # type: ignore[call-arg]
    assert_same(out, before)
    assert generator.bit_generator.state == np.random.default_rng(3).bit_generator.state
