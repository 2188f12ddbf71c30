"""Softmax and dropout in one pass: attention's probabilities, made and dropped."""

from __future__ import annotations

from typing import Any, NoReturn

from .._arrays.dispatch import backend_of
from .._call.coefficients import law_in
from .._check import arguments, detect, labels, placement
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.keywords import MISSING, named, refuse
from .._check.placement import Place


def axis_number(value: Any) -> int:
    """Return the number of an axis, of an array that is not known yet."""
    return arguments.integer("axis", value)


@named
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
    """Take the softmax along an axis, and drop elements of it at random, in one pass.

    That is ``dropout(softmax(x, axis), p)``, as attention does to its scores: the same elements are
    dropped for the same key. Neither mask nor probabilities are stored: the backward,
    `softmax_dropout_backward`, makes them again from the scores.

    Parameters
    ----------
    x : array_like
        Scores: as in `dropout`, but with one axis at least. What must get no weight, the future in
        causal attention say, is -inf in them.
    p : float
        Probability of **dropping** an element, in [0, 1].
    axis : int
        Axis that the softmax adds up to 1 along.
    rng : Key, int, Generator, numpy.random, DeviceKey, or what else `as_key` takes
        As in `dropout`; the backward wants the same key.
    training : bool
        False gives the softmax alone, in a new array or in `out`.
    scale : float, optional
        As in `dropout`.
    offset, global_shape
        As in `dropout`; the axis must be whole in `x`.
    out : ndarray, optional
        Where to write, as in `dropout`; it may be `x`.

    Returns
    -------
    ndarray
        As `dropout`. Along the axis, what was not dropped is ``exp(x - max(x))`` times ``scale /
        sum(exp(x - max(x)))``.

    Raises
    ------
    numpy.exceptions.AxisError
        If `x` has no such axis; it is a ValueError.
    TypeError, ValueError
        As `dropout`.

    Notes
    -----
    Of the half types, float32 is computed with: each element is rounded once, after it is scaled.
    exp is right to within 1 unit in the last place; sums are made in an order that depends on
    nothing but the length of the axis. A place of -inf becomes +0.0, and so does
    everything along the axis where all of it is -inf: what may attend to nothing gets nothing. NaN
    or +inf make NaN of all that is kept along the axis.

    Contiguous arrays are the quick way, with the last axis; others are copied piece by piece.

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
        refuse("softmax_dropout", unknown, x=x)
    backend = backend_of(x)
    xs = backend.array(x)
    law = _law(xs, p, axis, rng, training, scale, offset, global_shape)
    return backend.softmax(xs, out, *law)


@named
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
    """Return the gradient of `softmax_dropout` by its scores.

    The softmax s is made again from the scores, and the mask from the key. With g the gradient that
    dropout lets through, ``scale * dy`` where it kept and 0 where it dropped, this is
    ``s * (g - sum(g * s))``, the sum along the axis.

    Parameters
    ----------
    dy : array_like
        Gradient of the result: of the shape and dtype of `x`, and where `x` is.
    x : array_like
        The scores that the forward was given.
    p, axis, rng, training, scale, offset, global_shape
        Those of the forward.
    out : ndarray, optional
        Where to write, as in `dropout`; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient of `x`: of its shape, dtype and memory layout, or `out`.

    Raises
    ------
    TypeError, ValueError
        As `softmax_dropout`; also if `dy` and `x` are not alike.

    Notes
    -----
    As of `softmax_dropout`. The gradient of a score of -inf is 0; where all along the axis is -inf,
    it is +0.0 whatever `dy` is.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x, dy = np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0])
    >>> fd.softmax_dropout_backward(dy, x, 0.5, rng=42)
    array([ 0.375, -0.125, -0.125, -0.125])
    """
    if unknown or dy is MISSING or x is MISSING:
        refuse("softmax_dropout_backward", unknown, dy=dy, x=x)
    backend = backend_of(x)
    xs = backend.array(x)
    law = _law(xs, p, axis, rng, training, scale, offset, global_shape)
    if not backend.is_like(backend_of(dy)):
        raise TypeError(
            f"dy is a {detect.kind_of(dy)}, and x a {detect.kind_of(x)}: bring one to where "
            "the other is"
        )
    gradient = backend.array(dy, "dy")
    labels.refuse_other_labels(dy, x, "dy", "x")
    for name, ours, its in (
        ("dtype", gradient.dtype, xs.dtype),
        ("shape", gradient.shape, xs.shape),
    ):
        if ours != its:
            kind = TypeError if name == "dtype" else ValueError
            raise kind(f"dy has {name} {ours}, and x has {its}: give a dy of that")
    return backend.softmax_gradient(xs, gradient, out, *law)


def _law(
    x: Array,
    p: Any,
    axis: Any,
    rng: AnyRNG,
    training: Any,
    scale: Any,
    offset: Offset,
    global_shape: ShapeLike | None,
) -> tuple[int, Place, AnyRNG, int, Array]:
    """Return the axis, where x lies in its mask, the key, the threshold, and the factor."""
    threshold, factor, rng = law_in(training, arguments.probability(p), x.dtype, scale, rng)
    axis = arguments.axis(axis, x.ndim)
    place = placement.place(x.shape, None, offset, global_shape)
    if global_shape is not None:
        full = arguments.lengths("global_shape", global_shape)
        if full[axis] != x.shape[axis]:
            raise ValueError(
                f"x has length {x.shape[axis]} along axis {axis}, and global_shape={full} has "
                f"{full[axis]}: a softmax needs the whole axis, so cut along others"
            )
    return axis, place, rng, threshold, factor
