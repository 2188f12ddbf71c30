"""Traced elementary functions; `exp_coefficients` and `normal_coefficients` explain the methods.

Activations, the Gaussian operations and the softmax loops call them. Infinities give limits, and
NaN gives NaN. Tests bound the errors.
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
from ...normal_coefficients import CENTRAL, CENTRE, LOG_2, LOGARITHM, SPLIT, TAIL, TAIL_CENTRE
from ..codegen.vectors import DOUBLE, FLOAT, I32, I64, Lanes, select

_EXPONENTIALS = {FLOAT: EXP32, DOUBLE: EXP64}
_TAILS = {FLOAT: TAIL32, DOUBLE: TAIL64}
_INTEGERS = {FLOAT: I32, DOUBLE: I64}
# exp(-SATURATED_FROM[type]) is 0, also when multiplied by numbers of this size.
SATURATED_FROM = {FLOAT: 128.0, DOUBLE: 1024.0}
_EXPONENT, _SIGNIFICAND, _ONE = 23, 0x007FFFFF, 0x3F800000  # of float32, and its 1.0
_SIGN = 0x80000000


def exp(x: Lanes) -> Lanes:
    """Return the exponential, including subnormal results."""
    a, b = _exp_factors(_within_exp(x))
    return a * b


def tanh(x: Lanes) -> Lanes:
    """Return the hyperbolic tangent; -0.0 gives -0.0."""
    constants = _EXPONENTIALS[x.element]
    size, sign = _size_and_sign(x)
    size = select(size > constants.tanh_is_one, size.constant(constants.tanh_is_one), size)
    n, less = _parted(size * 2.0, constants)
    power = _power(n - 4 * constants.bias + constants.bias, constants)
    e = power * less + (power - 1.0)
    return ((e / (e + 2.0)).bitcast(sign.element) | sign).bitcast(x.element)


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
    # A wider range than that of exp: the product with x can be normal where the factor underflows.
    far = SATURATED_FROM[x.element]
    a, b = _exp_factors(select(size > far, size.constant(-far), size * -1.0))
    share = 1.0 / (a * b + 1.0)
    negative, one = v < 0.0, v.constant(1.0)
    # The factor that can make the result subnormal is multiplied last.
    return x * select(negative, a, one) * share * select(negative, b, one)


def times_lower_tail(x: Lanes, a: Lanes) -> Lanes:
    """Return ``x * Phi(-a)``, with the standard normal's lower tail, for a >= 0."""
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
    """Return the absolute value."""
    size, _ = _size_and_sign(x)
    return size


def exp_flushed(x: Lanes) -> Lanes:
    """Return the exponential of x <= 0, with subnormal results flushed to 0.

    A subnormal product can take a hundred cycles, and a softmax has many of them, for masked and
    small scores. NaN stays NaN.
    """
    constants = _EXPONENTIALS[x.element]
    least = (1 - constants.bias) * math.log(2.0)
    n, less = _parted(select(x < least, x.constant(least), x), constants)
    made = (less + 1.0) * _power(n - 3 * constants.bias, constants)
    return select(x < least, x.constant(0.0), made)


def clamp(x: Lanes, least: float, most: float) -> Lanes:
    """Clamp x to [least, most]; NaN stays NaN."""
    x = select(x < least, x.constant(least), x)
    return select(x > most, x.constant(most), x)


def polynomial(coefficients: Sequence[float], t: Lanes) -> Lanes:
    """Evaluate a polynomial by Horner's method; coefficients in ascending order."""
    y = t.constant(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        y = y * t + coefficient
    return y


def _size_and_sign(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return the absolute value, and the sign bit in an integer."""
    integer = _INTEGERS[x.element]
    bits, sign = x.bitcast(integer), 1 << (integer.width - 1)
    return (bits & (sign - 1)).bitcast(x.element), bits & sign


def _within_exp(x: Lanes) -> Lanes:
    constants = _EXPONENTIALS[x.element]
    return clamp(x, constants.least, constants.most)


def _exp_factors(x: Lanes, rest: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """Return two factors of exp(x), or of exp(x + rest); the first is not subnormal."""
    constants = _EXPONENTIALS[x.element]
    n, less = _parted(x, constants, rest)
    half = n >> 1
    first, second = (
        _power(half - constants.bias, constants),
        _power(n - half - constants.bias, constants),
    )
    return (less + 1.0) * first, second


def _parted(x: Lanes, constants: Exponential, rest: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """Return n + 4 * bias as an integer, and exp(r) - 1, where exp(x) = 2**n * exp(r)."""
    integer = _INTEGERS[x.element]
    # Adding and subtracting this rounds a number of moderate size to an integer.
    rounder = x.constant(1.5 * 2.0**constants.significand)
    shifted = x * INVERSE_LOG_2 + rounder
    n = shifted - rounder
    r = x - n * constants.log_2[0] - n * constants.log_2[1]
    if rest is not None:
        r = r + rest
    less = r * r * polynomial(constants.q, r) + r
    return shifted.bitcast(integer) - rounder.bitcast(integer) + 4 * constants.bias, less


def _power(biased: Lanes, constants: Exponential) -> Lanes:
    """Return the power of two with a biased exponent."""
    return (biased << constants.significand).bitcast(FLOAT if constants is EXP32 else DOUBLE)


def _tail_factors(a: Lanes, tail: NormalTail) -> tuple[Lanes, Lanes, Lanes]:
    """Return three factors of Phi(-a): two of exp(-a**2 / 2), and the rational part."""
    a = select(a > tail.most, a.constant(tail.most), a)
    integer = _INTEGERS[a.element]
    all_bits = (1 << integer.width) - 1
    upper = (a.bitcast(integer) & (all_bits - (1 << tail.cut) + 1)).bitcast(a.element)
    first, second = _exp_factors(upper * upper * -0.5, (a - upper) * (a + upper) * -0.5)
    share = 1.0 / (a + tail.k)
    return first, second, polynomial(tail.p, (a - tail.k) * share) * share


def standard_normal(u: Lanes) -> Lanes:
    """Return the quantile of ``(u + 0.5) / 2**32``, in float32.

    `u` and its complement have quantiles that differ in sign only. The smaller of the two, below
    2**31, is used, so that signed conversions are sufficient.
    """
    lower = select(u >= _SIGN, ~u, u)
    a = (lower.as_float() + 0.5) * 2.0**-31  # 2q
    x = ((lower ^ 0x7FFFFFFF).as_float() + 0.5) * 2.0**-31  # 1 - 2q
    w = _minus_log(a * (2.0 - a))
    far = w >= SPLIT
    root = select(far, w, SPLIT).sqrt()
    t = select(far, root - TAIL_CENTRE, w - CENTRE)
    y = select(far, t.constant(TAIL[-1]), CENTRAL[-1])
    for tail, central in zip(TAIL[-2::-1], CENTRAL[-2::-1], strict=True):
        y = y * t + select(far, t.constant(tail), central)
    # Quantiles of the lower half are negative.
    return ((x * y).bitcast(I32) | (~u & _SIGN)).bitcast(FLOAT)


def _minus_log(y: Lanes) -> Lanes:
    bits = y.bitcast(I32)
    exponent = (127 - (bits >> _EXPONENT)).as_float()
    t = ((bits & _SIGNIFICAND) | _ONE).bitcast(FLOAT) - 1.5
    return exponent * LOG_2 - polynomial(LOGARITHM, t)
