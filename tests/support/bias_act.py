"""bias_act_dropout_add and its gradient in plain NumPy, for a given mask.

`forward` and `gradient` compute in float64, for comparisons within a tolerance. `rounded_forward`
and `rounded_gradient` round where the kernels do, for exact comparisons of identity and ReLU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.support.oracle import Array

ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh")
EXACT = ("identity", "relu")
_ERFC = np.vectorize(math.erfc, otypes=[np.float64])
_ROOT, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def activation(act: str, t: Array) -> tuple[Array, Array]:
    """An activation and its derivative, in float64, or in long double where t is."""
    t = np.asarray(t) if t.dtype == np.longdouble else np.asarray(t, np.float64)
    with np.errstate(all="ignore"):
        if act == "identity":
            return t, np.ones_like(t)
        if act == "relu":
            return np.where(t <= 0, 0, t), np.where(t <= 0, 0.0, 1.0)
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
    """The result in float64, and the magnitude that its error is measured against."""
    t = _shifted(x, bias).astype(np.float64)
    y = np.where(kept, activation(act, t)[0] * factor, 0.0)
    added = 0.0 if residual is None else np.asarray(residual, np.float64)
    return y + added, np.abs(y) + np.abs(added) + np.where(kept, factor, 0) * np.abs(t) * 1e-3


def gradient(dy: Array, x: Array, bias: Any, act: str, kept: Array, factor: float) -> Array:
    """The gradient by x, in float64."""
    slope = activation(act, _shifted(x, bias))[1]
    return np.where(kept, dy.astype(np.float64) * slope * factor, 0.0)


def rounded_forward(
    x: Array, bias: Any, act: str, kept: Array, factor: float, residual: Any
) -> Array:
    """The result in the type that kernels compute in; of other activations in float64."""
    shifted = _shifted(x, bias)
    narrow = shifted.dtype.type
    computed = narrow if act in EXACT else np.float64
    with np.errstate(all="ignore"):
        y = activation(act, shifted)[0].astype(computed) * computed(narrow(factor))
        y = np.where(kept, y, computed(0))
        return np.asarray(y if residual is None else y + residual.astype(computed))


def rounded_gradient(dy: Array, x: Array, bias: Any, act: str, kept: Array, factor: float) -> Array:
    """The gradient by x in the type that kernels compute in; of other activations in float64."""
    shifted = _shifted(x, bias)
    narrow = shifted.dtype.type
    computed = narrow if act in EXACT else np.float64
    with np.errstate(all="ignore"):
        g = (dy.astype(narrow) * narrow(factor)).astype(computed)
        slope = activation(act, shifted)[1].astype(computed)
        # ReLU selects, and does not multiply: 0 where the slope is, whatever g is.
        return np.asarray(np.where(kept & (slope != 0), g * slope, computed(0)))


def _shifted(x: Array, bias: Any) -> Array:
    """x plus the bias, in the type that kernels compute in."""
    computed = np.float64 if x.dtype == np.float64 else np.float32
    shift = 0 if bias is None else np.asarray(bias).astype(computed)
    with np.errstate(all="ignore"):
        return np.asarray(x.astype(computed) + shift)
