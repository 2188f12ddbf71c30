"""On a GPU: arrays of other libraries, through DLPack and __cuda_array_interface__."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import gpu_cases, oracle
from tests.support.devices import Device, library, need_a_gpu, numba_cuda_complaint
from tests.support.gpu_cases import KEY
from tests.support.internals import cupy_arrays

need_a_gpu()
pytestmark = pytest.mark.gpu


@pytest.fixture
def torch(gpu: Device) -> Any:
    return library("torch")


@pytest.fixture
def numba_cuda(gpu: Device) -> Any:
    return library("numba.cuda")


class Interfaced:
    """An array of a library that only says where it lies."""

    def __init__(self, x: Any, frozen: bool = False) -> None:
        self.kept = x
        self.__cuda_array_interface__ = dict(x.__cuda_array_interface__)
        self.__cuda_array_interface__["data"] = (x.data.ptr, frozen)


class Exchanged:
    """An array of a library that speaks DLPack alone."""

    def __init__(self, x: Any) -> None:
        self.kept = x

    def __dlpack__(self, **how: Any) -> Any:
        return self.kept.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self.kept.__dlpack_device__()


@pytest.mark.parametrize("kind", [Interfaced, Exchanged])
def test_what_cupy_can_view_gives_a_cupy_array(gpu: Device, kind: Any) -> None:
    x = gpu_cases.numbers("float32")
    for put, mine in ((gpu.put(x), x), (gpu.put(x).T, x.T), (gpu.put(x)[::2, 3:], x[::2, 3:])):
        foreign = kind(put)
        y = fd.dropout(foreign, 0.3, rng=KEY)
        assert type(y) is gpu.cupy.ndarray
        expected = oracle.dropped(mine, 0.3, KEY)
        oracle.assert_same(np.ascontiguousarray(gpu.get(y)), np.ascontiguousarray(expected))
        assert fd.dropout(foreign, 0.3, training=False) is foreign
        kept = fd.dropout_mask(mine.shape, 0.3, rng=KEY, like=foreign)
        oracle.assert_same(gpu.get(kept), oracle.mask(mine.shape, 0.3, KEY))
        layer = fd.Dropout(0.3, rng=KEY)
        layer(foreign)
        again = layer.backward(foreign)
        oracle.assert_same(np.ascontiguousarray(gpu.get(again)), np.ascontiguousarray(expected))


@pytest.mark.parametrize("kind", [Interfaced, Exchanged])
def test_an_out_that_cupy_can_view_is_written_to_and_returned(gpu: Device, kind: Any) -> None:
    x = gpu_cases.numbers("float32")
    for foreign in (gpu.put(x), kind(gpu.put(x))):
        y = gpu.put(oracle.poisoned(x.shape, np.float32))
        out = kind(y)
        assert fd.dropout(foreign, 0.3, rng=KEY, out=out) is out
        oracle.assert_same(gpu.get(y), oracle.dropped(x, 0.3, KEY))
    board = gpu.put(x)
    fd.dropout(kind(board), 0.3, rng=KEY, out=kind(board))  # in place, by two views
    oracle.assert_same(gpu.get(board), oracle.dropped(x, 0.3, KEY))


def test_an_out_that_says_it_is_frozen_is_not_written_to(gpu: Device) -> None:
    x = gpu.put(np.ones(5, np.float32))
    with pytest.raises(ValueError, match="may not be written to"):
        fd.dropout(x, 0.3, rng=KEY, out=Interfaced(x, frozen=True))
    assert gpu.get(x).tolist() == [1.0] * 5


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_tensors_of_torch(gpu: Device, torch: Any, name: str) -> None:
    if name == "bfloat16" and not all(map(gpu.takes, gpu_cases.BFLOAT16 or (object,))):
        pytest.skip("CuPy takes no bfloat16")
    host = torch.arange(-3000, 3001).to(getattr(torch, name))
    x = host.cuda()
    y: Any = fd.dropout(x, 0.3, rng=KEY)
    assert type(y) is gpu.cupy.ndarray
    kept = torch.from_numpy(oracle.mask((6001,), 0.3, KEY))
    compute = torch.float64 if name == "float64" else torch.float32
    scaled = host.to(compute) * torch.tensor(1 / (1 - 0.3), dtype=compute)
    expected = torch.where(kept, scaled, torch.zeros((), dtype=compute)).to(host.dtype)
    assert torch.equal(torch.from_dlpack(y).cpu(), expected)
    out: Any = torch.empty_like(x)
    result: Any = fd.dropout(x, 0.3, rng=KEY, out=out)
    assert result is out
    assert torch.equal(out.cpu(), expected)


def test_a_tensor_that_requires_grad_is_an_error_with_a_suggestion(gpu: Device, torch: Any) -> None:
    x = torch.ones(5, device="cuda", requires_grad=True)
    with pytest.raises(TypeError, match=r"torch\.Tensor that CuPy cannot view.*x\.detach\(\)"):
        fd.dropout(x, 0.5, rng=1)


def test_device_arrays_of_numba(gpu: Device, numba_cuda: Any) -> None:
    for dtype in ("float16", "float32", "float64"):
        x = gpu_cases.numbers(dtype)
        foreign = numba_cuda.to_device(x)
        y: Any = fd.dropout(foreign, 0.3, rng=KEY)
        assert type(y) is type(foreign)
        oracle.assert_same(y.copy_to_host(), oracle.dropped(x, 0.3, KEY))
        out: Any = numba_cuda.to_device(oracle.poisoned(x.shape, dtype))
        result: Any = fd.dropout(foreign, 0.3, rng=KEY, out=out)
        assert result is out
        oracle.assert_same(out.copy_to_host(), oracle.dropped(x, 0.3, KEY))


def test_device_arrays_of_numba_without_cupy(
    gpu: Device, numba_cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if complaint := numba_cuda_complaint():
        pytest.skip(complaint)

    def missing() -> Any:
        raise ImportError

    monkeypatch.setattr(cupy_arrays, "_numba_through_cupy", missing)
    x = gpu_cases.numbers("float32")
    expected = oracle.dropped(x, 0.3, KEY)
    foreign = numba_cuda.to_device(x)
    y: Any = fd.dropout(foreign, 0.3, rng=KEY)
    assert type(y) is type(foreign)
    oracle.assert_same(y.copy_to_host(), expected)
    kept: Any = fd.dropout_mask(x.shape, 0.3, rng=KEY, like=foreign)
    oracle.assert_same(kept.copy_to_host(), oracle.mask(x.shape, 0.3, KEY))
    bound = [numba_cuda.to_device(x).bind(numba_cuda.stream()) for _ in range(2)]
    for source, out in ((bound[0], None), (bound[0], bound[1]), (foreign, bound[0])):
        made: Any = fd.dropout(source, 0.3, rng=KEY, out=out)
        assert made.stream is (bound[0] if out is None else out).stream
        made.stream.synchronize()
        oracle.assert_same(made.copy_to_host(), expected)


def test_arrays_of_jax(gpu: Device) -> None:
    jax = library("jax")
    x = gpu_cases.numbers("float32")
    foreign = jax.numpy.asarray(x)
    oracle.assert_same(gpu.get(fd.dropout(foreign, 0.3, rng=KEY)), oracle.dropped(x, 0.3, KEY))
    with pytest.raises(ValueError, match="may not be written to"):
        fd.dropout(foreign, 0.3, rng=KEY, out=foreign)
