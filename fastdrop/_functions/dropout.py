"""The functions: each checks its arguments, resolves the key, and calls a kernel."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from fastdrop_kernels import contract

from .._arrays.dispatch import backend_of, operand_backend_of
from .._call import plan_cache
from .._call.coefficients import law_of
from .._call.elementwise import ElementWise, element_wise
from .._call.per_element import NO_THRESHOLD, is_per_element, probabilities
from .._check import arguments
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.fill_values import filling
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import placement_of
from .._check.shard_offsets import index_of, plain

DROPOUT = ElementWise(
    lambda driver, dtype: driver.dropping(dtype),
    law_of,
    per_element=lambda driver, dtype, scaled: driver.dropping_each(dtype, scaled),
    parameter_is_factor=True,
)
_MASKED_FILL = ElementWise(
    lambda driver, dtype: driver.filling(dtype),
    lambda p, dtype, value: (contract.threshold(p), filling(value, dtype)),
    per_element=lambda driver, dtype, scaled: driver.filling_each(dtype),
)


@checks_keywords
def dropout(
    x: ArrayLike,
    p: float | ArrayLike = 0.5,
    *,
    rng: AnyRNG = None,
    training: Training = True,
    scale: float | None = None,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Drop elements at random and scale the others, in one pass and without storing a mask.

    Dropout is linear in `x` for a given key, so **the backward pass is the same call** on the
    gradient, with the same key (or the same int, and the same p, shape and other arguments)::

        y = dropout(x, 0.5, rng=key)
        dx = dropout(dy, 0.5, rng=key)

    Parameters
    ----------
    x : array_like
        float16, bfloat16 (of ml_dtypes), float32 or float64, of any shape and strides; it is read
        only (unless it is `out`). Lists, numbers and buffers (memoryview, array.array) go through
        `numpy.asarray`. The half types are computed with in float32 and rounded once. Objects of
        pandas and xarray, CuPy arrays, and others on a GPU: see the notes.
    p : float or array_like
        Probability of **dropping** an element, in [0, 1]. Exact to ``2**-33``. An array or a list
        gives elements their own, each with its own factor ``1 / (1 - p)``: it broadcasts to `x`, or
        to the mask where `noise_shape` shares decisions. It is NumPy's wherever `x` lies; to a GPU
        it is copied at each call, which a CUDA graph cannot repeat.
    rng : Key, int, Generator, numpy.random, DeviceKey, or what else `as_key` takes
        What the mask is drawn from, see `as_key`. None draws a fresh mask that cannot be drawn
        again, so a training loop wants a `Key`. For arrays on a GPU also a
        `fastdrop.cuda.DeviceKey`, which CUDA graphs need.
    training : bool
        False returns `x` itself, untouched (copied to `out`, if that is given); `rng` is not looked
        at then. 1 and 0 are taken for True and False.
    scale : float, optional
        Factor of the kept elements, instead of ``1 / (1 - p)``: 1.0 is "vanilla" dropout, and what
        DropConnect wants. Rounded once, to what is computed in.
    noise_shape : sequence of int and None, optional
        Shape of the mask, which broadcasts against `x`: 1 shares a decision along an axis, None
        copies the axis's length. With `global_shape`, it is that of the whole array's mask.
    offset : int or tuple of int
        `x` is a part of something larger: added to the mask index, or, with `global_shape`, where
        `x` begins along each axis.
    global_shape : int or tuple of int, optional
        Shape of the array that `x` is a block of. The result is that block of the whole array's.
    out : ndarray, optional
        Where to write: of the shape and dtype of `x`, and where `x` is. It may be `x`, or overlap
        it. For an `x` of pandas or xarray it is a NumPy array.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory layout of `x`, where `x` is, or `out`. Dropped elements are
        exactly +0.0, whatever they were, NaN and infinities too; kept ones are ``x * scale``.

    Raises
    ------
    TypeError
        If the dtype is none of these, or an argument is of the wrong kind.
    ValueError
        If an argument has a value that makes no sense. Nothing has been written then.

    Notes
    -----
    The mask is a pure function of key, p and element index: the index counts in C order, whatever
    the memory layout, so it is the same for any dtype, strides, number of threads, and shard.
    Masks of one key are nested: what a smaller p drops, a larger p drops too.

    **Labels.** A pandas Series, a DataFrame of one dtype, or an xarray DataArray gives one with the
    same labels, names and attributes. Elements have the index of their position. What is lazy or on
    disk is refused, as is all else that NumPy would convert by asking it.

    **On a GPU.** A CuPy array gives a CuPy array on its device, from CuPy's memory pool, with the
    bits that a NumPy array gives. Kernels go to CuPy's current stream, and nothing waits for them.
    A Numba device array gives one of Numba's. What CuPy can view without copying it, by DLPack or
    ``__cuda_array_interface__`` (a PyTorch tensor on a GPU that wants no gradient), gives a CuPy
    array, which ``torch.from_dlpack`` turns into a tensor; as `out` it is written to and returned.
    Streams of other libraries are theirs to order: by default all use the same one.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
       overfitting", JMLR 15, 2014.
    .. [2] J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones(8, np.float32)
    >>> fd.dropout(x, 0.5, rng=42)
    array([2., 2., 0., 0., 0., 0., 2., 0.], dtype=float32)
    """
    if unknown or x is MISSING:
        raise_argument_error("dropout", unknown, x=x)
    return element_wise(DROPOUT, x, p, scale, rng, training, noise_shape, offset, global_shape, out)


