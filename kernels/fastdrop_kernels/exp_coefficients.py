"""Coefficients of exp, tanh and the normal tail; `cpu.elements.math` evaluates them.

Everything is computed in the type of the argument, with operations that IEEE 754 rounds the same
way everywhere (+, -, *, /, conversions): nothing is fused, and every machine gives the same bits.
The polynomials are minimax approximations of the relative error (Remez algorithm, in 50 digits);
coefficients are in ascending order.

``exp(x) = 2**n * exp(r)`` with n the integer nearest to ``x / log(2)``, and ``exp(r) = 1 + r +
r**2 * q(r)``. log(2) is split in two parts, and n times the first is exact. The power of two is
applied as two factors, so that subnormal results are rounded once.

``tanh(a) = E / (E + 2)`` with ``E = exp(2 * a) - 1 = 2**n * (exp(r) - 1) + (2**n - 1)`` for a >= 0;
the sign is copied.

The lower tail of the standard normal is ``Phi(-a) = exp(-a**2 / 2) * P(t) / (a + k)`` with ``t = (a
- k) / (a + k)`` for a >= 0. The square is split in two parts, and the first part is exact, so that
the relative error stays small for large a.
"""

from __future__ import annotations

from typing import NamedTuple


class Exponential(NamedTuple):
    """Constants of exp for a floating-point type."""

    significand: int  # stored bits
    bias: int  # of the exponent
    least: float  # exp is 0 below
    most: float  # exp is infinite above
    log_2: tuple[float, float]
    q: tuple[float, ...]
    tanh_is_one: float  # tanh rounds to 1 from here on


class NormalTail(NamedTuple):
    """Constants of the standard normal tail for a floating-point type."""

    cut: int  # low bits to clear, so that the square of the rest is exact
    most: float  # the result, even times a few hundred, is 0 from this a on
    k: float
    p: tuple[float, ...]


INVERSE_LOG_2 = 1.4426950408889634

EXP32 = Exponential(
    significand=23,
    bias=127,
    least=-104.0,
    most=89.0,
    log_2=(0.693359375, -2.12194440e-4),
    # Relative error of exp 3.1e-9.
    q=(
        0.49999993449713122,
        0.16666520631544605,
        0.041668387407261713,
        0.0083687169613359740,
        0.0013814639131250203,
    ),
    tanh_is_one=9.1,
)
EXP64 = Exponential(
    significand=52,
    bias=1023,
    least=-746.0,
    most=710.0,
    log_2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    # Relative error of exp 5.3e-20.
    q=(
        0.5,
        0.16666666666666683420,
        0.041666666666666094266,
        0.0083333333333170343934,
        0.0013888888889115629246,
        0.00019841269896383772166,
        0.000024801586926639941261,
        2.7557234861778399953e-6,
        2.7557581837210490227e-7,
        2.5112036929269977366e-8,
        2.0826631553851436330e-9,
    ),
    tanh_is_one=19.1,
)
TAIL32 = NormalTail(
    cut=12,
    most=16.0,
    k=4.0,
    # Relative error 8.6e-9.
    p=(
        0.7552851354,
        -0.6078965883,
        0.3871369011,
        -0.1865234414,
        0.06040383103,
        -0.007525271545,
        -0.003512553848,
        0.001569923849,
        0.000179354203,
        -0.00013197196,
    ),
)
TAIL64 = NormalTail(
    cut=27,
    most=39.0,
    k=5.0,
    # Relative error 5.9e-18.
    p=(
        0.769193049750063,
        -0.6653825028900567,
        0.4953056159699773,
        -0.3135331566712962,
        0.1650203661703374,
        -0.06911863870657,
        0.020795066800837706,
        -0.002993376766705732,
        -0.0007978694080101098,
        0.0005448990333907246,
        -5.937567478978452e-05,
        -4.976265490857289e-05,
        1.6681041211648638e-05,
        3.980384689446275e-06,
        -2.768952452200567e-06,
        -3.3553715453707114e-07,
        4.3288406418611703e-07,
        4.088042689188555e-08,
        -6.601149981038275e-08,
        -8.294761192476242e-09,
        7.9421745525162e-09,
        1.4319603257813277e-09,
        -3.028994881502359e-10,
    ),
)
