"""On a GPU: calls are in order with the streams that other libraries work on.

A spinning kernel delays one stream, so that work that does not wait for it reads what is not
written yet, or overwrites what is not read yet. All arrays lie in CuPy's memory, which CuPy writes
and reads on the stream of the library whose array it is.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.gpu.test_streams import LONG, spin
from tests.support import gpu_cases, oracle
from tests.support.devices import Device, library, need_a_gpu
from tests.support.gpu_cases import KEY
from tests.support.oracle import Array

need_a_gpu()
pytestmark = pytest.mark.gpu

N = 1 << 20
KINDS = ("cupy", "torch", "interface", "numba", "dlpack")
CALLS: dict[str, tuple[Callable[..., Any], Callable[[Array], Array]]] = {
    "dropout": (
        lambda x, out: fd.dropout(x, 0.3, rng=KEY, out=out),
        lambda x: oracle.dropped(x, 0.3, KEY),
    ),
    "bias_act_dropout_add": (
        lambda x, out: fd.bias_act_dropout_add(x, 0.5, p=0.3, residual=x, rng=KEY, out=out),
        lambda x: fd.bias_act_dropout_add(x, 0.5, p=0.3, residual=x, rng=KEY),
    ),
}


class _Handle:
    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def as_cupys(gpu: Device, handle: int) -> Any:
    """Return CuPy's object of a stream."""
    cuda = gpu.cupy.cuda
    if hasattr(cuda.Stream, "from_external"):
        return cuda.Stream.from_external(_Handle(handle))
    return cuda.ExternalStream(handle)


class Interfaced:
    """An array that says by the CUDA array interface which stream it is used on."""

    def __init__(self, x: Any, stream: int) -> None:
        self.kept = x
        self.__cuda_array_interface__ = {**x.__cuda_array_interface__, "stream": stream}


class Exchanged:
    """An array of a library that speaks DLPack alone, and works on a stream."""

    def __init__(self, x: Any, stream: Any) -> None:
        self.kept, self.stream = x, stream

    def __dlpack__(self, **how: Any) -> Any:
        with self.stream:
            return self.kept.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self.kept.__dlpack_device__()


class Memory:
    """An array of CuPy's, and one of another library over the same memory, used on one stream."""

    def __init__(self, gpu: Device, kind: str, values: Array, stream: Any) -> None:
        self.gpu, self.kind = gpu, kind
        self.memory = gpu.put(values)
        self.stream = stream
        self.array = self._as(kind)
        # Allocated now: an allocation may wait for the GPU.
        self._copies = [gpu.cupy.empty_like(self.memory) for _ in range(2)]

    def _as(self, kind: str) -> Any:
        if kind == "torch":
            return library("torch").from_dlpack(self.memory)
        if kind == "numba":
            cuda = library("numba.cuda")
            with self.stream:
                return cuda.as_cuda_array(self.memory, sync=False)
        if kind == "interface":
            return Interfaced(self.memory, self.stream.ptr)
        return Exchanged(self.memory, self.stream) if kind == "dlpack" else self.memory

    def write(self, values: Any) -> None:
        """Put a copy of an array on the GPU on the stream."""
        with self.stream:
            self.memory[...] = values

    def read(self) -> Any:
        """Put a copy of the memory on the stream, and return what it goes to."""
        found = self._copies.pop()
        with self.stream:
            found[...] = self.memory
        return found


