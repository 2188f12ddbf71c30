"""Softmax and dropout in one pass, as attention applies them to its scores; and the gradient.

The functions check their arguments and call the backend's `softmax` and `softmax_gradient`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from .._arrays.dispatch import backend_of
from .._call.coefficients import coefficients_in
from .._call.rows import calls
from .._check import arguments, detect, labels
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import Placement, placement_of


def axis_number(value: Any) -> int:
    """Return an axis as an integer; the array is not known yet."""
    return arguments.integer("axis", value)


@checks_keywords
@calls()
def softmax_dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    axis: int = -1,
    rng: AnyRNG = None,
    training: Training = True,
    scale: float | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Compute the softmax along an axis, and drop elements of it at random, in one pass.

    The result is ``dropout(softmax(x, axis), p)``, as attention computes from its scores, with the
    same elements dropped for the same key. Neither mask nor probabilities are stored: the backward,
    `softmax_dropout_backward`, recomputes them from the scores.

    Parameters
    ----------
    x : array_like
        Scores, as in `dropout`, with at least one axis. Masked positions, such as the future in
        causal attention, are -inf.
    p : float
        Probability of **dropping** an element, in [0, 1].
    axis : int
        Axis of the softmax, along which it sums to 1.
    rng : Key, int, Generator, numpy.random, DeviceKey, or anything else that `as_key` takes
        As in `dropout`; the backward needs the same key.
    training : bool
        False returns the softmax alone, in a new array or in `out`.
    scale : float, optional
        As in `dropout`.
    offset, global_shape
        As in `dropout`; `x` must contain the whole axis.
    out : ndarray, optional
        Output array, as in `dropout`; it may be `x`.

    Returns
    -------
    ndarray
        As `dropout`. Kept elements are ``exp(x - max(x))`` times
        ``scale / sum(exp(x - max(x)))``, with max and sum along the axis.

    Raises
    ------
    numpy.exceptions.AxisError
        If `x` has no such axis; it is a ValueError.
    TypeError, ValueError
        As `dropout`.

    Notes
    -----
    The half types are computed in float32; each element is rounded once, after scaling. exp is
    accurate to 1 ulp. The order of summation depends on the length of the axis only. An element of
    -inf gives +0.0; where all elements along the axis are -inf, all results are +0.0. A NaN or
    +inf makes all kept elements along the axis NaN. On a GPU, results may differ in the last
    places.

    Contiguous arrays with the last axis are the fastest case; other layouts are copied in chunks.
    Of a Dask array, the axis must be in one chunk.

    References
    ----------
    .. [1] A. Vaswani et al., "Attention is all you need", NeurIPS 2017.
    .. [2] M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018:
       equation 2 is the softmax less its largest score.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> scores = np.zeros((2, 4), np.float32)
    >>> scores[0, 2:] = -np.inf
    >>> fd.softmax_dropout(scores, 0.5, rng=42)
    array([[1. , 1. , 0. , 0. ],
           [0. , 0. , 0.5, 0. ]], dtype=float32)
    """
    if unknown or x is MISSING:
        raise_argument_error("softmax_dropout", unknown, x=x)
    backend = backend_of(x)
    xs = backend.array(x)
    call = _checked_call(xs, p, axis, rng, training, scale, offset, global_shape)
    return backend.softmax(xs, out, *call)


@checks_keywords
@calls()
def softmax_dropout_backward(
    dy: ArrayLike,
    x: ArrayLike,
    p: float = 0.5,
    *,
    axis: int = -1,
    rng: AnyRNG = None,
    training: Training = True,
    scale: float | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Return the gradient of `softmax_dropout` with respect to its scores.

    The softmax s is recomputed from the scores, and the mask from the key. With g the gradient of
    the softmax, ``scale * dy`` where kept and 0 where dropped, the result is
    ``s * (g - sum(g * s))``, with the sum along the axis.

    Parameters
    ----------
    dy : array_like
        Gradient with respect to the result: of the shape and dtype of `x`, on its device.
    x : array_like
        The scores that the forward was given.
    p, axis, rng, training, scale, offset, global_shape
        Those of the forward.
    out : ndarray, optional
        Output array, as in `dropout`; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient of `x`: of its shape, dtype and memory layout, or `out`.

    Raises
    ------
    TypeError, ValueError
        As `softmax_dropout`; also if shape, dtype or device of `dy` and `x` differ.

    Notes
    -----
    As for `softmax_dropout`. The gradient of a score of -inf is 0; where all scores along the axis
    are -inf, it is +0.0 whatever `dy` is.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x, dy = np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0])
    >>> fd.softmax_dropout_backward(dy, x, 0.5, rng=42)
    array([ 0.375, -0.125, -0.125, -0.125])
    """
    if unknown or dy is MISSING or x is MISSING:
        raise_argument_error("softmax_dropout_backward", unknown, dy=dy, x=x)
    backend = backend_of(x)
    xs = backend.array(x)
    call = _checked_call(xs, p, axis, rng, training, scale, offset, global_shape)
    theirs = backend_of(dy)
    if theirs.is_lazy and not backend.is_lazy:
        raise TypeError(
            f"dy is {detect.a_kind_of(dy)}, and x is not lazy: give dask.array.from_array(x), or "
            "dy.compute()"
        )
    if not backend.is_like(theirs):
        raise TypeError(
            f"dy is {detect.a_kind_of(dy)}, and x {detect.a_kind_of(x)}: bring one to where "
            "the other is"
        )
    gradient = backend.array(dy, "dy")
    labels.reject_other_labels(dy, x, "dy", "x")
    for name, actual, expected in (
        ("dtype", gradient.dtype, xs.dtype),
        ("shape", gradient.shape, xs.shape),
    ):
        if actual != expected:
            kind = TypeError if name == "dtype" else ValueError
            raise kind(f"dy has {name} {actual}, and x has {expected}: give a dy of that")
    return backend.softmax_gradient(xs, gradient, out, *call)


def _checked_call(
    x: Array,
    p: Any,
    axis: Any,
    rng: AnyRNG,
    training: Any,
    scale: Any,
    offset: Offset,
    global_shape: ShapeLike | None,
) -> tuple[int, Placement, AnyRNG, int, Array]:
    """Return axis, placement, rng, threshold and scale factor of a call, or raise."""
    threshold, factor, rng = coefficients_in(
        training, arguments.probability(p), x.dtype, scale, rng
    )
    axis = arguments.axis(axis, x.ndim)
    placement = placement_of(x.shape, None, offset, global_shape)
    if global_shape is not None:
        full = arguments.lengths("global_shape", global_shape)
        if full[axis] != x.shape[axis]:
            raise ValueError(
                f"x has length {x.shape[axis]} along axis {axis}, and global_shape={full} has "
                f"{full[axis]}: a softmax needs the whole axis, so cut along others"
            )
    return axis, placement, rng, threshold, factor
