"""The standard normal quantile of ``(U + 0.5) / 2**32``: what both statements of it have in common.

With ``x = 2q - 1``, the quantile of q is ``x * f(w)`` where ``w = -log(1 - x**2)`` and f is smooth
and grows as the root of w; so M. Giles, "Approximating the erfinv function", GPU Computing Gems,
2011. f is one polynomial of ``w - CENTRE`` below `SPLIT`, and one of ``sqrt(w) - TAIL_CENTRE`` from
there on; the logarithm is an exponent and a polynomial of ``significand - 1.5``. The coefficients,
from the constant on, are those of the least relative error (of the logarithm: absolute), found in
float64 by weighted least squares whose weights are raised where the error is large, and rounded to
float32: 4e-9, 1.2e-8 and 3e-8.

All is computed in float32, and only with what IEEE 754 rounds alike everywhere (+, -, *, sqrt,
conversions): CPU and GPU give the same bits.
"""

CENTRE = 2.75
TAIL_CENTRE = 3.533747673034668
SPLIT = 5.5
CENTRAL = (
    2.21011829,
    0.345535189,
    -0.00712200254,
    -0.001468829,
    0.000295737758,
    -1.33745543e-05,
    -3.66782206e-06,
    6.70554414e-07,
    -3.93724031e-09,
    -1.01682369e-08,
    7.64254493e-10,
)
TAIL = (
    4.76517248,
    1.4249382,
    0.00434808573,
    -0.0027269749,
    0.00139992882,
    -0.000814525352,
    0.000523401657,
    -0.000341625942,
    0.000124495898,
    2.69070842e-05,
    -2.53257876e-05,
)
LOGARITHM = (
    0.405465096,
    0.66666615,
    -0.222220793,
    0.0987917557,
    -0.0494212136,
    0.0259673037,
    -0.0142641189,
    0.0102438889,
    -0.00629992131,
)
LOG_2 = 0.693147182
