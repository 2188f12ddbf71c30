"""On a GPU: the bits of every function are the CPU's, whatever the dtype, layout and place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import gpu_cases, oracle
from tests.support.devices import Device, need_a_gpu
from tests.support.gpu_cases import CALLS, KEY, LAYOUTS, PLACES, Call, Layout

need_a_gpu()
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_function_in_every_layout(gpu: Device, call: Call, layout: Layout) -> None:
    gpu_cases.check(gpu, call, layout, 0.3, {})


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_function_at_every_place(gpu: Device, call: Call, place: dict[str, Any]) -> None:
    for layout in LAYOUTS[:3]:
        gpu_cases.check(gpu, call, layout, 0.3, place)


@pytest.mark.parametrize("p", gpu_cases.PROBABILITIES)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_function_at_every_probability(gpu: Device, call: Call, p: float) -> None:
    for layout in LAYOUTS[:2]:
        gpu_cases.check(gpu, call, layout, p, {})


@pytest.mark.parametrize("n", gpu_cases.SIZES)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_alignment(gpu: Device, call: Call, n: int) -> None:
    for behind in range(9 if n < 3000 else 2):
        gpu_cases.check_size(gpu, call, n, behind, {"offset": 3 * behind})


@pytest.mark.parametrize("p", gpu_cases.PROBABILITIES)
def test_packed_masks(gpu: Device, p: float) -> None:
    for shape in ((0,), (1,), (7,), (8,), (9,), (2049,), (5, 3), (37, 83), (3, 5, 7), ()):
        for place in ({}, {"offset": 3}, {"offset": 2**60 + 1}):
            gpu_cases.check_packed(gpu, shape, p, place)


def test_packed_masks_of_a_p_of_each_element(gpu: Device) -> None:
    gpu_cases.check_packed_each(gpu)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_packed_masks_at_every_place(gpu: Device, place: dict[str, Any]) -> None:
    gpu_cases.check_packed(gpu, gpu_cases.SHAPE, 0.3, place)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 4, 5, 6), (1,) * 9, (2,) * 12])
def test_shapes_of_few_and_many_axes(gpu: Device, shape: tuple[int, ...]) -> None:
    x = gpu_cases.numbers("float32", shape)
    for flip in (False, True):
        mine = x.T if flip else x
        y = fd.dropout(gpu.put(x).T if flip else gpu.put(x), 0.4, rng=KEY)
        assert y.shape == mine.shape
        expected = oracle.dropped(mine, 0.4, KEY)
        oracle.assert_same(np.ascontiguousarray(gpu.get(y)), np.ascontiguousarray(expected))


def test_axes_in_any_order(gpu: Device) -> None:
    x = gpu_cases.numbers("float64", (5, 6, 7))
    for order in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        y = fd.dropout(gpu.put(x).transpose(order), 0.4, rng=KEY, noise_shape=(None, 1, None))
        expected = oracle.dropped(x.transpose(order), 0.4, KEY, noise_shape=(None, 1, None))
        oracle.assert_same(np.ascontiguousarray(gpu.get(y)), np.ascontiguousarray(expected))


def test_inputs_that_are_broadcast(gpu: Device) -> None:
    row = gpu_cases.numbers("float32", (83,))
    wide = gpu.cupy.broadcast_to(gpu.put(row), (37, 83))
    y = fd.dropout(wide, 0.5, rng=KEY)
    expected = oracle.dropped(np.broadcast_to(row, (37, 83)), 0.5, KEY)
    oracle.assert_same(np.ascontiguousarray(gpu.get(y)), np.ascontiguousarray(expected))


@pytest.mark.parametrize("dtype", gpu_cases.FLOATS, ids=lambda dtype: str(np.dtype(dtype)))
@pytest.mark.parametrize("scale", [1.0, 0.0, -0.0, -2.5, 1e-30])
def test_given_scales(gpu: Device, dtype: Any, scale: float) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"CuPy takes no {np.dtype(dtype)}")
    x = gpu_cases.numbers(dtype)
    for p in (0.0, 0.4, 1.0):
        y = fd.dropout(gpu.put(x), p, rng=KEY, scale=scale)
        oracle.assert_same(gpu.get(y), oracle.applied(oracle.mask(x.shape, p, KEY), x, scale))


def test_every_half_is_rounded_as_on_the_cpu(gpu: Device) -> None:
    for dtype in ("float16", *gpu_cases.BFLOAT16):
        if not gpu.takes(dtype):
            continue
        x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
        for scale in (1.0, 1 / 0.9, 3.0, 1e-4, 7e3):
            y = fd.dropout(gpu.put(x), 0.0, rng=1, scale=scale)
            with np.errstate(all="ignore"):
                oracle.assert_same(gpu.get(y), fd.dropout(x, 0.0, rng=1, scale=scale))


def test_ties_are_settled_by_the_second_16_bits(gpu: Device) -> None:
    """At thresholds that are an element's own uniform: kept, and dropped at the next."""
    for index in (0, 7, 123_456, 2**32 + 5, 2**60 + 3):
        uniform = int(contract.uniform32(np.uint64(9), np.uint64(3), np.uint64(index)))
        for bits, kept in ((uniform, True), (uniform + 1, False)):
            if bits < 2**32:
                where: dict[str, Any] = {"rng": fd.Key(9, 3), "offset": index}
                like = gpu.put(np.zeros(1))
                assert bool(fd.dropout_mask(1, bits / 2**32, like=like, **where)[0]) is kept


