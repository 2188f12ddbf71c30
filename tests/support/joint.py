"""What operations of several operands must give, with plain NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.support.oracle import Array

_erfc: Any = np.frompyfunc(math.erfc, 1, 1)


def _phi(t: Array) -> Array:
    return np.asarray(0.5 * _erfc(-t * math.sqrt(0.5)), np.float64)


def _logistic(t: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-t)))


def _inner(t: Array) -> Array:
    return np.asarray(math.sqrt(8.0 / math.pi) * (t + 0.044715 * t**3))


def activated(act: str, t: Array) -> Array:
    """Return an activation of numbers; but for the identity and ReLU of float64."""
    if act == "identity":
        return t
    if act == "relu":
        return np.where(t <= 0, t.dtype.type(0), t)  # NaN stays NaN
    with np.errstate(over="ignore"):
        gates = {"gelu": _phi, "gelu_tanh": lambda t: _logistic(_inner(t)), "silu": _logistic}
        return np.tanh(t) if act == "tanh" else np.asarray(t * gates[act](t))


def passed_back(act: str, g: Array, t: Array) -> Array:
    """Return the gradient by t, of that by the activation of t."""
    if act == "identity":
        return g
    if act == "relu":
        return np.where(t <= 0, g.dtype.type(0), g)
    with np.errstate(over="ignore", under="ignore"):
        if act == "tanh":
            slope = 1.0 - np.tanh(t) ** 2
        elif act == "gelu":
            slope = _phi(t) + t * np.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi)
        else:
            z = t if act == "silu" else _inner(t)
            by_t = 1.0 if act == "silu" else math.sqrt(8.0 / math.pi) * (1.0 + 0.134145 * t * t)
            slope = _logistic(z) * (1.0 + t * _logistic(-z) * by_t)
        return np.asarray(g * slope)


def computed_type(dtype: Any, act: str = "identity") -> Any:
    """Return what is computed in: where a tolerance is needed anyway, float64."""
    exact = act in ("identity", "relu")
    return np.float32 if exact and np.dtype(dtype).itemsize <= 4 else np.float64


def bias_act_dropped(
    kept: Array, act: str, scale: float, x: Array, bias: Array | None, residual: Array | None
) -> Array:
    """Return ``dropout(act(x + bias)) + residual``, in what is computed in."""
    computed = computed_type(x.dtype, act)
    # The sum is rounded even where the rest need not be.
    narrow = computed_type(x.dtype)
    with np.errstate(all="ignore"):
        t = x.astype(narrow)
        t = (t if bias is None else t + bias.astype(narrow)).astype(computed)
        y = np.where(kept, activated(act, t) * narrow(scale), computed(0))
        return np.asarray(y if residual is None else y + residual.astype(computed))


def bias_act_dropped_backward(
    kept: Array, act: str, scale: float, dy: Array, x: Array, bias: Array | None
) -> Array:
    """Return its gradient by x, in what is computed in."""
    computed = computed_type(x.dtype, act)
    narrow = computed_type(x.dtype)
    with np.errstate(all="ignore"):
        t = x.astype(narrow)
        t = (t if bias is None else t + bias.astype(narrow)).astype(computed)
        g = dy.astype(narrow) * narrow(scale)
        return np.where(kept, passed_back(act, g.astype(computed), t), computed(0))