@contextlib.contextmanager
def torch_on(stream: Any) -> Iterator[None]:
    """Let PyTorch, if it is here, work on a stream of CuPy's."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        yield
        return
    if not torch.cuda.is_available():
        yield
        return
    with torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr)):
        yield


def delay(stream: Any) -> None:
    with stream:
        spin()((1,), (1,), (np.int64(LONG),))


@pytest.mark.parametrize("late", ["x", "out", "cupy"])
@pytest.mark.parametrize("out", ["new", *KINDS])
@pytest.mark.parametrize("x", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_a_result_is_right_whichever_stream_is_late(
    gpu: Device, name: str, x: str, out: str, late: str
) -> None:
    call, expected = CALLS[name]
    values = gpu_cases.numbers("float32", (N,))
    before = gpu_cases.numbers("float32", (N,))
    streams = {at: gpu.cupy.cuda.Stream(non_blocking=True) for at in ("x", "out", "cupy")}
    if x == out == "torch":
        streams["out"] = streams["x"]  # the library has one current stream
    at = {"new": "cupy", "cupy": "cupy"}
    source = Memory(gpu, x, np.full(N, np.nan, "f4"), streams[at.get(x, "x")])
    sink = Memory(gpu, "cupy" if out == "new" else out, before, streams[at.get(out, "out")])
    given = None if out == "new" else sink.array
    there, junk = gpu.put(values), gpu.put(np.full(N, 77, "f4"))
    torchs = sink.stream if out == "torch" else source.stream
    with torch_on(torchs), streams["cupy"]:
        call(source.array, given)  # so that the kernel is loaded, and CuPy's pool has memory
    spin()((1,), (1,), (np.int64(1),))
    gpu.cupy.cuda.Device().synchronize()
    sink.write(gpu.put(before))
    gpu.cupy.cuda.Device().synchronize()

    delay(streams[late])
    source.write(there)
    old = sink.read()
    sink.write(junk)
    with torch_on(torchs), streams["cupy"]:
        result = call(source.array, given)
        if "dlpack" not in (x, out) and name == "dropout":
            assert not streams[late].done, "the host has waited"
    if out == "new":
        new = result if x != "numba" else gpu.cupy.asarray(result)
        with streams["cupy"]:
            found = new.copy()
    else:
        assert result is given
        found = sink.read()
    source.write(junk)
    gpu.cupy.cuda.Device().synchronize()
    oracle.assert_same(gpu.get(old), before)
    oracle.assert_same(gpu.get(found), expected(values))


def test_torchs_graphs_capture_calls_and_draw_new_masks(gpu: Device) -> None:
    torch = library("torch")
    numbers = gpu_cases.numbers("float32", (N,))
    x, dy = (torch.from_numpy(a).cuda() for a in (numbers, numbers[::-1].copy()))
    y, dx = torch.empty_like(x), torch.empty_like(x)
    key, side = fd.cuda.DeviceKey(KEY), torch.cuda.Stream()

    def step() -> None:
        fd.dropout(x, 0.3, rng=key, out=y)
        fd.dropout(dy, 0.3, rng=key, out=dx)
        with as_cupys(gpu, torch.cuda.current_stream().cuda_stream):
            key.advance()

    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        step()  # so that the kernels are loaded
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step()
    for n in range(1, 5):
        y.fill_(-1)
        graph.replay()
        torch.cuda.synchronize()
        drawn = KEY.advanced(n)
        oracle.assert_same(y.cpu().numpy(), oracle.dropped(numbers, 0.3, drawn))
        oracle.assert_same(dx.cpu().numpy(), oracle.dropped(dy.cpu().numpy(), 0.3, drawn))


def test_a_new_result_of_a_captured_tensor_is_an_error_that_says_why(gpu: Device) -> None:
    torch = library("torch")
    x = torch.ones(1000, device="cuda")
    fd.dropout(x, 0.3, rng=KEY)
    torch.cuda.synchronize()
    with (
        pytest.raises(RuntimeError, match="captures a CUDA graph.*give an out"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        fd.dropout(x, 0.3, rng=KEY)
    torch.cuda.synchronize()


def test_a_function_of_torchs_autograd_on_a_side_stream(gpu: Device) -> None:
    """Its backward runs in a thread of torch's, on the stream of the forward."""
    torch = library("torch")

    class Dropout(torch.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return fd.dropout(x.detach(), 0.3, rng=KEY, out=torch.empty_like(x))

        @staticmethod
        def backward(context: Any, dy: Any) -> Any:
            return fd.dropout(dy.detach(), 0.3, rng=KEY, out=torch.empty_like(dy))

    x = torch.full((N,), np.nan, device="cuda", requires_grad=True)
    Dropout.apply(x).sum().backward()
    values = torch.from_numpy(gpu_cases.numbers("float32", (N,)))
    there = values.cuda()
    x.grad = None
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        delay(as_cupys(gpu, side.cuda_stream))
        with torch.no_grad():
            x.copy_(there)
        y = Dropout.apply(x)
        delay(as_cupys(gpu, side.cuda_stream))
        (y * 3).sum().backward()
        kept = y.detach().clone()
    torch.cuda.synchronize()
    oracle.assert_same(kept.cpu().numpy(), oracle.dropped(values.numpy(), 0.3, KEY))
    gradient = oracle.dropped(np.full(N, 3, np.float32), 0.3, KEY)
    oracle.assert_same(x.grad.cpu().numpy(), gradient)


def test_a_tensor_may_be_dropped_at_once(gpu: Device) -> None:
    """Torch then uses its memory again, on its own stream."""
    torch = library("torch")
    values = gpu_cases.numbers("float32", (N,))
    there, mine = torch.from_numpy(values).cuda(), gpu.cupy.cuda.Stream(non_blocking=True)
    fd.dropout(there, 0.3, rng=KEY)
    torch.cuda.synchronize()
    with mine:
        delay(mine)
        y: Any = fd.dropout(there.clone(), 0.3, rng=KEY)
    again = torch.full((N,), 77.0, device="cuda")
    torch.cuda.synchronize()
    mine.synchronize()
    oracle.assert_same(gpu.get(y), oracle.dropped(values, 0.3, KEY))
    assert (again == 77).all()


@pytest.mark.parametrize("out", ["new", "torch", "cupy"])
def test_arrays_that_jax_is_still_computing(gpu: Device, out: str) -> None:
    jax = library("jax")
    values = gpu_cases.numbers("float32", (N,))
    work, there = jax.numpy.ones((4096, 4096), np.float32) / 4096, jax.numpy.asarray(values)

    @jax.jit  # type: ignore[untyped-decorator]
    def late(x: Any, a: Any) -> Any:
        """Return x, some 0.1 s later."""
        b = jax.lax.fori_loop(0, 40, lambda _, b: b @ a, a)
        return jax.numpy.where(b[0, 0] > 1e30, 0 * x, x)

    late(there, work).block_until_ready()
    target = None
    if out == "torch":
        target = library("torch").empty(N, device="cuda")
    elif out == "cupy":
        target = gpu.cupy.empty(N, np.float32)
    call = CALLS["dropout"][0]
    call(there, target)
    gpu.cupy.cuda.Device().synchronize()
    with gpu.cupy.cuda.Stream(non_blocking=True):
        y = call(late(there, work), target)  # whose memory JAX may use again at once
        junk = [jax.numpy.full((N,), 77.0, np.float32) for _ in range(4)]
        found = gpu.cupy.from_dlpack(y) if out == "torch" else y.copy()
    gpu.cupy.cuda.Device().synchronize()
    del junk
    oracle.assert_same(gpu.get(found), oracle.dropped(values, 0.3, KEY))


def test_a_stream_that_was_chosen_by_use_stays_chosen(gpu: Device) -> None:
    torch = library("torch")
    chosen = gpu.cupy.cuda.Stream(non_blocking=True)
    x, out = (torch.ones(1000, device="cuda") for _ in range(2))
    before = gpu.cupy.cuda.get_current_stream()
    chosen.use()
    try:
        fd.dropout(x, 0.3, rng=KEY, out=out)
        fd.dropout(x, 0.3, rng=KEY)
        assert gpu.cupy.cuda.get_current_stream() == chosen
    finally:
        before.use()


@pytest.mark.parametrize("size", [2, 3])
def test_drop_block_is_ordered_as_a_whole(gpu: Device, size: int) -> None:
    torch = library("torch")
    shape = 4, 3, 32, 32
    values = gpu_cases.numbers("float32", shape)
    there = torch.from_numpy(values).cuda()
    x, out = torch.full_like(there, np.nan), torch.empty_like(there)
    side = torch.cuda.Stream()
    fd.drop_block2d(x, 0.3, size, rng=KEY, out=out)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        delay(as_cupys(gpu, side.cuda_stream))
        x.copy_(there)
        fd.drop_block2d(x, 0.3, size, rng=KEY, out=out)
        found = out.clone()
        x.fill_(77)
    torch.cuda.synchronize()
    oracle.assert_same(found.cpu().numpy(), fd.drop_block2d(values, 0.3, size, rng=KEY))
