"""Fills and masks by thresholds of each element, on arrays of any layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdrop_kernels.cuda import driver
from tests.support.internals import placement
from tests.support.oracle import POISON

from .cases import KEY, Made, filled_with, made, thresholds_near, uniforms

FILLED = [np.dtype(d) for d in (np.uint8, np.uint16, np.float32, np.float64, np.complex128)]
MARKED = np.dtype(np.bool_)
WIDE = np.dtype(np.uint64)


def check(out: Made, inputs: list[Made], rng: np.random.Generator, **place: Any) -> None:
    """Fill, or draw a mask where x is None, and compare y and the memory around it with NumPy."""
    y = out.array
    drawn = uniforms(place, y.shape)
    near = thresholds_near(drawn, rng).astype(np.uint64)
    # At 2**32 an element is dropped whatever is drawn.
    near = np.where(rng.random(y.shape) < 0.1, np.uint64(2**32), near)
    *xs, last = inputs
    t = filled_with(last, near)
    index, strides = placement(
        y.shape, place.get("noise_shape"), place.get("offset", 0), place.get("global_shape")
    )
    if xs:
        value = np.array(77, y.dtype)
        x = filled_with(xs[0], rng.integers(0, 77, y.shape).astype(y.dtype))
        operation, source = driver.per_element("fill", y.dtype, True), xs[0].array
    else:
        value, x = np.zeros((), np.uint8), np.ones(y.shape, np.bool_)
        operation, source = driver.per_element("mark", None, True), y
    driver.apply(
        operation, source, y, index, strides, *KEY, 1, value, operands=(last.array,)
    )  # fmt: skip
    expected = np.where(drawn >= t, x, value.astype(y.dtype))
    assert np.ascontiguousarray(y).tobytes() == expected.tobytes()
    y.view(np.uint8 if y.dtype == MARKED else y.dtype)[...] = np.frombuffer(
        bytes([POISON]) * y.itemsize, np.uint8 if y.dtype == MARKED else y.dtype
    )[0]
    assert (out.memory == POISON).all()


def arrays(dtype: np.dtype[Any], shape: tuple[int, ...], *how: Any) -> tuple[Made, list[Made]]:
    """Return y, x (or None) and thresholds in the given layouts."""
    own = made(shape, WIDE, *how)
    plain = made(shape, dtype)
    return plain, [own] if dtype == MARKED else [made(shape, dtype, 4), own]