@pytest.mark.parametrize("p", [0.1, 0.5, 1 / 3, 2.0**-16, 2.0**-32, 1 - 2.0**-32])
def test_many_elements_with_hundreds_of_ties(gpu: Device, p: float) -> None:
    n = 24_000_017
    for offset in (0, 2**35 - n // 2):
        expected = fd.dropout_mask(n, p, rng=KEY, offset=offset)
        like = gpu.put(np.zeros(1))
        made = fd.dropout_mask(n, p, rng=KEY, offset=offset, like=like)
        oracle.assert_same(gpu.get(made), expected)
        packed = fd.dropout_mask(n, p, rng=KEY, offset=offset, like=like, packed=True)
        oracle.assert_same(gpu.get(packed), np.packbits(expected, bitorder="little"))
        ones = fd.dropout(gpu.cupy.ones(n, np.float32), p, rng=KEY, offset=offset, scale=1.0)
        oracle.assert_same(gpu.get(ones), expected.astype(np.float32))


def test_shards_tile_the_whole(gpu: Device) -> None:
    shape = (61, 45, 33)
    x = gpu_cases.numbers("float32", shape)
    for noise in (None, (None, 1, None), (1, None, None)):
        whole = oracle.dropped(x, 0.5, KEY, noise_shape=noise)
        on_gpu, tiled = gpu.put(x), gpu.put(oracle.poisoned(shape, np.float32))
        for corner in np.ndindex(2, 2, 2):
            at = [(0, 13) if c == 0 else (13, n) for c, n in zip(corner, shape, strict=True)]
            block = tuple(slice(a, b) for a, b in at)
            fd.dropout(
                on_gpu[block],
                0.5,
                rng=KEY,
                noise_shape=noise,
                offset=tuple(a for a, _ in at),
                global_shape=shape,
                out=tiled[block],
            )
        oracle.assert_same(gpu.get(tiled), whole)


def test_overlap_is_as_if_there_were_none(gpu: Device) -> None:
    x = np.arange(1.0, 100_001.0)
    for read, written in (
        (slice(0, -10), slice(10, None)),
        (slice(10, None), slice(0, -10)),
        (slice(None, None, -1), slice(None)),
        (slice(0, None, 2), slice(1, None, 2)),
    ):
        memory = gpu.put(x)
        fd.dropout(memory[read], 0.5, rng=KEY, out=memory[written])
        expected = x.copy()
        expected[written] = oracle.dropped(x[read], 0.5, KEY)
        oracle.assert_same(gpu.get(memory), expected)


def test_the_backward_pass_is_the_same_call(gpu: Device) -> None:
    layer, same = fd.Dropout(0.3, rng=5), fd.Dropout(0.3, rng=5)
    inputs = [gpu_cases.numbers("float32") for _ in range(3)]
    for x in inputs:
        oracle.assert_same(gpu.get(layer(gpu.put(x))), same(x))
    for x in inputs:
        oracle.assert_same(gpu.get(layer.backward(gpu.put(x))), same.backward(x))
    y = gpu.put(inputs[0])
    assert layer.eval()(y) is y
