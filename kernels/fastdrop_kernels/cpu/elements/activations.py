"""Traced activation functions and their derivatives, and the operations that use them.

`host.catalogue` imports this module, which adds to `operations.FUNCTIONS`. It calls `math`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..codegen.vectors import Lanes, select
from . import math as el
from .operations import FUNCTIONS, Function


class Activation(NamedTuple):
    """An activation ``of(t)``, and ``back(g, t)``: g times its derivative at t."""

    of: Callable[[Lanes], Lanes]
    back: Callable[[Lanes, Lanes], Lanes]


def _relu(t: Lanes) -> Lanes:
    return select(t.constant(0.0) >= t, t.constant(0.0), t)  # NaN stays NaN


def _relu_back(g: Lanes, t: Lanes) -> Lanes:
    return select(t.constant(0.0) >= t, g.constant(0.0), g)


def _bounded(t: Lanes) -> Lanes:
    """Clamp t to a range outside which all functions here are at their limits."""
    return el.clamp(t, -el.SATURATED_FROM[t.element], el.SATURATED_FROM[t.element])


def _above(t: Lanes) -> Lanes:
    """Bound t below: -infinity times a factor that is 0 there would be NaN instead of 0."""
    least = -el.SATURATED_FROM[t.element]
    return select(t < least, t.constant(least), t)


def _silu(t: Lanes) -> Lanes:
    return el.gated(_above(t), t)


def _silu_back(g: Lanes, t: Lanes) -> Lanes:
    t = _bounded(t)
    share, other = el.sigmoid_parts(t)
    return g * (share * (t * other + 1.0))


# The tanh form of gelu, 0.5 * t * (1 + tanh(u)), is t times the logistic function of 2u.
_LINEAR = 1.5957691216057308  # 2 * sqrt(2 / pi)
_CUBIC = 0.044715 * _LINEAR


def _gelu_tanh(t: Lanes) -> Lanes:
    near = _bounded(t)
    return el.gated(_above(t), near * (near * near * _CUBIC + _LINEAR))


def _gelu_tanh_back(g: Lanes, t: Lanes) -> Lanes:
    t = _bounded(t)
    square = t * t
    share, other = el.sigmoid_parts(t * (square * _CUBIC + _LINEAR))
    slope = square * (3.0 * _CUBIC) + _LINEAR
    return g * (share * (t * slope * other + 1.0))


def _gelu(t: Lanes) -> Lanes:
    lost = el.times_lower_tail(_bounded(t), el.absolute(t))
    return select(t > 0.0, t - lost, lost)


def _gelu_back(g: Lanes, t: Lanes) -> Lanes:
    t = _bounded(t)
    share, density = el.normal_parts(t)
    return g * (t * density + share)


ACTIVATIONS = {
    "identity": Activation(lambda t: t, lambda g, t: g),
    "relu": Activation(_relu, _relu_back),
    "gelu": Activation(_gelu, _gelu_back),
    "gelu_tanh": Activation(_gelu_tanh, _gelu_tanh_back),
    "silu": Activation(_silu, _silu_back),
    "tanh": Activation(el.tanh, lambda g, t: g * el.tanh_slope(t)),
}


def bias_act_drop(act: str, bias: bool, residual: bool) -> Function:
    """Return ``dropout(act(x + bias)) + residual``; bias and residual may be missing."""
    of = ACTIVATIONS[act].of

    def kept(x: Lanes, *others: Lanes) -> Lanes:
        y = of(x + others[0] if bias else x) * others[-1]
        return y + others[-2] if residual else y

    def dropped(x: Lanes, *others: Lanes) -> Lanes | int:
        return others[-2] + 0.0 if residual else 0

    return Function(kept, dropped)


def bias_act_drop_backward(act: str, bias: bool) -> Function:
    """Return the gradient by x, given dy; the operands are x and the bias, which may be missing."""
    back = ACTIVATIONS[act].back

    def kept(dy: Lanes, x: Lanes, *others: Lanes) -> Lanes:
        return back(dy * others[-1], x + others[0] if bias else x)

    return Function(kept)


FUNCTIONS |= {"bias_act_drop": bias_act_drop, "bias_act_drop_backward": bias_act_drop_backward}
