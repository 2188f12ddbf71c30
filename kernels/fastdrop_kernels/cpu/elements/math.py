"""Elementary functions of float32 and float64, traced; see `exp_coefficients`.

Infinities give limits, and NaN gives NaN. How far results may be from the true ones is tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...exp_coefficients import (
    EXP32,
    EXP64,
    INVERSE_LOG_2,
    TAIL32,
    TAIL64,
    Exponential,
    NormalTail,
)
from ..codegen.vectors import DOUBLE, FLOAT, I32, I64, Lanes, select

_EXPONENTIALS = {FLOAT: EXP32, DOUBLE: EXP64}
_TAILS = {FLOAT: TAIL32, DOUBLE: TAIL64}
_INTEGERS = {FLOAT: I32, DOUBLE: I64}
FAR = {FLOAT: 128.0, DOUBLE: 1024.0}  # where its exponential is 0, times numbers of this size too


def exp(x: Lanes) -> Lanes:
    """Return the exponential, subnormal or not."""
    a, b = _exp_factors(_within_exp(x))
    return a * b


def tanh(x: Lanes) -> Lanes:
    """Return the hyperbolic tangent; that of -0.0 is -0.0."""
    law = _EXPONENTIALS[x.element]
    size, sign = _size_and_sign(x)
    size = select(size > law.tanh_is_one, size.constant(law.tanh_is_one), size)
    n, less = _parted(size * 2.0, law)
    power = _power(n - 4 * law.bias + law.bias, law)
    e = power * less + (power - 1.0)
    return ((e / (e + 2.0)).seen_as(sign.element) | sign).seen_as(x.element)


def tanh_slope(x: Lanes) -> Lanes:
    """Return the derivative of `tanh`."""
    size, _ = _size_and_sign(x)
    e = exp(size * -2.0)
    shared = 2.0 / (e + 1.0)
    return e * shared * shared


def sigmoid_parts(v: Lanes) -> tuple[Lanes, Lanes]:
    """Return the logistic function of v, and of -v."""
    size, _ = _size_and_sign(v)
    e = exp(size * -1.0)
    larger = 1.0 / (e + 1.0)
    smaller = e * larger
    negative = v < 0.0
    return select(negative, smaller, larger), select(negative, larger, smaller)


def gated(x: Lanes, v: Lanes) -> Lanes:
    """Return x times the logistic function of v, which has the sign of x."""
    size, _ = _size_and_sign(v)
    # Further out than exp goes: x times what is 0 of itself may not be.
    far = FAR[x.element]
    a, b = _exp_factors(select(size > far, size.constant(-far), size * -1.0))
    share = 1.0 / (a * b + 1.0)
    negative, one = v < 0.0, v.constant(1.0)
    # The factor that may make it subnormal comes last.
    return x * select(negative, a, one) * share * select(negative, b, one)


def times_lower_tail(x: Lanes, a: Lanes) -> Lanes:
    """Return ``x * Phi(-a)``, the standard normal's lower tail, for a that are not negative."""
    tail = _TAILS[x.element]
    first, second, rest = _tail_factors(a, tail)
    return x * first * rest * second


def normal_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return Phi(x) and phi(x), the standard normal's distribution function and density."""
    tail = _TAILS[x.element]
    size, _ = _size_and_sign(x)
    first, second, rest = _tail_factors(size, tail)
    lower, density = first * rest * second, first * 0.3989422804014327 * second
    return select(x < 0.0, lower, 1.0 - lower), density


def absolute(x: Lanes) -> Lanes:
    """Return x without its sign."""
    size, _ = _size_and_sign(x)
    return size


def faded(x: Lanes) -> Lanes:
    """Return the exponential of what is not above 0; below the least normal number it is 0.

    A processor may take a hundred cycles for a product that is subnormal, and there are many where
    a softmax is to leave things out. NaN stays NaN.
    """
    law = _EXPONENTIALS[x.element]
    least = (1 - law.bias) * math.log(2.0)
    n, less = _parted(select(x < least, x.constant(least), x), law)
    made = (less + 1.0) * _power(n - 3 * law.bias, law)
    return select(x < least, x.constant(0.0), made)


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


def _size_and_sign(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return x without its sign, and its sign's bit as an integer."""
    integer = _INTEGERS[x.element]
    bits, sign = x.seen_as(integer), 1 << (integer.width - 1)
    return (bits & (sign - 1)).seen_as(x.element), bits & sign


def _within_exp(x: Lanes) -> Lanes:
    law = _EXPONENTIALS[x.element]
    return limited(x, law.least, law.most)


def _exp_factors(x: Lanes, rest: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """Return two numbers whose product is exp(x), or exp(x + rest); the first is not subnormal."""
    law = _EXPONENTIALS[x.element]
    n, less = _parted(x, law, rest)
    half = n >> 1
    first, second = _power(half - law.bias, law), _power(n - half - law.bias, law)
    return (less + 1.0) * first, second


def _parted(x: Lanes, law: Exponential, rest: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """Return n + 4 * bias as an integer, and exp(r) - 1: exp(x) is 2**n * exp(r)."""
    integer = _INTEGERS[x.element]
    # Added to a number of moderate size, this leaves no room for a fraction.
    rounder = x.constant(1.5 * 2.0**law.significand)
    shifted = x * INVERSE_LOG_2 + rounder
    n = shifted - rounder
    r = x - n * law.log_2[0] - n * law.log_2[1]
    if rest is not None:
        r = r + rest
    less = r * r * polynomial(law.q, r) + r
    return shifted.seen_as(integer) - rounder.seen_as(integer) + 4 * law.bias, less


def _power(biased: Lanes, law: Exponential) -> Lanes:
    """Return a power of two, given the bits of its exponent."""
    return (biased << law.significand).seen_as(FLOAT if law is EXP32 else DOUBLE)


def _tail_factors(a: Lanes, tail: NormalTail) -> tuple[Lanes, Lanes, Lanes]:
    """Return three factors of Phi(-a): two of exp(-a**2 / 2), and what is left."""
    a = select(a > tail.most, a.constant(tail.most), a)
    integer = _INTEGERS[a.element]
    all_bits = (1 << integer.width) - 1
    upper = (a.seen_as(integer) & (all_bits - (1 << tail.cut) + 1)).seen_as(a.element)
    first, second = _exp_factors(upper * upper * -0.5, (a - upper) * (a + upper) * -0.5)
    share = 1.0 / (a + tail.k)
    return first, second, polynomial(tail.p, (a - tail.k) * share) * share
