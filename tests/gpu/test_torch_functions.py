"""On a GPU: fastdrop.torch gives the masks of the CPU, on torch's stream, in graphs, compiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.gpu.test_streams import LONG, spin
from tests.support import oracle
from tests.support.devices import Device, library, need_a_gpu

need_a_gpu()
torch = library("torch")
import fastdrop.torch as fdt  # noqa: E402  # which imports torch
from fastdrop.torch import functional as F  # noqa: E402

pytestmark = pytest.mark.gpu

KEY = fd.Key(2**63 + 42, 7)
SHAPE = 48, 1030
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
Call = Callable[[Any], Any]
# Those of which the GPU's results have the bits of the CPU's, and the others.
EXACT: dict[str, Call] = {
    "dropout": lambda x: F.dropout(x, 0.3, key=KEY),
    "dropout, a shard": lambda x: F.dropout(
        x, 0.3, key=KEY, offset=(1, 8), global_shape=(64, 2000)
    ),
    "feature_dropout": lambda x: F.feature_dropout(x[..., None, :], 0.3, key=KEY),
    "drop_path": lambda x: F.drop_path(x, 0.3, key=KEY),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.3, True, key=KEY),
    "masked_fill": lambda x: F.masked_fill(x, 0.3, -1.5, key=KEY),
    "relu": lambda x: F.bias_act_dropout_add(x, None, "relu", 0.3, key=KEY, residual=x),
}
CLOSE: dict[str, Call] = {
    "softmax_dropout": lambda x: F.softmax_dropout(x, 0.3, key=KEY),
    "gelu": lambda x: F.bias_act_dropout_add(x, x[0].detach(), "gelu", 0.3, key=KEY, residual=x),
}
LAYOUTS: dict[str, Call] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.t().contiguous().t(),
    "strided": lambda x: x.repeat_interleave(2, 1)[:, ::2],
}


def numbers(dtype: Any = torch.float32, shape: tuple[int, ...] = SHAPE) -> Any:
    made = np.random.default_rng(3).standard_normal(shape)
    return torch.from_numpy(made).to(dtype)


def same(found: Any, expected: Any) -> None:
    """Compare bits, layout and device apart."""
    both = [x.detach().cpu().contiguous().view(torch.uint8) for x in (found, expected)]
    assert found.dtype == expected.dtype and torch.equal(*both)


def gradients(call: Call, x: Any) -> tuple[Any, Any]:
    x = x.detach().requires_grad_()
    y = call(x)
    dy = numbers(x.dtype, tuple(y.shape)).flip(-1).to(x.device)
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [(dtype, "contiguous") for dtype in DTYPES] + [(torch.float32, name) for name in LAYOUTS][1:],
    ids=str,
)
@pytest.mark.parametrize("name", [*EXACT, *CLOSE])
def test_results_and_gradients_are_the_cpus(
    gpu: Device, name: str, dtype: Any, layout: str
) -> None:
    x, call = LAYOUTS[layout](numbers(dtype)), {**EXACT, **CLOSE}[name]
    there = torch.empty_strided(x.shape, x.stride(), dtype=dtype, device="cuda").copy_(x)
    for found, expected in zip(gradients(call, there), gradients(call, x), strict=True):
        assert found.is_cuda and found.stride() == expected.stride()
        if name in EXACT:
            same(found, expected)
        else:
            torch.testing.assert_close(found.cpu(), expected)


def test_bias_gradients_are_in_torchs_memory(gpu: Device) -> None:
    x = numbers()
    used = gpu.cupy.get_default_memory_pool().used_bytes()
    for shape in ((1030,), (48, 1), (), SHAPE):
        both = []
        for device in ("cpu", "cuda"):
            bias = numbers(shape=shape).to(device).requires_grad_()
            y = F.bias_act_dropout_add(x.to(device), bias, "gelu", 0.3, key=KEY)
            both.append(torch.autograd.grad(y, bias, x.to(device))[0].cpu())
        torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)
    assert gpu.cupy.get_default_memory_pool().used_bytes() == used


def test_the_backward_keeps_nothing_on_the_gpu(gpu: Device) -> None:
    x = torch.ones(1 << 20, device="cuda", requires_grad=True)
    F.dropout(x, 0.3)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    y = F.dropout(x, 0.3)
    assert y.grad_fn is not None and torch.cuda.memory_allocated() - before == 4 << 20


def test_in_place_masks_and_torchs_generator(gpu: Device) -> None:
    x = numbers().cuda()
    y = x.clone()
    assert F.dropout(y, 0.3, True, True, key=KEY) is y
    same(y, torch.from_numpy(oracle.dropped(numbers().numpy(), 0.3, KEY)))
    kept = F.dropout_mask(SHAPE, 0.3, key=KEY, device="cuda")
    same(kept, torch.from_numpy(oracle.mask(SHAPE, 0.3, KEY)))
    masks = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(5)
        masks.append(F.dropout(numbers().to(device), 0.3))
    same(*masks)


class Handle:
    def __init__(self, stream: Any) -> None:
        self.handle = stream.cuda_stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def delay(gpu: Device, stream: Any) -> None:
    """Let a stream of torch's be busy for a while."""
    cuda = gpu.cupy.cuda
    if hasattr(cuda.Stream, "from_external"):
        mine = cuda.Stream.from_external(Handle(stream))
    else:
        mine = cuda.ExternalStream(stream.cuda_stream)
    with mine:
        spin()((1,), (1,), (np.int64(LONG),))


