"""The mistakes that from-scratch dropout makes again and again, each ruled out for the layer."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array

P = 0.2
LARGE = np.ones((200, 500))


def test_the_backward_scales_as_the_forward_does() -> None:
    layer = fd.Dropout(P, rng=1)
    y, dx = layer(LARGE), layer.backward(LARGE)
    np.testing.assert_array_equal(dx, y)
    np.testing.assert_allclose(dx[dx != 0], 1 / (1 - P), rtol=1e-15)
    assert abs(dx.mean() - 1) < 0.01


def test_p_is_the_probability_of_dropping_not_of_keeping() -> None:
    y = fd.Dropout(P, rng=1)(LARGE)
    # 100,000 decisions: 5 standard deviations are 0.006.
    assert abs((y == 0).mean() - P) < 0.006
    assert fd.Dropout(0.0, rng=1)(LARGE).all()
    assert not fd.Dropout(1.0, rng=1)(LARGE).any()


def test_each_sample_of_a_batch_has_a_mask_of_its_own() -> None:
    y = fd.Dropout(0.5, rng=1)(LARGE)
    assert len({row.tobytes() for row in y}) == len(LARGE)
    agreeing = np.mean((y[:-1] == 0) == (y[1:] == 0))
    assert abs(agreeing - 0.5) < 0.01  # neighbours agree as often as chance has it


def test_each_forward_has_a_mask_of_its_own() -> None:
    layer = fd.Dropout(0.5, rng=1)
    assert len({layer(LARGE).tobytes() for _ in range(10)}) == 10


def test_two_forwards_go_back_with_the_mask_of_each() -> None:
    layer = fd.Dropout(0.5, rng=1)
    first, second = layer(LARGE), layer(LARGE)
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(LARGE), second)
    np.testing.assert_array_equal(layer.backward(LARGE), first)
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(LARGE)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_dropped_is_zero_whatever_it_was(poison: float) -> None:
    layer = fd.Dropout(0.5, rng=1)
    kept = layer(LARGE) != 0
    x = np.where(kept, 1.0, poison)
    layer = fd.Dropout(0.5, rng=1)
    for result in (layer(x), layer.backward(x)):
        np.testing.assert_array_equal(result, np.where(kept, 2.0, 0.0))
        assert not np.signbit(result).any()


def test_dropout_is_off_at_test_and_needs_no_scaling_there() -> None:
    layer = fd.Dropout(0.5, rng=1).eval()
    assert layer(LARGE) is LARGE
    assert layer.forward(LARGE, training=False) is LARGE


def test_the_mode_at_test_does_not_leak_into_training() -> None:
    layer = fd.Dropout(0.5, rng=1)
    layer.forward(LARGE, training=False)
    assert (layer(LARGE) == 0).any()


def test_the_expectation_is_that_without_dropout(rng: np.random.Generator) -> None:
    x: Array = rng.standard_normal(300)
    layer = fd.Dropout(0.5, rng=1)
    mean = np.mean([layer(x) for _ in range(4000)], axis=0)
    # A mean of 4000 has the standard deviation |x| sqrt(p / (1 - p) / 4000).
    assert (abs(mean - x) < 5 * abs(x) / np.sqrt(4000)).all()


def test_neither_x_nor_the_gradient_is_written_to() -> None:
    x = np.ones((30, 40))
    x.flags.writeable = False
    layer = fd.Dropout(0.5, rng=1)
    layer(x)
    layer.backward(x)
    assert (x == 1).all()
