"""Elementary functions: what their statements for CPU and GPU have in common.

All is computed in the type of the argument, and only with what IEEE 754 rounds alike everywhere
(+, -, *, /, conversions): no step is fused, and every machine gives the same bits. The coefficients
are those of the least relative error (Remez's algorithm, in 50 digits), from the constant on.

``exp(x) = 2**n * exp(r)`` with n the integer next to ``x / log(2)``, and ``exp(r) = 1 + r + r**2 *
q(r)``. log(2) is taken in two parts, of which n times the first is exact. The power of two is
multiplied in by halves, so that results are rounded once where they are subnormal.
"""

from __future__ import annotations

from typing import NamedTuple


class Exponential(NamedTuple):
    """What exp is made of in a floating-point type."""

    significand: int  # bits of it that are stored
    bias: int  # of the exponent
    least: float  # below it all is 0
    most: float  # above it all is infinite
    log_2: tuple[float, float]
    q: tuple[float, ...]


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
)
