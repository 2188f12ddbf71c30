"""Random weights for the bootstrap: Poisson counts, and Bernoulli weights of mean 1.

Both are drawn by `fastdrop_kernels.*.batch.weights`, from each element's own uniform.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastdrop_kernels import contract
from fastdrop_kernels.catalogue import FLOAT_TYPES
from fastdrop_kernels.rows import Rows, pieces, whole_rows

from .._check import arguments
from .._check.arguments import Array, ArrayLike, Offset, Output, ShapeLike
from .._check.key import AnyRNG
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from . import call, plans
from .keys import checked_keys
from .ready import compiles

_INTEGERS = ("int8", "int16", "int32", "int64")
_MOST = 32.0  # the largest rate: the table has 90 entries, and counts fit in int8
_PIECE = 1 << 14  # elements that a thread takes at a time


def _dtype(value: Any) -> np.dtype[Any]:
    kind = arguments.dtype(value)
    if not kind.isnative or (kind.name not in _INTEGERS and kind.name not in FLOAT_TYPES):
        raise TypeError(
            f"dtype={kind} is not supported: give {', '.join((*_INTEGERS, *FLOAT_TYPES))}"
        )
    return kind


@checks_keywords
@compiles("weights", "int8", check=_dtype)
def poisson_weights(
    shape: ShapeLike,
    rate: float = 1.0,
    *,
    dtype: Any = "int8",
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    like: Any = None,
    **unknown: NoReturn,
) -> Array:
    """Draw Poisson counts, the weights of a streaming bootstrap.

    How often an element appears in a resample of a large data set is Poisson distributed with mean
    1, independently of the others [1]_. So replicate b weights element i by the i-th count of
    ``key.fold_in(b)``, and neither the data nor the counts have to be in memory at once.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the result.
    rate : float
        Mean of the counts, in [0, 32].
    dtype : dtype
        Of the result: int8, int16, int32, int64, float16, bfloat16, float32 or float64.
    rng : Key, int, Generator, or anything else that `as_key` takes; or an ndarray
        The key. Of shape (samples, 2) and dtype uint64: one for each sample along the first axis,
        as `sample_keys` returns them.
    sample_index : array_like of int, optional
        Numbers of the samples along the first axis, with which the key is folded.
    offset, global_shape
        As in `dropout`, for a part of a larger array. Not with keys of samples.
    out : ndarray, optional
        Output array of that shape and dtype.
    like : array_like, optional
        An array of the library and on the device that the result is to be of.

    Returns
    -------
    ndarray
        Counts: how many k have ``U >= round(P(count <= k) * 2**32)``, where U is the element's
        uniform of the mask contract. So each probability is exact to ``2**-32``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range, before anything is drawn.

    References
    ----------
    .. [1] N. Oza and S. Russell, "Online bagging and boosting", AISTATS 2001.

    Examples
    --------
    >>> import fastdrop as fd
    >>> fd.poisson_weights(10, rng=42)
    array([2, 1, 0, 1, 0, 0, 1, 0, 1, 1], dtype=int8)
    """
    if unknown or shape is MISSING:
        raise_argument_error("poisson_weights", unknown, shape=shape)
    where = rng, sample_index, offset, global_shape, out, like
    key = _key("poisson_weights", *where, shape, rate, dtype)
    if made := plans.planned(key, (), (out,), rng, sample_index, offset):
        return made[0]
    mean = arguments.real("rate", rate)
    if not 0 <= mean <= _MOST:
        raise ValueError(
            f"rate={rate!r} is out of range: give a mean in [0, {_MOST:g}]; "
            "numpy.random.Generator.poisson takes larger ones"
        )
    return _drawn(key, shape, _dtype(dtype), poisson_thresholds(mean), 1.0, *where)


@checks_keywords
@compiles("weights", "float32", check=_dtype)
def bernoulli_weights(
    shape: ShapeLike,
    p: float = 0.5,
    *,
    dtype: Any = "float32",
    rng: AnyRNG | npt.NDArray[np.uint64] = None,
    sample_index: ArrayLike | None = None,
    offset: Offset = 0,
    global_shape: ShapeLike | None = None,
    out: Output = None,
    like: Any = None,
    **unknown: NoReturn,
) -> Array:
    """Draw weights of mean 1 that are 0 with probability p, and ``1 / (1 - p)`` else.

    With p = 0.5 these are the weights of the double-or-nothing bootstrap [1]_: 0 or 2. It is what
    `dropout` makes of an array of ones, which need not exist.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of the result.
    p : float
        Probability of 0, in [0, 1].
    dtype : dtype
        As in `poisson_weights`; of integers, ``1 / (1 - p)`` must be one.
    rng, sample_index, offset, global_shape, out, like
        As in `poisson_weights`.

    Returns
    -------
    ndarray
        The weights. They are 0 exactly where ``dropout_mask(shape, p)`` of the same key is False.

    Raises
    ------
    TypeError, ValueError
        As in `poisson_weights`.

    References
    ----------
    .. [1] A. Owen and D. Eckles, "Bootstrapping data arrays of arbitrary order", Annals of Applied
       Statistics 6(3), 2012.

    Examples
    --------
    >>> import fastdrop as fd
    >>> fd.bernoulli_weights(8, rng=42)
    array([2., 2., 0., 0., 0., 0., 2., 0.], dtype=float32)
    """
    if unknown or shape is MISSING:
        raise_argument_error("bernoulli_weights", unknown, shape=shape)
    where = rng, sample_index, offset, global_shape, out, like
    key = _key("bernoulli_weights", *where, shape, p, dtype)
    if made := plans.planned(key, (), (out,), rng, sample_index, offset):
        return made[0]
    chance = arguments.probability(p, meaning="the probability of a weight of 0")
    kind = _dtype(dtype)
    factor = contract.scale(chance)
    if kind.name in _INTEGERS and (factor != round(factor) or factor > np.iinfo(kind).max):
        raise ValueError(
            f"p={p!r} gives weights of {factor:g}, which dtype {kind} does not have: give a dtype "
            "of floating-point numbers"
        )
    threshold = contract.threshold(chance)
    reached = [] if threshold == contract.ALWAYS else [threshold]
    return _drawn(key, shape, kind, np.array(reached, np.uint32), factor, *where)


def _key(
    name: str,
    rng: Any,
    sample_index: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
    like: Any,
    *parameters: Any,
) -> plans.PlanKey | None:
    """Return the key of a call's plan."""
    if like is not None:
        return None
    return plans.key_of(name, (), (out,), rng, sample_index, offset, global_shape, *parameters)


