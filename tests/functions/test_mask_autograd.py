"""Masks in HIPS autograd, which knows nothing of them: constants, for derivatives of any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import Mask
from fastdrop._mask.mask import Mask as _Mask

autograd = pytest.importorskip("autograd")
import autograd.numpy as anp  # noqa: E402
from autograd.test_util import check_grads  # noqa: E402

KEY = fd.Key(7, 9)
PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {
    "box * mask": lambda x, mask: x * mask,
    "mask * box": lambda x, mask: mask * x,
    "multiply box first": lambda x, mask: anp.multiply(x, mask),
    "multiply mask first": lambda x, mask: anp.multiply(mask, x),
    "rescaled": lambda x, mask: x * (2 * mask) / 2,
}
MASKS = {
    "whole": Mask((6, 5), 0.5, rng=KEY),
    "row": Mask(5, 0.5, rng=KEY),
    "column": Mask((6, 1), 0.5, rng=KEY),
    "view": Mask((12, 10), 0.5, rng=KEY)[::2, ::-2],
    "larger": Mask((3, 6, 5), 0.5, rng=KEY),
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_first_and_second_derivatives(product: Callable[[Any, Any], Any], mask: Any) -> None:
    x = np.random.default_rng(3).standard_normal((6, 5))

    def loss(x: Any, mask: Any) -> Any:
        return anp.sum(anp.tanh(product(x, mask)) ** 2)

    kept = np.asarray(mask)
    gradient, expected = (autograd.grad(loss)(x, m) for m in (mask, kept))
    np.testing.assert_array_equal(gradient, expected)
    assert (gradient == 0).any() or mask.ndim == 3
    assert (gradient != 0).any()
    curvature = autograd.elementwise_grad(autograd.grad(loss))
    np.testing.assert_array_equal(curvature(x, mask), curvature(x, kept))
    np.testing.assert_array_equal(autograd.hessian(loss)(x, mask), autograd.hessian(loss)(x, kept))
    check_grads(lambda x: product(x, mask), order=2, modes=["fwd", "rev"])(x)


def test_gradients_take_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stored mask is drawn, forward or backward."""

    def drawn(mask: Any) -> Any:
        raise AssertionError("the stored mask was drawn")

    monkeypatch.setattr(_Mask, "_stored", drawn)
    x = np.random.default_rng(3).standard_normal((6, 5))
    mask = MASKS["whole"]
    expected = fd.dropout(2 * fd.dropout(x, rng=KEY), rng=KEY)
    for product in PRODUCTS.values():
        gradient = autograd.grad(lambda x, product=product: anp.sum(product(x, mask) ** 2))(x)
        np.testing.assert_array_equal(gradient, expected)


def test_other_operators_leave_it_to_the_box() -> None:
    x = np.random.default_rng(3).standard_normal((6, 5))
    mask = MASKS["whole"]
    kept = np.asarray(mask)

    def loss(x: Any, mask: Any) -> Any:
        return anp.sum((mask + x) * (x - mask) / (mask - x)) + anp.sum(anp.dot(x, mask.T))

    np.testing.assert_array_equal(autograd.grad(loss)(x, mask), autograd.grad(loss)(x, kept))
