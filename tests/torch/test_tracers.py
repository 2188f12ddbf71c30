"""Tracers, modes and subclasses of torch see the functions as they see torch's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.torch.cases import CALLS, KEY, TORCHS_OWN_WARNINGS, Call, numbers, transposed

pytestmark = TORCHS_OWN_WARNINGS
IDS = list(CALLS)
ALL = pytest.mark.parametrize("call", CALLS.values(), ids=IDS)


class Block(nn.Module):
    """A linear layer and dropout, as a module and as a function."""

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.dropout = fdt.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.linear(x))
        return F.dropout(y, 0.3, self.training)


def test_fx_records_functions_as_calls() -> None:
    def function(x: Tensor, key: Tensor) -> Tensor:
        y = F.dropout(x, 0.3, key=key)
        y = F.alpha_dropout(y, 0.3, True, key=key)
        y = F.feature_dropout(y, p=0.3, key=key)
        return F.bias_act_dropout_add(y, act="gelu", key=key) + F.softmax_dropout(y, key=key)

    traced = fx.symbolic_trace(function)
    targets = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert targets[:3] == [F.dropout, F.alpha_dropout, F.feature_dropout]
    x, key = numbers(4, 5), torch.tensor([1, 2])
    assert torch.equal(traced(x, key), function(x, key))


class Leaves(fx.Tracer):
    """A tracer that keeps dropout modules as modules, as it keeps those of torch.nn."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, fdt.Dropout) or super().is_leaf_module(m, module_qualified_name)


def test_fx_traces_modules() -> None:
    block, x = Block(), numbers(3, 8)
    torch.manual_seed(5)
    expected = block(x)
    kept = fx.GraphModule(block, Leaves().trace(block))
    for traced in (fx.symbolic_trace(block), kept):
        torch.manual_seed(5)
        assert torch.equal(traced(x), expected)
    assert {node.target for node in kept.graph.nodes} >= {"linear", "dropout"}
    assert torch.equal(fx.symbolic_trace(block.eval())(x), block.linear(x))
    mode = nn.Sequential(fdt.Dropout(), nn.ReLU())
    traced = fx.GraphModule(mode, Leaves().trace(mode))
    assert torch.equal(traced.eval()(x), x.relu())


def test_fx_traces_no_key_of_a_module() -> None:
    layer = fdt.Dropout(key=42)
    with pytest.raises(TypeError, match="is_leaf_module"):
        fx.symbolic_trace(layer)
    assert torch.equal(layer.key, torch.tensor([42, 0]))  # type: ignore[arg-type]
    x = numbers(20)
    traced = fx.GraphModule(nn.Sequential(layer), Leaves().trace(nn.Sequential(layer)))
    assert torch.equal(traced(x), F.dropout(x, key=42))
    assert torch.equal(traced(x), F.dropout(x, key=torch.tensor([42, 1])))


class Named(Tensor):
    """A subclass without rules of its own."""


class Logged(Tensor):
    """A subclass that records the functions it is given to."""

    seen: list[Any] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


@ALL
def test_subclasses_keep_their_type(call: Call) -> None:
    x = numbers(3, 4, 5)
    expected = call.torch(x, key=KEY)
    for kind in (Named, Logged):
        given = x.clone().as_subclass(kind)
        y = call.torch(given, key=KEY)
        assert type(y) is kind
        assert torch.equal(y.as_subclass(Tensor), expected)
        if call.inplace:
            assert call.torch(given, key=KEY, inplace=True) is given
            assert torch.equal(given.as_subclass(Tensor), expected)
        leaf = x.clone().as_subclass(kind).requires_grad_()
        call.torch(leaf, key=KEY).square().sum().backward()
        plain = x.clone().requires_grad_()
        call.torch(plain, key=KEY).square().sum().backward()
        assert leaf.grad is not None and plain.grad is not None
        assert torch.equal(leaf.grad.as_subclass(Tensor), plain.grad)


def test_subclasses_may_replace_the_functions() -> None:
    Logged.seen.clear()
    F.dropout(numbers(3).as_subclass(Logged), key=KEY)
    F.drop_path(numbers(3).as_subclass(Logged), key=KEY)
    assert Logged.seen[0] is F.dropout
    assert F.drop_path in Logged.seen


def test_parameters_give_tensors() -> None:
    for call in CALLS.values():
        assert type(call.torch(nn.Parameter(numbers(3, 4, 5)), key=KEY)) is Tensor


@ALL
def test_meta_tensors_have_shape_and_strides_only(call: Call) -> None:
    x = numbers(3, 4, 5)
    for given in (x, transposed(x), x.double(), x[:0]):
        expected = call.torch(given, key=KEY)
        y = call.torch(given.to("meta"), key=KEY)
        assert y.is_meta
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        assert y.stride() == torch.empty_like(given.to("meta")).stride()
    leaf = x.to("meta").requires_grad_()
    call.torch(leaf, key=KEY).sum().backward()
    assert leaf.grad is not None and leaf.grad.is_meta
    if call.inplace:
        assert call.torch(x.to("meta"), key=KEY, inplace=True).is_meta


