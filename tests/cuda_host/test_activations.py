"""Activations in CUDA C++, compiled for the host: their errors, and their limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastdrop_kernels.catalogue import ACTIVATIONS
from fastdrop_kernels.cuda import driver
from tests.support import bias_act
from tests.support.cuda_host.cases import FLOATS, KEY, kept_at
from tests.support.cuda_host.functors import JOINT
from tests.support.oracle import poisoned
from tests.support.softmax import unit

pytestmark = pytest.mark.usefixtures("cuda_on_host")

SMOOTH = [act for act in ACTIVATIONS if act not in ("identity", "relu")]
DTYPES = {str(dtype): dtype for dtype in FLOATS}


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


TOLERANCE = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-21, "float64": 2.0**-50}


def smooth() -> list[str]:
    named = []
    for operation in JOINT:
        act = next((a for a in SMOOTH if operation.name.startswith(f"{a}_bias")), None)
        if act is not None:
            named.append(operation.name)
    return named


@pytest.mark.slow
@pytest.mark.parametrize("name", smooth())
def test_activations_and_their_gradients(name: str, rng: np.random.Generator) -> None:
    """Within the tolerance of the larger of the result and what it is a part of."""
    operation = next(o for o in JOINT if o.name == name)
    act = max((a for a in SMOOTH if name.startswith(a)), key=len)
    dtype = DTYPES[name.rpartition("_")[2]]
    n = 20_000
    t = np.linspace(-30, 30, n) * rng.choice([1e-6, 1e-3, 0.1, 1, 1], n)
    x = t.astype(dtype)
    other, third = (rng.standard_normal(n).astype(dtype) for _ in "ab")
    bias = np.broadcast_to(np.zeros(1, dtype), (n,))
    y, scale = poisoned((n,), dtype), 1.25
    kept = kept_at({}, (n,), 1 << 30)
    value = np.array(scale, computed(dtype))
    if "backward" in name:
        driver.apply(operation, other, y, 0, None, *KEY, 1 << 30, value, operands=(x, bias))
        expected = bias_act.rounded_gradient(other, x, bias, act, kept, scale)
        part = np.abs(other.astype(np.float64))
    else:
        driver.apply(operation, x, y, 0, None, *KEY, 1 << 30, value, operands=(bias, third))
        expected = bias_act.rounded_forward(x, bias, act, kept, scale, third)
        part = np.abs(x.astype(np.float64)) + np.abs(third.astype(np.float64))
    error = np.abs(y.astype(np.float64) - expected)
    assert (error <= TOLERANCE[dtype.name] * (part + np.abs(expected))).all()
    assert (y[~kept] == (0 if "backward" in name else third[~kept])).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("act", SMOOTH)
def test_activations_do_not_cancel(act: str, dtype: Any) -> None:
    """Relative to the result, far below 0 too; gelu's Phi falls there as fast as x**2 grows."""
    dtype = np.dtype(dtype)
    t = np.linspace(-11, 11, 20_001).astype(dtype)
    zeros, one = np.zeros_like(t), np.ones((), dtype)
    y, dx = poisoned(t.shape, dtype), poisoned(t.shape, dtype)
    forward = driver.operation("bias_act_drop", dtype, act, True, True)
    driver.apply(forward, t, y, 0, None, *KEY, 0, one, operands=(zeros, zeros))
    back = driver.operation("bias_act_drop_backward", dtype, act, True)
    driver.apply(back, np.ones_like(t), dx, 0, None, *KEY, 0, one, operands=(t, zeros))
    wide = t.astype(np.longdouble)
    true, slope = bias_act.activation(act, wide)
    if act == "tanh":
        slope = 1 / np.cosh(wide) ** 2
    roots = np.abs(slope) < 0.05  # near which a slope is a difference of larger numbers
    limits = np.finfo(dtype)
    reach = limits.eps * (16 + (4 * wide**2 if act.startswith("gelu") else 0))
    assert (np.abs(y - true) <= reach * np.abs(y) + limits.tiny).all()
    around = np.where(roots & (t > -2), 1, np.abs(slope))
    assert (np.abs(dx - slope) <= reach * around + limits.tiny).all()


