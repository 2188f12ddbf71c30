"""Layers that decide on whole parts of a batch: channels, samples, and blocks of neighbours."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from .._call.per_element import checked_p
from .._check import arguments
from .._check.arguments import ArrayLike
from .._check.key import RNG
from .._check.keywords import checks_keywords
from .._functions.alpha import feature_alpha_dropout, feature_alpha_dropout_backward
from .._functions.drop_block import block_length, drop_block2d, drop_block3d, epsilon, gamma_factor
from .._functions.structured import data_format_name, drop_path, feature_dropout, path_mode
from .function_layer import FunctionLayer
from .settings import Setting


class _OfChannels(FunctionLayer):
    """A layer of a function that decides on whole channels of each sample."""

    __slots__ = ()

    data_format = Setting(data_format_name, default="channels_first")

    @checks_keywords
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


class FeatureDropout(_OfChannels):
    """Dropout of whole channels as a layer: `feature_dropout` with what `Dropout` remembers.

    Parameters
    ----------
    p : float or array_like
        Probability of **dropping** a channel of a sample, in [0, 1]; an array as in
        `feature_dropout`, which the layer copies.
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
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

    p = Setting(checked_p)
    _function = staticmethod(feature_dropout)


class FeatureAlphaDropout(_OfChannels):
    """Alpha dropout of whole channels as a layer: `feature_alpha_dropout`.

    Parameters
    ----------
    p : float
        Probability of **dropping** a channel of a sample, in [0, 1].
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
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


class DropPath(FunctionLayer):
    """Stochastic depth as a layer: `drop_path` with what `Dropout` remembers.

    Parameters
    ----------
    p : float or array_like
        Probability of **dropping** a sample's path, in [0, 1]; an array as in `drop_path`, which
        the layer copies.
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
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

    p = Setting(checked_p)
    mode = Setting(path_mode, default="row")
    scale_by_keep = Setting(partial(arguments.flag, "scale_by_keep"), default=True)
    _function = staticmethod(drop_path)

    @checks_keywords
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
    rng : Key, int, Generator, numpy.random, or what else `as_key` takes
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
    eps = Setting(epsilon, default=1e-6)
    couple_channels = Setting(partial(arguments.flag, "couple_channels"), default=False)
    gamma_scale = Setting(gamma_factor, default=1.0)
    scale_by_keep = Setting(partial(arguments.flag, "scale_by_keep"), default=True)
    _function = staticmethod(drop_block2d)

    @checks_keywords
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
