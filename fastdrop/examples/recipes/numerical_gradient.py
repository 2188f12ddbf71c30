"""A numerical gradient of a network with dropout: every evaluation draws the same mask.

A layer draws a new mask at each forward, and the difference of two losses would be that of two
masks. Within ``layer.fixed()`` all forwards draw one; so does a function that is given one key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.float64]


def loss(x: Array, weights: Array, layer: fd.Dropout) -> float:
    """Go forward: a product, dropout, and the mean of squares."""
    return float((layer(x @ weights) ** 2).mean())


def gradient(x: Array, weights: Array, layer: fd.Dropout) -> Array:
    """Go forward, and back to the weights."""
    y = layer(x @ weights)
    return np.asarray(x.T @ layer.backward(2 * y / y.size))


def numerical_gradient(x: Array, weights: Array, layer: fd.Dropout, eps: float = 1e-6) -> Array:
    """Return the central difference of the loss by each weight."""
    found = np.empty_like(weights)
    for i in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[i] = eps
        found[i] = loss(x, weights + step, layer) - loss(x, weights - step, layer)
    return found / (2 * eps)


def run() -> None:
    """Compare, with the mask fixed and without."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((5, 4)), rng.standard_normal((4, 3))
    layer = fd.Dropout(0.5, rng=1)
    with layer.fixed():
        numerical = numerical_gradient(x, weights, layer)
        np.testing.assert_allclose(gradient(x, weights, layer), numerical, rtol=1e-7, atol=1e-9)
    # Without the context, the two losses of a difference are of two masks.
    numerical = numerical_gradient(x, weights, layer)
    assert abs(numerical).max() > 1e3 * abs(gradient(x, weights, layer)).max()
