"""Gradients of all functions, of any order and in both directions, against finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import fastdrop as fd
from fastdrop.torch import functional as F
from tests.support.slow import slow_unless
from tests.torch.cases import (
    CALLS,
    KEY,
    TORCHS_OWN_WARNINGS,
    array,
    assert_equal,
    numbers,
    transposed,
)

Shapes = tuple[tuple[int, ...] | None, ...]
pytestmark = TORCHS_OWN_WARNINGS
ACTIVATIONS = ["identity", "relu", "gelu", "gelu_tanh", "silu", "tanh"]


def leaf(*shape: int, seed: int = 1) -> Tensor:
    return numbers(*shape, dtype=torch.float64, seed=seed).requires_grad_()


def check(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Compare first and second gradients, forward and backward, batched and not."""
    assert gradcheck(
        function,
        inputs,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
        check_undefined_grad=True,
    )
    assert gradgradcheck(
        function,
        inputs,
        check_batched_grad=True,
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
    )


@pytest.mark.parametrize("name", CALLS)
def test_every_function(name: str) -> None:
    check(lambda x: CALLS[name].torch(x, key=KEY), leaf(2, 3, 2))


WHERE: list[dict[str, Any]] = [
    {"noise_shape": (3, 1)},
    {"noise_shape": (1, None)},
    {"noise_shape": (4,)},
    {"offset": 5},
    {"offset": (2, 3), "global_shape": (6, 9)},
    {"offset": (2, 3), "global_shape": (6, 9), "noise_shape": (None, 1)},
]


@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize("name", ["dropout", "scale", "alpha_dropout", "masked_fill"])
def test_placements(name: str, where: dict[str, Any]) -> None:
    check(lambda x: CALLS[name].torch(x, key=KEY, **where), leaf(3, 4))


@pytest.mark.parametrize("name", CALLS)
def test_shards(name: str) -> None:
    where: dict[str, Any] = {"offset": (2, 3, 0), "global_shape": (6, 9, 2)}
    check(lambda x: CALLS[name].torch(x, key=KEY, **where), leaf(2, 3, 2))


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.inplace])
def test_in_place(name: str) -> None:
    check(lambda x: CALLS[name].torch(x * 2, key=KEY, inplace=True), leaf(3, 4))
    check(lambda x: CALLS[name].torch((x * 2)[1:], key=KEY, inplace=True), leaf(3, 4))

    def of_the_base(x: Tensor) -> Tensor:
        whole = x * 2
        CALLS[name].torch(whole[1:], key=KEY, inplace=True)
        return whole

    assert gradcheck(of_the_base, leaf(3, 4))
    assert gradgradcheck(of_the_base, leaf(3, 4))


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize(
    "function",
    [F.dropout, F.feature_dropout, F.drop_path, F.softmax_dropout]
    + [lambda x, p, key: F.alpha_dropout(x, p, True, key=key)]
    + [lambda x, p, key: F.masked_fill(x, p, 3.0, key=key)]
    + [lambda x, p, key: F.bias_act_dropout_add(x, p=p, act="tanh", key=key)],
)
def test_nothing_and_everything_dropped(function: Callable[..., Tensor], p: float) -> None:
    check(lambda x: function(x, p=p, key=KEY), leaf(3, 4))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_along_each_axis(dim: int) -> None:
    check(lambda x: F.softmax_dropout(x, 0.3, dim, key=KEY, scale=1.5), leaf(2, 3, 2))


def test_softmax_with_masked_positions() -> None:
    hidden = torch.zeros(2, 4, dtype=torch.float64)
    hidden[:, 3:] = -torch.inf
    hidden[1, 1] = -torch.inf
    check(lambda x: F.softmax_dropout(x + hidden, 0.3, key=KEY), leaf(2, 4))


OPERANDS: list[Shapes] = [
    (None, None),
    ((3,), None),
    (None, (2, 3)),
    ((3,), (2, 3)),
    ((2, 1), (3,)),
    ((2, 3), (1, 1)),
    ((), ()),
]


@pytest.mark.parametrize(
    ("activation", "shapes"),
    slow_unless(
        lambda activation, shapes: activation == "identity" or shapes == OPERANDS[4],
        ACTIVATIONS,
        OPERANDS,
    ),
    ids=str,
)
def test_epilogue(activation: str, shapes: Shapes) -> None:
    operands = [s if s is None else leaf(*s, seed=2 + i) for i, s in enumerate(shapes)]

    def function(x: Tensor, *given: Tensor) -> Tensor:
        rest = iter(given)
        bias, residual = [None if s is None else next(rest) for s in shapes]
        return F.bias_act_dropout_add(x, bias, activation, 0.3, residual=residual, key=KEY)

    check(function, leaf(2, 3), *[t for t in operands if t is not None])


