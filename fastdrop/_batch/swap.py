"""Corruption of tables: elements take the values of other rows of their columns.

The kernels are `fastdrop_kernels.*.batch.swap`. The decisions are those of `dropout` of the same
key; where they fall, another row is drawn by the element's own further numbers.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastdrop_kernels import contract
from fastdrop_kernels.rows import Rows, pieces, whole_rows

from .._arrays.adapter import Backend
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import Placement
from . import call, plans
from .keys import SampleKeys, checked_keys
from .ready import compiles

_ITEMSIZES = (1, 2, 4, 8, 16)
_MOST_ROWS = (1 << 32) - 1  # to draw from
_PIECE = 1 << 14  # elements that a thread takes at a time
_P_MEANS = "the probability that an element takes a value of another row"


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise TypeError(
            f"x has dtype {dtype}, and swap_rows does not move Python objects: give them "
            "encoded as numbers"
        )
    if dtype.itemsize not in _ITEMSIZES:
        raise TypeError(
            f"x has dtype {dtype} of {dtype.itemsize} bytes, and swap_rows takes elements of 1, 2, "
            "4, 8 or 16: give them encoded as numbers"
        )


@checks_keywords
@compiles("swap", "float32", "float64", check=_check_dtype)
def swap_rows(
    x: ArrayLike,
    p: float = 0.5,
    *,
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    replace: bool = True,
    source: ArrayLike | None = None,
    return_mask: bool = False,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    **unknown: NoReturn,
) -> Any:
    """With probability p, let an element take the value of its column in another row.

    This is how VIME [1]_ and SCARF [2]_ corrupt tables for self-supervised learning: what is put in
    the place of a value is drawn from the values that its column has.

    Parameters
    ----------
    x : array_like of shape (rows, ...)
        The table. The first axis is that of rows; a column is what has the same place along the
        other axes. Of any dtype whose elements have 1, 2, 4, 8 or 16 bytes.
    p : float
        Probability of being swapped, in [0, 1].
    rng : Key, int, Generator, or anything else that `as_key` takes; or an ndarray
        The key. With `source` also of shape (rows, 2) and dtype uint64: one for each row, as
        `sample_keys` returns them.
    replace : bool
        Whether rows are drawn with replacement, each as likely, the element's own too. False: each
        column has a permutation of all rows, each as likely. They are made for some columns at a
        time, in 16 MiB, or two bytes for each element of x if that is more, but at least for as
        many columns as there are threads, in 4 bytes an element.
    source : array_like of shape (any rows, ...), optional
        Another table of the same columns and dtype to take values from, with replacement, such as
        the training set. Then rows do not depend on each other.
    return_mask : bool
        Whether to return the mask, too.
    sample_index : array_like of int, optional
        Numbers of the rows, with which the key is folded. Only with `source`.
    offset, global_shape
        As in `dropout`, for a part of a larger table. Only with `source`.
    out : ndarray, optional
        Output array of the shape and dtype of x. It must not overlap x or `source`.

    Returns
    -------
    ndarray, or tuple of two
        The corrupted table, and with `return_mask` a mask of bool: True where an element is kept,
        as ``dropout_mask(x.shape, p)`` of the same key is. The papers' masks are ``~mask``. A
        swapped element may have found an equal value.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range, before anything is drawn or written.

    References
    ----------
    .. [1] J. Yoon, Y. Zhang, J. Jordon and M. van der Schaar, "VIME: extending the success of
       self- and semi-supervised learning to tabular domain", NeurIPS 2020.
    .. [2] D. Bahri, H. Jiang, Y. Tay and D. Metzler, "SCARF: self-supervised contrastive learning
       using random feature corruption", ICLR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.arange(12).reshape(4, 3)
    >>> fd.swap_rows(x, 0.4, rng=42)
    array([[ 0,  1,  5],
           [ 3,  7, 11],
           [ 6,  4,  5],
           [ 9, 10,  2]])
    """
    if unknown or x is MISSING:
        raise_argument_error("swap_rows", unknown, x=x)
    read = (x,) if source is None else (x, source)
    outs = (out, None) if return_mask is True else (out,)
    where = rng, sample_index, offset, global_shape
    key = None  # without a source, an offset is refused
    is_refused = source is None and (type(offset) is not int or offset)
    if type(replace) is bool and type(return_mask) is bool and not is_refused:
        key = plans.key_of("swap_rows", read, outs, *where, p, replace, return_mask)
    if planned := plans.planned(key, read, outs, rng, sample_index, offset):
        return tuple(planned) if return_mask else planned[0]
    backend = call.backend_for(x, "x")
    xs = backend.array(x, "x")
    threshold = contract.threshold(arguments.probability(p, meaning=_P_MEANS))
    is_drawn, has_mask = (
        arguments.flag("replace", replace),
        arguments.flag("return_mask", return_mask),
    )
    _check_dtype(xs.dtype)
    if not xs.ndim:
        raise ValueError(f"x={detect.short(x)} has no axes: give one of rows")
    keys = checked_keys(rng, sample_index, len(xs), "x")
    if source is None:
        _check_alone(keys, offset, global_shape)
        taken, place = xs, Placement(0, None)
    else:
        if not is_drawn:
            raise ValueError(
                "source is given with replace=False, and a permutation is one of the rows of x: "
                "give one of them"
            )
        taken = _source(backend, source, x, xs)
        place = call.sample_placement(xs.shape, keys, offset, global_shape, "x")
    if len(taken) > _MOST_ROWS:
        raise ValueError(f"{len(taken)} rows are too many to draw from: give fewer than 2**32")
    columns = math.prod(xs.shape[1:])
    with backend.ordered([xs, taken], out, keys.rng):
        table, sources = _table(backend, xs, columns), _table(backend, taken, columns)
        inputs = [xs] if source is None else [xs, taken]
        is_across = out is None and xs.ndim == 2 and abs(xs.strides[0]) < abs(xs.strides[1])
        shape = xs.shape[::-1] if is_across else xs.shape
        made = call.Output(backend, out, shape, xs.dtype, inputs, any_strides=xs.ndim <= 2)
        y = made.target.T if is_across else made.target
        mask = call.Output(backend, None, xs.shape, np.dtype(bool)) if has_mask else None
        if xs.size:
            memory = () if is_drawn else call.driver_of(backend, "swap").memory(*table.shape)
            more = (
                *(table, sources, threshold, None if mask is None else mask.target),
                tuple(backend.empty(*wanted) for wanted in memory),
            )

            def rows_of(own: npt.NDArray[np.uint64] | None) -> Rows:
                if own is not None:
                    return whole_rows(xs.shape[:1], columns, keys=own)
                if place.strides is None:
                    return pieces(xs.size, place.first, max(1, _PIECE // columns) * columns)
                return whole_rows(xs.shape[:-1], xs.shape[-1], place.first, place.strides[:-1])

            how = call.run(backend, "swap", "swap", _as_table(y, columns), rows_of, keys, *more)
            if not is_across:
                written = (y,) if mask is None else (y, mask.target)
                plans.remember(key, how, read, written, rng, sample_index, more[-1])
        result = backend.result(y, None) if is_across else made.finished()
    return (result, mask.target) if mask is not None else result


def _check_alone(keys: SampleKeys, offset: Any, global_shape: Any) -> None:
    """Refuse what needs rows that do not depend on each other."""
    given = ""
    if keys.are_own:
        given = "sample_index" if keys.keys is None else "rng, a key for each row,"
    elif global_shape is not None:
        given = f"global_shape={detect.short(global_shape)}"
    elif type(offset) is not int or offset:
        given = f"offset={detect.short(offset)}"
    if given:
        raise ValueError(
            f"{given} is given, and rows take values of each other, so that a part of a table is "
            "not swapped as it is in the whole: give source, the table to take values from"
        )


def _source(backend: Backend, source: Any, x: Any, xs: Array) -> Array:
    """Return the table to take values from, which must be like x."""
    theirs = call.backend_for(source, "source")
    if not backend.is_like(theirs):
        raise TypeError(
            f"source is {detect.a_kind_of(source)}, which does not lie where x does: bring one to "
            "the other"
        )
    taken = theirs.array(source, "source")
    backend.check_same_device("source", taken, xs)
    if taken.dtype != xs.dtype:
        raise TypeError(
            f"source has dtype {taken.dtype}, and x has {xs.dtype}: give source.astype({xs.dtype})"
        )
    if not taken.ndim or taken.shape[1:] != xs.shape[1:]:
        raise ValueError(
            f"source has shape {taken.shape}, and x {xs.shape}: give one of the same columns, of "
            f"shape (rows, {', '.join(map(str, xs.shape[1:]))})"
        )
    if not len(taken) and xs.size:
        raise ValueError("source has no rows to take values from")
    if (
        hasattr(x, "columns")
        and hasattr(source, "columns")
        and list(x.columns) != list(source.columns)
    ):
        raise ValueError("source has other columns than x, or in another order: source[x.columns]")
    return taken


def _table(backend: Backend, x: Array, columns: int) -> Array:
    """Return an array as a table of two axes: a view, or a copy of one that is in no order."""
    if x.ndim > 2 or not backend.addresses(x).flags.aligned:
        x = call.contiguous(backend, x)
    return _as_table(x, columns)


def _as_table(x: Array, columns: int) -> Array:
    """Return a view with two axes of an array that has two, or one, or is in C order."""
    if x.ndim == 2:
        return x
    table: Array = x[:, None] if x.ndim == 1 else x.reshape(len(x), columns)
    return table
