"""DropConnect: dropout of weights instead of activations."""

from __future__ import annotations

import doctest
import sys

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.floating]


def dropconnect(x: Array, weights: Array, p: float, key: fd.Key, training: bool = True) -> Array:
    """Multiply by a matrix whose weights are dropped with probability `p`: DropConnect.

    The weights are dropped unscaled (``scale=1.0``), and scaled by ``1 - p`` at test time, to their
    mean; TensorFlow users write ``tf.nn.dropout(W, keep_prob) * keep_prob``. Leave out both scales
    for the inverted form. One mask serves the batch. The paper draws one for each sample, which
    costs a copy of the weights for each: ``weights`` is then
    ``np.broadcast_to(weights, (len(x), *weights.shape))``, and the products are of ``x[:, None]``.

    References
    ----------
    .. [1] L. Wan et al., "Regularization of neural networks using DropConnect", ICML 2013.

    Examples
    --------
    >>> key = fd.Key(1)
    >>> x, weights = np.ones((2, 4)), np.arange(12.0).reshape(4, 3)
    >>> fd.dropout(weights, 0.5, rng=key, scale=1.0)
    array([[ 0.,  1.,  0.],
           [ 3.,  0.,  5.],
           [ 6.,  7.,  0.],
           [ 9., 10., 11.]])
    >>> dropconnect(x, weights, 0.5, key)
    array([[18., 18., 16.],
           [18., 18., 16.]])
    >>> dropconnect(x, weights, 0.5, key, training=False)
    array([[ 9., 11., 13.],
           [ 9., 11., 13.]])
    """
    if not training:
        return x @ (weights * (1 - p))
    return np.asarray(x @ fd.dropout(weights, p, rng=key, scale=1.0))


def dropconnect_backward(
    dy: Array, x: Array, weights: Array, p: float, key: fd.Key
) -> tuple[Array, Array]:
    """Return the gradients of `dropconnect` with respect to `x` and the weights.

    Examples
    --------
    >>> key = fd.Key(1)
    >>> x, weights = np.ones((2, 4)), np.arange(12.0).reshape(4, 3)
    >>> dx, dweights = dropconnect_backward(np.ones((2, 3)), x, weights, 0.5, key)
    >>> dx
    array([[ 1.,  8., 13., 30.],
           [ 1.,  8., 13., 30.]])
    >>> dweights
    array([[0., 2., 0.],
           [2., 0., 2.],
           [2., 2., 0.],
           [2., 2., 2.]])
    """
    dx = dy @ fd.dropout(weights, p, rng=key, scale=1.0).T
    return dx, fd.dropout(x.T @ dy, p, rng=key, scale=1.0)


def run() -> None:
    """Run the examples above."""
    result = doctest.testmod(sys.modules[__name__])
    assert result.attempted and not result.failed
