"""Functions of fastdrop.torch on tensors of a GPU: their streams, their keys, and their results.

The tensors only say where they lie (`tests.support.tensors`); the kernels are CUDA's, compiled for
the host. tests/gpu/test_torch_functions.py has the same promises on a GPU.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.devices import HostDevice, cupy_or_skip

cupy_or_skip()
torch = pytest.importorskip("torch", reason="torch is not installed")

import fastdrop.torch as fdt  # noqa: E402  # which imports torch
from fastdrop.torch import _cuda  # noqa: E402
from fastdrop.torch import functional as F  # noqa: E402
from tests.support import internals, oracle  # noqa: E402
from tests.support.tensors import CUPY, TORCH, Tensors, capture, tensors_on_gpu  # noqa: E402

KEY = fd.Key(2**63 + 42, 7)
SHAPE = 6, 40
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T.contiguous().T,
    "strided": lambda x: x.repeat_interleave(2, 1)[:, ::2],
}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture
def launcher(cuda_on_host: Any, host: HostDevice) -> Any:
    """What runs the launches of the CUDA kernels on the host."""
    return cuda_on_host


@pytest.fixture
def tensors(host: HostDevice, launcher: Any) -> Iterator[Tensors]:
    """Tensors on a GPU, whose kernels run at once."""
    with tensors_on_gpu(host, launcher) as all_of_them:
        yield all_of_them


def numbers(dtype: Any = torch.float32, shape: tuple[int, ...] = SHAPE) -> Any:
    made = np.random.default_rng(3).standard_normal(shape)
    return torch.from_numpy(made).to(dtype)


def same(found: Any, expected: Any) -> None:
    """Compare bits."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.stride() == expected.stride()
    assert torch.equal(
        found.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8)
    )


# What is called, and whether its results have the bits of the CPU.
Call = tuple[Callable[..., Any], bool]
CALLS: dict[str, Call] = {
    "dropout": (lambda x: F.dropout(x, 0.3, key=KEY), True),
    "dropout, a factor": (lambda x: F.dropout(x, 0.3, key=KEY, scale=2.5), True),
    "dropout, a shard": (
        lambda x: F.dropout(x, 0.3, key=KEY, offset=(1, 8), global_shape=(9, 64)),
        True,
    ),
    "all dropped": (lambda x: F.dropout(x, 1.0, key=KEY), True),
    "feature_dropout": (lambda x: F.feature_dropout(x[..., None, :], 0.3, key=KEY), True),
    "drop_path": (lambda x: F.drop_path(x, 0.3, key=KEY), True),
    "alpha_dropout": (lambda x: F.alpha_dropout(x, 0.3, True, key=KEY), True),
    "masked_fill": (lambda x: F.masked_fill(x, 0.3, -1.5, key=KEY), True),
    "softmax_dropout": (lambda x: F.softmax_dropout(x, 0.3, key=KEY), False),
    "bias_act_dropout_add": (
        lambda x: F.bias_act_dropout_add(x, x[0].detach(), "gelu", 0.3, key=KEY, residual=x),
        False,
    ),
    "relu": (
        lambda x: F.bias_act_dropout_add(x, x[0].detach(), "relu", 0.3, key=KEY, residual=x),
        True,
    ),
    "no activation": (
        lambda x: F.bias_act_dropout_add(x, x[0].detach(), p=0.3, key=KEY, residual=x),
        True,
    ),
}
EXACT = [name for name, (_, exact) in CALLS.items() if exact]


