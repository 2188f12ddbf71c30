"""Activations, traced: functions of what is computed with, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .lanes import Lanes, select
from .operations import Operation
from .storage import Storage


class Activation(NamedTuple):
    """A function of one number, and its derivative."""

    of: Callable[[Lanes], Lanes]
    slope: Callable[[Lanes], Lanes]


def _relu(t: Lanes) -> Lanes:
    return select(t.constant(0.0) >= t, t.constant(0.0), t)  # NaN stays NaN


def _step(t: Lanes) -> Lanes:
    return select(t > 0.0, t.constant(1.0), t.constant(0.0))


ACTIVATIONS = {
    "identity": Activation(lambda t: t, lambda t: t.constant(1.0)),
    "relu": Activation(_relu, _step),
}


def bias_act_drop(name: str, kind: Storage, act: str, bias: bool, residual: bool) -> Operation:
    """Dropout of an activation of x plus a bias, plus a residual: either may be missing."""
    of = ACTIVATIONS[act].of

    def kept(x: Lanes, *others: Lanes) -> Lanes:
        y = of(x + others[0] if bias else x) * others[-1]
        return y + others[-2] if residual else y

    def dropped(x: Lanes, *others: Lanes) -> Lanes | int:
        return others[-2] + 0.0 if residual else 0

    parts = "bias" * bias + "add" * residual
    operands = (kind,) * (bias + residual)
    return Operation(f"{act}-{parts}-{name}", kind, kind, kept, dropped, operands=operands)


def bias_act_drop_backward(name: str, kind: Storage, act: str, bias: bool) -> Operation:
    """The gradient of it by x: of dy, with operands x and the bias, which may be missing."""
    slope = ACTIVATIONS[act].slope

    def kept(dy: Lanes, x: Lanes, *others: Lanes) -> Lanes:
        return dy * others[-1] * slope(x + others[0] if bias else x)

    operands = (kind,) * (1 + bias)
    named = f"{act}-{'bias' * bias}-back-{name}"
    return Operation(named, kind, kind, kept, lambda *lanes: 0, operands=operands)
