"""Zoneout: elements of a recurrent state keep their previous value at random; its gradients.

The functions check their arguments and the operand, and call the backend's `apply`.
"""

from __future__ import annotations

import functools
from typing import NoReturn

import numpy as np

from .._arrays.adapter import Operation
from .._arrays.dispatch import operand_backend_of
from .._call.coefficients import coefficients_in, compute_type, zoneout_coefficients
from .._call.operands import operand
from .._call.repeated import apply, repeated
from .._call.rows import calls
from .._check import arguments
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG, KeyOnDevice, LazyKey, as_key
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import placement_of


@checks_keywords
@calls("zoneout", "drop")
def zoneout(
    x: ArrayLike,
    h_prev: ArrayLike,
    p: float = 0.5,
    *,
    rng: AnyRNG = None,
    training: Training = True,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Return the new state `x` of a recurrent layer, with the previous one where dropped.

    Zoneout is dropout for recurrent networks: instead of becoming 0, elements of the state stay as
    they were in the step before. Nothing is scaled. For the backward, see `zoneout_backward`, which
    needs neither state.

    Parameters
    ----------
    x : array_like
        The new state, as `x` in `dropout`: on the CPU or a GPU.
    h_prev : array_like
        The previous state, on the same device: of the dtype of `x`, and broadcasts to it.
    p : float
        Probability of **dropping** an element of `x`, which then is that of `h_prev`; in [0, 1].
    rng, offset, global_shape
        As in `dropout`; the same elements are dropped. For a shard, `h_prev` is that of the shard.
    training : bool
        In evaluation the result is the expectation, ``p * h_prev + (1 - p) * x``.
    out : ndarray, optional
        Output array of the shape and dtype of `x`. It may be `x` or `h_prev`, or overlap either.

    Returns
    -------
    ndarray
        A new array of the shape, dtype and memory layout of `x`, or `out`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; also if `h_prev` does not fit.

    Notes
    -----
    In evaluation p and 1 - p, the two products and the sum are each rounded to float32 (float64
    for float64), and the result once to the dtype. All bits are the same on the CPU and a GPU.

    References
    ----------
    .. [1] D. Krueger et al., "Zoneout: Regularizing RNNs by randomly preserving hidden
       activations", arXiv:1606.01305.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> fd.zoneout(np.arange(4.0), np.full(4, -1.0), 0.5, rng=42)
    array([ 0.,  1., -1., -1.])
    >>> fd.zoneout(np.arange(4.0), np.full(4, -1.0), 0.5, training=False)
    array([-0.5,  0. ,  0.5,  1. ])
    """
    if unknown or x is MISSING or h_prev is MISSING:
        raise_argument_error("zoneout", unknown, x=x, h_prev=h_prev)
    inputs, where = (x, h_prev), (None, offset, global_shape)
    call = repeated("zoneout", inputs, "", p, None, training, *where, out)
    if call and (result := call.by_plan(out, rng)) is not None:
        return result
    backend = operand_backend_of(x)
    xs = backend.array(x)
    threshold, value = zoneout_coefficients(arguments.probability(p), xs.dtype)
    previous = operand("h_prev", h_prev, xs, backend)
    placement = placement_of(xs.shape, None, offset, global_shape)
    mean = not arguments.in_training(training)
    if mean:
        threshold, _, rng = coefficients_in(False, 0.0, xs.dtype, None, rng)
    operation = Operation("zoneout", xs.dtype, (mean,))
    return apply(call, backend, operation, xs, out, placement, rng, threshold, value, [previous])


@checks_keywords
@calls("zoneout", "drop")
def zoneout_backward(
    dy: ArrayLike,
    p: float = 0.5,
    *,
    rng: AnyRNG = None,
    training: Training = True,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> tuple[Array, Array]:
    """Return the gradients of `zoneout` with respect to x and h_prev.

    Parameters
    ----------
    dy : array_like
        Gradient with respect to the result: of its shape and dtype.
    p, rng, training, offset, global_shape
        Those of the forward; `rng` must be a key, or an int.
    out : ndarray, optional
        Output array for the gradient with respect to x: of the shape and dtype of `dy`. It may be
        `dy`, or overlap it.

    Returns
    -------
    dx : ndarray
        Of the shape, dtype and memory layout of `dy`, or `out`: `dy` where kept, 0 where dropped.
    dh_prev : ndarray
        A new array: `dy` where dropped, 0 where kept. In evaluation they are ``(1 - p) * dy`` and
        ``p * dy``. If `h_prev` was broadcast, sum it over these axes; `zoneout_vjp` does.

    Raises
    ------
    TypeError, ValueError
        As `dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> dx, dh_prev = fd.zoneout_backward(np.ones(4), 0.5, rng=42)
    >>> dx
    array([1., 1., 0., 0.])
    >>> dh_prev
    array([0., 0., 1., 1.])
    """
    if unknown or dy is MISSING:
        raise_argument_error("zoneout_backward", unknown, dy=dy)
    backend = operand_backend_of(dy, "dy")
    dys = backend.array(dy, "dy")
    compute_type(dys.dtype, "dy")
    threshold, value = zoneout_coefficients(arguments.probability(p), dys.dtype)
    placement = placement_of(dys.shape, None, offset, global_shape, "dy")
    drop = Operation("drop", dys.dtype)
    if arguments.in_training(training):
        if not isinstance(rng, KeyOnDevice):
            rng = LazyKey(functools.partial(as_key, rng))  # one for both calls
        zero = backend.constant(np.zeros((), dys.dtype), dys)
        previous = Operation("zoneout", dys.dtype, (False,)), zero, None
        of_previous, own = (value, [dys]), np.ones((), value.dtype)
    else:
        threshold, own, rng = coefficients_in(False, 0.0, dys.dtype, None, rng)
        previous = drop, dys, None
        share, own = (np.array(number) for number in value)
        of_previous = share, []
    if out is not None:  # which must be right before anything is drawn
        backend.output(out, dys.shape, dys.dtype, dys)
    # First, because `out` may be dy.
    dh_prev = backend.apply(*previous, placement, rng, threshold, *of_previous)
    dx = backend.apply(drop, dys, out, placement, rng, threshold, own)
    return dx, dh_prev
