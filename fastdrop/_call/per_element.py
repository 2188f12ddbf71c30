"""A p of each element: arrays of probabilities in the place of one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays.dispatch import operand_backend_of
from .._check import arguments, detect, labels, placement
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.placement import Place
from .._check.shard_offsets import index_of, plain
from . import plan_cache as repeats
from .elementwise import ElementWise
from .operands import fits

NO_THRESHOLD = 1  # which elements do not share


def is_each(p: Any) -> bool:
    """Say whether p is an array of any kind, or a list, and not a number."""
    return (
        type(p) is not float
        and not isinstance(p, float | int | np.generic)
        and (isinstance(p, np.ndarray | list | tuple) or _is_foreign(p))
    )


def _is_foreign(p: Any) -> bool:
    return detect.on_gpu(p) or detect.is_array(p)


def chances(p: Any) -> Any:
    """Return a probability as a float, or an array of them as a copy in float64."""
    if type(p) is float and 0.0 <= p <= 1.0:
        return p
    return np.array(_checked(p), np.float64) if is_each(p) else arguments.probability(p)


def _are_probabilities(p: Array) -> bool:
    """Say whether all numbers are in [0, 1], which NaN is not."""
    if not p.size:
        return True
    if p.dtype in _BITS_OF_ONE:
        # As integers, numbers from +0.0 to 1 are those up to 1's, and one pass over them is enough.
        bits, one = _BITS_OF_ONE[p.dtype]
        if p.view(bits).max() <= one:
            return True
    return bool(p.min() >= 0 and p.max() <= 1)


_BITS_OF_ONE = {
    np.dtype(kind): (np.dtype(f"u{np.dtype(kind).itemsize}"), one)
    for kind, one in ((np.float64, 0x3FF0 << 48), (np.float32, 0x3F80 << 16), (np.float16, 0x3C00))
}


def _checked(p: Any) -> Array:
    """Return an array of probabilities, in [0, 1], in float64 or float32."""
    if detect.on_gpu(p):
        raise TypeError(
            f"p is a {detect.kind_of(p)}, which lies on a GPU, and checking it would wait for "
            "that: give a numpy.ndarray, which is copied there"
        )
    if labels.has_labels(p):
        raise TypeError(f"p is a {detect.kind_of(p)}, whose labels are not read: give p.to_numpy()")
    given = arguments.array(p, "p")
    if given.dtype.kind not in "fiu" and not arguments.is_bfloat16(given.dtype):
        raise TypeError(f"p has dtype {given.dtype}: give floats, the probabilities of dropping")
    with np.errstate(all="ignore"):  # a signalling NaN is an invalid operand
        result = given if given.dtype == np.float32 else given.astype(np.float64, copy=False)
    if not _are_probabilities(given):
        bad = tuple(int(k) for k in np.argwhere(~((result >= 0.0) & (result <= 1.0)))[0])
        where = f"p[{', '.join(map(str, bad))}]" if bad else "p"
        raise ValueError(
            f"{where}={float(result[bad])!r} is not in [0, 1]: p is the probability of dropping an "
            "element"
        )
    return result


def probabilities(p: Any, shape: tuple[int, ...], place: Place) -> Array:
    """Return probabilities, float64 or float32, that broadcast to the mask of an array."""
    result = _checked(p)
    mask = shape
    if place.strides is not None:  # what shares a decision shares its p
        mask = tuple([n if s else 1 for n, s in zip(shape, place.strides, strict=True)])
    if not fits(result.shape, mask):
        raise ValueError(
            f"p has shape {result.shape}, which does not broadcast to that of the mask, {mask}"
        )
    return result


def element_wise_each(
    function: ElementWise,
    x: ArrayLike,
    p: Any,
    parameter: Any,
    rng: AnyRNG,
    training: Training,
    noise_shape: NoiseShape,
    offset: Offset,
    global_shape: ShapeLike | None,
    out: Output,
) -> Array:
    """Do `element_wise` with a p of each element."""
    known, what = repeats.calls, None
    if type(offset) is not int:
        offset = plain(offset)
    if training is True and type(p) is np.ndarray:
        what = repeats.asked_by_p(function, x, p, parameter, noise_shape, offset, global_shape, out)
        if what is not None and (again := known.get(what)):
            result = again(x, p, out, rng, offset)
            if result is not None:
                return result
    backend = operand_backend_of(x)
    xs = backend.array(x)
    dtype = xs.dtype
    value = function.law(0.0, dtype, parameter)[1]
    place = placement.place(xs.shape, noise_shape, offset, global_shape)
    chances = probabilities(p, xs.shape, place)
    if not arguments.in_training(training):
        return backend.untouched(x, xs, out)

    def chosen(driver: Any) -> Any:
        assert function.by_p is not None
        return function.by_p(driver, dtype, parameter)

    if what is not None and repeats.comes_again(known, what):
        find = index_of(xs.shape, place, noise_shape, offset, global_shape)
        ready = backend.repeatable_by_p(chosen, xs, p, out, place, value, find)
        result = repeats.remember(known, what, ready)(xs, p, out, rng, offset)
        if result is not None:
            return result
    operands = backend.own_operands(chosen, chances, None if parameter is None else value, xs)
    result = backend.apply(chosen, xs, out, place, rng, NO_THRESHOLD, value, operands)
    repeats.succeeded(what)
    return result
