"""The contract in CUDA C++, compiled for the host: known answers, masks, ties, and keys."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import pytest

from fastdrop._check import placement
from fastdrop_kernels import contract
from fastdrop_kernels.cuda import driver, launch, modules
from fastdrop_kernels.layout import c_strides
from tests.contract.test_mask_contract import ANSWERS, VECTORS, arguments_of, check_mask
from tests.support.cuda_host import host
from tests.support.cuda_host.cases import ALWAYS, KEY, check, kept_at, made
from tests.support.cuda_host.functors import UNIFORM
from tests.support.oracle import assert_same, key_from, poisoned

pytestmark = pytest.mark.usefixtures("cuda_on_host")


@pytest.fixture
def library() -> ctypes.CDLL:
    return host.library_of(modules.ADVANCE)


@pytest.mark.parametrize("answer", [a for a in ANSWERS if a.rounds == 10], ids=str)
def test_philox_gives_the_known_answers(library: ctypes.CDLL, answer: Any) -> None:
    words = (ctypes.c_uint * 6)(*answer.counter, *answer.key)
    out = (ctypes.c_uint * 4)()
    library.philox_on_host(words, out)
    assert list(out) == answer.output


def test_functions_of_the_contract_equal_the_reference(
    library: ctypes.CDLL, rng: np.random.Generator
) -> None:
    u64 = ctypes.c_uint64
    library.uniform_on_host.restype = ctypes.c_uint
    library.keep_on_host.restype = ctypes.c_bool
    for seed, stream, index in rng.integers(0, 2**63, (300, 3), np.uint64):
        words = u64(int(seed)), u64(int(stream)), u64(int(index))
        uniform = int(contract.uniform32(seed, stream, index))
        assert library.uniform_on_host(*words) == uniform
        for threshold in (0, uniform, uniform + 1, ALWAYS):
            assert library.keep_on_host(*words, u64(threshold)) == (uniform >= threshold)


@pytest.mark.parametrize("v", VECTORS["masks"], ids=lambda v: f"{v['shape']}-{v['p_decimal']}")
def test_mask_vectors_are_drawn(v: dict[str, Any]) -> None:
    shape, p, key, where = arguments_of(v)
    place = placement.placement_of(
        shape, where.get("noise_shape"), where.get("offset", 0), where.get("global_shape")
    )
    threshold = contract.threshold(p)
    out = poisoned(shape, np.uint8).view(np.bool_)
    driver.apply(driver.marking(), out, out, *place, *key, threshold, np.zeros(()))
    assert out.view(np.uint8).max() <= 1
    check_mask(out, v)
    bits = poisoned(((math.prod(shape) + 7) // 8,), np.uint8)
    driver.pack(bits, shape, *place, *key, threshold)
    unpacked = np.unpackbits(bits, count=math.prod(shape), bitorder="little")
    check_mask(unpacked.astype(bool).reshape(shape), v)
    assert bits.tobytes() == np.packbits(out.ravel(), bitorder="little").tobytes()


@pytest.mark.parametrize("v", VECTORS["ties"], ids=lambda v: v["index"])
@pytest.mark.parametrize("shape", [(1,), (300,), (20, 20)])
def test_tie_vectors_are_settled(v: dict[str, Any], shape: tuple[int, ...]) -> None:
    key, index = (int(v["seed"]), int(v["stream"])), int(v["index"])
    for name, kept in (("kept_at_p", True), ("dropped_at_p", False)):
        threshold = contract.threshold(float.fromhex(v[name]))
        out = poisoned(shape, np.bool_)
        driver.apply(driver.marking(), out, out, index, None, *key, threshold, np.zeros(()))
        assert bool(out.flat[0]) is kept


def test_a_key_in_memory_is_read_there_and_advanced(rng: np.random.Generator) -> None:
    key = np.array([KEY.seed, KEY.stream - 1], np.uint64)
    driver.advance(key.ctypes.data)
    assert key.tolist() == list(KEY)
    dtype = np.dtype(np.float32)
    for order in ((0, 1), (1, 0)):
        x = made((30, 70), dtype)
        out = made((30, 70), dtype, order=order)
        y = np.ones((30, 70), np.float32)
        driver.apply(
            driver.dropping(dtype), y, out.array, 0, None, 1, 2, 1 << 31, np.float32(1)[...],
            key_pointer=key.ctypes.data,
        )  # fmt: skip
        kept = kept_at({}, (30, 70), 1 << 31)
        np.testing.assert_array_equal(out.array, kept.astype(np.float32))
        check("drop float32", made((30, 70), dtype, order=order), x, 1 << 31, rng)
    bits = poisoned((263,), np.uint8)
    driver.pack(bits, (30, 70), 0, None, 1, 2, 1 << 31, key_pointer=key.ctypes.data)
    assert_same(bits, np.packbits(kept.ravel(), bitorder="little"))
    key[1] = 2**64 - 1
    driver.advance(key.ctypes.data)
    assert key.tolist() == [KEY.seed, 0]


def test_keys_differ_from_call_to_call(rng: np.random.Generator) -> None:
    x = np.ones(100, np.float32)
    results = set()
    for _ in range(3):
        y = poisoned((100,), np.float32)
        driver.apply(
            driver.dropping(x.dtype), x, y, 0, None, *key_from(rng), 1 << 31, np.float32(1)[...]
        )
        results.add(y.tobytes())
    assert len(results) == 3


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize(
    ("order", "steps"), [((0, 1), (1, 1)), ((1, 0), (1, 1)), ((0, 1), (1, 3)), ((0, 1), (2, 1))]
)
def test_an_operation_can_have_the_exact_uniforms(
    order: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    shape = (30, 45)
    y = made(shape, np.dtype(np.uint32), 4, order, steps).array
    assert driver._launcher is not None
    for index_strides in (c_strides(shape), (0, 1), (1, 0), (0, 0)):
        for one in launch.launches(
            UNIFORM, [y.ctypes.data], shape, (y.strides,), 11, index_strides, *KEY, 0
        ):
            driver._launcher.launch(one)
        rows, columns = np.indices(shape, np.uint64)
        index = 11 + rows * np.uint64(index_strides[0]) + columns * np.uint64(index_strides[1])
        uniform = contract.uniform32(np.uint64(KEY.seed), np.uint64(KEY.stream), index)
        np.testing.assert_array_equal(y, uniform)
