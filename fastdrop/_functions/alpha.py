"""Alpha dropout for networks of SELUs: it preserves mean 0 and variance 1.

The forwards are element-wise functions, run by `element_wise`; the backwards call `dropout`.
"""

from __future__ import annotations

from typing import NoReturn

from .._arrays.dispatch import backend_of
from .._call.coefficients import alpha_coefficients, alpha_scale, compute_type
from .._call.elementwise import ElementWise, element_wise
from .._call.rows import calls
from .._check import arguments
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .dropout import DROPOUT
from .structured import channels

_ALPHA_DROPOUT = ElementWise("alpha", lambda p, dtype, _: alpha_coefficients(p, dtype))


@checks_keywords
@calls("alpha", "drop")
def alpha_dropout(
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
    """Set elements at random to the saturation value of SELU, and preserve mean 0 and variance 1.

    A network of SELUs normalises itself, and zeros would disturb that. A dropped element becomes
    -1.758..., the infimum of SELU, and then all elements are scaled and shifted: kept ones are
    ``a * x + b``, with ``a = ((A**2 * p + 1) * (1 - p)) ** -0.5``, ``b = a * A * p`` and
    ``A = 1.7580993408473766``; dropped ones are ``b - a * A``. The backward is
    `alpha_dropout_backward`.

    Parameters
    ----------
    x : array_like
        As in `dropout`, of mean 0 and variance 1, on the CPU or a GPU.
    p : float
        Probability of **dropping** an element, in [0, 1].
    rng, training, noise_shape, offset, global_shape, out
        As in `dropout`, and the elements dropped are those that `dropout` drops.

    Returns
    -------
    ndarray
        As `dropout`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`.

    Notes
    -----
    As torch.nn.functional.alpha_dropout, also for p = 0 (`x`, in a new array) and p = 1 (zeros).
    The half types are computed in float32. The product and the sum are rounded, and the result is
    rounded to the dtype.

    References
    ----------
    .. [1] G. Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.array([-1, 0, 1, 2], np.float32)
    >>> fd.alpha_dropout(x, 0.5, rng=42)
    array([-0.10721093,  0.77919394, -0.77919394, -0.77919394], dtype=float32)
    """
    if unknown or x is MISSING:
        raise_argument_error("alpha_dropout", unknown, x=x)
    return element_wise(
        _ALPHA_DROPOUT, x, p, None, rng, training, noise_shape, offset, global_shape, out
    )


@checks_keywords
@calls("drop")
def alpha_dropout_backward(
    dy: ArrayLike,
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
    """Return the gradient of `alpha_dropout`: ``a * dy`` where kept, and 0 where dropped.

    Parameters
    ----------
    dy : array_like
        Gradient of the result.
    p, rng, training, noise_shape, offset, global_shape
        Those of the forward.
    out : ndarray, optional
        Where to write, as in `dropout`.

    Returns
    -------
    ndarray
        As `dropout`; `dy` itself where `training` is False.

    Raises
    ------
    TypeError, ValueError
        As `dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> fd.alpha_dropout_backward(np.ones(4, np.float32), 0.5, rng=42)
    array([0.8864049, 0.8864049, 0.       , 0.       ], dtype=float32)
    """
    if unknown or dy is MISSING:
        raise_argument_error("alpha_dropout_backward", unknown, dy=dy)
    compute_type(backend_of(dy).array(dy, "dy").dtype, "dy")
    scale = alpha_scale(arguments.probability(p))
    return element_wise(
        DROPOUT, dy, p, scale, rng, training, noise_shape, offset, global_shape, out
    )


@checks_keywords
@calls("alpha", "drop")
def feature_alpha_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    data_format: str = "channels_first",
    rng: AnyRNG = None,
    training: Training = True,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Apply `alpha_dropout` to whole channels of each sample.

    The backward is `feature_alpha_dropout_backward`.

    Parameters
    ----------
    x : array_like
        Samples along axis 0, channels along axis 1 or the last, and any number of other axes.
    p : float
        Probability of **dropping** a channel, in [0, 1].
    data_format : {"channels_first", "channels_last"}
        Which axis the channels lie along: axis 1, or the last.
    rng, training, offset, global_shape, out
        As in `feature_dropout`, and the channels dropped are those that it drops.

    Returns
    -------
    ndarray
        As `dropout`.

    Raises
    ------
    TypeError, ValueError
        As `feature_dropout`.

    Notes
    -----
    torch.nn.functional.feature_alpha_dropout, with channels first.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> fd.feature_alpha_dropout(np.zeros((2, 3, 8), np.float32), 0.5, rng=1)[:, :, 5]
    array([[-0.77919394,  0.77919394, -0.77919394],
           [ 0.77919394, -0.77919394,  0.77919394]], dtype=float32)
    """
    if unknown or x is MISSING:
        raise_argument_error("feature_alpha_dropout", unknown, x=x)
    return alpha_dropout(
        x,
        p,
        rng=rng,
        training=training,
        noise_shape=channels("feature_alpha_dropout", x, data_format, training),
        offset=offset,
        global_shape=global_shape,
        out=out,
    )


@checks_keywords
@calls("drop")
def feature_alpha_dropout_backward(
    dy: ArrayLike,
    p: float = 0.5,
    *,
    data_format: str = "channels_first",
    rng: AnyRNG = None,
    training: Training = True,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Return the gradient of `feature_alpha_dropout`.

    Parameters
    ----------
    dy : array_like
        Gradient of the result.
    p, data_format, rng, training, offset, global_shape
        Those of the forward.
    out : ndarray, optional
        Where to write, as in `dropout`.

    Returns
    -------
    ndarray
        As `alpha_dropout_backward`.

    Raises
    ------
    TypeError, ValueError
        As `feature_dropout`.
    """
    if unknown or dy is MISSING:
        raise_argument_error("feature_alpha_dropout_backward", unknown, dy=dy)
    return alpha_dropout_backward(
        dy,
        p,
        rng=rng,
        training=training,
        noise_shape=channels("feature_alpha_dropout_backward", dy, data_format, training, "dy"),
        offset=offset,
        global_shape=global_shape,
        out=out,
    )
