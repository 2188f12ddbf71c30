"""What compilers are told of results on a GPU, without one; and dropout under autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import fastdrop.torch as fdt
from fastdrop.torch import functional as F

CALLS: dict[str, Callable[[Any], Any]] = {
    "dropout": lambda x: F.dropout(x, 0.3),
    "dropout by a key": lambda x: F.dropout(x, 0.3, key=5),
    "dropout by a tensor": lambda x: F.dropout(x, 0.3, key=torch.zeros(2, dtype=torch.int64)),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.3, True),
    "masked_fill": lambda x: F.masked_fill(x, 0.3, 1.0),
    "drop_path": lambda x: F.drop_path(x, 0.3),
    "softmax_dropout": lambda x: F.softmax_dropout(x, 0.3),
    "bias_act_dropout_add": lambda x: F.bias_act_dropout_add(x, x, "gelu", 0.3, residual=x),
    "a module": lambda x: fdt.Dropout(0.3, key=7)(x),
}
# Strides of tensors of this shape.
SHAPE = 2, 3, 4, 6
LAYOUTS = {
    "contiguous": (72, 24, 6, 1),
    "channels_last": (72, 1, 18, 3),
    "permuted": (1, 48, 2, 8),
    "expanded": (24, 0, 6, 1),
    "strided": (144, 48, 12, 2),
}


def zeros(layout: str, device: str = "cpu") -> Any:
    """Return a tensor of a layout. More of torch works on no fake tensor without CUDA."""
    x = torch.empty_strided(SHAPE, LAYOUTS[layout], device=device)
    return x if device == "cuda" else x.zero_()


def fake_tensors() -> Any:
    """Let tensors have all that tensors have, but memory: so there are those of a GPU, too."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_fake_results_lie_on_the_gpu_as_real_ones_do_here(name: str, layout: str) -> None:
    real = CALLS[name](zeros(layout))
    with fake_tensors(), torch.no_grad():
        fake = CALLS[name](zeros(layout, "cuda"))
        assert fake.device == torch.device("cuda", 0)
    assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_gradients_lie_on_the_gpu_as_real_ones_do_here(layout: str) -> None:
    """By the operators: a torch without CUDA aborts where gradients are recorded there."""

    def gradients(device: str) -> list[Any]:
        x, key, of = zeros(layout, device), fdt.draw_key(), torch.ops.fastdrop
        dy, bias = torch.ones_like(x), torch.ones(6, device=device)
        softmax = of.softmax_dropout_backward(dy, x, key, -1, 0.3, None, [0], None)
        both = of.bias_act_dropout_add_backward(dy, x, bias, key, "gelu", 0.3, None, [0], None)
        return [softmax, *both]

    with fake_tensors(), torch.no_grad():
        fake = gradients("cuda")
        assert {one.device for one in fake} == {torch.device("cuda", 0)}
    with torch.no_grad():
        for one, real in zip(fake, gradients("cpu"), strict=True):
            assert (one.shape, one.stride(), one.dtype) == (real.shape, real.stride(), real.dtype)


def test_keys_lie_on_the_cpu_whatever_the_default_device_is() -> None:
    with fake_tensors(), torch.device("cuda"), torch.no_grad():
        x = torch.ones(4)
        assert x.is_cuda and F.dropout(x, 0.3).is_cuda and F.dropout_mask(4, 0.3).is_cuda
        assert fdt.draw_key().is_cpu
        assert torch.ops.fastdrop.draw_key(torch.empty(0), x).is_cpu
        module = fdt.Dropout(0.3, key=5)
        assert module.key is not None and module.key.is_cpu


def test_operators_are_left_out_of_cuda_graphs() -> None:
    """Where a compiler makes those itself, of kernels that it takes to repeat well."""
    if not hasattr(torch.Tag, "cudagraph_unsafe"):
        pytest.skip(f"torch {torch.__version__} has no tag for them")
    names = [name for name in torch._C._dispatch_get_all_op_names() if "fastdrop::" in name]
    assert len(names) == 6
    for name in names:
        operator = getattr(torch.ops.fastdrop, name.removeprefix("fastdrop::")).default
        assert torch.Tag.cudagraph_unsafe in operator.tags


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_autocast_changes_no_dtype_as_it_changes_none_of_torchs_dropout(dtype: Any) -> None:
    x = torch.ones(4, 8, dtype=dtype, requires_grad=True)
    for call in CALLS.values():
        expected = call(x).detach()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.nn.functional.dropout(x, 0.3).dtype == dtype
            y = call(x)
        assert y.dtype == dtype and y.shape == expected.shape
        (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
        assert dx.dtype == dtype


def test_autocast_gives_dropout_what_a_product_gives() -> None:
    x, w = torch.ones(4, 8), torch.ones(8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = F.dropout(torch.nn.functional.linear(x, w), 0.3, key=3)
        z = F.bias_act_dropout_add(torch.nn.functional.linear(x, w), None, "relu", 0.3, key=3)
    assert y.dtype == z.dtype == torch.bfloat16 and torch.equal(y, z)
    y.float().sum().backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None and w.grad.dtype == torch.float32
