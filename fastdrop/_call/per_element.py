"""A p of each element: arrays of probabilities in the place of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays.adapter import Backend, Operation
from .._arrays.dispatch import operand_backend_of
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG
from .._check.placement import Placement, placement_of
from .._check.probabilities import array_of_probabilities
from .._check.shard_offsets import index_of
from . import plan_cache
from .operands import fits
from .plan_cache import per_element_key, remember

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
    return detect.on_gpu(p) or detect.is_array(p) or detect.is_dask(p)


def checked_p(p: Any) -> Any:
    """Return a probability as a float, or an array of them as a copy in float64."""
    if type(p) is float and 0.0 <= p <= 1.0:
        return p
    return (
        np.array(array_of_probabilities(p), np.float64)
        if is_per_element(p)
        else arguments.probability(p)
    )


def probabilities(p: Any, shape: tuple[int, ...], placement: Placement, backend: Backend) -> Array:
    """Return probabilities as a backend takes them, which broadcast to the mask of an array."""
    result = backend.probabilities(p)
    mask = shape
    if placement.strides is not None and 0 not in shape:  # what shares a decision shares its p
        mask = tuple([n if s else 1 for n, s in zip(shape, placement.strides, strict=True)])
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
    known, key = plan_cache.plans, None
    if training is True:
        key = per_element_key(function, x, p, parameter, noise_shape, offset, global_shape, out)
        if key is not None and (plan := known.get(key)):
            result = plan(x, p, out, rng, offset)
            if result is not None:
                return result
    backend = operand_backend_of(x)
    xs = backend.array(x)
    value = function.coefficients(0.0, xs.dtype, parameter)[1]
    placement = placement_of(xs.shape, noise_shape, offset, global_shape)
    own = probabilities(p, xs.shape, placement, backend)
    if not arguments.in_training(training):
        return backend.identity(x, xs, out)
    given = parameter is not None or not function.row.is_scaled
    factor = value if given and function.row.is_scaled else None
    operation = Operation(function.operation, xs.dtype, given=given)
    if key is not None and key not in known:
        find = index_of(xs.shape, placement, noise_shape, offset, global_shape)
        made = backend.per_element_plan(operation, xs, p, out, placement, value, find)
        result = remember(known, key, made)(xs, p, out, rng, offset)
        if result is not None:
            return result
    operands = backend.per_element_operands(operation, own, factor, xs)
    return backend.apply(operation, xs, out, placement, rng, NO_THRESHOLD, value, operands)