@checks_keywords
def masked_fill(
    x: ArrayLike,
    p: float | ArrayLike,
    value: Any,
    *,
    rng: AnyRNG = None,
    training: Training = True,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Replace elements by a value at random, each with probability `p`; keep the others.

    The elements replaced are those that `dropout` drops for the same key and p. The gradient with
    respect to `x` is ``masked_fill(dy, p, 0, rng=key)``.

    Parameters
    ----------
    x : array_like
        Of any dtype whose elements have 1, 2, 4, 8 or 16 bytes and are no Python objects:
        integers, floats, complex, bool, datetime64, short strings, in any byte order. For the small
        floats and integers of ml_dtypes, the value has to be one of them.
    p : float or array_like
        Probability of replacing an element, in [0, 1]; an array as in `dropout`.
    value : scalar
        What to write; must fit the dtype of `x`.
    rng, training, noise_shape, offset, global_shape, out
        As in `dropout`.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory layout of `x`, or `out`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; also if `value` does not fit the dtype.

    Examples
    --------
    Masked-token training, 15% of the tokens replaced by 103:

    >>> import numpy as np
    >>> import fastdrop as fd
    >>> tokens = np.arange(8)
    >>> fd.masked_fill(tokens, 0.15, 103, rng=7).shape
    (8,)
    """
    if unknown or x is MISSING or p is MISSING or value is MISSING:
        raise_argument_error("masked_fill", unknown, x=x, p=p, value=value)
    return element_wise(
        _MASKED_FILL, x, p, value, rng, training, noise_shape, offset, global_shape, out
    )


@checks_keywords
def dropout_mask(
    shape: ShapeLike,
    p: float | ArrayLike = 0.5,
    *,
    rng: AnyRNG = None,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    packed: bool = False,
    out: Output = None,
    like: Any = None,
    **unknown: NoReturn,
) -> Array:
    """Draw the mask that `dropout` applies to an array of a shape.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the array.
    p : float or array_like
        Probability of dropping, in [0, 1]; an array as in `dropout`, and on a GPU then not
        `packed`.
    rng, noise_shape, offset, global_shape
        As in `dropout`.
    packed : bool
        Whether to return a bit an element instead of a byte.
    out : ndarray, optional
        Where to write: of the result's shape and dtype. A CuPy array is written to on its GPU.
    like : array_like, optional
        An array of the kind that the result is to be, as in `numpy.empty`: a CuPy array for a mask
        on its GPU. Only where it lies matters.

    Returns
    -------
    ndarray
        bool of shape `shape`, True = kept. If packed, uint8 of shape ``(ceil(size / 8),)``: what
        ``np.packbits(mask, bitorder="little")`` makes of the mask in C order, unused bits 0.

    Raises
    ------
    TypeError, ValueError
        As `dropout`.

    Examples
    --------
    >>> import fastdrop as fd
    >>> fd.dropout_mask(8, 0.5, rng=42).astype(int)
    array([1, 1, 0, 0, 0, 0, 1, 0])
    """
    if unknown or shape is MISSING:
        raise_argument_error("dropout_mask", unknown, shape=shape)
    known = plan_cache.plans
    if type(noise_shape) is list or type(noise_shape) is np.ndarray:
        noise_shape = plain(noise_shape)
    if type(offset) is not int:
        offset = plain(offset)
    key = plan_cache.mask_key(shape, p, noise_shape, offset, global_shape, packed, out, like)
    if key is not None and (plan := known.get(key)):
        result = plan(like, out, rng, offset)
        if result is not None:
            return result
    size = arguments.lengths("shape", shape)
    chance = None if is_per_element(p) else arguments.probability(p)
    placement = placement_of(size, noise_shape, offset, global_shape, "the mask")
    name, lies_there = ("out", out) if like is None else ("like", like)
    backend = backend_of(lies_there) if chance is not None else operand_backend_of(lies_there, name)
    near = None if like is None else backend.array(like, "like")
    packed = arguments.flag("packed", packed)
    if chance is None:
        each = probabilities(p, size, placement)
        return backend.mask(size, out, placement, rng, NO_THRESHOLD, near, each, packed)
    threshold = contract.threshold(chance)
    whole = ((math.prod(size) + 7) // 8,) if packed else size
    fits = out is None or getattr(out, "shape", None) == whole
    if key is not None and key not in known and fits:
        find = None if packed else index_of(size, placement, noise_shape, offset, global_shape)
        made = backend.mask_plan(size, out, placement, threshold, near, packed, find)
        result = plan_cache.remember(known, key, made)(near, out, rng, offset)
        if result is not None:
            return result
    return backend.mask(size, out, placement, rng, threshold, near, None, packed)
