"""The epilogue of a linear layer (bias, activation, dropout, residual) in one pass; its gradients.

The functions check their arguments and operands, and call the backend's `apply`.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from fastdrop_kernels.catalogue import ACTIVATIONS

from .._arrays.adapter import Backend, Operation
from .._arrays.dispatch import backend_of, operand_backend_of
from .._arrays.numpy_arrays import NUMPY
from .._call.coefficients import coefficients_in, compute_type
from .._call.operands import operand
from .._call.repeated import apply, repeated
from .._call.rows import calls
from .._check import arguments, labels
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import placement_of


def activation_name(value: Any) -> str:
    """Return the name of an activation."""
    return arguments.choice("act", value, ACTIVATIONS)


@checks_keywords
@calls("bias_act_drop", "bias_act_drop_backward", "drop")
def bias_act_dropout_add(
    x: ArrayLike,
    bias: ArrayLike | None = None,
    act: str = "identity",
    p: float = 0.5,
    *,
    rng: AnyRNG = None,
    residual: ArrayLike | None = None,
    training: Training = True,
    scale: float | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Return ``dropout(act(x + bias), p) + residual``, in one pass over memory.

    This is the epilogue of a linear layer in most networks. Nothing is stored for the backward,
    `bias_act_dropout_add_backward`, which takes x again.

    Parameters
    ----------
    x : array_like
        As in `dropout`, on the CPU or a GPU; bias and residual must be on the same device.
    bias : array_like, optional
        Of the dtype of `x`; broadcasts to it, as ``(C,)`` does for features along the last axis.
    act : {"identity", "relu", "gelu", "gelu_tanh", "silu", "tanh"}
        The activation; "gelu" is the exact one, ``t * Phi(t)``, and "gelu_tanh" its approximation
        ``0.5 * t * (1 + tanh(sqrt(2 / pi) * (t + 0.044715 * t**3)))``.
    p : float
        Probability of **dropping** an element, in [0, 1].
    rng, scale, offset, global_shape
        As in `dropout`; the same elements are dropped. For a shard, `bias` and `residual` are
        those of the shard.
    residual : array_like, optional
        Added last; of the dtype of `x`, and broadcasts to it.
    training : bool
        False omits the dropout only.
    out : ndarray, optional
        Output array of the shape and dtype of `x`. It may be `x` or `residual`, or overlap any
        input.

    Returns
    -------
    ndarray
        A new array of the shape, dtype and memory layout of `x`, or `out`. Dropped elements are
        exactly +0.0 before the residual is added, whatever they were.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; also if `act` is not one of these, or `bias` or `residual` does not fit.

    Notes
    -----
    Every step is rounded to float32 (float64 for float64), and the result once to the dtype. At
    infinities the activations return their limits: silu of -inf is -0.0. On the CPU they use only
    +, -, * and /, in a fixed order, and so give the same bits on every machine. On a GPU the mask,
    the identity and relu have the same bits; the other activations call CUDA's functions, and
    differ by a few ulp.

    References
    ----------
    .. [1] D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x, bias = np.arange(8.0).reshape(2, 4), np.ones(4)
    >>> fd.bias_act_dropout_add(x, bias, "relu", 0.5, rng=42, residual=-x)
    array([[ 2.,  3., -2., -3.],
           [-4., -5.,  8., -7.]])
    """
    if unknown or x is MISSING:
        raise_argument_error("bias_act_dropout_add", unknown, x=x)
    inputs, where = (x, bias, residual), (None, offset, global_shape)
    call = repeated("bias_act_drop", inputs, act, p, scale, training, *where, out)
    if call and (result := call.by_plan(out, rng)) is not None:
        return result
    backend = operand_backend_of(x)
    xs = backend.array(x)
    threshold, value, rng = coefficients_in(
        training, arguments.probability(p), xs.dtype, scale, rng
    )
    act = activation_name(act)
    optional = {"bias": bias, "residual": residual}
    operands = [operand(k, v, xs, backend) for k, v in optional.items() if v is not None]
    placement = placement_of(xs.shape, None, offset, global_shape)
    variant = act, bias is not None, residual is not None
    operation = Operation("bias_act_drop", xs.dtype, variant)
    return apply(call, backend, operation, xs, out, placement, rng, threshold, value, operands)


