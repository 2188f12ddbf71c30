"""Structured dropout: whole channels (`feature_dropout`), or whole samples (`drop_path`).

Both are `dropout` with a noise shape.
"""

from __future__ import annotations

import functools
from typing import Any, NoReturn

from .._arrays.dispatch import axes_of
from .._call.elementwise import element_wise
from .._call.rows import calls
from .._check import arguments
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .dropout import DROPOUT

_FIRST, _LAST = "channels_first", "channels_last"
_ROW, _BATCH = "row", "batch"


def data_format_name(value: Any) -> str:
    """Return the name of a data format."""
    return arguments.choice("data_format", value, (_FIRST, _LAST))


def path_mode(value: Any) -> str:
    """Return the name of a mode of `drop_path`."""
    return arguments.choice("mode", value, (_ROW, _BATCH))


def channels(
    function: str, x: Any, data_format: Any, training: Any, name: str = "x"
) -> tuple[int | None, ...] | None:
    """Return the noise shape with one decision for each channel of each sample.

    None in evaluation, where arrays of any shape are accepted.
    """
    first = data_format_name(data_format) == _FIRST
    if training is not True and not arguments.in_training(training):
        return None
    axes = axes_of(x, name)
    if axes < 2:
        raise ValueError(
            f"{name} has {axes} axes, and {function} needs one of samples and one of channels: "
            f"give {name}[None] for a sample alone"
        )
    return _channels(axes, first)


@functools.lru_cache(maxsize=64)
def _channels(axes: int, first: bool) -> tuple[int | None, ...]:
    inner = (1,) * (axes - 2)
    return (None, None, *inner) if first else (None, *inner, None)


@checks_keywords
@calls("drop")
def feature_dropout(
    x: ArrayLike,
    p: float | ArrayLike = 0.5,
    *,
    data_format: str = _FIRST,
    rng: AnyRNG = None,
    training: Training = True,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Drop whole channels of each sample at random, and scale the others.

    Neighbouring elements of a feature map are correlated, so dropping single ones removes little
    information. Each channel of each sample is kept or dropped as a whole instead. This is
    `dropout` with the `noise_shape`
    ``(None, None, 1, ...)``, or ``(None, 1, ..., None)`` for channels last, and **the backward pass
    is the same call** on the gradient.

    Parameters
    ----------
    x : array_like
        Samples along axis 0, channels along axis 1 or the last, and any number of other axes. For
        a single sample, pass ``x[None]``.
    p : float or array_like
        Probability of **dropping** a channel, in [0, 1]; an array broadcasts to
        ``(N, C, 1, ...)``, or ``(N, 1, ..., C)`` for channels last.
    data_format : {"channels_first", "channels_last"}
        Which axis the channels lie along: axis 1, or the last.
    rng, training, out
        As in `dropout`.
    offset, global_shape
        As in `dropout`: where `x` begins in an array that it is a block of, and that array's shape.

    Returns
    -------
    ndarray
        As `dropout`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; ValueError also if `x` has fewer than 2 axes in training.

    Notes
    -----
    torch's dropout1d, dropout2d and dropout3d (which take a sample alone, too) with channels first;
    Keras's SpatialDropout1D, 2D and 3D with channels last, its default.

    References
    ----------
    .. [1] J. Tompson et al., "Efficient object localization using convolutional networks",
       CVPR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones((2, 3, 8, 8), np.float32)
    >>> fd.feature_dropout(x, 0.5, rng=1)[:, :, 5, 5]
    array([[0., 2., 0.],
           [2., 0., 2.]], dtype=float32)
    """
    if unknown or x is MISSING:
        raise_argument_error("feature_dropout", unknown, x=x)
    noise_shape = channels("feature_dropout", x, data_format, training)
    return element_wise(DROPOUT, x, p, None, rng, training, noise_shape, offset, global_shape, out)


@checks_keywords
@calls("drop")
def drop_path(
    x: ArrayLike,
    p: float | ArrayLike = 0.5,
    *,
    mode: str = _ROW,
    scale_by_keep: bool = True,
    rng: AnyRNG = None,
    training: Training = True,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Drop whole samples of a residual branch at random (stochastic depth), and scale the others.

    For a block ``x + drop_path(branch(x), p, rng=key)``. This is `dropout` with the `noise_shape`
    ``(None, 1, ...)``, or all ones for a batch, and **the backward pass is the same call** on the
    gradient.

    Parameters
    ----------
    x : array_like
        Samples along axis 0, and any number of other axes.
    p : float or array_like
        Probability of **dropping** a sample's path, in [0, 1]; an array broadcasts to
        ``(N, 1, ...)``, or to ones for a batch.
    mode : {"row", "batch"}
        Whether there is a decision for each sample, or one for the whole batch.
    scale_by_keep : bool
        Whether kept paths are scaled by ``1 / (1 - p)``. False is for networks that are scaled by
        ``1 - p`` at test time, as in [1]_.
    rng, training, out
        As in `dropout`.
    offset, global_shape
        As in `dropout`: where `x` begins in an array that it is a block of, and that array's shape.

    Returns
    -------
    ndarray
        As `dropout`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; ValueError also if `x` has no axis of samples and the mode is "row", in
        training.

    Notes
    -----
    timm's drop_path (mode "row"), and torchvision's stochastic_depth (which always scales).

    References
    ----------
    .. [1] G. Huang et al., "Deep networks with stochastic depth", ECCV 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> fd.drop_path(np.ones((4, 2), np.float32), 0.5, rng=1)
    array([[0., 0.],
           [2., 2.],
           [0., 0.],
           [2., 2.]], dtype=float32)
    """
    if unknown or x is MISSING:
        raise_argument_error("drop_path", unknown, x=x)
    by_row = path_mode(mode) == _ROW
    axes = axes_of(x)
    if by_row and not axes and arguments.in_training(training):
        raise ValueError('x has no axes, and mode="row" needs one of samples: give mode="batch"')
    scale = None if arguments.flag("scale_by_keep", scale_by_keep) else 1.0
    noise_shape = (None, *(1,) * (axes - 1))[:axes] if by_row else (1,) * axes
    return element_wise(DROPOUT, x, p, scale, rng, training, noise_shape, offset, global_shape, out)
