"""Check the fill value of `masked_fill` against the dtype of x, and convert it for the kernels.

`masked_fill`, the products of a `Mask` and warm-up call `filling`; it calls `arguments` and
`detect`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import arguments, detect
from .arguments import Array

_ITEMSIZES = (1, 2, 4, 8, 16)  # of elements that the kernels can copy


def filling(value: Any, dtype: np.dtype[Any]) -> Array:
    """Return a fill value as a 0-dimensional array of the dtype of x, as kernels read it."""
    # 0.0 and -0.0 are equal, so a cache would confuse them.
    if type(value) in (int, bool) or (type(value) is float and value != 0.0):
        return _cached_filling(value, dtype)
    return _filling(value, dtype)


@functools.lru_cache(maxsize=256, typed=True)
def _cached_filling(value: Any, dtype: np.dtype[Any]) -> Array:
    return _filling(value, dtype)


def check_fillable(dtype: np.dtype[Any]) -> None:
    """Raise TypeError for a dtype whose elements the kernels cannot copy."""
    if dtype.hasobject:
        raise TypeError(
            f"x has dtype {dtype}, and masked_fill does not move Python objects: use "
            "numpy.where(dropout_mask(x.shape, p, rng=key), x, value)"
        )
    if dtype.itemsize not in _ITEMSIZES:
        raise TypeError(
            f"x has dtype {dtype} of {dtype.itemsize} bytes, and masked_fill takes elements of 1, "
            "2, 4, 8 or 16: use numpy.where(dropout_mask(x.shape, p, rng=key), x, value)"
        )


def _filling(value: Any, dtype: np.dtype[Any]) -> Array:
    check_fillable(dtype)
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
            + f", which does not fit the dtype {dtype} of x: give one of that dtype"
        ) from None
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
        return np.array(value, dtype)
    if given.dtype.hasobject and dtype.kind in "mM":  # datetime.datetime and the like
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