def test_gelu_has_the_error_that_is_documented() -> None:
    """In float32: 8 ulp, and half an ulp times x**2 below 0, as far as results are normal."""
    t = np.linspace(-13, 13, 20_001).astype(np.float32)
    y, dx = poisoned(t.shape, t.dtype), poisoned(t.shape, t.dtype)
    zeros, one = np.zeros_like(t), np.ones((), np.float32)
    forward = driver.operation("bias_act_drop", t.dtype, "gelu", True, True)
    driver.apply(forward, t, y, 0, None, *KEY, 0, one, operands=(zeros, zeros))
    back = driver.operation("bias_act_drop_backward", t.dtype, "gelu", True)
    driver.apply(back, np.ones_like(t), dx, 0, None, *KEY, 0, one, operands=(t, zeros))
    true, slope = bias_act.activation("gelu", t.astype(np.float64))
    reach = np.finfo(np.float32).eps * (8 + np.where(t < 0, t.astype(np.float64) ** 2 / 2, 0))
    assert (np.abs(y - true) <= reach * np.abs(true)).all()
    # The slope is a difference of numbers of this size.
    part = np.abs(slope) + np.where(
        t < 0, 2 * np.abs(t) * np.exp(-(t.astype(np.float64) ** 2) / 2), 0
    )
    assert (np.abs(dx - slope) <= reach * part).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "act", "backward"), [("bfloat16", "gelu", False), ("float16", "silu", True)]
)
def test_activations_of_every_half_number_are_nearly_rounded_once(
    name: str, act: str, backward: bool
) -> None:
    dtype = DTYPES[name]
    magnitudes = np.arange(int(np.array(1e4, dtype).view(np.uint16)), dtype=np.uint16)
    every = np.concatenate([magnitudes, magnitudes | 0x8000]).view(dtype)
    zeros, ones, y = np.zeros_like(every), np.ones_like(every), poisoned(every.shape, dtype)
    one, wide = np.ones((), np.float32), every.astype(np.float64)
    if backward:
        operation = driver.operation("bias_act_drop_backward", dtype, act, True)
        driver.apply(operation, ones, y, 0, None, *KEY, 0, one, operands=(every, zeros))
    else:
        operation = driver.operation("bias_act_drop", dtype, act, True, True)
        driver.apply(operation, every, y, 0, None, *KEY, 0, one, operands=(zeros, zeros))
    true = bias_act.activation(act, wide)[backward]
    error = np.abs(y.astype(np.float64) - true)
    # Results below the normal numbers of float32 are flushed to zero.
    assert (error <= 0.505 * unit(true, dtype) + 2.0**-126).all()


@pytest.mark.slow
@pytest.mark.parametrize("act", SMOOTH)
def test_activations_reach_their_limits(act: str) -> None:
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        largest = np.finfo(dtype).max
        t = np.array([np.inf, largest, 1e30, -1e30, -largest, -np.inf, np.nan], dtype)
        zeros, ones = np.zeros_like(t), np.ones_like(t)
        one = np.ones((), dtype)
        y, dx = np.empty_like(t), np.empty_like(t)
        forward = driver.operation("bias_act_drop", dtype, act, True, True)
        driver.apply(forward, t, y, 0, None, *KEY, 0, one, operands=(zeros, zeros))
        back = driver.operation("bias_act_drop_backward", dtype, act, True)
        driver.apply(back, ones, dx, 0, None, *KEY, 0, one, operands=(t, zeros))
        limits = [1, 1, 1, -1, -1, -1] if act == "tanh" else [*t[:3], 0, 0, 0]
        np.testing.assert_array_equal(y, [*limits, math.nan])
        slopes = [0] * 6 if act == "tanh" else [1, 1, 1, 0, 0, 0]
        np.testing.assert_array_equal(dx, [*slopes, math.nan])
