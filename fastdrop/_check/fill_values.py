"""Fill values: what `masked_fill` writes, checked against the dtype and made what kernels read."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import arguments, detect
from .arguments import Array

_MOVED_SIZES = (1, 2, 4, 8, 16)


def filling(value: Any, dtype: np.dtype[Any]) -> Array:
    """Return a fill value as kernels read it: an array of no axes, of the dtype of x."""
    # Zeros of both signs are equal, and so cannot be told apart by what remembers.
    if type(value) in (int, bool) or (type(value) is float and value != 0.0):
        return _remembered(value, dtype)
    return _filling(value, dtype)


@functools.lru_cache(maxsize=256, typed=True)
def _remembered(value: Any, dtype: np.dtype[Any]) -> Array:
    return _filling(value, dtype)


def movable(dtype: np.dtype[Any]) -> None:
    """Refuse a dtype whose elements cannot be moved."""
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


def _filling(value: Any, dtype: np.dtype[Any]) -> Array:
    movable(dtype)
    if detect.is_masked(value):
        raise TypeError("value is masked: give a value")
    if detect.on_gpu(value):
        raise TypeError(
            f"value is a {detect.kind_of(value)}, which lies on a GPU, and reading it would "
            "wait for that: give a number, such as value.item()"
        )
    if not isinstance(value, np.ndarray | np.generic) and detect.is_array(value):
        raise TypeError(
            f"value is a {detect.kind_of(value)}, and is not converted in silence: give a "
            "number, such as value.item()"
        )
    arguments.refuse_rng("value", value)
    given = np.asarray(value)
    if given.ndim:
        raise ValueError(f"value has shape {given.shape}: give a single value")
    try:
        with np.errstate(all="ignore", over="raise"):
            result = _cast(value, given, dtype)
    except (TypeError, ValueError, ArithmeticError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            detect.described("value", value)
            + f", which does not fit the dtype {dtype} of x: give one of that dtype"
        ) from None
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
