"""The functions: each checks its arguments, resolves the key, and calls a kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdrop_kernels import contract, forks

from . import _arguments as arguments
from ._arguments import Array, NoiseShape, Offset, ShapeLike
from ._key import RNG, Key, as_key


def dropout(
    x: npt.ArrayLike,
    p: float = 0.5,
    *,
    rng: RNG = None,
    training: bool = True,
    scale: float | None = None,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Array | None = None,
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
        only (unless it is `out`). Lists and numbers go through `numpy.asarray`. The half types are
        computed with in float32 and rounded once.
    p : float
        Probability of **dropping** an element, in [0, 1]. Exact to ``2**-33``.
    rng : Key, int, Generator, BitGenerator, SeedSequence or None
        What the mask is drawn from, see `as_key`. None draws a fresh mask that cannot be drawn
        again, so a training loop wants a `Key`.
    training : bool
        False returns `x` itself, untouched (copied to `out`, if that is given).
    scale : float, optional
        Factor of the kept elements, instead of ``1 / (1 - p)``: 1.0 is "vanilla" dropout, and what
        DropConnect wants. Rounded once, to what is computed in.
    noise_shape : tuple of int and None, optional
        Shape of the mask, which broadcasts against `x`: 1 shares a decision along an axis, None
        copies the axis's length. With `global_shape`, it is that of the whole array's mask.
    offset : int or tuple of int
        `x` is a part of something larger: added to the mask index, or, with `global_shape`, where
        `x` begins along each axis.
    global_shape : int or tuple of int, optional
        Shape of the array that `x` is a block of. The result is that block of the whole array's.
    out : ndarray, optional
        Where to write: of the shape and dtype of `x`. It may be `x`, or overlap it.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory layout of `x`, or `out`. Dropped elements are exactly +0.0,
        whatever they were, NaN and infinities too; kept ones are ``x * scale``.

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
    # Small calls are mostly Python's time: the usual ones are recognised here and go straight to
    # compiled code, which looks at the arrays itself and returns 0 if they are not plain.
    if type(rng) is int and training is True:
        rng = as_key(rng)
    if (
        type(x) is _ndarray
        and type(p) is float
        and type(rng) is Key
        and training is True
        and (scale is None or type(scale) is float)
        and noise_shape is None
        and global_shape is None
        and type(offset) is int
        and 0 <= offset < _INDEX_LIMIT
        and (law := _express.get((p, scale, x.dtype)) or _new_law(p, scale, x.dtype))
    ):
        near, record_at, near_bytes, kernel_for, _ = law
        run = near if x.nbytes <= near_bytes else kernel_for(x.nbytes)
        if run is not None:
            y = _empty(x.shape, x.dtype) if out is None else out
            if type(y) is _ndarray and run(id(x), id(y), record_at, offset, *rng):
                return y
            del y
    xs = arguments.array(x)
    p = arguments.probability(p)
    threshold, factor = _law(p, xs.dtype)
    if scale is not None:
        factor = _given_factor(scale, xs.dtype)
    if training is not True and not arguments.flag("training", training):
        return _untouched(x, xs, out)
    place = arguments.place(xs.shape, noise_shape, offset, global_shape)
    source, target, result = _operands(xs, out)
    seed, stream = as_key(rng)
    driver = _driver()
    operation = driver.dropping(xs.dtype)
    driver.apply(operation, source, target, *place, seed, stream, threshold, factor)
    return _finished(target, result)


def masked_fill(
    x: npt.ArrayLike,
    p: float,
    value: Any,
    *,
    rng: RNG = None,
    training: bool = True,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Replace elements by a value at random, each with probability `p`; keep the others.

    The elements replaced are those that `dropout` drops for the same key and p.

    Parameters
    ----------
    x : array_like
        Of any dtype whose elements have 1, 2, 4, 8 or 16 bytes and are no Python objects:
        integers, floats, complex, bool, datetime64, short strings, in any byte order.
    p : float
        Probability of replacing an element, in [0, 1].
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
    xs = arguments.array(x)
    p = arguments.probability(p)
    filling = _filling(value, xs.dtype)
    if training is not True and not arguments.flag("training", training):
        return _untouched(x, xs, out)
    place = arguments.place(xs.shape, noise_shape, offset, global_shape)
    source, target, result = _operands(xs, out)
    seed, stream = as_key(rng)
    threshold = contract.threshold(p)
    driver = _driver()
    operation = driver.filling(xs.dtype)
    driver.apply(operation, source, target, *place, seed, stream, threshold, filling)
    return _finished(target, result)


def dropout_mask(
    shape: ShapeLike,
    p: float = 0.5,
    *,
    rng: RNG = None,
    noise_shape: NoiseShape = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    packed: bool = False,
    out: Array | None = None,
) -> Array:
    """Draw the mask that `dropout` applies to an array of a shape.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the array.
    p : float
        Probability of dropping, in [0, 1].
    rng, noise_shape, offset, global_shape
        As in `dropout`.
    packed : bool
        Whether to return a bit an element instead of a byte.
    out : ndarray, optional
        Where to write: of the result's shape and dtype.

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
    size = arguments.lengths("shape", shape)
    p = arguments.probability(p)
    place = arguments.place(size, noise_shape, offset, global_shape)
    if arguments.flag("packed", packed):
        return _packed_mask(size, p, place, rng, out)
    result = np.empty(size, np.bool_) if out is None else None
    if result is None:
        result = arguments.output(out, size, np.dtype(np.bool_))
    target = np.empty_like(result) if _overlaps_itself(result) else result
    seed, stream = as_key(rng)
    driver = _driver()
    threshold = contract.threshold(p)
    driver.apply(driver.marking(), target, target, *place, seed, stream, threshold, target)
    return _finished(target, result)


