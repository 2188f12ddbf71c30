"""`masked_fill` by a tensor of values: those of arrays, bit for bit, and their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fastdrop as fd
from fastdrop.torch import functional as F
from tests.torch.cases import (
    DTYPES,
    KEY,
    LAYOUTS,
    TORCHS_OWN_WARNINGS,
    array,
    assert_equal,
    generator_state,
    numbers,
)

SHAPE = (2, 3, 5, 8)
BROADCAST = [SHAPE, (8,), (5, 1), (3, 1, 8)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64, torch.bool], ids=str)
def test_values_in_their_places(layout: str, dtype: torch.dtype) -> None:
    x = LAYOUTS[layout](numbers(*SHAPE).mul(10).to(dtype))
    for shape in BROADCAST:
        value = numbers(*shape, seed=2).mul(10).to(dtype)
        before = value.clone()
        y = F.masked_fill(x, 0.4, value, key=KEY)
        assert_equal(y, fd.masked_fill(array(x), 0.4, array(value), rng=KEY))
        assert y.stride() == torch.empty_like(x).stride()
        assert torch.equal(y, torch.where(F.dropout_mask(SHAPE, 0.4, key=KEY), x, value))
        there = LAYOUTS[layout](x)
        version = there._version
        assert F.masked_fill(there, 0.4, value, inplace=True, key=KEY) is there
        assert torch.equal(there, y) and there._version > version
        assert torch.equal(value, before)


PLACED: list[dict[str, Any]] = [
    {"noise_shape": (None, None, None, 1)},
    {"offset": 1 << 40},
    {"offset": (0, 0, 5, 0), "global_shape": (2, 3, 20, 8)},
]


@pytest.mark.parametrize("more", PLACED, ids=str)
def test_placed_tensors(more: dict[str, Any]) -> None:
    x, value = numbers(*SHAPE), numbers(8, seed=2)
    y = F.masked_fill(x, 0.4, value, key=KEY, **more)
    assert_equal(y, fd.masked_fill(array(x), 0.4, array(value), rng=KEY, **more))


@pytest.mark.parametrize("shape", [*BROADCAST, (), (1,)], ids=str)
def test_gradients_are_those_of_where(shape: tuple[int, ...]) -> None:
    x = numbers(*SHAPE, dtype=torch.float64).requires_grad_()
    value = numbers(*shape, dtype=torch.float64, seed=2).requires_grad_()
    dy = numbers(*SHAPE, dtype=torch.float64, seed=3)
    kept = F.dropout_mask(SHAPE, 0.4, key=KEY)
    y = F.masked_fill(x, 0.4, value, key=KEY)
    expected = torch.autograd.grad(torch.where(kept, x, value), (x, value), dy)
    assert all(map(torch.equal, torch.autograd.grad(y, (x, value), dy), expected))
    dvalue = torch.autograd.grad(F.masked_fill(x.detach(), 0.4, value, key=KEY), value, dy)
    assert torch.equal(dvalue[0], expected[1])
    there = F.masked_fill(x * 1.0, 0.4, value, inplace=True, key=KEY)
    assert all(map(torch.equal, torch.autograd.grad(there, (x, value), dy), expected))

    def call(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.masked_fill(x, 0.4, value, key=KEY)

    assert torch.autograd.gradcheck(call, (x, value), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, value), fast_mode=True)


def test_an_infinite_gradient_of_a_kept_element_stays_where_it_is() -> None:
    value = torch.zeros(64, requires_grad=True)
    kept = F.dropout_mask(64, 0.4, key=KEY)
    dy = torch.where(kept, torch.inf, 1.0)
    (dvalue,) = torch.autograd.grad(F.masked_fill(torch.ones(64), 0.4, value, key=KEY), value, dy)
    assert torch.equal(dvalue, (~kept).float())


@TORCHS_OWN_WARNINGS
def test_transforms() -> None:
    x, value = numbers(4, 8), numbers(4, 8, seed=2)
    kept = F.dropout_mask(8, 0.4, key=KEY)

    def call(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.masked_fill(x, 0.4, value, key=KEY)

    expected = torch.where(kept, x, value)
    assert torch.equal(torch.vmap(call)(x, value), expected)
    assert torch.equal(torch.vmap(call, (None, 0))(x[0], value), torch.where(kept, x[0], value))
    assert torch.equal(torch.vmap(call, (0, None))(x, value[0]), torch.where(kept, x, value[0]))
    by_value = torch.func.grad(lambda value: call(x[0], value).sum())(value[0])
    assert torch.equal(by_value, (~kept).float())
    tangent = torch.func.jvp(call, (x[0], value[0]), (x[1], value[1]))[1]
    assert torch.equal(tangent, torch.where(kept, x[1], value[1]))


@pytest.mark.slow
def test_compiled_without_a_break() -> None:
    x, value = numbers(16, 32), numbers(32, seed=2).requires_grad_()

    def call(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.masked_fill(x, 0.4, value, key=KEY, noise_shape=(None, 1))

    y = torch.compile(call, fullgraph=True, backend="aot_eager")(x, value)
    assert torch.equal(y, call(x, value))
    (compiled,) = torch.autograd.grad(y.sum(), value)
    (eager,) = torch.autograd.grad(call(x, value).sum(), value)
    assert torch.equal(compiled, eager)


def test_nothing_to_do() -> None:
    x, value = numbers(4, 8), numbers(8, seed=2)
    state = generator_state()
    assert F.masked_fill(x, 0.0, value) is x
    assert F.masked_fill(x, 0.5, value, training=False) is x
    assert generator_state() == state
    assert torch.equal(F.masked_fill(x, 1.0, value), value.expand(4, 8))
    assert F.masked_fill(numbers(0, 8), 0.5, value).shape == (0, 8)
    assert F.masked_fill(torch.ones(0), 0.5, torch.ones(0)).shape == (0,)


WRONG = [
    (torch.ones(3), ValueError, r"\(3,\), which does not broadcast to that of input, \(4, 8\)"),
    (torch.ones(2, 4, 8), ValueError, "does not broadcast"),
    (torch.ones(8, dtype=torch.float64), TypeError, r"give value\.to\(input\)"),
    (torch.ones(8, device="meta"), TypeError, "on meta, and input"),
]


@pytest.mark.parametrize(("value", "kind", "words"), WRONG)
def test_values_that_do_not_fit(value: torch.Tensor, kind: type[Exception], words: str) -> None:
    x, state = numbers(4, 8), generator_state()
    before = x.clone()
    with pytest.raises(kind, match=words):
        F.masked_fill(x, 0.5, value, inplace=True)
    assert torch.equal(x, before) and generator_state() == state
    leaf = numbers(4, 8).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf that requires a gradient"):
        F.masked_fill(leaf, 0.5, torch.ones(8), inplace=True)