@functools.lru_cache(maxsize=64)
def poisson_thresholds(rate: float) -> npt.NDArray[np.uint32]:
    """Return ``round_half_even(P(count <= k) * 2**32)`` for all k for which it is below 2**32."""
    import decimal  # not at import, which it would slow down

    with decimal.localcontext() as context:
        context.prec = 60
        mean, two32 = decimal.Decimal(rate), decimal.Decimal(1 << 32)
        term = total = (-mean).exp()
        found, k = [], 0
        while True:
            threshold = int((total * two32).to_integral_value(decimal.ROUND_HALF_EVEN))
            if threshold >= 1 << 32:
                break
            found.append(threshold)
            k += 1
            term = term * mean / k
            total += term
    thresholds = np.array(found, np.uint32)
    thresholds.flags.writeable = False
    return thresholds


def _drawn(
    key: plans.PlanKey | None,
    shape: ShapeLike,
    dtype: np.dtype[Any],
    thresholds: npt.NDArray[np.uint32],
    factor: float,
    rng: Any,
    sample_index: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
    like: Any,
) -> Array:
    size = arguments.shape(shape, 60)
    arguments.check_like(like)
    name, lies_there = ("out", out) if like is None else ("like", like)
    backend = call.backend_for(lies_there, name)
    keys = checked_keys(rng, sample_index, size[0] if size else None, "shape")
    place = call.sample_placement(size, keys, offset, global_shape, "shape")
    near = None if like is None else backend.array(like, "like")

    def rows_of(own: npt.NDArray[np.uint64] | None) -> Rows:
        if own is not None:
            return whole_rows(size[:1], math.prod(size[1:]), keys=own)
        if place.strides is None:
            return pieces(math.prod(size), place.first, _PIECE)
        return whole_rows(size[:-1], size[-1], place.first, place.strides[:-1])

    with backend.ordered((), out, keys.rng, near if out is None else None):
        made = call.Output(backend, out, size, dtype)
        if math.prod(size):
            counted = dtype.name in _INTEGERS
            computed = "int32" if counted else FLOAT_TYPES[dtype.name].computed_in
            number = backend.table(np.array(factor, computed), made.target)
            table = backend.table(thresholds, made.target)
            target = made.target
            how = call.run(backend, "weights", "weights", target, rows_of, keys, table, number)
            plans.remember(key, how, (), (target,), rng, sample_index)
        return made.finished()
