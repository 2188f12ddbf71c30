"""Operations of several operands, by words, and what they must make of arrays of any layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdrop_kernels.cuda import driver
from fastdrop_kernels.cuda.operations import Operation
from tests.support import bias_act
from tests.support.internals import placement
from tests.support.oracle import POISON, Array

from .cases import (
    FLOATS,
    KEY,
    MOVED,
    Made,
    assert_same_numbers,
    filled_with,
    kept_at,
    numbers,
    thresholds_near,
    uniforms,
)

DTYPES = {str(dtype): dtype for dtype in (*FLOATS, *MOVED)}


def operation_of(what: str) -> Operation:
    *words, name = what.split()
    dtype = DTYPES[name]
    if "each" in words:
        return driver.per_element("drop", dtype)
    if "from" in words:
        return driver.operation("fill_from", DTYPES[name])
    if "zoneout" in words:
        return driver.operation("zoneout", dtype, "mean" in words)
    bias, residual = "bias" in words, "residual" in words
    if "back" in words:
        return driver.operation("bias_act_drop_backward", dtype, words[1], bias)
    return driver.operation("bias_act_drop", dtype, words[0], bias, residual)


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def check(
    what: str,
    out: Made,
    inputs: list[Made],
    threshold: int,
    rng: np.random.Generator,
    **place: Any,
) -> None:
    """Run an operation; y must be what NumPy says, and no other byte may change."""
    y, operation = out.array, operation_of(what)
    dtype, scale = y.dtype, 1.4375123
    value = np.array((scale, 1 - scale) if "zoneout" in what else scale, computed(dtype))
    if operation.per_element:
        threshold = 1
        given_thresholds = thresholds_near(uniforms(place, y.shape), rng)
        factors = numbers(y.shape, computed(dtype), rng)
        factors[rng.random(y.shape) < 0.1] = np.inf
        x, t, factor = (
            filled_with(memory, values)
            for memory, values in zip(
                inputs, (numbers(y.shape, dtype, rng), given_thresholds, factors), strict=True
            )
        )
        kept = (uniforms(place, y.shape) >= t) & np.isfinite(factor)
        with np.errstate(all="ignore"):
            product = x.astype(value.dtype) * factor
            result = np.where(kept, product, value.dtype.type(0)).astype(dtype)
    else:
        kept = kept_at(place, y.shape, threshold)
        arrays: list[Array] = [
            filled_with(memory, numbers(y.shape, dtype, rng)) for memory in inputs
        ]
        words = what.split()
        if "from" in words:
            result = np.where(kept, *arrays)
        elif "zoneout" in words:
            x, previous = (array.astype(value.dtype) for array in arrays)
            with np.errstate(all="ignore"):
                mean = previous * value[0] + x * value[1]
            result = mean if "mean" in words else np.where(kept, x, previous)
        elif "back" in words:
            dy, x = arrays[:2]
            shift = arrays[2] if "bias" in words else None
            result = bias_act.rounded_gradient(dy, x, shift, words[1], kept, scale)
        else:
            first, *rest = arrays
            shift = rest.pop(0) if "bias" in words else None
            residual = rest.pop(0) if "residual" in words else None
            result = bias_act.rounded_forward(first, shift, words[0], kept, scale, residual)
        with np.errstate(all="ignore"):
            result = result.astype(dtype)
    index, strides = placement(
        y.shape, place.get("noise_shape"), place.get("offset", 0), place.get("global_shape")
    )
    source, *operands = (memory.array for memory in inputs)
    driver.apply(
        operation, source, y, index, strides, *KEY, threshold, value, operands=tuple(operands)
    )
    assert_same_numbers(y.copy("C"), result)
    y[...] = np.frombuffer(bytes([POISON]) * dtype.itemsize, dtype)[0]
    assert (out.memory == POISON).all()


def dtypes_of(what: str) -> list[np.dtype[Any]]:
    operation, dtype = operation_of(what), DTYPES[what.split()[-1]]
    if operation.per_element:
        return [dtype, np.dtype(np.uint32), computed(dtype)]
    return [dtype] * len(operation.operands)
