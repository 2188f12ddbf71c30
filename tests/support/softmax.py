"""References of softmax_dropout and its backward, exact and within a tolerance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.exp_coefficients import EXP32, EXP64, INVERSE_LOG_2
from tests.support.devices import Device
from tests.support.oracle import Array, assert_same, mask, poisoned

KEY = fd.Key(2**40 + 9, 2**63 + 5)


def softmax(x: Array, axis: int) -> Array:
    """In more digits than any that is checked, where the machine has them; 0 where all is -inf."""
    x = x.astype(np.float64).astype(np.longdouble)
    top = x.max(axis, keepdims=True)
    e = np.exp(x - np.where(top == -np.inf, 0, top))
    total = e.sum(axis, keepdims=True)
    return np.asarray(e / np.where(total == 0, 1, total))


def numbers(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    return (3 * rng.standard_normal(shape)).astype(dtype)


def forward(x: Array, p: float, axis: int = -1, key: fd.Key = KEY, **where: Any) -> Array:
    """The result, and not yet rounded."""
    made = softmax(x, axis) * contract.scale(p)
    return np.where(mask(x.shape, p, key, **where), made, 0)


def backward(dy: Array, x: Array, p: float, axis: int = -1, key: fd.Key = KEY) -> Array:
    s = softmax(x, axis)
    g = np.where(mask(x.shape, p, key), dy.astype(np.float64) * contract.scale(p), 0)
    return np.asarray(s * (g - (g * s).sum(axis, keepdims=True)))


def exponentials(x: Array) -> tuple[Array, Array]:
    """``exp(x - max(x))`` along the last axis and its sums, step by step as the kernels compute."""
    constants, integer = (EXP64, np.int64) if x.dtype == np.float64 else (EXP32, np.int32)
    kind = np.dtype(np.float64 if x.dtype == np.float64 else np.float32).type
    x = x.astype(kind)
    top = x.max(-1, keepdims=True)
    x = x - np.where(top == -np.inf, kind(0), top)
    least = kind((1 - constants.bias) * math.log(2.0))
    rounder = kind(1.5 * 2.0**constants.significand)
    shifted = np.maximum(x, least) * kind(INVERSE_LOG_2) + rounder
    n = shifted - rounder
    r = np.maximum(x, least) - n * kind(constants.log_2[0]) - n * kind(constants.log_2[1])
    q = np.full_like(r, constants.q[-1])
    for coefficient in constants.q[-2::-1]:
        q = q * r + kind(coefficient)
    power = ((n.astype(integer) + constants.bias) << constants.significand).view(kind)
    e = np.where(x < least, kind(0), (r * r * q + r + kind(1)) * power)
    return e, total(e)


def total(terms: Array) -> Array:
    """Float64 sums along the last axis, in the order that every processor keeps to."""
    lanes, part = 32, 64
    n = terms.shape[-1]
    parts = max(1, n // lanes // part + bool(n // lanes % part))
    result = np.zeros((*terms.shape[:-1], 1))
    for k in range(parts):
        stop = (k + 1) * lanes * part if k + 1 < parts else n
        some = terms[..., k * lanes * part : stop]
        width = [(0, 0)] * (some.ndim - 1) + [(0, -some.shape[-1] % lanes)]
        some = np.pad(some, width)
        sums = np.zeros((*terms.shape[:-1], lanes), terms.dtype)
        for first in range(0, some.shape[-1], lanes):
            sums = sums + some[..., first : first + lanes]
        while sums.shape[-1] > 1:
            half = sums.shape[-1] // 2
            sums = sums[..., :half] + sums[..., half:]
        result = result + sums
    return result


def exact_forward(x: Array, p: float, key: fd.Key = KEY, **where: Any) -> Array:
    """What softmax_dropout must give along the last axis, to the bit."""
    e, sums = exponentials(x)
    factor = float(e.dtype.type(contract.scale(p))) / np.where(sums == 0, np.inf, sums)
    made = np.where(mask(x.shape, p, key, **where), e * factor.astype(e.dtype), e.dtype.type(0))
    return np.asarray(made.astype(x.dtype))


def exact_backward(dy: Array, x: Array, p: float, key: fd.Key = KEY, **where: Any) -> Array:
    """What softmax_dropout_backward must give along the last axis, to the bit."""
    e, sums = exponentials(x)
    kind = e.dtype.type
    kept = mask(x.shape, p, key, **where)
    g = np.where(kept, dy.astype(kind) * kind(contract.scale(p)), kind(0))
    some = np.where(sums == 0, 1, sums)
    factor, mean = (1 / some).astype(kind), (total(e * g) / some).astype(kind)
    made = np.where(sums == 0, kind(0), e * factor * (g - mean))
    return np.asarray(made.astype(x.dtype))


def unit(y: Array, dtype: np.dtype[Any]) -> Array:
    """One unit in the last place of numbers in a dtype."""
    least, digits = {"float16": (-14, 10), "bfloat16": (-126, 7), "float32": (-126, 23),
                     "float64": (-1022, 52)}[dtype.name]  # fmt: skip
    exponents = np.frexp(np.abs(y))[1] - 1
    return np.asarray(np.ldexp(1.0, np.maximum(exponents, least) - digits))


def assert_close(got: Array, true: Array, x: Array, axis: int) -> None:
    """Assert that numbers were rounded once, and computed in float32 or float64."""
    dtype = got.dtype
    computed = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    # The difference from the largest score is rounded, which its exponential shows in proportion;
    # and so are the sums, whose errors add up as a random walk's steps: 5 units of 2,074 numbers.
    below = x.astype(np.float64).max(axis, keepdims=True) - x.astype(np.float64)
    summed = math.sqrt(x.shape[axis]) / 8
    error = (4 + summed + below / 2) * float(np.finfo(computed).eps) * true
    if dtype != computed:
        error += unit(true, dtype) / 2
    assert (np.abs(got.astype(np.float64) - true) <= error).all()


def assert_gradient_close(
    got: Array, dy: Array, x: Array, p: float, axis: int, key: fd.Key = KEY
) -> None:
    """Assert that it was computed in float32 or float64, and rounded once."""
    dtype, true = got.dtype, backward(dy, x, p, axis, key)
    computed = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    s, wide = softmax(x, axis), x.astype(np.float64)
    # A difference of two numbers that are at most so large, each as exact as a softmax is.
    largest = np.abs(dy.astype(np.float64)).max(axis, keepdims=True) * contract.scale(p)
    below = np.ptp(wide, axis, keepdims=True)
    error = (16 + 2 * below) * float(np.finfo(computed).eps) * s * largest
    if dtype != computed:
        error += unit(true, dtype) / 2
    assert (np.abs(got.astype(np.float64) - true) <= error).all()


def check(device: Device, dtype: Any, p: float, rng: np.random.Generator) -> None:
    """Compare a device's results with the reference: new arrays, a given out, and in place."""
    shape = 3, 4, 49
    x, dy = (numbers(shape, np.dtype(dtype), rng) for _ in range(2))
    x[1, 2, 10:] = -np.inf
    for axis in (-1, 1):
        finite = np.where(np.isinf(x), 0, x).astype(dtype)
        true = forward(x, p, axis)
        given, gradient = device.put(x), device.put(dy)
        made = fd.softmax_dropout(given, p, axis=axis, rng=KEY)
        back = fd.softmax_dropout_backward(gradient, given, p, axis=axis, rng=KEY)
        y, dx = device.get(made), device.get(back)
        assert_close(y, true, finite, axis)
        np.testing.assert_array_equal(y != 0, true.astype(dtype) != 0)
        assert (dx[np.isinf(x)] == 0).all()
        if not np.isinf(x).any():
            assert_gradient_close(dx, dy, x, p, axis)
        out = device.put(poisoned(shape, dtype))
        assert fd.softmax_dropout(given, p, axis=axis, rng=KEY, out=out) is out
        assert_same(device.get(out), y)
        fd.softmax_dropout_backward(gradient, given, p, axis=axis, rng=KEY, out=gradient)
        assert_same(device.get(gradient), dx)
        assert_same(device.get(given), x)
        fd.softmax_dropout(given, p, axis=axis, rng=KEY, out=given)
        assert_same(device.get(given), y)
        x = finite
    layered = fd.softmax_dropout(device.put(x), p, training=False)
    assert_close(device.get(layered), softmax(x, -1), x, -1)
