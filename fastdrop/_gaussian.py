"""Gaussian dropout and noise: a normal number for every element, drawn again from the key."""

from __future__ import annotations

from typing import Any

from . import _arguments as arguments
from ._arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike
from ._backends import backend_of
from ._element_wise import element_wise
from ._laws import gaussian_law, noise_law
from .cuda import AnyRNG


def rate(p: Any) -> float:
    """Return a drop probability in [0, 1)."""
    number = arguments.probability(p)
    if number == 1.0:
        raise ValueError("p=1.0: the factors would have no finite deviation; give a p below 1")
    return number


def deviation(stddev: Any) -> float:
    """Return a standard deviation, which is not negative."""
    number = arguments.real("stddev", stddev)
    if number < 0.0:
        raise ValueError(f"stddev={stddev!r} is negative: give 0 or more")
    return number


def gaussian_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    rng: AnyRNG = None,
    training: bool = True,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
) -> Array:
    """Multiply elements by normal numbers of mean 1 and deviation ``sqrt(p / (1 - p))``.

    That is the deviation that dropout's factors have. It is linear in `x` for a given key, so
    **the backward pass is the same call** on the gradient.

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
    Keras's GaussianDropout. An element's normal number z is the standard normal quantile of
    ``(U + 0.5) / 2**32`` of its 32-bit uniform U, from -6.34 to 6.34, computed in float32 to within
    4 units in the last place, whatever the dtype: the same bits for all of them, and on a GPU. The
    product with the deviation, the sum with 1 and the product with x are rounded, and the result.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014, section 10.
    .. [2] M. Giles, "Approximating the erfinv function", GPU Computing Gems, 2011.
    """
    return element_wise(
        x,
        p,
        lambda driver, dtype: driver.gaussian_dropping(dtype),
        gaussian_law,
        rng=rng,
        training=training,
        noise_shape=noise_shape,
        offset=offset,
        global_shape=global_shape,
        out=out,
        checked=rate,
    )


def gaussian_noise(
    x: ArrayLike,
    stddev: float,
    *,
    rng: AnyRNG = None,
    training: bool = True,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
) -> Array:
    """Add normal numbers of mean 0 to elements. The gradient passes as it is.

    Parameters
    ----------
    x : array_like
        As in `dropout`, on the CPU or a GPU.
    stddev : float
        Standard deviation of the numbers, finite and not negative.
    rng, training, noise_shape, offset, global_shape, out
        As in `gaussian_dropout`.

    Returns
    -------
    ndarray
        As `dropout`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; ValueError also if `stddev` is negative, or does not fit.

    Notes
    -----
    Keras's GaussianNoise, with the normal numbers of `gaussian_dropout`.
    """
    return element_wise(
        x,
        stddev,
        lambda driver, dtype: driver.gaussian_adding(dtype),
        noise_law,
        rng=rng,
        training=training,
        noise_shape=noise_shape,
        offset=offset,
        global_shape=global_shape,
        out=out,
        checked=deviation,
    )


def noise_backward(dy: ArrayLike, **settings: Any) -> Array:
    """Return the gradient of `gaussian_noise`: `dy` itself."""
    backend = backend_of(dy)
    return backend.untouched(dy, backend.array(dy), None)
