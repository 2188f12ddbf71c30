"""The epilogue and its gradient as plain NumPy has them, with the exact mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.support.oracle import Array

ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh")
_ERFC = np.vectorize(math.erfc, otypes=[np.float64])
_ROOT, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def activation(act: str, t: Array) -> tuple[Array, Array]:
    """An activation and its derivative, in float64."""
    t = np.asarray(t) if t.dtype == np.longdouble else np.asarray(t, np.float64)
    if act == "identity":
        return t, np.ones_like(t)
    if act == "relu":
        return np.maximum(t, 0), (t > 0).astype(np.float64)
    if act == "tanh":
        return np.tanh(t), 1 - np.tanh(t) ** 2
    if act == "silu":
        share, other = _logistic(t)
        return t * share, share * (1 + t * other)
    if act == "gelu":
        share = _ERFC(-t / math.sqrt(2)) / 2
        return t * share, share + t * np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    share, other = _logistic(2 * _ROOT * (t + _CUBIC * t**3))  # (1 + tanh(u)) / 2
    slope = 2 * _ROOT * (1 + 3 * _CUBIC * t * t)
    return t * share, share * (1 + t * other * slope)


def _logistic(v: Array) -> tuple[Array, Array]:
    """The logistic function of v, and of -v."""
    return 1 / (1 + np.exp(-v)), 1 / (1 + np.exp(v))


def forward(
    x: Array, bias: Any, act: str, kept: Array, factor: float, residual: Any
) -> tuple[Array, Array]:
    """The result in float64, and what it has to be measured against: the sizes that were added."""
    t = _shifted(x, bias)
    y = np.where(kept, activation(act, t)[0] * factor, 0.0)
    added = 0.0 if residual is None else np.asarray(residual, np.float64)
    return y + added, np.abs(y) + np.abs(added) + np.where(kept, factor, 0) * np.abs(t) * 1e-3


def gradient(dy: Array, x: Array, bias: Any, act: str, kept: Array, factor: float) -> Array:
    """The gradient by x, in float64."""
    slope = activation(act, _shifted(x, bias))[1]
    return np.where(kept, dy.astype(np.float64) * slope * factor, 0.0)


def _shifted(x: Array, bias: Any) -> Array:
    """x plus the bias, rounded as it is computed."""
    computed = np.float64 if x.dtype == np.float64 else np.float32
    shift = 0 if bias is None else np.asarray(bias).astype(computed)
    return np.asarray(x.astype(computed) + shift).astype(np.float64)