@pytest.mark.parametrize("activation", ["identity", "silu"])
def test_epilogue_of_which_some_need_gradients(activation: str) -> None:
    for needs in itertools.product((False, True), repeat=3):
        given = [leaf(3, 4), leaf(4, seed=2), leaf(3, 1, seed=3)]
        for tensor, need in zip(given, needs, strict=True):
            tensor.requires_grad_(need)
        x, bias, residual = given
        call = {"act": activation, "p": 0.3, "key": KEY}
        y = F.bias_act_dropout_add(x, bias, residual=residual, **call)
        assert y.requires_grad == any(needs)
        if not any(needs):
            continue
        dy = numbers(3, 4, dtype=torch.float64, seed=4)
        wanted = [tensor for tensor, need in zip(given, needs, strict=True) if need]
        found = torch.autograd.grad(y, wanted, dy)
        kept = F.dropout_mask((3, 4), 0.3, key=KEY)
        act = torch.nn.functional.silu if activation == "silu" else lambda x: x
        true = torch.where(kept, act(x + bias) / 0.7, 0.0) + residual
        for one, other in zip(found, torch.autograd.grad(true, wanted, dy), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_backward_is_the_same_mask_bit_for_bit(dtype: torch.dtype) -> None:
    dy = numbers(6, 50, dtype=dtype, seed=2)
    for gradient in (dy, transposed(dy), dy[:1].expand(6, 50)):
        x = numbers(6, 50, dtype=dtype).requires_grad_()
        F.dropout(x, 0.3, key=KEY).backward(gradient)
        assert x.grad is not None
        assert_equal(x.grad, fd.dropout(array(gradient), 0.3, rng=KEY))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["softmax_dropout", "bias_act_dropout_add"])
def test_fused_backwards_are_those_of_arrays_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    x = numbers(6, 50, dtype=dtype).requires_grad_()
    bias = numbers(50, dtype=dtype, seed=3).requires_grad_()
    dy = numbers(6, 50, dtype=dtype, seed=2)
    if name == "softmax_dropout":
        dx = torch.autograd.grad(F.softmax_dropout(x, 0.3, 0, key=KEY), x, dy)[0]
        expected = fd.softmax_dropout_backward(array(dy), array(x), 0.3, axis=0, rng=KEY)
        assert_equal(dx, expected)
        return
    y = F.bias_act_dropout_add(x, bias, "silu", 0.3, key=KEY)
    dx, dbias = torch.autograd.grad(y, (x, bias), dy)
    both = fd.bias_act_dropout_add_backward(array(dy), array(x), array(bias), "silu", 0.3, rng=KEY)
    assert_equal(dx, both[0])
    assert_equal(dbias, both[1])


def test_gradients_that_nobody_asks_for_and_graphs_used_twice() -> None:
    x, other = leaf(20), leaf(20, seed=2)
    y = F.dropout(x, 0.3, key=KEY)
    assert torch.autograd.grad(y.sum(), (x, other), allow_unused=True, retain_graph=True)[1] is None
    first = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(y.sum(), x)[0])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y.sum(), x)


def test_a_third_derivative() -> None:
    x = leaf(20)
    y = F.dropout(x, 0.3, key=KEY) ** 4 / 4
    for _ in range(3):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    kept = F.dropout_mask(20, 0.3, key=KEY)
    expected = torch.where(kept, 6 * x / 0.7**4, 0.0)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


def test_of_functorch() -> None:
    x = numbers(5, dtype=torch.float64)
    kept = F.dropout_mask(5, 0.3, key=KEY)
    factor = torch.where(kept, 1 / 0.7, 0.0).double()

    def function(x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, key=KEY)

    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(function)(x), torch.diag(factor))
    _, tangent = torch.func.jvp(function, (x,), (x,))
    torch.testing.assert_close(tangent, factor * x)
    hessian = torch.func.hessian(lambda x: (function(x) ** 3).sum())(x)
    torch.testing.assert_close(hessian, torch.diag(6 * factor**3 * x))
    many = torch.func.vmap(torch.func.grad(lambda x: (function(x) ** 2).sum()))(
        torch.stack([x, 2 * x])
    )
    torch.testing.assert_close(many, torch.stack([2 * factor**2 * x, 4 * factor**2 * x]))


@pytest.mark.parametrize("name", CALLS)
def test_functorch_transforms_of_every_function(name: str) -> None:
    call, x = CALLS[name].torch, numbers(3, 4, 5, dtype=torch.float64)
    weights = numbers(3, 4, 5, dtype=torch.float64, seed=2)

    def loss(x: Tensor) -> Tensor:
        return (call(x, key=KEY).tanh() * weights).sum()

    given = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(given), given)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    _, slope = torch.func.jvp(loss, (x,), (weights,))
    torch.testing.assert_close(slope, (expected * weights).sum())
    _, back = torch.func.vjp(loss, x)
    torch.testing.assert_close(back(torch.ones((), dtype=torch.float64))[0], expected)
