"""Elementary functions of float32 and float64, traced; `fastdrop_kernels.elementary` says how."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..elementary import EXP32, EXP64, INVERSE_LOG_2, Exponential
from .lanes import DOUBLE, FLOAT, I32, I64, Lanes, select

_EXPONENTIALS = {FLOAT: EXP32, DOUBLE: EXP64}
_INTEGERS = {FLOAT: I32, DOUBLE: I64}


def exp(x: Lanes) -> Lanes:
    """Return the exponential: within 1 ulp, subnormal or not; NaN stays NaN."""
    law = _EXPONENTIALS[x.element]
    n, near = _parted(limited(x, law.least, law.most), law)
    first, second = _powers(n, law)
    return near * first * second


def faded(x: Lanes) -> Lanes:
    """Return the exponential of what is not above 0; below the least normal number it is 0.

    A processor may take a hundred cycles for a product that is subnormal, and there are many where
    a softmax is to leave things out. NaN stays NaN.
    """
    law = _EXPONENTIALS[x.element]
    least = (1 - law.bias) * math.log(2.0)
    n, near = _parted(select(x < least, x.constant(least), x), law)
    power = n - 3 * law.bias << law.significand
    return select(x < least, x.constant(0.0), near * power.seen_as(x.element))


def limited(x: Lanes, least: float, most: float) -> Lanes:
    """Return x, not below `least` nor above `most`; NaN stays NaN."""
    x = select(x < least, x.constant(least), x)
    return select(x > most, x.constant(most), x)


def polynomial(coefficients: Sequence[float], t: Lanes) -> Lanes:
    """Return a polynomial's value; its coefficients from the constant on."""
    y = t.constant(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        y = y * t + coefficient
    return y


def _parted(x: Lanes, law: Exponential) -> tuple[Lanes, Lanes]:
    """Return n + 4 * bias as an integer, and exp(r), of which exp(x) is 2**n times."""
    integer = _INTEGERS[x.element]
    # Added to a number of moderate size, this leaves no room for a fraction.
    rounder = x.constant(1.5 * 2.0**law.significand)
    shifted = x * INVERSE_LOG_2 + rounder
    n = shifted - rounder
    r = x - n * law.log_2[0] - n * law.log_2[1]
    near = r * r * polynomial(law.q, r) + r + 1.0
    whole = shifted.seen_as(integer) - rounder.seen_as(integer) + 4 * law.bias
    return whole, near


def _powers(n: Lanes, law: Exponential) -> tuple[Lanes, Lanes]:
    """Return two powers of two whose product is 2**n; n is given as `_parted` gives it."""
    half = n >> 1
    first, second = (k - law.bias << law.significand for k in (half, n - half))
    element = FLOAT if law is EXP32 else DOUBLE
    return first.seen_as(element), second.seen_as(element)
