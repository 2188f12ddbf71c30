"""Calls by addresses give what calls with NumPy's arrays give, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract, threads
from fastdrop_kernels.cpu.host import driver
from fastdrop_kernels.cpu.host.address_call import _MOST_PLANS, AddressCall
from tests.support.internals import set_cpu_limits
from tests.support.oracle import (
    Array,
    applied,
    assert_same,
    data,
    dropped,
    mask,
    misaligned,
    poison,
    poisoned,
)
from tests.support.slow import slow_unless
from tests.support.subprocesses import assert_succeeds, run_python

P = 0.3
KEY = fd.Key(2**64 - 3, 2**63 + 11)
DTYPES = [np.dtype(d) for d in ("float16", ml_dtypes.bfloat16, "float32", "float64")]
EDGE = 64  # elements on both sides of the output that must keep their bytes


def drop_call(dtype: np.dtype[Any], p: float = P) -> AddressCall:
    operation = driver.operation_by_name("drop", dtype.name, dtype.itemsize)
    assert operation is driver.operation("drop", dtype)
    factor = np.array(1 / (1 - p), np.float64 if dtype == np.float64 else np.float32)
    call = driver.address_call(operation, contract.threshold(p), factor)
    assert call is not None
    return call


def at(x: Array) -> int:
    address: int = x.__array_interface__["data"][0]
    return address


def checked(call: AddressCall, x: Array, index: int = 0, in_place: bool = False) -> Array:
    """Make a call that must write the output and nothing beside it; return the output."""
    n = x.size
    memory = poisoned((n + 2 * EDGE,), x.dtype)
    y = memory[EDGE : EDGE + n]
    if in_place:
        y[...] = x
    assert call(at(y if in_place else x), at(y), n, index, *KEY)
    for edge in (memory[:EDGE], memory[EDGE + n :]):
        assert data(edge) == data(poisoned((EDGE,), x.dtype))
    return y


def numbers(n: int, dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    x = (rng.standard_normal(n) * 100).astype(dtype)
    x[:: max(1, n // 7)] = np.nan
    x[3::11] = np.inf
    return x


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_small_calls(dtype: np.dtype[Any], in_place: bool, rng: np.random.Generator) -> None:
    call = drop_call(dtype)
    for n in (1, 2, 7, 8, 63, 64, 65, 255, 256, 257, 1000, 5003):
        for index in (0, 3, 2**35 - n // 2):
            x = misaligned(numbers(n, dtype, rng), n % 9 * dtype.itemsize)
            assert_same(checked(call, x, index, in_place), dropped(x, P, KEY, offset=index))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    ("dtype", "in_place"),
    slow_unless(lambda dtype, in_place: dtype == np.float32 or not in_place, DTYPES, [False, True]),
    ids=str,
)
def test_sizes_around_the_limits(
    dtype: np.dtype[Any],
    in_place: bool,
    count: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads, prefetches and nontemporal stores, each from another size on."""
    few = 1 << 12
    set_cpu_limits(
        monkeypatch,
        parallel_from=few,
        chunk=1 << 10,
        cached_bytes=4 * few * dtype.itemsize,
        nontemporal_from=8 * few * dtype.itemsize,
    )
    call = drop_call(dtype)
    for n in (few, 4 * few, 8 * few):
        for size in (n - 1, n, n + 1, n + 77):
            x = numbers(size, dtype, rng)
            expected = dropped(x, P, KEY, offset=5)
            for _ in range(2):  # the second by the plan of the first
                with threads.using(count):
                    assert_same(checked(call, x, 5, in_place), expected)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_large_calls(dtype: Any, rng: np.random.Generator) -> None:
    call = drop_call(np.dtype(dtype))
    for n in ((1 << 20) + 3, (1 << 23) + 129):
        x = numbers(n, np.dtype(dtype), rng)
        assert_same(checked(call, x), dropped(x, P, KEY))
        assert_same(checked(call, x, in_place=True), dropped(x, P, KEY))


def test_overlapping_arrays_are_refused(rng: np.random.Generator) -> None:
    n = 1000
    call, memory = drop_call(np.dtype(np.float32)), numbers(3 * n, np.dtype(np.float32), rng)
    before = data(memory)
    for parallel_from in (None, 1):  # also where a plan would make the call
        with threads.using(2, None, parallel_from):
            for shift in (1, 4, 100, 4 * n - 4, 4 * n - 1):
                for x, y in ((shift, 0), (0, shift)):
                    assert not call(at(memory) + x, at(memory) + y, n, 0, *KEY)
    assert data(memory) == before
    expected = dropped(memory[:n], P, KEY)
    assert call(at(memory), at(memory[n:]), n, 0, *KEY)  # next to each other
    assert_same(memory[n : 2 * n], expected)


