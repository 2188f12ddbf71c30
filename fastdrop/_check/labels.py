"""Labelled arrays (pandas, xarray): take their values, and put their labels on a result.

The backend of labelled arrays calls this module. Neither library is imported to recognise them, and
lazy arrays are never computed.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import detect

Array: TypeAlias = npt.NDArray[Any]


def is_pandas(x: Any) -> bool:
    """Return whether x is a Series or a DataFrame."""
    # While another thread is importing pandas, the classes may be missing; then x is no instance.
    pandas = sys.modules.get("pandas")
    return isinstance(x, (getattr(pandas, "Series", ()), getattr(pandas, "DataFrame", ())))


def is_xarray(x: Any) -> bool:
    """Return whether x is a DataArray."""
    return isinstance(x, getattr(sys.modules.get("xarray"), "DataArray", ()))


def is_lazy(x: Any) -> bool:
    """Return whether x is a DataArray of a Dask array."""
    return is_xarray(x) and detect.is_dask(getattr(x.variable, "_data", None))


def has_labels(x: Any) -> bool:
    """Return whether x is an array with labels."""
    return is_pandas(x) or is_xarray(x)


def values(x: Any, name: str) -> Array:
    """Return the values of an array with labels, without a copy if possible.

    Raises
    ------
    TypeError
        If the values are not a NumPy array of one dtype in memory. The error calls x `name`.
    """
    return _of_pandas(x, name) if is_pandas(x) else _of_xarray(x, name)


def labelled(x: Any, array: Array) -> Any:
    """Return an array of the shape of x with the labels, names and attributes of x."""
    if is_xarray(x):
        return x.copy(deep=False, data=array)
    axes = {"index": x.index} if array.ndim == 1 else {"index": x.index, "columns": x.columns}
    return x._constructor(array, copy=False, **axes).__finalize__(x)


def reject_other_labels(operand: Any, x: Any, name: str, beside: str) -> None:
    """Raise ValueError if an operand's labels differ from those of the x that it broadcasts to.

    pandas and xarray would align the labels; here operands broadcast by position, as in NumPy.
    """
    if is_pandas(operand) and is_pandas(x):
        labels = [operand.index] if operand.ndim == 1 else [operand.index, operand.columns]
        expected = [x.index] if x.ndim == 1 else [x.index, x.columns]
        equal = all(
            len(a) != len(b) or a.equals(b)
            for a, b in zip(reversed(labels), reversed(expected), strict=False)
        )
    elif is_xarray(operand) and is_xarray(x):
        count = len(operand.dims)
        equal = operand.dims == x.dims[len(x.dims) - count :] and all(
            index.equals(x.indexes[dimension])
            for dimension, index in operand.indexes.items()
            if dimension in x.indexes and len(index) == len(x.indexes[dimension])
        )
    else:
        return
    if not equal:
        raise ValueError(
            f"{name} has other labels than {beside}, and elements meet by their position: bring "
            f"the labels into line first, or give {name}.to_numpy()"
        )


def _of_pandas(x: Any, name: str) -> Array:
    dtypes = [x.dtype] if x.ndim == 1 else list(dict.fromkeys(x.dtypes))
    if len(dtypes) == 1 and isinstance(dtypes[0], np.dtype):
        result: Array = x.to_numpy()
        return result
    if not dtypes:  # a DataFrame without columns
        return np.empty(x.shape)
    numeric = [getattr(dtype, "kind", "O") in "biuf" for dtype in dtypes]
    if all(numeric):
        way = f"give {name}.astype(numpy.float64), in which what is missing is NaN"
    elif any(numeric):
        way = f'give {name}.select_dtypes("number").astype(numpy.float64)'
    else:
        mask = f"fastdrop.dropout_mask({name}.shape, p, rng=key)"
        way = f"to replace elements, take {name}.where({mask}, value)"
    shown = ", ".join(map(str, dtypes[:4])) + (", ..." if len(dtypes) > 4 else "")
    what = "columns of several dtypes" if len(dtypes) > 1 else "an extension dtype"
    raise TypeError(f"{name} is {detect.a_kind_of(x)} with {what} ({shown}): {way}")


def _of_xarray(x: Any, name: str) -> Array:
    kind = detect.a_kind_of(x)
    part = f"{name}[0:1000]" if x.ndim else name
    if x.chunks is not None:
        raise TypeError(
            f"{name} is {kind} of a Dask array, which would have to be computed: give "
            f"{name}.compute(), or a part of it, {part}.compute()"
        )
    # The stored array, without reading it. There is no public way to ask for either.
    held = getattr(x.variable, "_data", np.empty(0))
    if detect.roots(held)[0] == "xarray" and not getattr(x.variable, "_in_memory", True):
        raise TypeError(
            f"{name} is {kind} that has not been read from disk: give {name}.compute(), or a "
            f"part of it, {part}.compute()"
        )
    if not isinstance(held, np.ndarray) and detect.roots(held)[0] != "xarray":
        raise TypeError(
            f"{name} is {kind} that holds {detect.a_kind_of(held)}: give {name}.data, and "
            f"put the result back with {name}.copy(data=result)"
        )
    result: Array = x.values
    return result
