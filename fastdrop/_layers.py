"""Layers: the functions with a mode and a memory of their forwards."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from . import _arguments as arguments
from ._alpha import (
    alpha_dropout,
    alpha_dropout_backward,
    feature_alpha_dropout,
    feature_alpha_dropout_backward,
)
from ._arguments import ArrayLike, NoiseShape
from ._drop_block import block_length, drop_block2d, drop_block3d, frequency, stabiliser
from ._each import chances
from ._function_layer import FunctionLayer
from ._functions import dropout
from ._gaussian import deviation, gaussian_dropout, gaussian_noise, noise_backward, rate
from ._key import RNG
from ._neighbours import named
from ._settings import Setting, Settings
from ._whole_parts import data_format_name, drop_path, feature_dropout, path_mode


def _scale(value: Any) -> float | None:
    return None if value is None else arguments.real("scale", value)


class _Placed(FunctionLayer):
    """A layer of a function that decides on elements, or on those that `noise_shape` parts."""

    __slots__ = ()

    noise_shape = Setting(arguments.noise_shape, default=None)


class _PlacedByP(_Placed):
    """One of a single p."""

    __slots__ = ()

    p = Setting(arguments.probability)

    @named
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


class _OfChannels(FunctionLayer):
    """A layer of a function that decides on whole channels of each sample."""

    __slots__ = ()

    data_format = Setting(data_format_name, default="channels_first")

    @named
    def __init__(
        self,
        p: float | ArrayLike = 0.5,
        *,
        rng: RNG = None,
        data_format: str = "channels_first",
        inplace: bool = False,
        **unknown: NoReturn,
    ) -> None:
        super().__init__(rng, unknown, p=p, data_format=data_format, inplace=inplace)


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
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
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

    p = Setting(chances)
    scale = Setting(_scale, default=None)
    _function = staticmethod(dropout)

    @named
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

    def _plain(self, settings: Settings) -> tuple[float, float | None] | None:
        p = settings["p"]
        if type(p) is not float or settings["noise_shape"] is not None or settings["inplace"]:
            return None
        return p, settings["scale"]


class FeatureDropout(_OfChannels):
    """Dropout of whole channels as a layer: `feature_dropout` with what `Dropout` remembers.

    Parameters
    ----------
    p : float or array_like
        Probability of **dropping** a channel of a sample, in [0, 1]; an array as in
        `feature_dropout`, which the layer copies.
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
        As in `Dropout`.
    data_format : {"channels_first", "channels_last"}
        Which axis the channels lie along: axis 1, or the last.

    inplace : bool
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes, and how forwards and backwards pair up.

    Examples
    --------
    >>> layer = fd.FeatureDropout(0.5, rng=1)
    >>> y = layer(np.ones((2, 3, 4, 4), np.float32))
    >>> y[:, :, 0, 0]
    array([[0., 2., 0.],
           [2., 0., 2.]], dtype=float32)
    """

    __slots__ = ()

    p = Setting(chances)
    _function = staticmethod(feature_dropout)


class AlphaDropout(_PlacedByP):
    """Alpha dropout as a layer: `alpha_dropout` with what `Dropout` remembers.

    Parameters
    ----------
    p : float
        Probability of **dropping** an element, in [0, 1].
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
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


class FeatureAlphaDropout(_OfChannels):
    """Alpha dropout of whole channels as a layer: `feature_alpha_dropout`.

    Parameters
    ----------
    p : float
        Probability of **dropping** a channel of a sample, in [0, 1].
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
        As in `Dropout`.
    data_format : {"channels_first", "channels_last"}
        Which axis the channels lie along: axis 1, or the last.

    inplace : bool
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes, and how forwards and backwards pair up.

    Examples
    --------
    >>> layer = fd.FeatureAlphaDropout(0.5, rng=1)
    >>> layer(np.zeros((1, 3, 8), np.float32))[:, :, 5]
    array([[-0.77919394,  0.77919394, -0.77919394]], dtype=float32)
    """

    __slots__ = ()

    p = Setting(arguments.probability)
    _function = staticmethod(feature_alpha_dropout)
    _backward_function = staticmethod(feature_alpha_dropout_backward)


