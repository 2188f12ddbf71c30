"""Check fill values against the dtype of x, and convert them for the kernels.

`masked_fill`, `random_erasing`, the products of a `Mask` and warm-up call `filling` for one value
and `fillings` for several; they call `arguments` and `detect`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import arguments, detect
from .arguments import Array
from .key import Key

_ITEMSIZES = (1, 2, 4, 8, 16)  # of elements that the kernels can copy


def filling(value: Any, dtype: np.dtype[Any], beside: str = "x") -> Array:
    """Return a fill value as a 0-dimensional array of the dtype of x, as kernels read it.

    `beside` is what errors call x.
    """
    # 0.0 and -0.0 are equal, so a cache would confuse them.
    if type(value) in (int, bool) or (type(value) is float and value != 0.0):
        return _cached_filling(value, dtype, beside)
    return _filling(value, dtype, beside)


@functools.lru_cache(maxsize=256, typed=True)
def _cached_filling(value: Any, dtype: np.dtype[Any], beside: str) -> Array:
    return _filling(value, dtype, beside)


def is_several(value: Any) -> bool:
    """Say whether a fill value is an array with axes, one on a GPU or of Dask, or a list."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    if isinstance(value, list | tuple):
        return not isinstance(value, Key)
    if isinstance(value, detect.ON_THE_HOST):
        return False
    if detect.on_gpu(value) or detect.is_dask(value):
        return True
    return detect.is_array(value) and getattr(value, "ndim", 0) > 0


def fillings(value: Any, dtype: np.dtype[Any], beside: str = "x") -> Array:
    """Return an array of NumPy's, or a list, of fill values as an array of the dtype of x."""
    if detect.is_masked(value):
        raise TypeError("value is a masked array: give value.filled() or value.data")
    try:
        arguments.reject_rng("value", value)
        given = np.asarray(value)
    except ValueError:  # rows of several lengths
        raise ValueError("value is a list of lists of several lengths: give an array") from None
    if given.dtype == dtype:
        return given
    fits = f"the dtype {dtype} of {beside}"
    if dtype.kind in "iu" and given.dtype.kind in "biu":
        limits = np.iinfo(dtype)
        for number in (int(given.min()), int(given.max())) if given.size else ():
            if not limits.min <= number <= limits.max:
                raise ValueError(
                    f"value has {number}, which does not fit {fits}: give numbers in "
                    f"[{limits.min}, {limits.max}]"
                )
        return given.astype(dtype)
    try:
        with np.errstate(all="ignore", over="raise"):
            return _cast_array(given, dtype)
    except TypeError:
        raise TypeError(
            f"value has dtype {given.dtype}, which does not fit {fits}: give an array of that dtype"
        ) from None
    except (ValueError, ArithmeticError) as error:
        large = isinstance(error, ArithmeticError)
        what = "numbers too large for" if large else "elements that change in"
        raise ValueError(f"value has {what} {fits}: give an array of that dtype") from None


def check_fillable(dtype: np.dtype[Any], function: str = "masked_fill", name: str = "x") -> None:
    """Raise TypeError for a dtype whose elements the kernels cannot copy."""
    way = "use numpy.where(dropout_mask(x.shape, p, rng=key), x, value)"
    if function != "masked_fill":
        way = f"give {name} of numbers"
    if dtype.hasobject:
        raise TypeError(
            f"{name} has dtype {dtype}, and {function} does not move Python objects: {way}"
        )
    if dtype.itemsize not in _ITEMSIZES:
        raise TypeError(
            f"{name} has dtype {dtype} of {dtype.itemsize} bytes, and {function} takes elements of "
            f"1, 2, 4, 8 or 16: {way}"
        )


def _filling(value: Any, dtype: np.dtype[Any], beside: str) -> Array:
    check_fillable(dtype)
    if detect.is_masked(value):
        raise TypeError("value is masked: give a value")
    if detect.on_gpu(value):
        raise TypeError(
            f"value is {detect.a_kind_of(value)}, which lies on a GPU, and reading it would "
            "wait for that: give a number, such as value.item()"
        )
    if not isinstance(value, np.ndarray | np.generic) and detect.is_array(value):
        raise TypeError(
            f"value is {detect.a_kind_of(value)}, and is not converted in silence: give a "
            "number, such as value.item()"
        )
    arguments.reject_rng("value", value)
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
            + f", which does not fit the dtype {dtype} of {beside}: give one of that dtype"
        ) from None
    return result


def _of_number(value: Any, dtype: np.dtype[Any]) -> Array:
    """Convert a Python number. NumPy 1.26 would wrap integers that are out of range."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError
    return np.array(value, dtype)


def _cast_array(given: Array, dtype: np.dtype[Any]) -> Array:
    """Convert several values to a dtype of the same kind; only precision may be lost."""
    if arguments.is_bfloat16(dtype):  # NumPy has no casting rules for it
        if given.dtype.kind not in "biuf":
            raise TypeError
        wide: Array = given.astype(np.float64)
        result = wide.astype(dtype)
        if (np.isinf(result.astype(np.float64)) & ~np.isinf(wide)).any():
            raise ArithmeticError
        return result
    if dtype.kind in "mM" and given.dtype.kind in "biuf":
        raise TypeError
    result = given.astype(dtype, casting="same_kind")
    if dtype.kind in "SUmM":
        same = result.astype(given.dtype) == given
        if given.dtype.kind in "mM":
            same |= np.isnat(given)
        if not same.all():
            raise ValueError
    return result


def _cast(value: Any, given: Array, dtype: np.dtype[Any]) -> Array:
    """Convert a value to a dtype of the same kind; only precision may be lost."""
    if arguments.is_bfloat16(dtype):  # NumPy has no casting rules for it
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
        return _of_number(value, dtype)
    if given.dtype.hasobject and dtype.kind in "mM":  # datetime.datetime and the like
        return np.array(value, dtype)
    if dtype.kind in "mM" and given.dtype.kind in "biuf":
        raise TypeError
    if dtype.kind in "iu" and given.dtype.kind in "biu":
        return _of_number(int(given), dtype)
    result = given.astype(dtype, casting="same_kind")
    if dtype.kind in "SUmM":
        back = result.astype(given.dtype)
        if not (back == given or (given.dtype.kind in "mM" and np.isnat(back) & np.isnat(given))):
            raise ValueError
    return result
