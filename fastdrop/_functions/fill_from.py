"""`masked_fill` with an array of values: dropped elements take the value in their own place.

`masked_fill` calls `fill_from`, which checks the arguments and calls the backend's `apply`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdrop_kernels import contract

from .._arrays.adapter import NO_VALUE, Operation
from .._arrays.dispatch import operand_backend_of
from .._call.operands import operand
from .._call.per_element import is_per_element
from .._call.repeated import apply, repeated
from .._check import arguments
from .._check.arguments import Array
from .._check.fill_values import check_fillable, fillings
from .._check.placement import placement_of


def fill_from(
    x: Any,
    p: Any,
    value: Any,
    rng: Any,
    training: Any,
    noise_shape: Any,
    offset: Any,
    global_shape: Any,
    out: Any,
) -> Array:
    """Return `masked_fill` of x by an array of values; the arguments are those of the user."""
    where = noise_shape, offset, global_shape
    call = repeated("fill_from", (x, value), "", p, None, training, *where, out)
    if call and (result := call.by_plan(out, rng)) is not None:
        return result
    backend = operand_backend_of(x)
    xs = backend.array(x)
    if is_per_element(p):
        arguments.reject_rng("p", p)
        raise TypeError(
            "p and value are both arrays, and there is no kernel for that: give one p, or use "
            "numpy.where(dropout_mask(x.shape, p, rng=key), x, value)"
        )
    threshold = contract.threshold(arguments.probability(p))
    check_fillable(xs.dtype)
    if isinstance(value, np.ndarray):
        value = fillings(value, xs.dtype)
    elif isinstance(value, list | tuple):
        value = backend.to_device(fillings(value, xs.dtype), xs)
    values = operand("value", value, xs, backend)
    placement = placement_of(xs.shape, noise_shape, offset, global_shape)
    if not arguments.in_training(training):
        return backend.identity(x, xs, out)
    operation = Operation("fill_from", xs.dtype)
    coefficients = threshold, NO_VALUE, [values]
    return apply(call, backend, operation, xs, out, placement, rng, *coefficients)
