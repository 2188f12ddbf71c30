"""Activation checkpoints, and states of torch's generator: masks are drawn again as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
)

import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.torch.composed import CASES, P, numbers

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")

Checkpoint = Callable[..., Any]


@pytest.fixture(params=[True, False], ids=["reentrant", "not reentrant"])
def reentrant(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def gradients(f: Callable[..., Tensor], *inputs: Tensor, seed: int = 1) -> list[Tensor]:
    """Result, gradients, and what torch's generator draws after the backward."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    torch.manual_seed(seed)
    y = f(*leaves)
    torch.rand(3)  # so that a backward without the state of the forward draws something else
    y.backward(numbers(*y.shape, dtype=y.dtype, seed=5))  # type: ignore[no-untyped-call]
    return [y.detach(), *(x.grad for x in leaves if x.grad is not None), torch.rand(1)]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert len(actual) == len(expected)
    assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


def differs(actual: list[Tensor], expected: list[Tensor]) -> bool:
    return not all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_functions_are_computed_again(name: str, reentrant: bool) -> None:
    def f(x: Tensor) -> Tensor:
        return CASES[name].call(CASES[name].call(x.sin(), None).cos(), None)

    x = numbers(6, 7, dtype=torch.float32)
    assert_same(gradients(lambda x: checkpoint(f, x, use_reentrant=reentrant), x), gradients(f, x))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), fdt.Dropout(P), nn.GELU(), fdt.AlphaDropout(P), nn.Linear(16, 8),
        fdt.DropPath(P), nn.Linear(8, 8), fdt.Dropout(P, inplace=True),
    )  # fmt: skip


def trained(model: nn.Module, forward: Callable[[Tensor], Tensor], steps: int = 3) -> list[Tensor]:
    """Parameters after some steps with a generator's state of their own."""
    torch.manual_seed(2)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(steps):
        optimiser.zero_grad()
        x = numbers(5, 8, dtype=torch.float32, seed=step).requires_grad_()
        forward(x).square().mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("segments", [1, 2, 4])
def test_models_in_segments(segments: int, reentrant: bool) -> None:
    plain, other = mlp(), mlp()
    expected = trained(plain, plain)
    assert_same(
        trained(
            other,
            lambda x: checkpoint_sequential(other, segments, x, use_reentrant=reentrant),  # type: ignore[no-untyped-call]
        ),
        expected,
    )


def test_checkpoints_inside_of_checkpoints() -> None:
    def f(x: Tensor) -> Tensor:
        return F.dropout(x.sin(), P)

    def nested(x: Tensor) -> Any:
        return checkpoint(
            lambda x: F.dropout(checkpoint(f, x, use_reentrant=False).cos(), P),
            x,
            use_reentrant=False,
        )

    x = numbers(40)
    assert_same(gradients(nested, x), gradients(lambda x: F.dropout(f(x).cos(), P), x))


def test_selective_checkpoints(reentrant: bool) -> None:
    if reentrant:
        pytest.skip("torch has selective checkpoints in the other mode alone")

    def f(x: Tensor, w: Tensor) -> Tensor:
        return F.dropout(torch.relu(F.dropout(x, P) @ w), P)

    def policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        saved = operator == torch.ops.aten.mm.default
        return CheckpointPolicy.MUST_SAVE if saved else CheckpointPolicy.PREFER_RECOMPUTE

    inputs = numbers(5, 8), numbers(8, 8)
    assert_same(
        gradients(
            lambda x, w: checkpoint(
                f,
                x,
                w,
                use_reentrant=False,
                context_fn=lambda: create_selective_checkpoint_contexts(policy),  # type: ignore[no-untyped-call]
            ),
            *inputs,
        ),
        gradients(f, *inputs),
    )


def test_without_the_generators_state_masks_are_others_unless_a_key_is_given(
    reentrant: bool,
) -> None:
    settings: dict[str, Any] = {"use_reentrant": reentrant, "preserve_rng_state": False}
    x = numbers(64)

    def f(x: Tensor) -> Tensor:
        return F.dropout(x.sin(), 0.5)

    y, dx, _ = gradients(lambda x: checkpoint(f, x, **settings), x)
    expected, expected_dx, _ = gradients(f, x)
    assert torch.equal(y, expected)
    if reentrant:  # the backward of another forward
        assert not torch.equal(dx != 0, y != 0)
    else:  # a saved tensor of 16 bytes is drawn again, and it is another key
        assert not torch.equal(dx, expected_dx)

    key = fdt.draw_key()

    def keyed(x: Tensor) -> Tensor:
        return F.dropout(x.sin(), 0.5, key=key)

    y, dx, _ = gradients(lambda x: checkpoint(keyed, x, **settings), x)
    assert torch.equal(dx != 0, y != 0)


def test_a_module_that_counts_its_forwards_refuses_to_be_computed_again(reentrant: bool) -> None:
    layer = fdt.Dropout(0.5, key=3)
    x = torch.ones(20, requires_grad=True)
    y = checkpoint(lambda x: layer(x.sin()), x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="counts its forwards.*give no key"):
        y.sum().backward()
    assert torch.equal(layer.key, torch.tensor([3, 1]))  # type: ignore[arg-type]


