"""HIPS autograd: dropout as a primitive, which is its own gradient, to any order.

With an `fd.Mask` this is not needed: ``x * mask`` is a product with a constant.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import grad
from autograd.extend import defvjp, primitive

import fastdrop as fd


@primitive  # type: ignore[untyped-decorator]
def dropout(x: Any, p: float, key: fd.Key) -> Any:
    """Drop elements of x; it needs a key, because the gradient draws the same mask again."""
    return fd.dropout(x, p, rng=key)


defvjp(dropout, lambda y, x, p, key: lambda dy: dropout(dy, p, key), argnums=(0,))


def run() -> None:
    """Check the first and the second derivative."""
    rng, key = np.random.default_rng(0), fd.Key(3)
    x, direction = rng.standard_normal((4, 5)), rng.standard_normal((4, 5))
    scale = fd.dropout(np.ones((4, 5)), 0.5, rng=key)

    def loss(x: Any) -> Any:
        return anp.sum(dropout(x, 0.5, key) ** 3)

    np.testing.assert_allclose(grad(loss)(x), 3 * scale**3 * x**2, rtol=1e-12)
    curvature = grad(lambda x: anp.sum(grad(loss)(x) * direction))(x)
    np.testing.assert_allclose(curvature, 6 * scale**3 * x * direction, rtol=1e-12)
    by_mask = grad(lambda x: anp.sum((x * fd.Mask(x.shape, 0.5, rng=key)) ** 3))(x)
    np.testing.assert_allclose(by_mask, 3 * scale**3 * x**2, rtol=1e-12)
