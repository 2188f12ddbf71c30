"""What needs no function of its own, in a few lines each, with its backward pass.

``python -m fastdrop.examples.recipes`` prints each recipe and runs it.
"""

from __future__ import annotations

import doctest
import inspect
import sys

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.floating]


def dropconnect(x: Array, weights: Array, p: float, key: fd.Key, training: bool = True) -> Array:
    """Multiply by a matrix of which each weight is dropped with probability `p`: DropConnect.

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
    """Return the gradients of `dropconnect` by `x` and by the weights: the mask is drawn again.

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


def vanilla_dropout(h: Array, p: float, key: fd.Key, training: bool = True) -> Array:
    """Drop activations without scaling the others, and scale all of them at test time instead.

    "Vanilla" dropout and the weight-scaling rule: a unit that is there with probability ``1 - p``
    in training is always there at test time, and is multiplied by ``1 - p`` to have the same
    expectation. The inverted form, `fastdrop.dropout` as it is, leaves test time alone. The
    backward pass in training is the same call on the gradient.

    References
    ----------
    .. [1] The CS231n course notes, "Neural networks part 2", Stanford University.
    .. [2] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> h = np.ones(8)
    >>> vanilla_dropout(h, 0.25, fd.Key(3))
    array([1., 1., 1., 0., 1., 1., 0., 1.])
    >>> vanilla_dropout(h, 0.25, fd.Key(3), training=False)
    array([0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75])
    """
    if not training:
        return h * (1 - p)
    return fd.dropout(h, p, rng=key, scale=1.0)


RECIPES = (dropconnect, dropconnect_backward, vanilla_dropout)


def main() -> int:
    """Print the recipes and run their examples; return 1 if one gives something else."""
    for recipe in RECIPES:
        print(inspect.getsource(recipe))
    result = doctest.testmod(sys.modules[__name__])
    print(f"{result.attempted} examples were run, and {result.failed} gave something else.")
    return 1 if result.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
