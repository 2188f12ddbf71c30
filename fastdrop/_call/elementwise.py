"""The element-wise functions: what each of them is, and the way of their calls to the kernels.

The public functions call `element_wise`. A call like an earlier one goes straight to its plan in
`plan_cache`. For others the arguments are checked, a plan is made by the adapter of the arrays'
library, and cached. What no plan serves (overlapping arrays, views of other libraries) goes through
the adapter's `apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays.adapter import Operation
from .._arrays.dispatch import backend_of
from .._check import arguments
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG, Key, LazyKey
from .._check.placement import placement_of
from .._check.shard_offsets import index_of, plain
from . import plan_cache
from .per_element import element_wise_each, is_per_element
from .plan_cache import PROBABILITIES, contiguous_key, layout_key, remember

_ndarray = np.ndarray
_INDEX_LIMIT = 1 << 62  # of offsets that the compiled fast path takes


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class ElementWise:
    """What an element-wise function does."""

    # (driver, dtype) -> the driver's operation
    operation: Callable[[Any, np.dtype[Any]], Any]
    # (p, dtype, parameter) -> the threshold, and the operation's parameters as kernels read them.
    # It raises where the dtype, or the parameter, is none that the function takes.
    coefficients: Callable[[float, np.dtype[Any], Any], tuple[int, Array]]
    # Returns p, or raises: p may be another number than a probability.
    checked: Callable[[Any], float] = arguments.probability
    # (driver, dtype, whether a parameter was given) -> the operation for an array of p, if it takes
    # one; and whether the parameter is then the factor of kept elements.
    per_element: Callable[[Any, np.dtype[Any], bool], Any] | None = None
    parameter_is_factor: bool = False

    def operation_on(self, dtype: np.dtype[Any]) -> Operation:
        """Return what a driver is asked for arrays of a dtype."""
        return lambda driver: self.operation(driver, dtype)


def element_wise(
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
    """Decide each element of x by p, and do to it what a function does, by a parameter."""
    known, contiguous, key = plan_cache.plans, None, None
    if training is True:
        if (
            type(x) is _ndarray
            and noise_shape is None
            and global_shape is None
            and type(offset) is int
            and 0 <= offset < _INDEX_LIMIT
            and (type(p) is float or type(p) in PROBABILITIES)
        ):
            if parameter is None and p and (out is None or type(out) is _ndarray):
                contiguous = function, p, x.dtype  # as `contiguous_key` has it, for most calls
            else:
                contiguous = contiguous_key(function, x, p, parameter, out)
            if plan := known.get(contiguous):  # type: ignore[arg-type]
                result = plan(x, out, rng, offset)
                if result is not None:
                    if type(rng) is not Key and isinstance(rng, LazyKey):
                        rng.contiguous_plan = plan
                    return result
        if type(noise_shape) is list or type(noise_shape) is _ndarray:
            noise_shape = plain(noise_shape)
        if type(offset) is not int:
            offset = plain(offset)
        key = layout_key(function, x, p, parameter, noise_shape, offset, global_shape, out)
        if key is not None and (plan := known.get(key)):
            result = plan(x, out, rng, offset)
            if result is not None:
                if type(rng) is not Key and isinstance(rng, LazyKey):
                    rng.plan = plan
                return result
    if function.per_element is not None and is_per_element(p):
        return element_wise_each(
            function, x, p, parameter, rng, training, noise_shape, offset, global_shape, out
        )
    backend = backend_of(x)
    xs = backend.array(x)
    p = function.checked(p)
    coefficients = function.coefficients(p, xs.dtype, parameter)
    placement = placement_of(xs.shape, noise_shape, offset, global_shape)
    if not arguments.in_training(training):
        return backend.identity(x, xs, out)
    operation = function.operation_on(xs.dtype)
    if contiguous is not None and contiguous not in known and xs.flags.c_contiguous:
        made = backend.contiguous_plan(operation, xs.dtype, *coefficients)
        result = remember(known, contiguous, made)(xs, out, rng, offset)
        if result is not None:
            return result
    if key is not None and key not in known:
        find = index_of(xs.shape, placement, noise_shape, offset, global_shape)
        made = backend.plan(operation, xs, out, placement, *coefficients, find)
        result = remember(known, key, made)(xs, out, rng, offset)
        if result is not None:
            return result
    return backend.apply(operation, xs, out, placement, rng, *coefficients)
