"""A p of each element: arrays of probabilities in the place of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays.dispatch import operand_backend_of
from .._check import arguments, detect, labels
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.placement import Placement, placement_of
from .operands import fits

if TYPE_CHECKING:
    from .elementwise import ElementWise

NO_THRESHOLD = 1  # which elements do not share


def is_per_element(p: Any) -> bool:
    """Say whether p is an array of any kind, or a list, and not a number."""
    return (
        type(p) is not float
        and not isinstance(p, float | int | np.generic)
        and (isinstance(p, np.ndarray | list | tuple) or _is_foreign(p))
    )


def _is_foreign(p: Any) -> bool:
    return detect.on_gpu(p) or detect.is_array(p)


def checked_p(p: Any) -> Any:
    """Return a probability as a float, or an array of them as a copy in float64."""
    if type(p) is float and 0.0 <= p <= 1.0:
        return p
    return np.array(_in_float64(p)) if is_per_element(p) else arguments.probability(p)


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


def _in_float64(p: Any) -> Array:
    """Return an array of probabilities, in [0, 1]."""
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
        result = given.astype(np.float64, copy=False)
    if not _are_probabilities(given):
        bad = tuple(int(k) for k in np.argwhere(~((result >= 0.0) & (result <= 1.0)))[0])
        where = f"p[{', '.join(map(str, bad))}]" if bad else "p"
        raise ValueError(
            f"{where}={float(result[bad])!r} is not in [0, 1]: p is the probability of dropping an "
            "element"
        )
    return result


def probabilities(p: Any, shape: tuple[int, ...], place: Placement) -> Array:
    """Return probabilities as float64, that broadcast to the mask of an array."""
    result = _in_float64(p)
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
    backend = operand_backend_of(x)
    xs = backend.array(x)
    value = function.coefficients(0.0, xs.dtype, parameter)[1]
    placement = placement_of(xs.shape, noise_shape, offset, global_shape)
    p = probabilities(p, xs.shape, placement)
    if not arguments.in_training(training):
        return backend.identity(x, xs, out)
    scaled = function.parameter_is_factor and parameter is not None

    def operation(driver: Any) -> Any:
        assert function.per_element is not None
        return function.per_element(driver, xs.dtype, scaled)

    operands = backend.per_element_operands(operation, p, value if scaled else None, xs)
    return backend.apply(operation, xs, out, placement, rng, NO_THRESHOLD, value, operands)