class GaussianDropout(_PlacedByP):
    """Gaussian dropout as a layer: `gaussian_dropout` with what `Dropout` remembers.

    Parameters
    ----------
    p : float
        As in `gaussian_dropout`, in [0, 1).
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
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
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
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

    stddev = Setting(deviation)
    _function = staticmethod(gaussian_noise)
    _backward_function = staticmethod(noise_backward)

    @named
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


class DropPath(FunctionLayer):
    """Stochastic depth as a layer: `drop_path` with what `Dropout` remembers.

    Parameters
    ----------
    p : float or array_like
        Probability of **dropping** a sample's path, in [0, 1]; an array as in `drop_path`, which
        the layer copies.
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
        As in `Dropout`.
    mode : {"row", "batch"}
        Whether each sample is decided on by itself, or the batch as a whole.
    scale_by_keep : bool
        Whether kept paths are scaled by ``1 / (1 - p)``.

    inplace : bool
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes, and how forwards and backwards pair up.

    Examples
    --------
    >>> layer = fd.DropPath(0.5, rng=1)
    >>> layer(np.ones((4, 2), np.float32))
    array([[0., 0.],
           [2., 2.],
           [0., 0.],
           [2., 2.]], dtype=float32)
    """

    __slots__ = ()

    p = Setting(chances)
    mode = Setting(path_mode, default="row")
    scale_by_keep = Setting(partial(arguments.flag, "scale_by_keep"), default=True)
    _function = staticmethod(drop_path)

    @named
    def __init__(
        self,
        p: float | ArrayLike = 0.5,
        *,
        rng: RNG = None,
        mode: str = "row",
        scale_by_keep: bool = True,
        inplace: bool = False,
        **unknown: NoReturn,
    ) -> None:
        super().__init__(rng, unknown, p=p, mode=mode, scale_by_keep=scale_by_keep, inplace=inplace)


class DropBlock2d(FunctionLayer):
    """DropBlock as a layer: `drop_block2d` with what `Dropout` remembers.

    Parameters
    ----------
    p : float
        About the part of the elements that is dropped, in [0, 1].
    block_size : int
        Length of the blocks.
    rng : Key, int, Generator, numpy.random or anything else that `as_key` takes
        As in `Dropout`.
    eps : float
        Added to the number of kept elements when the scale is computed.
    couple_channels, gamma_scale, scale_by_keep
        As in `drop_block2d`.
    inplace : bool
        As in `Dropout`.

    See Also
    --------
    Dropout : for the attributes, and how forwards and backwards pair up.

    Examples
    --------
    >>> layer = fd.DropBlock2d(0.3, 3, rng=1)
    >>> x = np.ones((2, 8, 12, 12), np.float32)
    >>> y = layer(x)
    >>> bool((layer.backward(x) == y).all())
    True
    """

    __slots__ = ()

    p = Setting(arguments.probability)
    block_size = Setting(block_length)
    eps = Setting(stabiliser, default=1e-6)
    couple_channels = Setting(partial(arguments.flag, "couple_channels"), default=False)
    gamma_scale = Setting(frequency, default=1.0)
    scale_by_keep = Setting(partial(arguments.flag, "scale_by_keep"), default=True)
    _function = staticmethod(drop_block2d)

    @named
    def __init__(
        self,
        p: float,
        block_size: int,
        *,
        rng: RNG = None,
        eps: float = 1e-6,
        couple_channels: bool = False,
        gamma_scale: float = 1.0,
        scale_by_keep: bool = True,
        inplace: bool = False,
        **unknown: NoReturn,
    ) -> None:
        super().__init__(
            rng,
            unknown,
            p=p,
            block_size=block_size,
            eps=eps,
            couple_channels=couple_channels,
            gamma_scale=gamma_scale,
            scale_by_keep=scale_by_keep,
            inplace=inplace,
        )


class DropBlock3d(DropBlock2d):
    """DropBlock in three dimensions as a layer: `drop_block3d`; otherwise as `DropBlock2d`.

    See Also
    --------
    DropBlock2d : for the parameters.
    """

    __slots__ = ()

    _function = staticmethod(drop_block3d)