def forward_and_backward(call: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    x = x.detach().requires_grad_()
    y = call(x)
    dy = numbers(x.dtype, tuple(y.shape)).flip(-1)
    (dx,) = torch.autograd.grad(y, x, dy)
    return y.detach(), dx


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients_are_the_cpus_on_torchs_stream(
    host: HostDevice, launcher: Any, name: str, layout: str
) -> None:
    call, exact = CALLS[name]
    x = LAYOUTS[layout](numbers())
    expected = forward_and_backward(call, x)
    with tensors_on_gpu(host, launcher) as tensors:
        found = forward_and_backward(call, x)
        # A forward and a backward, launched where torch's work is, with neither events nor waits.
        assert tensors.launches() == [TORCH] * 2
    for mine, cpus in zip(found, expected, strict=True):
        assert mine.stride() == cpus.stride()
        if exact:
            same(mine, cpus)
        else:
            torch.testing.assert_close(mine, cpus, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_has_the_cpus_bits(host: HostDevice, launcher: Any, dtype: Any) -> None:
    for name in ("dropout", "masked_fill"):
        expected = forward_and_backward(CALLS[name][0], numbers(dtype))
        with tensors_on_gpu(host, launcher):
            found = forward_and_backward(CALLS[name][0], numbers(dtype))
        for mine, cpus in zip(found, expected, strict=True):
            same(mine, cpus)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int16, torch.int64, torch.uint8, torch.complex64], ids=str
)
def test_masks_and_fills_of_any_dtype(host: HostDevice, launcher: Any, dtype: Any) -> None:
    x = (numbers() * 9).to(dtype)
    value = dtype == torch.bool or 1
    expected = F.masked_fill(x, 0.3, value, key=KEY)
    kept = F.dropout_mask(SHAPE, 0.3, key=KEY)
    with tensors_on_gpu(host, launcher) as tensors:
        same(F.masked_fill(x, 0.3, value, key=KEY), expected)
        same(F.dropout_mask(SHAPE, 0.3, key=KEY), kept)
        assert tensors.launches() == [TORCH] * 2


def test_in_place(tensors: Tensors) -> None:
    x = numbers()
    before = x.clone()
    y = x.clone()
    assert F.dropout(y, 0.3, True, True, key=KEY) is y
    z = before.clone().requires_grad_()
    w = z * 1
    assert F.dropout(w, 0.3, True, True, key=KEY) is w
    (dz,) = torch.autograd.grad(w, z, before)
    expected = torch.from_numpy(oracle.dropped(before.numpy(), 0.3, KEY))
    for found in (y, w.detach(), dz):
        same(found, expected)
    assert tensors.launches() == [TORCH] * 3


def test_launches_come_after_what_torch_has_launched_before(
    host: HostDevice, launcher: Any
) -> None:
    """With no events, a stream's own order is all there is."""
    x, dy = numbers(), numbers().flip(0)
    values = x.clone()
    with tensors_on_gpu(host, launcher, at_once=False) as tensors:
        late = torch.full_like(x, np.nan).requires_grad_()
        with torch.no_grad():
            tensors.timeline.put(TORCH, lambda: late.data.numpy().__setitem__(..., values.numpy()))
        y = F.dropout(late, 0.3, key=KEY)
        (dx,) = torch.autograd.grad(y, late, dy)
        read: list[Any] = []
        tensors.timeline.put(TORCH, lambda: read.append((y.detach().clone(), dx.clone())))
        tensors.timeline.run((CUPY, TORCH))
    ((y, dx),) = read
    same(y, torch.from_numpy(oracle.dropped(values.numpy(), 0.3, KEY)))
    same(dx, torch.from_numpy(oracle.dropped(dy.numpy(), 0.3, KEY)))


def test_sums_of_a_bias_are_torchs(host: HostDevice, launcher: Any) -> None:
    """So that torch's allocator knows their memory."""

    def gradients(shape: tuple[int, ...]) -> Any:
        x, bias = numbers(), numbers(shape=shape).requires_grad_()
        y = F.bias_act_dropout_add(x, bias, "relu", 0.3, key=KEY, residual=x)
        return torch.autograd.grad(y, bias, numbers().flip(0))[0]

    for shape in ((40,), (6, 1), (1, 40), (), SHAPE):
        expected = gradients(shape)
        with tensors_on_gpu(host, launcher) as tensors:
            torch.testing.assert_close(gradients(shape), expected, rtol=1e-6, atol=1e-6)
            assert tensors.launches() == [TORCH] * 2


def test_negated_and_conjugated_views(tensors: Tensors) -> None:
    x = numbers(torch.complex64).conj()
    assert x.imag.is_neg()
    expected = np.where(oracle.mask(SHAPE, 0.3, KEY), x.resolve_conj().numpy(), 0)
    same(F.masked_fill(x, 0.3, 0, key=KEY), torch.from_numpy(expected))
    values = x.imag.resolve_neg()
    found = F.dropout(x.imag, 0.3, key=KEY)
    oracle.assert_same(found.contiguous().numpy(), oracle.dropped(values.numpy(), 0.3, KEY))


