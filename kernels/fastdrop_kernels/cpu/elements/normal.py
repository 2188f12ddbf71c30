"""The standard normal of an element's 32-bit uniform, traced; `quantile` says how."""

from __future__ import annotations

from collections.abc import Sequence

from ...normal_coefficients import CENTRAL, CENTRE, LOG_2, LOGARITHM, SPLIT, TAIL, TAIL_CENTRE
from ..codegen.vectors import FLOAT, I32, Lanes, select

_EXPONENT, _SIGNIFICAND, _ONE = 23, 0x007FFFFF, 0x3F800000  # of float32, and its 1.0
_SIGN = 0x80000000


def standard_normal(u: Lanes) -> Lanes:
    """Return the quantile of ``(u + 0.5) / 2**32``, in float32.

    `u` and its complement give numbers that differ in sign alone: the lower of both is computed
    with, of which there are 2**31, so that signed conversions serve.
    """
    lower = select(u >= _SIGN, ~u, u)
    a = (lower.as_float() + 0.5) * 2.0**-31  # 2q
    x = ((lower ^ 0x7FFFFFFF).as_float() + 0.5) * 2.0**-31  # 1 - 2q
    w = _minus_log(a * (2.0 - a))
    far = w >= SPLIT
    root = select(far, w, SPLIT).root()
    t = select(far, root - TAIL_CENTRE, w - CENTRE)
    y = select(far, t.constant(TAIL[-1]), CENTRAL[-1])
    for tail, central in zip(TAIL[-2::-1], CENTRAL[-2::-1], strict=True):
        y = y * t + select(far, t.constant(tail), central)
    # The lower half is negative.
    return ((x * y).seen_as(I32) | (~u & _SIGN)).seen_as(FLOAT)


def _minus_log(y: Lanes) -> Lanes:
    bits = y.seen_as(I32)
    exponent = (127 - (bits >> _EXPONENT)).as_float()
    t = ((bits & _SIGNIFICAND) | _ONE).seen_as(FLOAT) - 1.5
    return exponent * LOG_2 - _polynomial(LOGARITHM, t)


def _polynomial(coefficients: Sequence[float], t: Lanes) -> Lanes:
    y = t.constant(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        y = y * t + coefficient
    return y
