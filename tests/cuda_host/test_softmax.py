"""Softmax and dropout in CUDA C++, compiled for the host: each phase, over every thread."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cuda import driver, modules, softmax_driver
from tests.support import nvrtc
from tests.support.cuda_host.cases import FLOATS
from tests.support.devices import host_device
from tests.support.internals import placement
from tests.support.layouts import LAYOUTS
from tests.support.oracle import Array, assert_same, mask, misaligned, poison, poisoned
from tests.support.slow import slow_unless
from tests.support.softmax import (
    KEY,
    assert_close,
    assert_gradient_close,
    check,
    forward,
    numbers,
    softmax,
    unit,
)

# Rows that a warp shares and that a block does; shorter than a group, and many groups long.
SHAPES = [(3, 5, 49), (300, 7), (70, 1), (3, 128), (2, 1030), (1, 4500)]
P = 0.3
THRESHOLD = round(P * 2**32)


pytestmark = pytest.mark.usefixtures("cuda_on_host")
every_dtype = pytest.mark.parametrize(
    "dtype", slow_unless(lambda dtype: dtype == np.float32, FLOATS), ids=str
)


def factor(x: Array, p: float = P) -> Array:
    return np.array(1 / (1 - p), np.float64 if x.dtype == np.float64 else np.float32)


def made(x: Array, y: Array, axis: int, threshold: int = THRESHOLD, **place: Any) -> Array:
    where = placement(x.shape, None, **place)
    softmax_driver.softmax_dropout(x, y, axis % x.ndim, *where, *KEY, threshold, factor(x))
    return y


def gradient(dy: Array, x: Array, dx: Array, axis: int, threshold: int = THRESHOLD) -> Array:
    parameters = *KEY, threshold, factor(x)
    softmax_driver.softmax_dropout_backward(x, dy, dx, axis % x.ndim, 0, None, *parameters)
    return dx


@every_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_element_is_softmax_times_mask_in_every_layout(
    dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    x, dy = numbers(shape, dtype, rng), numbers(shape, dtype, rng)
    for axis in (-1, 0):
        y = made(x, poisoned(shape, dtype), axis)
        true = forward(x, P, axis)
        np.testing.assert_array_equal(y != 0, true.astype(dtype) != 0)
        assert_close(y, true, x, axis)
        dx = gradient(dy, x, poisoned(shape, dtype), axis)
        assert_gradient_close(dx, dy, x, P, axis)
        for layout in LAYOUTS.values():
            given, into = layout(x), poison(layout(x))
            made(given, into, axis)
            # The position of a row in its group decides which terms are summed together.
            assert_close(np.ascontiguousarray(into), true, x, axis)
            np.testing.assert_array_equal(into != 0, y != 0)
            assert_same(np.ascontiguousarray(given), x)
            gradient(layout(dy), given, into, axis)
            assert_gradient_close(np.ascontiguousarray(into), dy, x, P, axis)
            made(given, given, axis)
            assert_close(np.ascontiguousarray(given), true, x, axis)


@every_dtype
def test_rows_of_any_alignment_and_offset(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = numbers((5, 67), dtype, rng)
    for behind in (0, 1, 3, 5):
        for offset in (0, 5, 2**35 - 100):
            into = poison(misaligned(x, behind * dtype.itemsize))
            y = made(misaligned(x, 2 * dtype.itemsize), into, -1, offset=offset)
            true = forward(x, P, offset=offset)
            assert_close(y, true, x, -1)
            np.testing.assert_array_equal(y != 0, true.astype(dtype) != 0)


@pytest.mark.parametrize("n", [4096, 4097, 9000])
def test_rows_of_more_than_one_chunk_per_thread(n: int, rng: np.random.Generator) -> None:
    """With and without partial groups; a warp or more of threads have a chunk less than others."""
    x, dy = numbers((2, n), FLOATS[2], rng), numbers((2, n), FLOATS[2], rng)
    y = made(x, poisoned(x.shape, x.dtype), -1)
    true = forward(x, P)
    assert_close(y, true, x, -1)
    np.testing.assert_array_equal(y != 0, true.astype(x.dtype) != 0)
    dx = gradient(dy, x, poisoned(x.shape, x.dtype), -1)
    assert_gradient_close(dx, dy, x, P, -1)


@every_dtype
@pytest.mark.parametrize("n", [37, 4500])
def test_scores_of_any_magnitude(dtype: np.dtype[Any], n: int, rng: np.random.Generator) -> None:
    """Scores around large numbers, and masks by the least number instead of -infinity."""
    limits: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    largest, least = float(limits.max), float(limits.min)
    around = [c for c in (0, 1e3, 4194303, 4194304, 1e9, 1e30) if c <= largest]
    around.append(largest * (1 - 1e-6))
    x = np.empty((2 * len(around) + 2, n), dtype)
    for row, centre in enumerate((*around, *(-c for c in around))):
        spread = rng.integers(-3, 4, n) * (centre * 2.0**-23) + rng.standard_normal(n)
        x[row] = (centre + spread).clip(least, largest).astype(dtype)
        x[row, ::3] = least
    x[-2], x[-1] = least, largest
    y = made(x, poisoned(x.shape, dtype), -1, 0)
    true = softmax(x, -1) / (1 - P)
    with np.errstate(over="ignore"):
        below = x.astype(np.float64).max(-1, keepdims=True) - x.astype(np.float64)
    below = np.minimum(below, 100)  # beyond, results are 0
    computed = np.float64 if dtype == np.float64 else np.float32
    error = (6 + below) * float(np.finfo(computed).eps) * true + 2.0**-126
    if dtype != computed:
        error += unit(true, dtype) / 2
    assert (np.abs(y.astype(np.float64) - true) <= error).all()
    np.testing.assert_allclose(y.astype(np.float64).sum(-1), 1 / (1 - P), rtol=0.02)


@every_dtype
def test_nothing_beside_the_rows_is_written(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    memory = poisoned((9, 50), dtype)
    before = memory.copy()
    x = numbers((5, 37), dtype, rng)
    made(x, memory[2:7, 5:42], -1)
    memory[2:7, 5:42] = before[2:7, 5:42]
    assert memory.tobytes() == before.tobytes()


@every_dtype
def test_infinities_nan_and_degenerate_p(dtype: np.dtype[Any]) -> None:
    x = np.zeros((6, 37), dtype)
    x[0], x[1, 36], x[2, 5], x[3, :20], x[4, 20:] = -np.inf, np.nan, np.inf, -np.inf, -np.inf
    x[0, 30] = np.nan
    y = made(x, poisoned(x.shape, dtype), -1).astype(np.float64)
    kept = mask(x.shape, P, KEY)
    assert (y[~kept] == 0).all()
    for row in range(3):
        assert np.isnan(y[row, kept[row]]).all()
    with np.errstate(invalid="ignore"):
        true = forward(x, P)[3:]
    assert_close(y[3:].astype(dtype), true, np.zeros_like(x[3:]), -1)
    dx = gradient(np.ones_like(x), x, poisoned(x.shape, dtype), -1).astype(np.float64)
    assert np.isnan(dx[:3]).all()
    assert np.isfinite(dx[3:]).all()
    assert (dx[3:][np.isinf(x[3:])] == 0).all()
    nothing = made(x, poisoned(x.shape, dtype), -1, 1 << 32)
    assert_same(nothing, np.zeros_like(x))
    everything = made(x[3:], poisoned((3, 37), dtype), -1, 0).astype(np.float64)
    np.testing.assert_allclose(everything.sum(-1), 1 / (1 - P), rtol=0.01)


@every_dtype
@pytest.mark.parametrize("n", [1, 5, 37, 1030])
def test_where_all_scores_are_minus_infinity_all_is_zero(dtype: np.dtype[Any], n: int) -> None:
    x = np.zeros((5, n), dtype)
    x[1], x[4] = -np.inf, -np.inf
    dy = np.where(np.isinf(x.astype(np.float64)), np.nan, 1).astype(dtype)
    for axis, (given, gradient_given) in ((-1, (x, dy)), (0, (x.T, dy.T))):
        for threshold in (THRESHOLD, 0):
            y = made(given, poison(np.empty_like(given)), axis, threshold)
            dx = gradient(gradient_given, given, poison(np.empty_like(given)), axis, threshold)
            for result in (y, dx):
                rows = np.ascontiguousarray(result if axis else result.T)
                assert_same(rows[[1, 4]], np.zeros((2, n), dtype))
                assert np.isfinite(rows[[0, 2, 3]].astype(np.float64)).all()


def test_a_key_in_memory_is_read_when_the_kernel_runs(rng: np.random.Generator) -> None:
    x = numbers((5, 67), FLOATS[2], rng)
    words = np.array([*KEY], np.uint64)
    y, pointer = np.empty_like(x), int(words.__array_interface__["data"][0])
    parameters = 0, 0, THRESHOLD, factor(x)
    softmax_driver.softmax_dropout(x, y, 1, 0, None, *parameters, key_pointer=pointer)
    assert_same(y, made(x, np.empty_like(x), -1))


@pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.ABSENT)
@pytest.mark.parametrize(
    ("name", "architecture"),
    slow_unless(
        lambda name, architecture: (name, architecture) == ("bfloat16", "sm_90"),
        ["bfloat16", "float32", "float64"],
        [nvrtc.ARCHITECTURES[0], nvrtc.ARCHITECTURES[-1]],
    ),
)
def test_a_module_compiles_to_kernels_that_stay_in_registers(name: str, architecture: str) -> None:
    compiled = nvrtc.compiled(softmax_driver.MODULES[name], architecture)
    assert len(compiled.reports) == 2
    for kernel, report in compiled.reports.items():
        # On sm_90 the backward in float64 lacks a few registers at two blocks a multiprocessor, and
        # keeps 16 bytes of a thread in memory. Loads in another order made it 32.
        most = 64 if name == "float64" and architecture == "sm_90" else 0
        assert report.stack <= most and report.spilled <= most, kernel
        assert report.registers <= 65536 // modules.THREADS // 2, kernel  # two blocks at once


def test_an_element_is_dropped_from_its_own_uniform_on() -> None:
    x = np.zeros((1, 200), np.float32)
    for index in (0, 7, 100, 199):
        uniform = int(
            contract.uniform32(np.uint64(KEY.seed), np.uint64(KEY.stream), np.uint64(index))
        )
        for threshold, kept in ((uniform, True), (uniform + 1, False)):
            y = made(x, np.empty_like(x), -1, threshold)
            assert (y[0, index] != 0) == kept
            assert_same(y, made(x.T, np.empty_like(x.T), 0, threshold).T)


@every_dtype
def test_cupy_arrays_give_cupy_arrays(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    with host_device(driver) as (device, _):
        if not device.takes(dtype):
            pytest.skip(f"this CuPy takes no {dtype}")
        check(device, dtype, P, rng)


def test_arrays_of_two_places_are_refused() -> None:
    with host_device(driver) as (device, _):
        x = np.ones((2, 3), np.float32)
        for dy, given in ((x, device.put(x)), (device.put(x), x)):
            with pytest.raises(TypeError, match="bring one to where the other is"):
                fd.softmax_dropout_backward(dy, given, 0.5, rng=1)
        assert isinstance(fd.softmax_dropout(device.put(x), 0.5, rng=1), device.cupy.ndarray)