# Compiled


@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param("aot_eager_decomp_partition", marks=pytest.mark.slow),
        pytest.param("inductor", marks=pytest.mark.slow),
    ],
)
def test_compiled_functions_with_checkpoints_inside(backend: str) -> None:
    def block(x: Tensor, w: Tensor) -> Tensor:
        return F.dropout(torch.relu(F.dropout(x, P) @ w), P)

    def f(x: Tensor, w: Tensor) -> Tensor:
        for _ in range(2):
            x = checkpoint(block, x, w, use_reentrant=False)
        return x

    inputs = numbers(5, 8, dtype=torch.float32), numbers(8, 8, dtype=torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(f, backend=backend, fullgraph=True)
    for seed in (1, 2):
        *actual, _ = gradients(compiled, *inputs, seed=seed)
        *expected, _ = gradients(lambda x, w: block(block(x, w), w), *inputs, seed=seed)
        for a, e in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, e)
            assert torch.equal(a == 0, e == 0)


def test_checkpoints_of_compiled_functions(reentrant: bool) -> None:
    torch._dynamo.reset()

    def f(x: Tensor) -> Tensor:
        return F.dropout(F.dropout(x.sin(), P).cos(), P)

    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    x = numbers(40)
    assert_same(
        gradients(lambda x: checkpoint(compiled, x, use_reentrant=reentrant), x), gradients(f, x)
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_backwards_of_eager_calls() -> None:
    torch._dynamo.reset()

    def f(x: Tensor) -> Tensor:
        x = F.alpha_dropout(F.softmax_dropout(F.dropout(x, P), P), P, True)
        x = F.bias_act_dropout_add(x, x[0] * 0.5, "gelu", P, residual=x)
        return F.bias_act_dropout_add(x, None, "silu", P)

    expected = gradients(f, numbers(5, 6))
    for backend in ("eager", "aot_eager"):
        with torch._dynamo.compiled_autograd._enable(torch.compile(backend=backend)):
            assert_same(gradients(f, numbers(5, 6)), expected)


# Saved tensors


def test_saved_tensors_may_be_packed() -> None:
    def f(x: Tensor) -> Tensor:
        return F.bias_act_dropout_add(F.dropout(x, P), x[0], "gelu", P)

    x = numbers(5, 6)
    expected = gradients(f, x)
    with torch.autograd.graph.save_on_cpu():
        assert_same(gradients(f, x), expected)
    saved: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        saved.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = F.dropout(torch.ones(1000, requires_grad=True), P)
    assert [x.nbytes for x in saved] == [16]
    y.sum().backward()  # type: ignore[no-untyped-call]


# The generator's state


def test_fork_rng_leaves_masks_as_they_were() -> None:
    x = torch.ones(50)
    torch.manual_seed(1)
    expected = [F.dropout(x, P), F.dropout(x, P)]
    torch.manual_seed(1)
    first = F.dropout(x, P)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        other = F.dropout(x, P)
    assert torch.equal(first, expected[0])
    assert torch.equal(F.dropout(x, P), expected[1])
    assert not torch.equal(other, expected[1])


def test_runs_resume_from_a_saved_state(tmp_path: Any) -> None:
    """As from a checkpoint on disk, in the middle of an epoch."""
    model = mlp()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)

    def step(model: nn.Module, optimiser: torch.optim.Optimizer, i: int) -> Tensor:
        optimiser.zero_grad()
        loss = model(numbers(5, 8, dtype=torch.float32, seed=i)).square().mean()
        loss.backward()
        optimiser.step()
        return loss.detach()  # type: ignore[no-any-return]

    for i in range(2):
        step(model, optimiser, i)
    saved = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": torch.get_rng_state(),
    }
    torch.save(saved, tmp_path / "saved.pt")
    expected = [step(model, optimiser, i) for i in range(2, 6)]

    other = mlp()
    optimiser = torch.optim.Adam(other.parameters(), 0.01)
    found = torch.load(tmp_path / "saved.pt", weights_only=True)
    other.load_state_dict(found["model"])
    optimiser.load_state_dict(found["optimiser"])
    torch.set_rng_state(found["generator"])
    assert_same([step(other, optimiser, i) for i in range(2, 6)], expected)
    assert not any("dropout" in name.lower() for name in found["model"])
    assert_same(list(other.parameters()), list(model.parameters()))


def test_keyed_modules_resume_from_their_state() -> None:
    layer = fdt.Dropout(P, key=5)
    x = torch.ones(40)
    for _ in range(3):
        layer(x)
    state = copy.deepcopy(layer.state_dict())
    expected = [layer(x) for _ in range(3)]
    other = fdt.Dropout(P, key=0)
    other.load_state_dict(state)
    torch.manual_seed(123)  # of no use to it
    assert_same([other(x) for _ in range(3)], expected)
