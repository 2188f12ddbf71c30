"""The numerical gradient of a network with dropout: every evaluation uses the same mask.

A layer draws a new mask at each forward, so two losses would differ by their masks. In the context
``layer.fixed()`` all forwards use one mask. For a function, pass the same key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.float64]


def loss(x: Array, weights: Array, layer: fd.Dropout) -> float:
    """Compute the loss: matrix product, dropout, mean of squares."""
    return float((layer(x @ weights) ** 2).mean())


def gradient(x: Array, weights: Array, layer: fd.Dropout) -> Array:
    """Return the gradient with respect to the weights."""
    y = layer(x @ weights)
    return np.asarray(x.T @ layer.backward(2 * y / y.size))


def numerical_gradient(x: Array, weights: Array, layer: fd.Dropout, eps: float = 1e-6) -> Array:
    """Return the central difference of the loss with respect to each weight."""
    found = np.empty_like(weights)
    for i in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[i] = eps
        found[i] = loss(x, weights + step, layer) - loss(x, weights - step, layer)
    return found / (2 * eps)


def run() -> None:
    """Compare with and without a fixed mask."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((5, 4)), rng.standard_normal((4, 3))
    layer = fd.Dropout(0.5, rng=1)
    with layer.fixed():
        numerical = numerical_gradient(x, weights, layer)
        np.testing.assert_allclose(gradient(x, weights, layer), numerical, rtol=1e-7, atol=1e-9)
    # Without the context, the two losses of a difference have different masks.
    numerical = numerical_gradient(x, weights, layer)
    assert abs(numerical).max() > 1e3 * abs(gradient(x, weights, layer)).max()