@pytest.mark.parametrize("name", ["dropout", "softmax_dropout", "gelu"])
@pytest.mark.parametrize("where", ["a side stream", "the default stream"])
def test_calls_are_in_torchs_order_and_wait_for_nothing(gpu: Device, name: str, where: str) -> None:
    call = {**EXACT, **CLOSE}[name]
    values, dy = numbers().cuda(), numbers().flip(0).cuda()
    expected = gradients(call, values)
    late = torch.full_like(values, np.nan)
    stream = torch.cuda.Stream() if where == "a side stream" else torch.cuda.default_stream()
    spin()((1,), (1,), (np.int64(1),))
    with torch.cuda.stream(stream):
        gradients(call, late)  # so that the kernels are loaded
        late.fill_(float("nan"))
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        delay(gpu, stream)
        late.copy_(values)
        x = late.detach().requires_grad_()
        y = call(x)
        delay(gpu, stream)
        (dx,) = torch.autograd.grad(y, x, dy)
        assert not stream.query(), "the host has waited"
        found = y.detach().clone(), dx.clone()
        late.fill_(77)
    torch.cuda.synchronize()
    same(found[0], expected[0])
    again = values.clone().requires_grad_()
    same(found[1], torch.autograd.grad(call(again), again, dy)[0])


def test_a_key_on_the_gpu_is_not_waited_for(gpu: Device) -> None:
    x = numbers().cuda()
    key = torch.tensor([3, 4], device="cuda")
    F.dropout(x, 0.3, key=key)
    generator = torch.Generator("cuda").manual_seed(1)
    F.dropout(x, 0.3, key=generator)
    torch.cuda.synchronize()
    stream = torch.cuda.current_stream()
    delay(gpu, stream)
    key[1] += 1
    y = F.dropout(x, 0.3, key=key)
    z = F.dropout(x, 0.3, key=generator.manual_seed(1))
    assert not stream.query(), "the host has waited"
    same(y, torch.from_numpy(oracle.dropped(numbers().numpy(), 0.3, fd.Key(3, 5))))
    same(z, F.dropout(x, 0.3, key=fdt.draw_key(generator.manual_seed(1))))
    same(F.dropout(numbers(), 0.3, key=key), y)  # on the CPU, which waits for the key


def test_a_graph_draws_new_masks_of_torchs_generator(gpu: Device) -> None:
    x, dy = numbers().cuda().requires_grad_(), torch.ones(SHAPE, device="cuda")

    def step() -> tuple[Any, Any]:
        y = F.dropout(x, 0.3)
        return y.detach(), torch.autograd.grad(y, x, dy)[0]

    graph, (y, dx) = captured(step)
    masks = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        for _ in range(2):
            graph.replay()
            torch.cuda.synchronize()
            kept = dx != 0
            scaled = x.detach() * np.float32(1 / 0.7)
            same(y, torch.where(kept, scaled, torch.zeros_like(scaled)))
            assert 0.68 < kept.float().mean() < 0.72
            masks.append(kept.cpu())
    first, second, third, fourth, again, and_again = masks
    assert torch.equal(first, again) and torch.equal(second, and_again)
    assert not any(torch.equal(first, other) for other in (second, third, fourth))


def test_a_graph_counts_a_key_in_its_memory(gpu: Device) -> None:
    x, dy = numbers().cuda().requires_grad_(), numbers().flip(0).cuda()
    key = torch.tensor([KEY.seed - 2**64, KEY.stream], device="cuda")

    def step() -> tuple[Any, Any]:
        y = F.softmax_dropout(x, 0.3, key=key)
        z = F.bias_act_dropout_add(y, y[0].detach(), "relu", 0.3, key=key, residual=dy)
        results = z.detach(), torch.autograd.grad(z, x, dy)[0]
        key[1] += 1
        return results

    graph, found = captured(step)
    for n in range(3):
        key[1] = KEY.stream + n
        expected = step()
        key[1] = KEY.stream + n
        graph.replay()
        torch.cuda.synchronize()
        assert key[1] == KEY.stream + n + 1
        for mine, eager in zip(found, expected, strict=True):
            same(mine, eager)