def test_sizes_without_elements_or_axes(tensors: Tensors) -> None:
    for shape in ((0,), (3, 0, 2), ()):
        x = torch.ones(shape)
        assert F.dropout(x, 0.3, key=KEY).shape == shape
        assert F.bias_act_dropout_add(x, x, p=0.3, key=KEY).shape == shape
        if shape:
            assert F.softmax_dropout(x, 0.3, key=KEY).shape == shape


def test_a_call_like_an_earlier_one_has_a_plan(
    tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = numbers()
    F.dropout(x, 0.3, key=KEY)

    def planned(*anything: Any, **more: Any) -> Any:
        raise AssertionError("this was planned before")

    backend = internals.cupy_arrays.CupyBackend
    monkeypatch.setattr(backend, "plan", planned)
    monkeypatch.setattr(backend, "apply", planned)
    F.dropout(numbers(), 0.3, key=5)
    F.dropout(numbers(), 0.3, key=tensors.move(torch.tensor([1, 2])))
    assert tensors.launches() == [TORCH] * 3


def test_a_tensor_of_another_device_has_its_stream_and_makes_it_current(
    host: HostDevice, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = numbers()
    expected = F.dropout(x, 0.3, key=KEY)
    seen: list[int] = []
    with tensors_on_gpu(host, launcher) as tensors:
        launch = tensors.timeline.launch

        def at_device(action: Any) -> None:
            seen.append(host.cupy.cuda.runtime.getDevice())
            launch(action)

        monkeypatch.setattr(tensors.timeline, "launch", at_device)
        monkeypatch.setattr(torch, "empty_like", lambda x: tensors.move(x.new_empty(x.shape), 1))
        tensors.move(x, 1)
        for _ in range(2):
            same(F.dropout(x, 0.3, key=KEY), expected)
        assert tensors.launches() == [TORCH + 1] * 2 and seen == [1, 1]
        assert host.cupy.cuda.runtime.getDevice() == 0


def test_cupys_stream_comes_back_after_an_error(
    tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*anything: Any) -> None:
        raise ValueError("no memory")

    monkeypatch.setattr(tensors.timeline, "launch", fail)
    for call, _ in CALLS.values():
        with pytest.raises(ValueError, match="no memory"):
            call(numbers())
        assert tensors.timeline.current == CUPY


def test_torchs_generator_gives_the_masks_of_the_cpu(host: HostDevice, launcher: Any) -> None:
    torch.manual_seed(1)
    expected = F.dropout(numbers(), 0.3)
    module = fdt.Dropout(0.3, key=KEY)
    of_module = [module(numbers()) for _ in range(2)]
    with tensors_on_gpu(host, launcher):
        torch.manual_seed(1)
        same(F.dropout(numbers(), 0.3), expected)
        module = fdt.Dropout(0.3, key=KEY)
        for one in of_module:
            same(module(numbers()), one)


def test_a_key_on_the_gpu_is_read_by_the_kernels(
    tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(*anything: Any) -> Any:
        raise AssertionError("reading it here would wait for the GPU")

    monkeypatch.setattr(torch.Tensor, "tolist", waits)
    signed = [KEY.seed - 2**64, KEY.stream]
    keys = torch.tensor([[5, signed[0]], [6, signed[1]]])
    values = numbers()
    expected = torch.from_numpy(oracle.dropped(values.numpy(), 0.3, KEY))
    for key in (tensors.move(torch.tensor(signed)), tensors.move(keys[:, 1])):
        if not key.is_contiguous():  # the copy is on the GPU, as it is
            monkeypatch.setattr(
                key.__class__,
                "contiguous",
                lambda x: tensors.move(x.clone(memory_format=torch.contiguous_format)),
            )
        x = values.clone().requires_grad_()
        y = F.dropout(x, 0.3, key=key)
        same(y.detach(), expected)
        same(torch.autograd.grad(y, x, values)[0], expected)


def test_a_key_that_changes_before_the_backward_is_an_error(tensors: Tensors) -> None:
    key = tensors.move(torch.tensor([1, 2]))
    x = numbers().requires_grad_()
    y = F.dropout(x, 0.3, key=key)
    key[1] += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y, x, numbers())


def test_a_generator_on_the_gpu_is_not_waited_for(tensors: Tensors) -> None:
    class Generator(torch.Generator):  # type: ignore[name-defined,misc]
        device = torch.device("cuda", 0)

    y = F.dropout(numbers(), 0.3, key=Generator())
    (key,) = tensors.drawn
    assert key.is_cuda
    same(y, torch.from_numpy(oracle.dropped(numbers().numpy(), 0.3, fdt.key_of(key))))


@pytest.mark.parametrize("name", ["dropout", "softmax_dropout", "bias_act_dropout_add"])
def test_a_graph_draws_a_key_of_its_own_at_each_replay(
    host: HostDevice, launcher: Any, name: str
) -> None:
    calls: dict[str, Callable[..., Any]] = {
        "dropout": lambda x, key: F.dropout(x, 0.3, key=key),
        "softmax_dropout": lambda x, key: F.softmax_dropout(x, 0.3, key=key),
        "bias_act_dropout_add": lambda x, key: F.bias_act_dropout_add(
            x, bias, "relu", 0.3, key=key, residual=dy
        ),
    }
    call = calls[name]
    x, dy = numbers().requires_grad_(), numbers().flip(0)  # which live as long as the graph
    bias = dy[0]

    def gradient(key: Any) -> tuple[Any, Any]:
        y = call(x, key)
        return y.detach(), torch.autograd.grad(y, x, dy)[0]

    keys = [fd.Key(2**64 - 5, 9), fd.Key(1, 2)]
    expected = [gradient(key) for key in keys]
    with tensors_on_gpu(host, launcher) as tensors, capture(tensors) as replay:
        y, dx = gradient(None)
        (key,) = tensors.drawn
        assert key.is_cuda
        for words, (of_y, of_dx) in zip(keys, expected, strict=True):
            key.numpy().view(np.uint64)[:] = words  # as the captured draw would
            replay()
            torch.testing.assert_close(y, of_y, rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(dx, of_dx, rtol=1e-5, atol=1e-7)


def test_a_key_on_the_host_is_an_error_in_a_capture(tensors: Tensors) -> None:
    module = fdt.Dropout(0.3, key=KEY)
    before = numbers().requires_grad_()
    y = F.dropout(before, 0.3, key=KEY)
    with capture(tensors) as replay:
        match = "replay would draw the same mask.*torch's generator on the GPU.*device='cuda'"
        match += ".*fastdrop.cuda.DeviceKey"
        for call in (lambda: F.dropout(numbers(), 0.3, key=KEY), lambda: module(numbers())):
            with pytest.raises(RuntimeError, match=match):
                call()
        with pytest.raises(RuntimeError, match=match):
            torch.autograd.grad(y, before, numbers())
        # Without dropout there is no mask to repeat.
        y = F.bias_act_dropout_add(before.detach(), before[0].detach(), p=0.0, key=KEY)
        replay()
    same(y, before.detach() + before[0].detach())


def test_a_device_key_is_an_error_that_names_a_tensor(tensors: Tensors) -> None:
    with pytest.raises(TypeError, match=r"key is a DeviceKey.*torch\.tensor\(\[seed, stream\]"):
        F.dropout(numbers(), 0.3, key=fd.cuda.DeviceKey(KEY))  # type: ignore[arg-type]


def test_without_cupy_an_error_says_what_to_install_and_draws_nothing(
    tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_module = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'", name="cupy")
        return import_module(name, *more)

    internals.cupy_arrays.cupy_backend.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    state = torch.get_rng_state()
    with pytest.raises(
        ImportError, match=r"tensor on a GPU.*pip install 'fastdrop-kernels\[cuda13"
    ):
        F.dropout(numbers(), 0.3)
    assert torch.equal(state, torch.get_rng_state())


def test_cupy_13_has_no_bfloat16(tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals.cupy_views(), "_MAY_CRASH", True)
    state = torch.get_rng_state()
    with pytest.raises(TypeError, match=r"input has dtype bfloat16.*>=14' ml_dtypes.*input\.float"):
        F.dropout(numbers(torch.bfloat16), 0.3)
    assert torch.equal(state, torch.get_rng_state())
    assert tensors.launches() == []


def test_other_devices_are_an_error() -> None:
    class Elsewhere:
        is_cpu = is_cuda = False
        device = torch.device("mps", 0)

    with pytest.raises(NotImplementedError, match=r"device mps:0.*input\.cpu\(\)"):
        _cuda.check(Elsewhere())  # type: ignore[arg-type]
