"""Softmax with dropout and the epilogue of a linear layer: bit for bit those of arrays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import fastdrop as fd
from fastdrop.torch import functional as F
from tests.support.slow import slow_unless
from tests.torch.cases import DTYPES, KEY, LAYOUTS, array, assert_equal, numbers, transposed

ACTIVATIONS = ["identity", "relu", "gelu", "gelu_tanh", "silu", "tanh"]
SHAPE = (3, 4, 5, 17)
ALL_KEPT: list[dict[str, Any]] = [{"p": 0.0}, {"training": False}]


@pytest.mark.parametrize(
    ("dtype", "layout"),
    slow_unless(
        lambda dtype, layout: layout == "contiguous" or (dtype, layout) == (DTYPES[0], "steps"),
        DTYPES,
        LAYOUTS,
    ),
    ids=str,
)
def test_softmax_along_each_axis(dtype: torch.dtype, layout: str) -> None:
    x = LAYOUTS[layout](numbers(*SHAPE, dtype=dtype))
    dy = LAYOUTS[layout](numbers(*SHAPE, dtype=dtype, seed=2))
    for dim in (0, 2, -1):
        y = F.softmax_dropout(x, 0.3, dim, key=KEY)
        assert_equal(y, fd.softmax_dropout(array(x), 0.3, axis=dim, rng=KEY))
        assert y.stride() == torch.empty_like(x).stride()
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        recorded = F.softmax_dropout(leaf, 0.3, dim, key=KEY)
        assert torch.equal(recorded, y)
        (dx,) = torch.autograd.grad(recorded, leaf, dy)
        expected = fd.softmax_dropout_backward(array(dy), array(x), 0.3, axis=dim, rng=KEY)
        assert_equal(dx, expected)


def test_softmax_is_that_of_torch_where_nothing_is_dropped() -> None:
    x = numbers(3, 4, 5)
    for more in ALL_KEPT:
        for dim in (0, -1):
            y = F.softmax_dropout(x, dim=dim, **more)
            assert torch.equal(y, torch.softmax(x, dim))
    with pytest.raises(IndexError):
        torch.softmax(x, 3)
    kept = F.dropout_mask((3, 4, 5), 0.3, key=KEY)
    true = torch.where(kept, torch.softmax(x.double(), -1) / 0.7, 0.0)
    torch.testing.assert_close(F.softmax_dropout(x.double(), 0.3, key=KEY), true)


def test_hidden_scores() -> None:
    x = numbers(4, 6).masked_fill(numbers(4, 6, seed=2) > 0, -torch.inf)
    x[2] = -torch.inf  # torch's softmax is NaN here
    y = F.softmax_dropout(x, 0.3, key=KEY)
    assert_equal(y, fd.softmax_dropout(array(x), 0.3, rng=KEY))
    assert not y[2].any()
    leaf = x.clone().requires_grad_()
    F.softmax_dropout(leaf, 0.3, key=KEY).sum().backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all()


@pytest.mark.parametrize(
    ("activation", "dtype"),
    slow_unless(
        lambda activation, dtype: dtype == torch.float32 or activation == "silu",
        ACTIVATIONS,
        DTYPES,
    ),
    ids=str,
)
def test_epilogue_with_each_activation(activation: str, dtype: torch.dtype) -> None:
    x, bias = numbers(6, 50, dtype=dtype), numbers(50, dtype=dtype, seed=2)
    residual = numbers(6, 50, dtype=dtype, seed=3)
    more: dict[str, Any] = {"act": activation, "p": 0.3}
    for b, r in ((None, None), (bias, None), (None, residual), (bias, residual)):
        y = F.bias_act_dropout_add(x, b, residual=r, key=KEY, **more)
        operands = [None if t is None else array(t) for t in (b, r)]
        expected = fd.bias_act_dropout_add(
            array(x), operands[0], residual=operands[1], rng=KEY, **more
        )
        assert_equal(y, expected)
        leaf = x.clone().requires_grad_()
        assert torch.equal(F.bias_act_dropout_add(leaf, b, residual=r, key=KEY, **more), y)


OPERANDS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((5,), (3, 4, 5)),
    ((4, 1), (5,)),
    ((3, 4, 5), ()),
    ((1, 1, 1), (3, 1, 5)),
]


@pytest.mark.parametrize(("of_bias", "of_residual"), OPERANDS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "steps"])
def test_operands_that_broadcast_in_every_layout(
    layout: str, of_bias: tuple[int, ...], of_residual: tuple[int, ...]
) -> None:
    def laid(*shape: int, seed: int) -> Tensor:
        x = numbers(*shape, seed=seed)
        return LAYOUTS[layout](x) if shape else x

    x, bias, residual = laid(3, 4, 5, seed=1), laid(*of_bias, seed=2), laid(*of_residual, seed=3)
    y = F.bias_act_dropout_add(x, bias, "gelu", 0.3, residual=residual, key=KEY)
    expected = fd.bias_act_dropout_add(
        array(x), array(bias), "gelu", 0.3, residual=array(residual), rng=KEY
    )
    assert_equal(y, expected)
    assert y.stride() == torch.empty_like(x).stride()
    leaves = [t.clone().requires_grad_() for t in (x, bias, residual)]
    again = F.bias_act_dropout_add(leaves[0], leaves[1], "gelu", 0.3, residual=leaves[2], key=KEY)
    again.backward(transposed(numbers(3, 4, 5, seed=4)))
    for one in leaves:
        assert one.grad is not None and one.grad.shape == one.shape
    torch.testing.assert_close(
        leaves[2].grad, numbers(3, 4, 5, seed=4).sum_to_size(of_residual), rtol=1e-5, atol=1e-5
    )


def test_epilogue_in_evaluation_adds_and_activates() -> None:
    x, bias, residual = numbers(3, 4), numbers(4, seed=2), numbers(3, 4, seed=3)
    for more in ALL_KEPT:
        y = F.bias_act_dropout_add(x, bias, "relu", residual=residual, **more)
        torch.testing.assert_close(y, (x + bias).relu() + residual)
        leaf = x.clone().requires_grad_()
        y = F.bias_act_dropout_add(leaf, bias, "relu", residual=residual, **more)
        (dx,) = torch.autograd.grad(y.sum(), leaf)
        assert torch.equal(dx, (x + bias > 0).float())


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (4, 0), (1, 1)], ids=str)
def test_few_elements_and_none(shape: tuple[int, ...]) -> None:
    x = numbers(*shape).requires_grad_()
    y = F.bias_act_dropout_add(x, x[..., :1] if shape else x, "tanh", 0.3, key=KEY)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == shape
    if shape:
        leaf = numbers(*shape).requires_grad_()
        F.softmax_dropout(leaf, 0.3, key=KEY).sum().backward()
        assert leaf.grad is not None and leaf.grad.shape == shape