@checks_keywords
@calls("bias_act_drop_backward", "drop")
def bias_act_dropout_add_backward(
    dy: ArrayLike,
    x: ArrayLike,
    bias: ArrayLike | None = None,
    act: str = "identity",
    p: float = 0.5,
    *,
    rng: AnyRNG = None,
    training: Training = True,
    scale: float | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> tuple[Array, Array | None, Any]:
    """Return the gradients of `bias_act_dropout_add` with respect to x, bias and residual.

    Parameters
    ----------
    dy : array_like
        Gradient with respect to the result: of the shape and dtype of `x`.
    x, bias, act, p, rng, training, scale, offset, global_shape
        Those of the forward. With the activation "identity", the elements of `x` are not read.
    out : ndarray, optional
        Output array for the gradient with respect to x: of the shape and dtype of `dy`. It may be
        `dy` or `x`, or overlap any input.

    Returns
    -------
    dx : ndarray
        Of the shape, dtype and memory layout of `dy`, or `out`; exactly 0 where the forward
        dropped.
    dbias : ndarray or None
        Of the shape and dtype of `bias`: `dx` summed over the axes that `bias` was broadcast
        along. None without a bias.
    dresidual : array_like
        `dy` itself, the same object: the gradient with respect to a residual of the shape of `x`.
        With ``out=dy`` it has been overwritten.

    Raises
    ------
    TypeError, ValueError
        As `bias_act_dropout_add`.

    Notes
    -----
    The rounded elements of `dx` are summed in float64, in an order that depends on shapes and
    strides only, and the sum is rounded once: it does not depend on the number of threads. With
    many threads, chunks of the array have their own partial sums, of at most half a MiB together.
    On a GPU, CuPy's reduction reads `dx` once more.

    Of Dask arrays, all results are lazy. `dx` has NumPy's bits. `dbias` is the sum of float64 sums
    of the blocks, added in the order of the blocks and rounded once: it depends on the chunks, but
    not on the scheduler, and may differ from NumPy's in the last place.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x, bias = np.arange(8.0).reshape(2, 4), np.ones(4)
    >>> dy = np.ones_like(x)
    >>> dx, dbias, _ = fd.bias_act_dropout_add_backward(dy, x, bias, "relu", 0.5, rng=42)
    >>> dx
    array([[2., 2., 0., 0.],
           [0., 0., 2., 0.]])
    >>> dbias
    array([2., 2., 2., 0.])
    """
    if unknown or dy is MISSING or x is MISSING:
        raise_argument_error("bias_act_dropout_add_backward", unknown, dy=dy, x=x)
    # There may be as many sums as elements: their memory is had before `out` is written.
    reserved = None if out is None or bias is None else _memory_of_sums(bias)
    dx, backend, biases = gradient_by_x(
        dy, x, bias, act, p, rng, training, scale, offset, global_shape, out
    )
    del reserved
    return dx, _bias_gradient(backend, dx, biases, bias), dy


def gradient_by_x(
    dy: ArrayLike,
    x: ArrayLike,
    bias: ArrayLike | None,
    act: str,
    p: float,
    rng: AnyRNG,
    training: Training,
    scale: float | None,
    offset: Offset,
    global_shape: ShapeLike | None,
    out: Output,
) -> tuple[Array, Backend, Array | None]:
    """Return the gradient by x alone, the backend, and the bias as its array."""
    call = None
    if type(act) is str and act != "identity":
        inputs, where = (dy, x, bias), (None, offset, global_shape)
        call = repeated("bias_act_drop_backward", inputs, act, p, scale, training, *where, out)
        if call and (result := call.by_plan(out, rng)) is not None:
            return result, NUMPY, bias  # type: ignore[return-value]  # plans are of its arrays
    backend = operand_backend_of(dy, "dy")
    dys = backend.array(dy, "dy")
    compute_type(dys.dtype, "dy")
    threshold, value, rng = coefficients_in(
        training, arguments.probability(p), dys.dtype, scale, rng
    )
    act = activation_name(act)
    xs = operand("x", x, dys, backend, "dy")
    if xs.shape != dys.shape:
        raise ValueError(f"dy has shape {dys.shape}, and x has {xs.shape}: give both of one")
    biases = None if bias is None else operand("bias", bias, dys, backend, "dy")
    placement = placement_of(dys.shape, None, offset, global_shape, "dy")
    if act == "identity":
        operation, operands = Operation("drop", dys.dtype), []
    else:
        operands = [xs] if biases is None else [xs, biases]
        operation = Operation("bias_act_drop_backward", dys.dtype, (act, biases is not None))
    dx = apply(call, backend, operation, dys, out, placement, rng, threshold, value, operands)
    return dx, backend, biases


def residual_gradient(dy: ArrayLike, shape: tuple[int, ...]) -> Any:
    """Return the gradient with respect to a residual of a shape: `dy` itself, or sums of it."""
    backend = backend_of(dy)
    dys = backend.array(dy)
    return dy if dys.shape == shape else backend.sum_to(dys, shape)


def _memory_of_sums(bias: ArrayLike) -> Any:
    """Allocate what the sums of a bias of NumPy's will take; None for another."""
    return np.empty((2, *bias.shape)) if isinstance(bias, np.ndarray) else None


def _bias_gradient(backend: Backend, dx: Array, biases: Array | None, bias: Any) -> Array | None:
    """Return dx summed to the shape of the bias, with the labels of the bias."""
    if biases is None:
        return None
    sums = backend.sum_to(backend.array(dx), biases.shape)
    return labels.labelled(bias, sums) if labels.has_labels(bias) else sums
