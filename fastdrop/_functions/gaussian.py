"""Gaussian dropout and Gaussian noise: one normal number per element, drawn from the key.

Both are element-wise functions, run by `element_wise`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from .._arrays.dispatch import backend_of
from .._call.coefficients import gaussian_coefficients, noise_coefficients
from .._call.elementwise import ElementWise, element_wise
from .._call.rows import calls
from .._check import arguments
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error


def rate(p: Any) -> float:
    """Return a drop probability in [0, 1), where the standard deviation is finite."""
    return arguments.probability(p, below_one=True)


def standard_deviation(stddev: Any) -> float:
    """Return a standard deviation, which must not be negative."""
    number = arguments.real("stddev", stddev)
    if number < 0.0:
        raise ValueError(f"stddev={number!r} is negative: give 0 or more")
    return number


_GAUSSIAN_DROPOUT = ElementWise(
    "gaussian_drop",
    lambda p, dtype, _: gaussian_coefficients(p, dtype),
    rate,
)
_GAUSSIAN_NOISE = ElementWise(
    "gaussian_add",
    lambda stddev, dtype, _: noise_coefficients(stddev, dtype),
    standard_deviation,
)


@checks_keywords
@calls("gaussian_drop")
def gaussian_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    rng: AnyRNG = None,
    training: Training = True,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Multiply elements by normal numbers of mean 1 and standard deviation ``sqrt(p / (1 - p))``.

    That is the standard deviation of dropout's factors 0 and ``1 / (1 - p)``; no element is
    dropped. Linear in `x` for a given key, so **the backward pass is the same call** on the
    gradient.

    Parameters
    ----------
    x : array_like
        As in `dropout`, on the CPU or a GPU.
    p : float
        As in `dropout`, in [0, 1).
    rng, training, noise_shape, offset, global_shape, out
        As in `dropout`; elements that share a decision there share a number here.

    Returns
    -------
    ndarray
        As `dropout`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; ValueError also for p = 1.

    Notes
    -----
    ``x * (1 + z * sqrt(p / (1 - p)))`` [1]_, as Keras's GaussianDropout. An element's normal number
    z is the standard normal quantile of ``(U + 0.5) / 2**32``, U the 32-bit uniform by which
    `dropout` decides: from -6.34 to 6.34, computed in float32 [2]_ to within 4 units in the last
    place whatever the dtype, and so the same bits for all of them, and on a GPU. Each product and
    sum is rounded, of the half types in float32, and the result.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014, section 10.
    .. [2] M. Giles, "Approximating the erfinv function", GPU Computing Gems, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones(4, np.float32)
    >>> fd.gaussian_dropout(x, 0.2, rng=42)
    array([1.7722859, 1.1435046, 0.7175346, 0.9605877], dtype=float32)
    """
    if unknown or x is MISSING:
        raise_argument_error("gaussian_dropout", unknown, x=x)
    return element_wise(
        _GAUSSIAN_DROPOUT, x, p, None, rng, training, noise_shape, offset, global_shape, out
    )


@checks_keywords
@calls("gaussian_add")
def gaussian_noise(
    x: ArrayLike,
    stddev: float,
    *,
    rng: AnyRNG = None,
    training: Training = True,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Add normal numbers of mean 0 to elements.

    The gradient with respect to `x` is the gradient with respect to the result.

    Parameters
    ----------
    x : array_like
        As in `dropout`, on the CPU or a GPU.
    stddev : float
        Standard deviation of the noise, finite and not negative.
    rng, training, noise_shape, offset, global_shape, out
        As in `gaussian_dropout`.

    Returns
    -------
    ndarray
        As `dropout`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; ValueError also if `stddev` is negative, or too large for the compute type.

    Notes
    -----
    ``x + z * stddev``, as Keras's GaussianNoise, with the normal numbers z of `gaussian_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> fd.gaussian_noise(np.zeros(4, np.float32), 0.1, rng=42)
    array([ 0.1544572 ,  0.02870092, -0.05649308, -0.00788246], dtype=float32)
    """
    if unknown or x is MISSING or stddev is MISSING:
        raise_argument_error("gaussian_noise", unknown, x=x, stddev=stddev)
    return element_wise(
        _GAUSSIAN_NOISE, x, stddev, None, rng, training, noise_shape, offset, global_shape, out
    )


def noise_backward(dy: ArrayLike, **settings: Any) -> Array:
    """Return the gradient of `gaussian_noise`, `dy` itself, or raise for an unsupported `dy`."""
    backend = backend_of(dy)
    return backend.identity(dy, backend.array(dy, "dy"), None)
