"""The element-wise functions: what each of them is, and the two ways that their calls go.

A call like an earlier one goes straight to what was prepared for that (see `_repeats`). All others
go the long way: all arguments checked, any array, any layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays.adapter import Operation
from .._arrays.dispatch import backend_of
from .._check import arguments, placement
from .._check.arguments import Array, ArrayLike, NoiseShape, Offset, Output, ShapeLike, Training
from .._check.key import AnyRNG, Deferred
from .._check.shard_offsets import index_of, plain
from . import plan_cache as repeats


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class ElementWise:
    """What an element-wise function does."""

    # (driver, dtype) -> the driver's operation
    operation: Callable[[Any, np.dtype[Any]], Any]
    # (p, dtype, parameter) -> the threshold, and the operation's parameters as kernels read them.
    # It raises where the dtype, or the parameter, is none that the function takes.
    law: Callable[[float, np.dtype[Any], Any], tuple[int, Array]]
    # Returns p, or raises: p may be another number than a probability.
    checked: Callable[[Any], float] = arguments.probability
    # (driver, dtype, parameter) -> the driver's operation by a p of each element, if there is one
    by_p: Callable[[Any, np.dtype[Any], Any], Any] | None = None

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
    known, what = repeats.calls, None
    if type(noise_shape) is list or type(noise_shape) is np.ndarray:
        noise_shape = plain(noise_shape)
    if type(offset) is not int:
        offset = plain(offset)
    if training is True:
        what = repeats.asked(function, x, p, parameter, noise_shape, offset, global_shape, out)
        if what is not None and (again := known.get(what)):
            result = again(x, out, rng, offset)
            if result is not None:
                if isinstance(rng, Deferred):
                    rng.prepared = again
                return result
    backend = backend_of(x)
    xs = backend.array(x)
    p = function.checked(p)
    law = function.law(p, xs.dtype, parameter)
    place = placement.place(xs.shape, noise_shape, offset, global_shape)
    if not arguments.in_training(training):
        return backend.untouched(x, xs, out)
    operation = function.operation_on(xs.dtype)
    if what is not None and repeats.comes_again(known, what):
        find = index_of(xs.shape, place, noise_shape, offset, global_shape)
        ready = backend.repeatable(operation, xs, out, place, *law, find)
        result = repeats.remember(known, what, ready)(xs, out, rng, offset)
        if result is not None:
            return result
    result = backend.apply(operation, xs, out, place, rng, *law)
    repeats.succeeded(what)
    return result
