"""Masks that keep exactly k elements of each row along an axis, and the order of both parts.

Drawn by `fastdrop_kernels.*.batch.keep`, from each element's own uniform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, NoReturn, overload

import numpy as np
import numpy.typing as npt

from fastdrop_kernels.rows import Along, Rows, whole_rows

from .._arrays.adapter import Backend
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import Placement
from . import call, plans
from .keys import SampleKeys, checked_keys
from .ready import compiles

_BOOL, _POSITION, _COUNT = np.dtype(np.bool_), np.dtype(np.int64), np.dtype(np.uint64)
_LONGEST = 1 << 31  # positions in a row are 32-bit integers in kernels


class KeptOrder(NamedTuple):
    """What `keep_k` returns with ``indices=True``."""

    mask: Array  # True = kept
    kept: Array  # positions along the axis, ascending
    dropped: Array  # positions along the axis, ascending
    restore: Array  # where each element is in the kept ones followed by the dropped ones


@overload
def keep_k(
    shape: ShapeLike,
    k: ArrayLike,
    *,
    axis: int = -1,
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    indices: Literal[False] = False,
    out: Output = None,
    like: Any = None,
) -> Array: ...


@overload
def keep_k(
    shape: ShapeLike,
    k: ArrayLike,
    *,
    axis: int = -1,
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    indices: Literal[True],
    out: Sequence[Output] | None = None,
    like: Any = None,
) -> KeptOrder: ...


@checks_keywords
@compiles("keep")
def keep_k(
    shape: ShapeLike,
    k: ArrayLike,
    *,
    axis: int = -1,
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    indices: bool = False,
    out: Output | Sequence[Output] = None,
    like: Any = None,
    **unknown: NoReturn,
) -> Array | KeptOrder:
    """Draw a mask that keeps exactly k elements of each row along an axis.

    Masked autoencoders keep a quarter of an image's patches [1]_; random forests choose k of n
    features. Every subset of k elements is equally likely.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the mask.
    k : int or array_like of int
        How many elements of a row are kept, from 0 to the length of the axis; or without `indices`
        one for each row, as an array that broadcasts to the shape without the axis.
    axis : int
        The axis along which rows lie.
    rng : Key, int, Generator, or anything else that `as_key` takes; or an ndarray
        The key. Of shape (samples, 2) and dtype uint64: one for each sample along the first axis,
        as `sample_keys` returns them.
    sample_index : array_like of int, optional
        Numbers of the samples along the first axis, with which the key is folded.
    offset, global_shape
        As in `dropout`, for a part of a larger mask, which must have the whole axis. Not with keys
        of samples.
    indices : bool
        Whether to return positions too.
    out : ndarray, optional
        Output array for the mask, of dtype bool. With `indices` a tuple of four, each an array or
        None.
    like : array_like, optional
        An array of the library and on the device that the result is to be of.

    Returns
    -------
    ndarray of bool
        The mask: True where kept.
    KeptOrder
        With ``indices=True``, a named tuple of arrays: `mask`; `kept` and `dropped`, the positions
        of kept and of dropped elements along the axis, in ascending order; and `restore`, such that
        ``np.take_along_axis(np.concatenate([x_kept, x_dropped], axis), restore, axis)`` is x again.
        Positions are int64, with which NumPy, CuPy and PyTorch index; they convert others first.

    Raises
    ------
    numpy.exceptions.AxisError
        If there is no such axis; it is a ValueError.
    TypeError, ValueError
        If an argument is of another type or out of range, such as a k above the length of the axis,
        before anything is drawn.

    Notes
    -----
    Kept are the k elements with the largest uniforms U of the mask contract. So masks of one key
    are nested: what k = 3 keeps, k = 4 keeps too, and what is kept is what `dropout_mask` of the
    same key keeps for some p of the row's own. Where U is equal, further draws of the elements
    decide.

    References
    ----------
    .. [1] K. He et al., "Masked autoencoders are scalable vision learners", CVPR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> fd.keep_k((2, 5), 2, rng=42).astype(int)
    array([[1, 1, 0, 0, 0],
           [0, 1, 0, 0, 1]])
    >>> mask, kept, dropped, restore = fd.keep_k((2, 5), 2, rng=42, indices=True)
    >>> kept
    array([[0, 1],
           [1, 4]])
    """
    if unknown or shape is MISSING or k is MISSING:
        raise_argument_error("keep_k", unknown, shape=shape, k=k)
    several = out if indices is True and type(out) is tuple and len(out) == 4 else (out,)
    if indices is True and out is None:
        several = (None,) * 4
    key = None
    if like is None:
        which = rng, sample_index, offset, global_shape
        key = plans.key_of("keep_k", (), several, *which, shape, k, axis, indices)
    if planned := plans.planned(key, (), several, rng, sample_index, offset):
        return KeptOrder(*planned) if indices else planned[0]
    size = arguments.shape(shape)
    along = arguments.axis(axis, len(size))
    with_order = arguments.flag("indices", indices)
    counts = _counts(k, size, along, with_order)
    outs = _outputs(out, with_order)
    given = next((each for each in outs if each is not None), None)
    arguments.check_like(like)
    name, lies_there = ("out", given) if like is None else ("like", like)
    backend = call.backend_for(lies_there, name)
    keys = checked_keys(rng, sample_index, size[0], "shape")
    place = _placement(size, along, keys, offset, global_shape)
    near = None if like is None else backend.array(like, "like")
    with backend.ordered((), given, keys.rng, near if given is None else None):
        made = _made(backend, outs, size, along, counts, with_order)
        if math.prod(size):
            targets = tuple(each.target for each in made)
            layout, rows_of = _layout(size, along, place, keys)
            number = backend.table(counts, targets[0], counts.size > 1)
            how = call.run(backend, "keep", "keep_k", targets, rows_of, keys, layout, number)
            plans.remember(key, how, (), targets, rng, sample_index)
        results = [each.finished() for each in made]
    return KeptOrder(*results) if with_order else results[0]


def _counts(k: Any, size: tuple[int, ...], axis: int, with_order: bool) -> npt.NDArray[np.uint64]:
    """Return k as an array of one, or of one for each row in C order."""
    n = size[axis]
    if n >= _LONGEST:
        raise ValueError(f"shape={size} has {n} elements along axis {axis}: give below 2**31")
    if not isinstance(k, list | tuple) and not (isinstance(k, np.ndarray) and k.ndim):
        if isinstance(k, float | np.floating) and 0 < k < 1:
            raise TypeError(
                f"k={k!r} is a share, and k is a number of elements: give round({k!r} * {n})"
            )
        least = most = arguments.integer("k", k)
        every = np.array([least], object)
    else:
        if with_order:
            raise TypeError(
                "k is an array, and rows of positions have one length: give an integer, or "
                "indices=False"
            )
        every = arguments.integers("k", k)
        others = size[:axis] + size[axis + 1 :]
        try:
            every = np.broadcast_to(every, others)
        except ValueError:
            raise ValueError(
                f"k has shape {every.shape}, and the shape without axis {axis} is {others}: give "
                "one k for each row, or one for all"
            ) from None
        if not every.size:
            return np.zeros(1, np.uint64)
        least, most = int(every.min()), int(every.max())
    if least < 0 or most > n:
        raise ValueError(
            f"k={detect.short(least if least < 0 else most)} is not in [0, {n}], the length of "
            f"axis {axis} of shape={size}: give how many elements of a row are kept"
        )
    return np.ascontiguousarray(every.ravel().astype(np.uint64))


def _outputs(out: Any, with_order: bool) -> tuple[Any, ...]:
    if not with_order:
        return (out,)
    if out is None:
        return (None,) * 4
    if not isinstance(out, tuple | list) or len(out) != 4:
        raise TypeError(
            "out is not a tuple of four: with indices=True give arrays, or None, for mask, kept, "
            "dropped and restore"
        )
    return tuple(out)


def _placement(
    size: tuple[int, ...], axis: int, keys: SampleKeys, offset: Any, global_shape: Any
) -> Placement:
    place = call.sample_placement(size, keys, offset, global_shape, "shape")
    if keys.are_own and axis == 0:
        raise ValueError(
            f"axis 0 of shape={size} is that of the samples, each of which has a key of its own: "
            "give another axis"
        )
    if global_shape is not None:
        full = arguments.lengths("global_shape", global_shape)
        if full[axis] != size[axis]:
            raise ValueError(
                f"shape={size} has length {size[axis]} along axis {axis}, and global_shape={full} "
                f"has {full[axis]}: keep_k needs the whole axis, so cut along others"
            )
    return place


def _made(
    backend: Backend,
    outs: tuple[Any, ...],
    size: tuple[int, ...],
    axis: int,
    counts: npt.NDArray[np.uint64],
    with_order: bool,
) -> list[call.Output]:
    """Return what is written: the mask, and with positions the others."""
    made = [call.Output(backend, outs[0], size, _BOOL)]
    if not with_order:
        return made
    n, k = size[axis], int(counts[0])
    for name, out, length in zip(
        ("kept", "dropped", "restore"), outs[1:], (k, n - k, n), strict=True
    ):
        shape = (*size[:axis], length, *size[axis + 1 :])
        others = [each.target for each in made]
        made.append(call.Output(backend, out, shape, _POSITION, others, name))
    return made


def _layout(
    size: tuple[int, ...], axis: int, place: Placement, keys: SampleKeys
) -> tuple[Along, Any]:
    """Return how rows lie in runs, and the function that makes the runs of samples' keys."""
    n, behind = size[axis], math.prod(size[axis + 1 :])
    is_last = behind == 1 and (place.strides is None or axis == len(size) - 1)
    if place.strides is not None:
        if is_last:
            outer, strides = size[:-2], place.strides[:-2]
            rows = size[-2] if len(size) > 1 else 1
            layout = Along(n, rows, 1, 1, True)
        else:
            outer = size[:axis] + size[axis + 1 : -1]
            strides = place.strides[:axis] + place.strides[axis + 1 : -1]
            runs = math.prod(size[axis + 1 : -1])
            layout = Along(n, size[-1], runs, place.strides[axis], False)

        def placed(own: npt.NDArray[np.uint64] | None) -> Rows:
            return whole_rows(outer, 0, place.first, strides)

        return layout, placed
    samples = size[:1] if keys.are_own else ()
    before = math.prod(size[len(samples) : axis])  # in a sample, or in all
    if is_last:
        layout, runs_outer, length = Along(n, before, 1, 1, True), samples, before * n
    else:
        layout = Along(n, behind, 1, behind, False)
        runs_outer, length = (*samples, before), n * behind

    def whole(own: npt.NDArray[np.uint64] | None) -> Rows:
        return whole_rows(runs_outer, length, place.first, keys=own)

    return layout, whole