def test_empty_arrays_and_large_indices_are_refused() -> None:
    call, x = drop_call(np.dtype(np.float32)), np.ones(8, np.float32)
    for parallel_from in (None, 1):
        with threads.using(2, None, parallel_from):
            y = np.ones(8, np.float32)
            assert not call(at(x), at(y), 0, 0, *KEY)
            assert not call(at(x), at(y), 8, 2**62, *KEY)
            assert not call(at(x), at(y), 8, 2**63, *KEY)  # which the fast path takes for a look
            assert not call(at(x), at(y), 8, 2**64 - 1, *KEY)
            assert y.all()
            assert call(at(x), at(y), 8, 2**62 - 8, *KEY)


def test_degenerate_thresholds_and_packed_masks_have_no_call() -> None:
    drop, value = driver.operation("drop", np.dtype(np.float32)), np.array(1, np.float32)
    for p in (0.0, 1.0):
        assert driver.address_call(drop, contract.threshold(p), value) is None
    assert driver.address_call(driver.operation("pack"), contract.threshold(P), value) is None
    noise = driver.operation("gaussian_add", np.dtype(np.float32))
    assert driver.address_call(noise, contract.threshold(0.0), value) is not None


OTHERS: dict[str, tuple[str, Any, Any, Callable[[Array], Array]]] = {
    "mark": ("mark", np.bool_, np.uint8(0), lambda x: mask(x.shape, P, KEY)),
    "fill": (
        "fill",
        np.int16,
        np.int16(-7),
        lambda x: fd.masked_fill(x, P, np.int16(-7), rng=KEY),
    ),
    "gaussian_add": (
        "gaussian_add",
        np.float32,
        np.float32(0.5),
        lambda x: fd.gaussian_noise(x, 0.5, rng=KEY),
    ),
}


@pytest.mark.parametrize("parallel_from", [None, 1])
@pytest.mark.parametrize("name", OTHERS)
def test_other_operations(name: str, parallel_from: int | None, rng: np.random.Generator) -> None:
    row, dtype, value, expected = OTHERS[name]
    kind = np.dtype(dtype)
    operation = driver.operation_by_name(row, kind.name, kind.itemsize)
    p = 0.0 if operation.needs_uniform else P
    call = driver.address_call(operation, contract.threshold(p), np.array(value))
    assert call is not None
    for n in (5, 1000, 5003):
        x = (rng.standard_normal(n) * 9).astype(kind)
        y = poison(np.empty(n, np.uint8)).view(kind) if name == "mark" else poison(x.copy())
        with threads.using(3, None, parallel_from):
            assert call(at(y if name == "mark" else x), at(y), n, 0, *KEY)
        assert_same(y, expected(x))


def test_more_sizes_than_have_plans(rng: np.random.Generator) -> None:
    call, x = drop_call(np.dtype(np.float32)), numbers(3000, np.dtype(np.float32), rng)
    whole = dropped(x, P, KEY)
    with threads.using(2, None, 1):
        for n in [*range(2000, 2001 + _MOST_PLANS), 2000]:
            assert_same(checked(call, x[:n]), whole[:n])


def test_bfloat16_without_ml_dtypes() -> None:
    code = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np, fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.host import driver

operation = driver.operation_by_name("drop", "bfloat16", 2)
call = driver.address_call(operation, contract.threshold(0.5), np.array(2, np.float32))
for n in (64, 5003):
    x, y = np.full(n, 0x3F80, np.uint16), np.zeros(n, np.uint16)
    assert call(*(a.__array_interface__["data"][0] for a in (x, y)), n, 0, 3, 0)
    assert (y == np.where(fd.dropout_mask(n, 0.5, rng=3), 0x4000, 0)).all()
"""
    assert_succeeds(run_python(code))


def test_results_do_not_depend_on_what_the_call_made_before(rng: np.random.Generator) -> None:
    """Plans know no key, index or address."""
    call = drop_call(np.dtype(np.float32))
    x = numbers(4099, np.dtype(np.float32), rng)
    with threads.using(2, None, 1):
        for seed, stream, index in ((1, 2, 3), (2**64 - 1, 0, 9), (0, 2**64 - 1, 2**61)):
            y = poison(np.empty_like(x))
            assert call(at(x), at(y), x.size, index, seed, stream)
            kept = mask(x.shape, P, fd.Key(seed, stream), offset=index)
            assert_same(y, applied(kept, x, contract.scale(P)))