def captured(step: Callable[[], Any]) -> tuple[Any, Any]:
    """Capture a step in a graph, after one that loads its kernels; return both."""
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    return graph, found


def test_a_key_on_the_host_is_an_error_in_a_capture(gpu: Device) -> None:
    x = numbers().cuda()
    module = fdt.Dropout(0.3, key=KEY)
    module(x)
    torch.cuda.synchronize()
    for call in (lambda: F.dropout(x, 0.3, key=KEY), lambda: module(x)):
        with (
            pytest.raises(RuntimeError, match="replay would draw the same mask"),
            torch.cuda.graph(torch.cuda.CUDAGraph()),
        ):
            call()
    torch.cuda.synchronize()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_compute_the_same_mask_again(gpu: Device, reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    x = torch.ones(SHAPE, device="cuda", requires_grad=True)
    y = checkpoint(lambda x: F.dropout(x * 2, 0.3), x, use_reentrant=reentrant)
    (dx,) = torch.autograd.grad(y.sum(), x) if not reentrant else (None,)
    if dx is None:
        y.sum().backward()
        dx = x.grad
    same(dx, y)


def test_autocast_is_as_torchs(gpu: Device) -> None:
    x, w = torch.ones(64, 64, device="cuda"), torch.ones(64, 64, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        assert F.dropout(x, 0.3).dtype == torch.nn.functional.dropout(x, 0.3).dtype
        y = F.dropout(torch.nn.functional.linear(x, w), 0.3)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()  # type: ignore[no-untyped-call]
    assert w.grad.dtype == torch.float32


def test_a_converted_model_trains(gpu: Device) -> None:
    nn = torch.nn
    losses: list[list[float]] = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        model = fdt.convert(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.5)))
        model.append(nn.Linear(32, 1))
        model.to(device)
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        x = numbers(shape=(64, 8)).to(device)
        losses.append([])
        for _ in range(5):
            loss = ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[-1].append(loss.item())
    np.testing.assert_allclose(
        losses[0], losses[1], rtol=1e-3
    )  # the same masks, and products of other orders


def test_another_device_than_the_current_one(gpu: Device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU only")
    x = numbers().to("cuda:1")
    for found, expected in zip(
        gradients(EXACT["dropout"], x), gradients(EXACT["dropout"], numbers()), strict=True
    ):
        assert found.device == x.device
        same(found, expected)
    assert torch.cuda.current_device() == 0
    same(F.dropout(x, 0.3, key=torch.tensor([3, 4], device="cuda:0")),
         F.dropout(numbers(), 0.3, key=fd.Key(3, 4)))  # fmt: skip


def need_a_compiler() -> None:
    pytest.importorskip("triton", reason="Triton is not here to compile for the GPU")
    if not shutil.which("gcc") and not shutil.which("cc"):
        pytest.skip("there is no C compiler, which Triton needs")


def test_compiled_code_has_the_masks_of_its_keys(gpu: Device) -> None:
    need_a_compiler()

    def block(x: Any, key: Any) -> Any:
        y = F.dropout(x * 2, 0.3, key=key)
        z = F.bias_act_dropout_add(y, None, "relu", 0.3, key=key, residual=x)
        return F.softmax_dropout(z, 0.3, key=key) + F.dropout(z, 0.0)

    compiled: Any = torch.compile(block, fullgraph=True)
    x, dy = numbers().cuda().requires_grad_(), numbers().flip(0).cuda()
    for key in (fdt.draw_key(), torch.tensor([3, 4], device="cuda")):
        for function in (block, compiled):
            y = function(x, key)
            found = y.detach(), torch.autograd.grad(y, x, dy)[0]
            if function is block:
                expected = found
        for mine, eager in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_code_draws_a_new_mask_at_each_call(gpu: Device, mode: str) -> None:
    """Where graphs of CUDA's are made of the rest, too."""
    need_a_compiler()

    def block(x: Any) -> Any:
        return F.dropout(F.dropout(x * 2, 0.3) + 1, 0.3) * 3

    compiled: Any = torch.compile(block, mode=mode)
    masks = []
    for n in range(6):
        x = torch.ones(SHAPE, device="cuda", requires_grad=True)
        torch.manual_seed(n % 5)
        y = compiled(x)
        (dx,) = torch.autograd.grad(y.sum(), x)
        # Both dropouts kept it: (2 / 0.7 + 1) / 0.7 * 3; if only the second one did: 3 / 0.7.
        kept = y.detach() > 3 / 0.7 + 1
        assert torch.equal(dx != 0, kept)
        masks.append(kept.cpu())
    assert torch.equal(masks[0], masks[5])
    assert not any(torch.equal(masks[0], other) for other in masks[1:5])