@ALL
def test_fake_tensors_have_shape_and_strides_only(call: Call) -> None:
    with FakeTensorMode():
        x = torch.empty(3, 4, 5, requires_grad=True)
        for y in (call.torch(x, key=KEY), call.torch(x), call.torch(transposed(x), key=KEY)):
            assert y.shape == x.shape
            assert isinstance(y, torch._subclasses.FakeTensor)
        y.sum().backward()
        assert x.grad is not None and x.grad.shape == x.shape
        if call.inplace:
            assert call.torch(torch.empty(3, 4, 5), key=KEY, inplace=True).shape == x.shape


class Seen(TorchDispatchMode):
    """A mode that lists operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@ALL
def test_modes_see_one_operator_and_change_nothing(call: Call) -> None:
    x = numbers(3, 4, 5)
    expected = call.torch(x, key=KEY)
    for given in (x, x.clone().requires_grad_()):
        with Seen() as seen:
            y = call.torch(given, key=KEY)
        assert torch.equal(y, expected)
        assert sum(name.startswith("fastdrop.") for name in seen.names) == 1
        with Seen() as seen, FlopCounterMode(display=False) as flops:
            assert torch.equal(call.torch(given, key=KEY), expected)
        assert flops.get_total_flops() == 0
    with Seen() as seen:
        torch.manual_seed(1)
        y = call.torch(x)
    torch.manual_seed(1)
    assert torch.equal(call.torch(x), y)


def test_flops_of_a_model_with_dropout() -> None:
    block = Block()
    with FlopCounterMode(display=False) as flops:
        block(numbers(3, 8)).sum().backward()
    assert flops.get_total_flops() == 2 * 2 * 3 * 8 * 8  # the product, and the gradient of weights


@ALL
def test_make_fx_records_the_operator(call: Call) -> None:
    x = numbers(3, 4, 5)
    expected = call.torch(x, key=KEY)
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(lambda x: call.torch(x, key=KEY), tracing_mode=mode)(x)
        assert "fastdrop" in graph.code
        assert torch.equal(graph(x), expected)


@pytest.mark.parametrize("mode", ["real", "fake"])
def test_make_fx_records_that_a_key_is_drawn(mode: str) -> None:
    x = numbers(3, 4, 5)
    graph = make_fx(lambda x: F.dropout(x, 0.3) + F.dropout(x, 0.3), tracing_mode=mode)(x)
    torch.manual_seed(9)
    expected = F.dropout(x, 0.3) + F.dropout(x, 0.3)
    torch.manual_seed(9)
    assert torch.equal(graph(x), expected)
    assert not torch.equal(graph(x), expected)


def test_make_fx_records_gradients() -> None:
    def gradient(x: Tensor) -> Tensor:
        y = F.dropout(x, 0.3, key=KEY).square().sum()
        return torch.autograd.grad(y, x)[0]

    x = numbers(3, 4).requires_grad_()
    graph = make_fx(gradient)(x)
    assert graph.code.count("fastdrop.mask") == 2
    assert torch.equal(graph(x), gradient(x))


@pytest.mark.parametrize("strict", [False, True])
def test_export_of_a_model_in_training(strict: bool) -> None:
    block, x = Block(), numbers(3, 8)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(block, (x,), dynamic_shapes=({0: batch},), strict=strict)
    assert program.graph_module.code.count("fastdrop.mask") == 2
    run = program.module()
    for given in (x, numbers(7, 8)):
        torch.manual_seed(3)
        expected = block(given)
        torch.manual_seed(3)
        y = run(given)
        assert torch.equal(y == 0, expected == 0)
        torch.testing.assert_close(y, expected)
        assert not torch.equal(run(given), y)  # other keys in every call
    y.sum().backward()
    assert all(p.grad is not None for p in run.parameters())


def test_export_of_a_model_in_evaluation_has_no_dropout() -> None:
    program = torch.export.export(Block().eval(), (numbers(3, 8),))
    assert "fastdrop" not in program.graph_module.code


def test_functional_call_and_deepcopies() -> None:
    block, x = Block(), numbers(3, 8)
    twin = copy.deepcopy(block)
    torch.manual_seed(3)
    expected = block(x)
    calls: list[Callable[[], Tensor]] = [
        lambda: twin(x),
        lambda: torch.func.functional_call(block, dict(block.named_parameters()), (x,)),
    ]
    for call in calls:
        torch.manual_seed(3)
        assert torch.equal(call(), expected)


def test_stacked_models_by_vmap() -> None:
    blocks = [Block() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(blocks)  # type: ignore[arg-type]
    x = numbers(4, 8)

    def run(parameters: Any, buffers: Any, x: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(blocks[0], (parameters, buffers), (x,))
        return y

    stacked = torch.func.vmap(run, in_dims=(0, 0, None), randomness="different")
    y = stacked(parameters, buffers, x)
    masks = (y == 0).unbind()
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])
    same = torch.func.vmap(run, in_dims=(0, 0, None), randomness="same")(parameters, buffers, x)
    masks = (same == 0).unbind()
    assert torch.equal(masks[0], masks[1]) and torch.equal(masks[1], masks[2])
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(run, in_dims=(0, 0, None))(parameters, buffers, x)