def _packed_mask(
    shape: tuple[int, ...], p: float, place: arguments.Place, rng: RNG, out: Array | None
) -> Array:
    elements = 1
    for length in shape:
        elements *= length
    size = ((elements + 7) // 8,)
    result = np.empty(size, np.uint8) if out is None else None
    if result is None:
        result = arguments.output(out, size, np.dtype(np.uint8))
    target = result if result.flags.c_contiguous else np.empty(size, np.uint8)
    seed, stream = as_key(rng)
    _driver().pack(target, shape, *place, seed, stream, contract.threshold(p))
    return _finished(target, result)


_ndarray, _empty = np.ndarray, np.empty
_INDEX_LIMIT = 1 << 63


class _ExpressLaw(NamedTuple):
    """What a usual call needs beside arrays and key: a kernel, and a record that it reads."""

    run: Callable[..., int]
    record_at: int
    near_bytes: int  # for larger arrays another kernel is asked for
    kernel_for: Callable[[int], Callable[..., int] | None]
    record: Array


_express: dict[tuple[float, float | None, np.dtype[Any]], _ExpressLaw] = {}
_MOST_LAWS = 256


def _new_law(p: float, scale: float | None, dtype: np.dtype[Any]) -> _ExpressLaw | None:
    """Make the law of a p, scale and dtype, for the calls to come too; None has to go the long way.

    Raises what the long way raises.
    """
    threshold, factor = _law(arguments.probability(p), dtype)
    if scale is not None:
        factor = _given_factor(scale, dtype)
    driver = _driver()
    # What is certain is not drawn, and 0.0 and -0.0 are one key but two factors.
    if threshold in (0, 1 << 32) or scale == 0.0 or not driver.LAYOUT_IS_KNOWN:
        return None
    if len(_express) >= _MOST_LAWS:
        _express.clear()
    record = driver.express_record(dtype, threshold, factor)
    kernel_for = functools.partial(driver.express, driver.dropping(dtype))
    law = _ExpressLaw(kernel_for(0), record.ctypes.data, driver.NEAR_BYTES, kernel_for, record)
    _express[p, scale, dtype] = law
    return law


_loaded_driver: Any = None


def _driver() -> Any:
    # Imported at the first call: Numba takes half a second.
    global _loaded_driver
    if _loaded_driver is None:
        with forks.importing:
            from fastdrop_kernels.cpu import driver

            _loaded_driver = driver
    return _loaded_driver


_MOVED_SIZES = (1, 2, 4, 8, 16)


def _compute_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return what elements of a dtype are multiplied in, or say that they cannot be."""
    if dtype.isnative:
        if dtype in (np.float32, np.float64):
            return dtype
        if dtype == np.float16 or arguments.is_bfloat16(dtype):
            return np.dtype(np.float32)
    elif dtype.kind == "f":
        raise TypeError(
            f"x has dtype {dtype.str!r}, which is not in this machine's byte order: give "
            "x.astype(x.dtype.newbyteorder('='))"
        )
    if dtype.kind in "biu":
        way = "x.astype(numpy.float32), or masked_fill to replace elements"
    else:
        way = "x.astype(numpy.float32)"
    raise TypeError(
        f"x has dtype {dtype}, and dropout takes float16, bfloat16, float32 and float64: give {way}"
    )


@functools.lru_cache(maxsize=256)
def _law(p: float, dtype: np.dtype[Any]) -> tuple[int, Array]:
    """Return the threshold of p, and the factor 1 / (1 - p) as kernels read it.

    The factor is computed in float64 and rounded once, to what is computed in.
    """
    return contract.threshold(p), np.array(contract.scale(p), _compute_type(dtype))


def _given_factor(scale: Any, dtype: np.dtype[Any]) -> Array:
    number = arguments.real("scale", scale)
    computed = _compute_type(dtype)
    if abs(number) > float(np.finfo(computed).max):
        raise ValueError(f"scale={scale!r} does not fit {computed}")
    return np.array(number, computed)


def _filling(value: Any, dtype: np.dtype[Any]) -> Array:
    """Return a fill value as kernels read it: an array of no axes, of the dtype of x."""
    if dtype.hasobject:
        raise TypeError(
            f"x has dtype {dtype}, and masked_fill does not move Python objects: use "
            "numpy.where(dropout_mask(x.shape, p, rng=key), x, value)"
        )
    if dtype.itemsize not in _MOVED_SIZES:
        raise TypeError(
            f"x has dtype {dtype} of {dtype.itemsize} bytes, and masked_fill takes elements of 1, "
            "2, 4, 8 or 16: use numpy.where(dropout_mask(x.shape, p, rng=key), x, value)"
        )
    if arguments.is_masked(value):
        raise TypeError("value is masked: give a value")
    given = np.asarray(value)
    if given.ndim:
        raise ValueError(f"value has shape {given.shape}: give a single value")
    try:
        with np.errstate(over="raise"):
            result = _cast(value, given, dtype)
    except (TypeError, ValueError, ArithmeticError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"value={value!r} does not fit the dtype {dtype} of x") from None
    return result


def _cast(value: Any, given: Array, dtype: np.dtype[Any]) -> Array:
    """Return a value in a dtype, of the same kind, where nothing of it is lost but digits."""
    if arguments.is_bfloat16(dtype):  # whose conversions NumPy has no rules for
        if given.dtype.kind not in "biuf" and given.dtype != dtype:
            raise TypeError
        result = given.astype(dtype)
        if np.isinf(result) and not np.isinf(given.astype(np.float64)):
            raise ValueError
        return result
    if isinstance(value, int | float | complex) and not isinstance(value, np.generic):
        # A Python number has no dtype of its own, and NumPy checks that it fits.
        kinds = {bool: "biufc", int: "iufc", float: "fc", complex: "c"}
        if dtype.kind not in next(k for t, k in kinds.items() if isinstance(value, t)):
            raise TypeError
        return np.array(value, dtype)
    if given.dtype.hasobject and dtype.kind in "mM":  # datetime.datetime and its kin
        return np.array(value, dtype)
    if dtype.kind in "mM" and given.dtype.kind in "biuf":
        raise TypeError
    if dtype.kind in "iu" and given.dtype.kind in "biu":
        return np.array(int(given), dtype)
    result = given.astype(dtype, casting="same_kind")
    if dtype.kind in "SUmM":
        back = result.astype(given.dtype)
        if not (back == given or (given.dtype.kind in "mM" and np.isnat(back) & np.isnat(given))):
            raise ValueError
    return result


def _untouched(x: Any, xs: Array, out: Array | None) -> Array:
    if out is None:
        result: Array = x
        return result
    result = arguments.output(out, xs.shape, xs.dtype)
    # NumPy's copyto sees some overlaps and not others.
    np.copyto(result, xs.copy() if np.may_share_memory(xs, result) else xs)
    return result


def _operands(x: Array, out: Array | None) -> tuple[Array, Array, Array]:
    """Return what to read, what to write, and what to return, so that no overlap can be seen."""
    if out is None:
        target = np.empty_like(x)
        return x, target, target
    result = arguments.output(out, x.shape, x.dtype)
    if _overlaps_itself(result):
        return x, np.empty_like(result, subok=False), result
    if x.flags.owndata and result.flags.owndata:  # quicker to see than any comparison of bounds
        return x, result, result
    if np.may_share_memory(x, result) and not _same(x, result):
        # Their bounds overlap. A little work shows that interleaved views still do not meet.
        if np.may_share_memory(x, result, max_work=1):  # type: ignore[arg-type]
            return x.copy(order="K"), result, result
    return x, result, result


def _same(x: Array, y: Array) -> bool:
    return (
        x.__array_interface__["data"][0] == y.__array_interface__["data"][0]
        and x.strides == y.strides
    )


def _overlaps_itself(x: Array) -> bool:
    """Say whether elements of an array may share memory, as in a view with a stride of 0."""
    if x.flags.forc or x.size < 2:
        return False
    reach = x.itemsize
    for stride, length in sorted(
        (abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1
    ):
        if stride < reach:
            return True
        reach = stride * (length - 1) + reach
    return False


def _finished(target: Array, result: Array) -> Array:
    if target is not result:
        np.copyto(result, target)
    return result
