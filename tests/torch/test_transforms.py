"""Functorch's transforms, forward mode and `torch.autograd.functional` give what is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward
from torch import Tensor, nn
from torch.autograd import functional as of_autograd
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    vjp,
    vmap,
)

import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.support.slow import slow_unless
from tests.torch.composed import CASES, P, keep, numbers, scaled, some_keys

# Warnings of torch's own code: where it loads derivatives for forward mode, and in `linearize`.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]

SHAPE = (4, 5)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


# vmap


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_vmap_draws_different_masks_as_a_loop_does(axis: int) -> None:
    x = numbers(3, 4, 5)
    torch.manual_seed(1)
    y = vmap(lambda x: F.dropout(x, P), in_dims=axis, randomness="different")(x)
    torch.manual_seed(1)
    same(y, torch.stack([F.dropout(one, P) for one in x.unbind(axis)]))
    assert len({tuple((one != 0).flatten().tolist()) for one in y}) == len(y)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_vmap_draws_the_same_mask_for_all(axis: int) -> None:
    x = numbers(3, 4, 5)
    torch.manual_seed(1)
    y = vmap(lambda x: F.dropout(x, P), in_dims=axis, randomness="same")(x)
    torch.manual_seed(1)
    key = fdt.draw_key()
    same(y, torch.stack([F.dropout(one, P, key=key) for one in x.unbind(axis)]))


def test_vmap_draws_nothing_where_it_is_not_told_how() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda x: F.dropout(x, P))(numbers(3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    # With a key, nothing is random.
    key = fdt.draw_key()
    y = vmap(lambda x: F.dropout(x, P, key=key))(numbers(3, 4))
    same(y, torch.stack([F.dropout(one, P, key=key) for one in numbers(3, 4)]))


@pytest.mark.parametrize("name", CASES)
def test_vmap_over_tensors_keys_or_both(name: str) -> None:
    call, _, exact = CASES[name]
    equal = same if exact else close
    x, keys = numbers(4, 3, 5), some_keys(3)
    expected = torch.stack([call(one, key) for one, key in zip(x.unbind(1), keys, strict=True)])
    if name != "in place":  # vmap cannot write a batch of results to one tensor
        equal(
            vmap(call, in_dims=(None, 0))(x[:, 0], keys),
            torch.stack([call(x[:, 0], key) for key in keys]),
        )
    equal(vmap(call, in_dims=(1, 0))(x, keys), expected)
    equal(vmap(call, in_dims=(1, 1))(x, keys.T), expected)
    equal(vmap(call, in_dims=(1, 0), out_dims=-1)(x, keys), expected.movedim(0, -1))
    equal(vmap(call, in_dims=(1, 0), chunk_size=2)(x, keys), expected)
    equal(
        vmap(call, in_dims=(1, None))(x, keys[0]),
        torch.stack([call(one, keys[0]) for one in x.unbind(1)]),
    )


@pytest.mark.parametrize("name", CASES)
def test_vmap_of_vmap(name: str) -> None:
    call, _, exact = CASES[name]
    x, keys = numbers(2, 4, 3, 5), some_keys(3)
    y = vmap(vmap(call, in_dims=(0, None)), in_dims=(2, 0))(x, keys)
    expected = torch.stack(
        [
            torch.stack([call(one, key) for one in many.unbind(0)])
            for many, key in zip(x.unbind(2), keys, strict=True)
        ]
    )
    (same if exact else close)(y, expected)


@pytest.mark.parametrize(
    ("inner", "outer", "masks", "masks_of_one"),
    [
        ("different", "different", 6, 2),
        ("same", "different", 3, 1),
        ("different", "same", 2, 2),
        ("same", "same", 1, 1),
    ],
)
def test_randomness_of_nested_vmaps(inner: str, outer: str, masks: int, masks_of_one: int) -> None:
    x = torch.ones(3, 2, 64)
    y = vmap(vmap(lambda x: F.dropout(x, 0.5), randomness=inner), randomness=outer)(x)
    drawn = [[tuple(inner.tolist()) for inner in outer] for outer in y]
    assert len(set(sum(drawn, []))) == masks
    assert all(len(set(of_one)) == masks_of_one for of_one in drawn)


# Derivatives


def tangent_of_forward_mode(f: Any, x: Tensor, t: Tensor) -> Any:
    with forward.dual_level():
        return forward.unpack_dual(f(forward.make_dual(x, t))).tangent  # type: ignore[no-untyped-call]


def by_backward(f: Any, x: Tensor, t: Tensor) -> Any:
    x = x.clone().requires_grad_()
    y = f(x)
    y.backward(t)
    return y.detach(), x.grad


def cubed(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: (f(x) ** 3).sum()


DERIVATIVES: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "backward": by_backward,
    "grad": lambda f, x, t: grad(cubed(f))(x),
    "vjp": lambda f, x, t: vjp(f, x)[1](t),
    "jvp": lambda f, x, t: jvp(f, (x,), (t,)),
    "jacrev": lambda f, x, t: jacrev(f)(x),
    "jacrev in chunks": lambda f, x, t: jacrev(f, chunk_size=3)(x),
    "jacfwd": lambda f, x, t: jacfwd(f)(x),
    "hessian": lambda f, x, t: hessian(cubed(f))(x),
    "hessian in reverse": lambda f, x, t: jacrev(jacrev(cubed(f)))(x),
    "gradient of a gradient": lambda f, x, t: grad(lambda x: (grad(cubed(f))(x) * t).sum())(x),
    "linearize": lambda f, x, t: linearize(f, x)[1](t),
    "forward mode": tangent_of_forward_mode,
    "functional.vjp": lambda f, x, t: of_autograd.vjp(f, x, t),  # type: ignore[no-untyped-call]
    "functional.jvp": lambda f, x, t: of_autograd.jvp(f, x, t),  # type: ignore[no-untyped-call]
    "functional.jacobian": lambda f, x, t: of_autograd.jacobian(f, x),  # type: ignore[no-untyped-call]
    "functional.jacobian, vectorized": lambda f, x, t: of_autograd.jacobian(f, x, vectorize=True),  # type: ignore[no-untyped-call]
    "functional.jacobian, forward": lambda f, x, t: of_autograd.jacobian(  # type: ignore[no-untyped-call]
        f, x, vectorize=True, strategy="forward-mode"
    ),
    "functional.hessian": lambda f, x, t: of_autograd.hessian(cubed(f), x),  # type: ignore[no-untyped-call]
    "functional.hessian, vectorized": lambda f, x, t: of_autograd.hessian(  # type: ignore[no-untyped-call]
        cubed(f), x, vectorize=True
    ),
    "functional.hessian, forward": lambda f, x, t: of_autograd.hessian(  # type: ignore[no-untyped-call]
        cubed(f), x, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "functional.hvp": lambda f, x, t: of_autograd.hvp(cubed(f), x, t),  # type: ignore[no-untyped-call]
    "functional.vhp": lambda f, x, t: of_autograd.vhp(cubed(f), x, t),  # type: ignore[no-untyped-call]
}


@pytest.mark.parametrize(
    ("name", "derivative"),
    slow_unless(
        lambda name, derivative: (
            name in ("dropout", "shard", "softmax_dropout", "bias_act_dropout_add")
            or derivative in ("backward", "hessian")
        ),
        CASES,
        DERIVATIVES,
    ),
)
def test_derivatives_are_those_of_torchs_operators(name: str, derivative: str) -> None:
    case, of = CASES[name], DERIVATIVES[derivative]
    (key,) = some_keys(1)
    x, t = numbers(*SHAPE), numbers(*SHAPE, seed=2)
    actual = of(lambda x: case.call(x, key), x, t)
    close(actual, of(lambda x: case.oracle(x, key), x, t))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_gradients_at_once(name: str) -> None:
    case, (key,) = CASES[name], some_keys(1)
    x, t = numbers(*SHAPE).requires_grad_(), numbers(3, *SHAPE, seed=2)
    found = [
        torch.autograd.grad(f(x, key), x, t, is_grads_batched=True)
        for f in (case.call, case.oracle)
    ]
    close(*found)


@pytest.mark.parametrize("randomness", ["different", "same"])
def test_gradients_of_each_sample(randomness: str) -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), fdt.Dropout(P), nn.Linear(7, 1)).double()
    parameters = dict[str, Tensor](model.named_parameters())
    x = numbers(6, 5)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, parameters, (x[None],)).square().sum()  # type: ignore[no-any-return]

    torch.manual_seed(3)
    found = vmap(grad(loss), in_dims=(None, 0), randomness=randomness)(parameters, x)
    torch.manual_seed(3)
    keys = [fdt.draw_key() for _ in x]
    if randomness == "same":
        keys = keys[:1] * len(x)
    for i, (one, key) in enumerate(zip(x, keys, strict=True)):
        again = copy.deepcopy(model)
        h = torch.tanh(again[0](one[None]))
        again[3](scaled(h, keep(h, key))).square().sum().backward()
        close({n: g[i] for n, g in found.items()}, {n: p.grad for n, p in again.named_parameters()})


def test_functional_call_of_an_ensemble() -> None:
    models = [nn.Sequential(nn.Linear(5, 7), fdt.Dropout(P)).double() for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(models)
    x = numbers(2, 5)
    torch.manual_seed(4)
    y = vmap(
        lambda parameters: functional_call(models[0], parameters, (x,)), randomness="different"
    )(stacked)
    torch.manual_seed(4)
    close(y, torch.stack([model(x) for model in models]))


def test_second_derivatives_by_a_bias_that_the_input_is_computed_from() -> None:
    (key,) = some_keys(1)
    bias = numbers(5).requires_grad_()

    def gradients(f: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        x = numbers(4, 5) * bias.exp()  # as where one parameter serves two layers
        (first,) = torch.autograd.grad(f(x, bias).sum(), bias, create_graph=True)
        return [first, *torch.autograd.grad((first**2).sum(), bias)]

    close(
        gradients(lambda x, b: F.bias_act_dropout_add(x, b, "silu", P, key=key)),
        gradients(lambda x, b: scaled(nn.functional.silu(x + b), keep(x, key))),
    )


# Transforms and compilers


@pytest.fixture
def compiled() -> Any:
    torch._dynamo.reset()
    return lambda f: torch.compile(f, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize(
    "derivative",
    ["jvp", "hessian", *(pytest.param(d, marks=pytest.mark.slow) for d in ("grad", "jacrev"))],
)
@pytest.mark.parametrize(
    "name",
    [
        "dropout",
        "bias_act_dropout_add",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("shard", "shared", "alpha_dropout", "masked_fill", "softmax_dropout")
        ),
    ],
)
def test_derivatives_inside_of_compiled_code(name: str, derivative: str, compiled: Any) -> None:
    case, of = CASES[name], DERIVATIVES[derivative]
    (key,) = some_keys(1)
    x, t = numbers(*SHAPE), numbers(*SHAPE, seed=2)
    actual = compiled(lambda x, t: of(lambda x: case.call(x, key), x, t))(x, t)
    close(actual, of(lambda x: case.oracle(x, key), x, t))


def test_gradients_of_each_sample_inside_of_compiled_code(compiled: Any) -> None:
    def gradients(x: Tensor) -> Any:
        return vmap(grad(lambda x: (F.dropout(x, P) ** 2).sum()), randomness="different")(x)

    x = numbers(3, 20)
    torch.manual_seed(5)
    actual = compiled(gradients)(x)
    torch.manual_seed(5)
    close(actual, gradients(x))


@pytest.mark.parametrize("randomness", ["different", "same"])
def test_vmap_inside_of_compiled_code(randomness: str, compiled: Any) -> None:
    def masks(x: Tensor) -> Any:
        return vmap(lambda x: F.dropout(x, P), in_dims=1, randomness=randomness)(x)

    x = numbers(4, 5)
    torch.manual_seed(6)
    actual = compiled(masks)(x)
    torch.manual_seed(6)
    same(actual, masks(x))


def test_vmap_inside_of_compiled_code_is_told_how_to_draw(compiled: Any) -> None:
    with pytest.raises(RuntimeError, match="randomness"):
        compiled(vmap(lambda x: F.dropout(x, P)))(numbers(4, 5))


def test_vmap_over_keys_inside_of_compiled_code(compiled: Any) -> None:
    masks = vmap(lambda x, key: F.dropout(x, P, key=key), in_dims=(None, 0))
    x, keys = numbers(4, 5), some_keys(3)
    same(compiled(masks)(x, keys), masks(x, keys))
