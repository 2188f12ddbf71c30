"""On a GPU: streams, devices, the memory pool, and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import gpu_cases, oracle
from tests.support.devices import Device, cupy_or_skip, need_a_gpu
from tests.support.gpu_cases import KEY

need_a_gpu()
pytestmark = pytest.mark.gpu

SPIN = """
extern "C" __global__ void spin(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles) { }
}
"""
LONG = 400_000_000  # clock cycles: some 0.2 s
N = 100_003

# Every function, writing to `out` for x: what a kernel is needed for.
WRITES: dict[str, tuple[str, Callable[..., Any], Callable[..., Any]]] = {
    "dropout": (
        "float32",
        lambda x, out, key: fd.dropout(x, 0.3, rng=key, out=out),
        lambda x, key: oracle.dropped(x, 0.3, key),
    ),
    "masked_fill": (
        "float32",
        lambda x, out, key: fd.masked_fill(x, 0.3, -9, rng=key, out=out),
        lambda x, key: oracle.filled(x, 0.3, -9, key),
    ),
    "dropout_mask": (
        "bool",
        lambda x, out, key: fd.dropout_mask(x.shape, 0.3, rng=key, out=out),
        lambda x, key: oracle.mask(x.shape, 0.3, key),
    ),
    "packed": (
        "uint8",
        lambda x, out, key: fd.dropout_mask(
            x.shape, 0.3, rng=key, out=out[: (N + 7) // 8], packed=True
        ),
        lambda x, key: np.packbits(oracle.mask(x.shape, 0.3, key), bitorder="little"),
    ),
}


def spin() -> Any:
    return cupy_or_skip().RawKernel(SPIN, "spin")


def make(gpu: Device, name: str, key: Any, x: Any = None) -> tuple[Any, Any, Any]:
    """Return the input, the output, and a function that makes a call."""
    dtype, write, _ = WRITES[name]
    x = gpu.put(gpu_cases.numbers("float32", (N,))) if x is None else x
    out = gpu.put(oracle.poisoned((N,), dtype))
    return x, out, lambda: write(x, out, key)


def assert_right(gpu: Device, name: str, x: Any, out: Any, key: fd.Key) -> None:
    expected = WRITES[name][2](gpu.get(x), key)
    oracle.assert_same(gpu.get(out)[: expected.size], expected)


@pytest.mark.parametrize("name", WRITES)
def test_calls_go_to_the_current_stream_and_do_not_wait(gpu: Device, name: str) -> None:
    x, out, call = make(gpu, name, KEY)
    call()  # so that the kernel is loaded
    poison = gpu.put(gpu.get(out))
    poison.fill(1)
    wait = spin()
    wait((1,), (1,), (np.int64(1),))
    gpu.cupy.cuda.Device().synchronize()
    stream = gpu.cupy.cuda.Stream(non_blocking=True)
    with stream:
        wait((1,), (1,), (np.int64(LONG),))
        out[...] = poison
        call()
        assert not stream.done, "the call waited for the stream"
    other = gpu.cupy.cuda.Stream.null
    other.synchronize()
    assert not stream.done, "the call went to the default stream, or waited for it"
    stream.synchronize()
    assert_right(gpu, name, x, out, KEY)


def test_several_streams_at_once(gpu: Device) -> None:
    keys = [fd.Key(1, n) for n in range(8)]
    made = [make(gpu, "dropout", key) for key in keys]
    gpu.cupy.cuda.Device().synchronize()
    streams = [gpu.cupy.cuda.Stream(non_blocking=True) for _ in keys]
    for _ in range(20):
        for stream, (_, _, call) in zip(streams, made, strict=True):
            with stream:
                call()
    for stream in streams:
        stream.synchronize()
    for key, (x, out, _) in zip(keys, made, strict=True):
        assert_right(gpu, "dropout", x, out, key)


def test_the_result_lies_on_the_device_of_x_whichever_is_current(gpu: Device) -> None:
    if gpu.cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one GPU")
    x = gpu_cases.numbers("float32")
    with gpu.cupy.cuda.Device(1):
        far = gpu.put(x)
        key = fd.cuda.DeviceKey(KEY)
    results: list[Any] = [fd.dropout(far, 0.3, rng=rng) for rng in (KEY, key)]
    key.advance()
    assert gpu.cupy.cuda.runtime.getDevice() == 0
    for y in results:
        assert y.data.device_id == 1
        oracle.assert_same(gpu.get(y), oracle.dropped(x, 0.3, KEY))
    assert key.key() == KEY.advanced(1)
    near = gpu.put(x)
    with pytest.raises(ValueError, match="out lies on device 0, and x on device 1"):
        fd.dropout(far, 0.3, out=near)
    with pytest.raises(ValueError, match="DeviceKey on device 1, and x lies on device 0"):
        fd.dropout(near, 0.3, rng=key)


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_allocated_for_a_given_out(gpu: Device, name: str) -> None:
    _, _, call = make(gpu, name, KEY)
    call()
    pool = gpu.cupy.cuda.MemoryPool()
    with gpu.cupy.cuda.using_allocator(pool.malloc):
        call()
    assert pool.total_bytes() == 0


def test_a_result_comes_from_the_pool_and_nothing_is_kept_for_the_backward(gpu: Device) -> None:
    x = gpu.put(gpu_cases.numbers("float32", (1 << 20,)))
    layer = fd.Dropout(0.5, rng=1)
    layer.backward(layer(x))
    pool = gpu.cupy.cuda.MemoryPool()
    with gpu.cupy.cuda.using_allocator(pool.malloc):
        y = layer(x)
        assert pool.used_bytes() == x.nbytes
        dx = layer.backward(y)
        assert pool.used_bytes() == 2 * x.nbytes
        assert pool.total_bytes() == 2 * x.nbytes
    del y, dx
    assert pool.used_bytes() == 0


def captured(gpu: Device, *calls: Callable[[], Any]) -> tuple[Any, Any]:
    """Return the graph of some calls, and its stream."""
    for call in calls:
        call()  # so that the kernels are loaded
    gpu.cupy.cuda.Device().synchronize()
    stream = gpu.cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for call in calls:
            call()
        graph = stream.end_capture()
    return graph, stream


@pytest.mark.parametrize("name", WRITES)
def test_a_graph_draws_a_new_mask_at_each_replay(gpu: Device, name: str) -> None:
    start = fd.Key(2**63 + 5, 2**64 - 3)  # and so past the last stream
    key = fd.cuda.DeviceKey(start)
    assert key.key() == start
    x, out, call = make(gpu, name, key)
    graph, stream = captured(gpu, call, key.advance)
    assert key.key() == start.advanced(1)  # by the call before capturing, and no other
    for n in range(1, 6):
        graph.launch(stream)
        stream.synchronize()
        assert_right(gpu, name, x, out, start.advanced(n))
        assert key.key() == start.advanced(n + 1)


def test_forward_and_backward_in_a_graph_are_those_of_a_layer(gpu: Device) -> None:
    start = fd.Key(7)
    layer, key = fd.Dropout(0.4, rng=start), fd.cuda.DeviceKey(start.advanced(0))
    x, dy = (gpu_cases.numbers("float32", (N,)) for _ in range(2))
    on_gpu = [gpu.put(a) for a in (x, dy)]
    y, dx = (gpu.cupy.empty(N, np.float32) for _ in range(2))
    graph, stream = captured(
        gpu,
        lambda: fd.dropout(on_gpu[0], 0.4, rng=key, out=y),
        lambda: fd.dropout(on_gpu[1], 0.4, rng=key, out=dx),
        key.advance,
    )
    layer.forwards = 1  # that before capturing
    for _ in range(4):
        graph.launch(stream)
        stream.synchronize()
        oracle.assert_same(gpu.get(y), layer(x))
        oracle.assert_same(gpu.get(dx), layer.backward(dy))


def test_a_graph_with_a_plain_key_repeats_its_mask(gpu: Device) -> None:
    x, out, call = make(gpu, "dropout", KEY)
    graph, stream = captured(gpu, call)
    for _ in range(2):
        gpu.cupy.cuda.Device().synchronize()
        out.fill(-1)
        gpu.cupy.cuda.Device().synchronize()
        graph.launch(stream)
        stream.synchronize()
        assert_right(gpu, "dropout", x, out, KEY)


@pytest.mark.parametrize("call", gpu_cases.CALLS, ids=lambda call: call.name)
def test_a_device_key_draws_what_its_key_draws(gpu: Device, call: gpu_cases.Call) -> None:
    key = fd.cuda.DeviceKey(KEY)
    named = next(c for c in gpu_cases.calls(key) if c.name == call.name)
    for layout in gpu_cases.LAYOUTS[:4]:
        for place in gpu_cases.PLACES[-4:]:
            gpu_cases.check(gpu, named, layout, 0.4, place)
    gpu_cases.check_packed(gpu, (17, 5), 0.4, {}, key)
