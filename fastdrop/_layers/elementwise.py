"""Layers of functions that decide on elements: dropout, alpha dropout, Gaussian dropout, noise."""

from __future__ import annotations

from typing import Any, NoReturn

from .._call.per_element import checked_p
from .._check import arguments, placement
from .._check.arguments import ArrayLike, NoiseShape
from .._check.key import RNG
from .._check.keywords import checks_keywords
from .._functions.alpha import alpha_dropout, alpha_dropout_backward
from .._functions.dropout import dropout
from .._functions.gaussian import (
    gaussian_dropout,
    gaussian_noise,
    noise_backward,
    rate,
    standard_deviation,
)
from .function_layer import FunctionLayer
from .settings import Setting


def _scale(value: Any) -> float | None:
    return None if value is None else arguments.real("scale", value)


class _Placed(FunctionLayer):
    """A layer of a function that decides on elements, or on those that `noise_shape` parts."""

    __slots__ = ()

    noise_shape = Setting(placement.noise_shape, default=None)


class _PlacedByP(_Placed):
    """One of a single p."""

    __slots__ = ()

    p = Setting(arguments.probability)

    @checks_keywords
    def __init__(
        self,
        p: float = 0.5,
        *,
        rng: RNG = None,
        noise_shape: NoiseShape = None,
        inplace: bool = False,
        **unknown: NoReturn,
    ) -> None:
        super().__init__(rng, unknown, p=p, noise_shape=noise_shape, inplace=inplace)


class Dropout(_Placed):
    """Dropout as a layer: it counts its forwards and draws each one's mask again in the backward.

    Between forward and backward nothing is kept but numbers, of arrays on a GPU too. Several
    forwards may come before the backwards, which then go back in reverse order, as in
    backpropagation through time. For another order there is `vjp`, for numerical gradients `fixed`.

    Parameters
    ----------
    p : float or array_like
        Probability of **dropping** an element, in [0, 1]. An array or a list, as in `dropout`, is
        copied, to float64.
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        What the masks are drawn from, see `as_key`; resolved once, here. **Two layers given the
        same int draw the same masks**: give them one `numpy.random.Generator`, or
        ``key.fold_in(0)``, ``key.fold_in(1)`` and so on.
    noise_shape : tuple of int and None, optional
        As in `dropout`.
    scale : float, optional
        As in `dropout`.
    inplace : bool
        Whether a training forward writes its result to `x`, and returns that. Backwards return new
        arrays either way.

    Attributes
    ----------
    p, noise_shape, scale, inplace
        May be set anew between forwards; a backward uses its forward's. So may the key. An array
        cannot be written to. Any other attribute is refused.
    key : Key
        What the masks are drawn from.
    forwards : int
        Training forwards so far. The n-th, from 0, uses ``Key(seed, (stream + n) mod 2**64)``.
    training : bool
        The mode; True in a new layer.

    Notes
    -----
    **Which backward to use.** `backward` serves the usual loop, in which backwards come in reverse
    order of the forwards. Where they come in any other order (both batches of a GAN's step, then
    their backwards in forward order), `vjp` returns each result with its own backward.

    **Threads** may share a layer: each forward has a number of its own, and so a mask of its own,
    and `backward` returns to the forwards of the thread that calls it. Which thread's forward gets
    which number depends on who comes first; where that must not be, give each thread a layer, with
    ``key.fold_in(worker)``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> rng = np.random.default_rng(0)
    >>> first, second = fd.Dropout(0.2, rng=rng), fd.Dropout(0.5, rng=rng)
    >>> x = np.ones((2, 3), np.float32)
    >>> y = second(first(x))
    >>> dx = first.backward(second.backward(np.ones_like(y)))
    >>> bool((dx == y).all())
    True

    A p for each of three features:

    >>> fd.Dropout([0.0, 0.5, 1.0], rng=1)(np.ones((3, 3), np.float32))
    array([[1., 2., 0.],
           [1., 0., 0.],
           [1., 2., 0.]], dtype=float32)
    """

    __slots__ = ()

    p = Setting(checked_p)
    scale = Setting(_scale, default=None)
    _function = staticmethod(dropout)

    @checks_keywords
    def __init__(
        self,
        p: float | ArrayLike = 0.5,
        *,
        rng: RNG = None,
        noise_shape: NoiseShape = None,
        scale: float | None = None,
        inplace: bool = False,
        **unknown: NoReturn,
    ) -> None:
        super().__init__(rng, unknown, p=p, noise_shape=noise_shape, scale=scale, inplace=inplace)


class AlphaDropout(_PlacedByP):
    """Alpha dropout as a layer: `alpha_dropout` with what `Dropout` remembers.

    Parameters
    ----------
    p : float
        Probability of **dropping** an element, in [0, 1].
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        As in `Dropout`.
    noise_shape : tuple of int and None, optional
        As in `dropout`.
    inplace : bool
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes, and how forwards and backwards pair up.

    Examples
    --------
    >>> layer = fd.AlphaDropout(0.5, rng=42)
    >>> layer(np.zeros(4, np.float32))
    array([ 0.77919394,  0.77919394, -0.77919394, -0.77919394], dtype=float32)
    >>> layer.backward(np.ones(4, np.float32))
    array([0.8864049, 0.8864049, 0.       , 0.       ], dtype=float32)
    """

    __slots__ = ()

    _function = staticmethod(alpha_dropout)
    _backward_function = staticmethod(alpha_dropout_backward)


class GaussianDropout(_PlacedByP):
    """Gaussian dropout as a layer: `gaussian_dropout` with what `Dropout` remembers.

    Parameters
    ----------
    p : float
        As in `gaussian_dropout`, in [0, 1).
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        As in `Dropout`.
    noise_shape : tuple of int and None, optional
        As in `dropout`.
    inplace : bool
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes, and how forwards and backwards pair up.

    Examples
    --------
    >>> layer = fd.GaussianDropout(0.2, rng=42)
    >>> y = layer(np.ones(4, np.float32))
    >>> y
    array([1.7722859, 1.1435046, 0.7175346, 0.9605877], dtype=float32)
    >>> layer.backward(np.ones(4, np.float32))  # by the same factors
    array([1.7722859, 1.1435046, 0.7175346, 0.9605877], dtype=float32)
    """

    __slots__ = ()

    p = Setting(rate)
    _function = staticmethod(gaussian_dropout)


class GaussianNoise(_Placed):
    """Gaussian noise as a layer: `gaussian_noise`; its backward returns the gradient itself.

    Parameters
    ----------
    stddev : float
        Standard deviation of the noise, finite and not negative.
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
        As in `Dropout`.
    noise_shape : tuple of int and None, optional
        As in `dropout`.
    inplace : bool
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes, and how forwards and backwards pair up.

    Examples
    --------
    >>> layer = fd.GaussianNoise(0.1, rng=42)
    >>> layer(np.zeros(4, np.float32))
    array([ 0.1544572 ,  0.02870092, -0.05649308, -0.00788246], dtype=float32)
    >>> layer.eval()(1.0)  # at test time there is no noise
    1.0
    """

    __slots__ = ()

    stddev = Setting(standard_deviation)
    _function = staticmethod(gaussian_noise)
    _backward_function = staticmethod(noise_backward)

    @checks_keywords
    def __init__(
        self,
        stddev: float,
        *,
        rng: RNG = None,
        noise_shape: NoiseShape = None,
        inplace: bool = False,
        **unknown: NoReturn,
    ) -> None:
        super().__init__(rng, unknown, stddev=stddev, noise_shape=noise_shape, inplace=inplace)
