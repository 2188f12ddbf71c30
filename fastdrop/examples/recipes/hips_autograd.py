"""HIPS autograd: dropout as a primitive, which is its own gradient, to any order.

The gradient draws the mask of the key again and stores nothing. Both directions are defined:
`defvjp` for `grad`, `defjvp` for `make_jvp`. For dropout alone, ``x * fd.Mask(...)`` needs neither:
it is a product with a constant.
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import elementwise_grad, grad, hessian_vector_product, make_jvp
from autograd.extend import defjvp, defvjp, primitive
from autograd.test_util import check_grads

import fastdrop as fd


@primitive  # type: ignore[untyped-decorator]
def dropout(x: Any, p: float, key: fd.Key, **options: Any) -> Any:
    """Drop elements of x; it needs a key, because the gradient draws the same mask again."""
    return fd.dropout(x, p, rng=key, **options)


@primitive  # type: ignore[untyped-decorator]
def alpha_dropout(x: Any, p: float, key: fd.Key, **options: Any) -> Any:
    """Alpha dropout: ``a * x + b`` where kept, a constant where dropped."""
    return fd.alpha_dropout(x, p, rng=key, **options)


@primitive  # type: ignore[untyped-decorator]
def alpha_dropout_backward(dy: Any, p: float, key: fd.Key, **options: Any) -> Any:
    """Multiply by `alpha_dropout`'s derivative: ``a * dy`` where kept, 0 where dropped."""
    return fd.alpha_dropout_backward(dy, p, rng=key, **options)


# A function of x, and the linear one that is its derivative: for dropout, dropout itself.
for function, linear in (
    (dropout, dropout),
    (alpha_dropout, alpha_dropout_backward),
    (alpha_dropout_backward, alpha_dropout_backward),
):
    defvjp(function, lambda y, x, *call, of=linear, **options: lambda dy: of(dy, *call, **options))
    defjvp(function, lambda dx, y, x, *call, of=linear, **options: of(dx, *call, **options))


def run() -> None:
    """Check derivatives of first and second order with masks multiplied in, and numerically."""
    rng, key = np.random.default_rng(0), fd.Key(3)
    x, direction = rng.standard_normal((2, 6, 5))
    factor = fd.dropout(np.ones_like(x), 0.5, rng=key)  # 0 or 2

    def loss(x: Any) -> Any:
        # dropout is linear: what follows it is not, or its second derivatives would be 0.
        return anp.sum(anp.tanh(dropout(x, 0.5, key)) ** 2)

    def by_hand(x: Any) -> Any:
        return anp.sum(anp.tanh(x * factor) ** 2)

    for derivative in (grad, lambda f: elementwise_grad(grad(f))):
        ours = derivative(loss)(x)
        assert np.array_equal(ours, derivative(by_hand)(x)) and ours.any()
    ours, expected = (hessian_vector_product(f)(x, direction) for f in (loss, by_hand))
    assert np.array_equal(ours, expected) and ours.any()
    tangents = (make_jvp(f)(x)(direction) for f in (loss, by_hand))
    assert np.array_equal(*tangents)

    for function in (dropout, alpha_dropout, alpha_dropout_backward):
        check = check_grads(lambda x, f=function: anp.tanh(f(x, 0.5, key)), modes=["fwd", "rev"])
        check(x)  # to second order
    kept = fd.dropout_mask(x.shape, 0.5, rng=key)
    gradient = elementwise_grad(alpha_dropout)(x, 0.5, key)
    assert np.array_equal(gradient != 0, kept) and len(np.unique(gradient)) == 2
