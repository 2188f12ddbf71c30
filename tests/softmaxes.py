"""What softmax and dropout in one pass must give, and how close to it."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract

from .devices import Device
from .oracle import Array, assert_same, mask, poisoned

KEY = fd.Key(2**40 + 9, 2**63 + 5)


def softmax(x: Array, axis: int) -> Array:
    """In more digits than any that is checked, where the machine has them."""
    x = x.astype(np.float64).astype(np.longdouble)
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


def numbers(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    return (3 * rng.standard_normal(shape)).astype(dtype)


def forward(x: Array, p: float, axis: int = -1, **where: Any) -> Array:
    """The result, and not yet rounded."""
    made = softmax(x, axis) * contract.scale(p)
    return np.where(mask(x.shape, p, KEY, **where), made, 0)


def backward(dy: Array, x: Array, p: float, axis: int = -1) -> Array:
    s = softmax(x, axis)
    g = np.where(mask(x.shape, p, KEY), dy.astype(np.float64) * contract.scale(p), 0)
    return np.asarray(s * (g - (g * s).sum(axis, keepdims=True)))


def unit(y: Array, dtype: np.dtype[Any]) -> Array:
    """The unit in the last place of some numbers in a dtype."""
    least, digits = {"float16": (-14, 10), "bfloat16": (-126, 7), "float32": (-126, 23),
                     "float64": (-1022, 52)}[dtype.name]  # fmt: skip
    exponents = np.frexp(np.abs(y))[1] - 1
    return np.asarray(np.ldexp(1.0, np.maximum(exponents, least) - digits))


def assert_close(got: Array, true: Array, x: Array, axis: int) -> None:
    """Assert that numbers were rounded once, and computed in float32 or float64."""
    dtype = got.dtype
    computed = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    # The difference from the largest score is rounded, which its exponential shows in proportion.
    below = x.astype(np.float64).max(axis, keepdims=True) - x.astype(np.float64)
    error = (4 + below / 2) * float(np.finfo(computed).eps) * true
    if dtype != computed:
        error += unit(true, dtype) / 2
    assert (np.abs(got.astype(np.float64) - true) <= error).all()


def assert_gradient_close(got: Array, dy: Array, x: Array, p: float, axis: int) -> None:
    """Assert that it was computed in float32 or float64, and rounded once."""
    dtype, true = got.dtype, backward(dy, x, p, axis)
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
    """Compare what a device gives with the reference: new arrays, given ones, and in place."""
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
