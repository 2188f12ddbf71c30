"""Backwards in any order: a GAN's discriminator sees a real batch, then a fake one.

A layer's `backward` uses the masks of its forwards in reverse order, as backpropagation does. For
any other order, ``layer.vjp`` returns the output together with the backward of that call.
``fd.dropout_vjp`` does the same without a layer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.float64]


def discriminator_gradient(real: Array, fake: Array, weights: Array, layer: fd.Dropout) -> Array:
    """Return the gradient of ``mean(D(fake)) - mean(D(real))``, D(x) = dropout(tanh(x @ W))."""
    gradients = np.zeros_like(weights)
    h_real, h_fake = np.tanh(real @ weights), np.tanh(fake @ weights)
    y_real, back_real = layer.vjp(h_real)
    y_fake, back_fake = layer.vjp(h_fake)
    # The real batch first, as in most loops; each backward uses the mask of its forward.
    gradients += real.T @ (back_real(np.full_like(y_real, -1 / y_real.size)) * (1 - h_real**2))
    gradients += fake.T @ (back_fake(np.full_like(y_fake, 1 / y_fake.size)) * (1 - h_fake**2))
    return gradients


def run() -> None:
    """Compare with stored masks."""
    rng = np.random.default_rng(0)
    real, fake, weights = (rng.standard_normal(shape) for shape in ((6, 4), (6, 4), (4, 3)))
    found = discriminator_gradient(real, fake, weights, fd.Dropout(0.5, rng=1))
    # The n-th forward of a layer uses the key with stream + n.
    expected = np.zeros_like(weights)
    for n, (x, sign) in enumerate(((real, -1), (fake, 1))):
        mask = fd.dropout_mask((6, 3), 0.5, rng=fd.Key(1).advanced(n)) / 0.5
        expected += x.T @ (sign * mask / mask.size * (1 - np.tanh(x @ weights) ** 2))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    y, backward = fd.dropout_vjp(real, 0.5, rng=rng)
    assert ((backward(np.ones_like(y)) == 0) == (y == 0)).all()
