"""Numerical gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.oracle import Array


def numerical_gradient(loss: Callable[[Array], float], x: Array, eps: float = 1e-6) -> Array:
    """Central differences of a loss by each element of a float64 array."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = eps
        gradient[place] = (loss(x + step) - loss(x - step)) / (2 * eps)
    return gradient


def assert_backward_is_the_gradient(
    forward: Callable[[Array], Array],
    backward: Callable[[Array], Array],
    x: Array,
    drops: bool = True,
) -> None:
    """Compare a backward with the numerical gradient of a nonlinear loss of its forward."""
    weights = np.random.default_rng(x.size).standard_normal(x.shape)

    def loss(x: Array) -> float:
        return float(np.sum(np.tanh(forward(x)) * weights))

    y = forward(x)
    gradient = backward((1 - np.tanh(y) ** 2) * weights)
    assert (gradient == 0).any() == drops  # or there would be nothing to get wrong
    assert (gradient != 0).any()
    np.testing.assert_allclose(gradient, numerical_gradient(loss, x), rtol=1e-6, atol=1e-8)
