"""`dropout`, `masked_fill` and `dropout_mask`.

Calls with contiguous NumPy arrays and the usual arguments take a fast path to compiled code; all
others go through `element_wise` or `element_wise_each` to a backend.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from fastdrop_kernels import contract

from .._arrays.dispatch import backend_of, mask_backend_of, operand_backend_of
from .._call import plan_cache
from .._call.coefficients import coefficients_of
from .._call.elementwise import ElementWise, element_wise
from .._call.per_element import NO_THRESHOLD, is_per_element, probabilities
from .._call.rows import calls
from .._check import arguments
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.fill_values import filling, is_several
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import placement_of
from .._check.shard_offsets import index_of, plain
from .fill_from import fill_from

DROPOUT = ElementWise("drop", coefficients_of)
_MASKED_FILL = ElementWise(
    "fill", lambda p, dtype, value: (contract.threshold(p), filling(value, dtype))
)


@checks_keywords
@calls("drop")
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
    """Drop elements at random and scale the others, in one pass, without storing a mask.

    Dropout is linear in `x` for a given key, so **the backward pass is the same call** on the
    gradient, with the same key (or the same int, and the same p, shape and other arguments)::

        y = dropout(x, 0.5, rng=key)
        dx = dropout(dy, 0.5, rng=key)

    Parameters
    ----------
    x : array_like
        float16, bfloat16 (of ml_dtypes), float32 or float64, of any shape and strides; not written
        to (unless it is `out`). Lists, numbers and buffers (memoryview, array.array) are converted
        by `numpy.asarray`. The half types are computed in float32 and rounded once. For pandas and
        xarray objects, CuPy arrays, and other arrays on a GPU, see the notes.
    p : float or array_like
        Probability of **dropping** an element, in [0, 1]. Exact to ``2**-33``. An array or a list
        has a p for each element, with the factor ``1 / (1 - p)`` of its own: it broadcasts to `x`,
        or to the mask if `noise_shape` shares decisions. It is a NumPy array also if `x` is on a
        GPU; then it is copied there at each call, which cannot be captured in a CUDA graph.
    rng : Key, int, Generator, numpy.random, DeviceKey, or anything else that `as_key` takes
        The mask is drawn from it, see `as_key`. None draws a mask that cannot be reproduced, so
        training loops need a `Key`. For arrays on a GPU also a `fastdrop.cuda.DeviceKey`, which
        CUDA graphs need.
    training : bool
        False returns `x` itself (copied to `out`, if given) and ignores `rng`. 1 and 0 are accepted
        for True and False.
    scale : float, optional
        Factor of the kept elements, instead of ``1 / (1 - p)``: 1.0 is "vanilla" dropout, as in
        DropConnect. Rounded once, to the compute type.
    noise_shape : sequence of int and None, optional
        Shape of the mask, which broadcasts against `x`: 1 shares a decision along an axis, None
        copies the axis's length. With `global_shape`, it is that of the whole array's mask.
    offset : int or tuple of int
        Where a shard `x` begins in a larger array: an offset of the mask index or, with
        `global_shape`, an offset along each axis.
    global_shape : int or tuple of int, optional
        Shape of the array that `x` is a block of. The result is that block of the whole result.
    out : ndarray, optional
        Output array of the shape and dtype of `x`, on its device. It may be `x`, or overlap it. For
        a pandas or xarray `x` it is a NumPy array.

    Returns
    -------
    ndarray
        Of the shape, dtype, memory layout and device of `x`, or `out`. Dropped elements are exactly
        +0.0, even if they were NaN or infinite; kept ones are ``x * scale``.

    Raises
    ------
    TypeError
        If the dtype is not one of these, or an argument has a wrong type.
    ValueError
        If an argument has an invalid value. Nothing has been written then.

    Notes
    -----
    The mask is a pure function of key, p and element index. The index is the position in C order,
    whatever the memory layout, so the mask is the same for any dtype, strides, number of threads,
    and sharding. Masks of one key are nested: a larger p drops what a smaller p drops, and more.

    **Labels.** A pandas Series, a DataFrame of one dtype, or an xarray DataArray gives an object of
    the same type with the same labels, names and attributes. The element index is the position.
    Arrays on disk raise TypeError, as do all other objects with ``__array__``.

    **Dask.** A Dask array, or a DataArray that holds one, gives a lazy one of the same chunks: its
    values are those of the NumPy call on the whole array, whatever the chunks. `rng` is asked when
    the graph is built. p may be a Dask array. `out` is refused. See ``docs/dask.md``.

    **On a GPU.** A CuPy array gives a CuPy array on the same device, from CuPy's memory pool, with
    the same bits as a NumPy array. Kernels are launched on CuPy's current stream, without waiting
    for them. A Numba device array gives a Numba device array. An array that CuPy can view without a
    copy, by DLPack or ``__cuda_array_interface__`` (such as a PyTorch tensor on a GPU that requires
    no gradient), gives a CuPy array, which ``torch.from_dlpack`` converts to a tensor; as `out` it
    is written to and returned, on the stream that its library works on. Events order the call with
    the streams of the other arrays; see "Streams" in ``docs/gpu.md``.

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
@calls("fill", "fill_from")
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

    The same elements are replaced that `dropout` drops for the same key and p. The value may be an
    array, such as another batch, noise, or a colour. The gradient with respect to `x` is
    ``masked_fill(dy, p, 0, rng=key)``, and with respect to such an array, before it is summed to
    its shape, ``masked_fill(zeros, p, dy, rng=key)``, where ``zeros`` are of the shape of `dy`.

    Parameters
    ----------
    x : array_like
        Of any dtype with elements of 1, 2, 4, 8 or 16 bytes, except Python objects: integers,
        floats, complex, bool, datetime64, short strings, in any byte order. For the small floats
        and integers of ml_dtypes, the value must have the same dtype.
    p : float or array_like
        Probability of replacing an element, in [0, 1]; an array as in `dropout`, but not beside an
        array of values.
    value : scalar or array_like
        The fill value, which must fit the dtype of `x`. An array, or a list, broadcasts to `x` and
        lies where `x` does, and an element takes the value in its own place. NumPy's arrays are
        converted to the dtype of `x` if they are of the same kind and in its range; others must
        have it. For a shard, these are the values of the shard.
    rng, training, noise_shape, offset, global_shape, out
        As in `dropout`. `out` may also be the array of values.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory layout of `x`, or `out`.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; also if `value` does not fit the dtype, or does not broadcast to `x`.

    Examples
    --------
    Masked-token training, 15% of the tokens replaced by 103:

    >>> import numpy as np
    >>> import fastdrop as fd
    >>> tokens = np.arange(8)
    >>> fd.masked_fill(tokens, 0.15, 103, rng=7).shape
    (8,)

    Features from another batch:

    >>> x, other = np.arange(4.0), np.full(4, -1.0)
    >>> fd.masked_fill(x, 0.5, other, rng=42)
    array([ 0.,  1., -1., -1.])
    """
    if unknown or x is MISSING or p is MISSING or value is MISSING:
        raise_argument_error("masked_fill", unknown, x=x, p=p, value=value)
    if type(value) is not int and type(value) is not float and is_several(value):
        return fill_from(x, p, value, rng, training, noise_shape, offset, global_shape, out)
    return element_wise(
        _MASKED_FILL, x, p, value, rng, training, noise_shape, offset, global_shape, out
    )


@checks_keywords
@calls("mark", "pack")
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
    chunks: Any = None,
    **unknown: NoReturn,
) -> Array:
    """Draw the mask that `dropout` applies to an array of a given shape.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the array.
    p : float or array_like
        Probability of dropping, in [0, 1]; an array as in `dropout`, but not with `packed` on a
        GPU.
    rng, noise_shape, offset, global_shape
        As in `dropout`.
    packed : bool
        Whether to return one bit per element instead of one byte.
    out : ndarray, optional
        Output array of the result's shape and dtype, also a CuPy array.
    like : array_like, optional
        An array of the type that the result is to have, as in `numpy.empty`: a CuPy array for a
        mask on its device. Only its library and device matter. A Dask array gives a Dask array of
        its chunks, if it has this shape.
    chunks : int, tuple, dict or "auto", optional
        Gives a Dask array of these chunks, as in `dask.array.zeros`. A packed mask is cut along its
        first axis, where bytes end; its own chunks are of bytes.

    Returns
    -------
    ndarray
        bool of shape `shape`, True = kept. If packed, uint8 of shape ``(ceil(size / 8),)``, equal
        to ``np.packbits(mask, bitorder="little")``, with unused bits 0.

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
    if chunks is None:
        key = plan_cache.mask_key(shape, p, noise_shape, offset, global_shape, packed, out, like)
        if key is not None and (plan := known.get(key)):
            result = plan(like, out, rng, offset)
            if result is not None:
                return result
    else:
        key = None
    size = arguments.shape(shape)
    chance = None if is_per_element(p) else arguments.probability(p)
    placement = placement_of(size, noise_shape, offset, global_shape, "the mask")
    arguments.check_like(like)
    name, lies_there = ("out", out) if like is None else ("like", like)
    if chunks is not None:
        backend = mask_backend_of(chunks)
    elif chance is not None:
        backend = backend_of(lies_there)
    else:
        backend = operand_backend_of(lies_there, name)
    near = None if like is None else backend.array(like, "like")
    packed = arguments.flag("packed", packed)
    if chance is None:
        each = probabilities(p, size, placement, backend)
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
