"""Arrays of any layout, and what an operation of one operand must make of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import fastdrop as fd
from fastdrop._check import placement
from fastdrop_kernels import contract, reference
from fastdrop_kernels.cuda import driver, launch
from tests.support.normals import noisy, normals_of
from tests.support.oracle import POISON, Array, affine, applied, assert_same

from . import host

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]
MOVED = [np.dtype(name) for name in ("i1", "i2", "f4", "i8", "c16")]
ALWAYS = 1 << 32
ALL = (
    [f"{what} {dtype}" for what in ("drop", "alpha", "times", "plus") for dtype in FLOATS]
    + [f"fill {dtype}" for dtype in MOVED]
    + ["mark"]
)
KEY = fd.Key(2**63 + 12345, 2**40 + 77)


@contextmanager
def settings_of_launches(**values: int) -> Iterator[None]:
    """Other limits in `launch`: smaller, so that what they are for happens to small arrays."""
    before = {name: getattr(launch, name) for name in values}
    try:
        for name, value in values.items():
            setattr(launch, name, value)
        launch.pieces.cache_clear()
        yield
    finally:
        for name, value in before.items():
            setattr(launch, name, value)
        launch.pieces.cache_clear()


WIDE = {"NARROW_BELOW": 0}  # count in 64 bits


class Made(NamedTuple):
    """An array, and all the memory that it lies in."""

    array: Array
    memory: Array


def made(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    by: int = 0,
    order: tuple[int, ...] | None = None,
    steps: tuple[int, ...] | None = None,
) -> Made:
    """A poisoned array `by` bytes behind a multiple of 64; a step of 0 repeats what is there."""
    order = tuple(range(len(shape))) if order is None else order
    steps = (1,) * len(shape) if steps is None else steps
    lengths = [(shape[a] - 1) * abs(steps[a]) + 1 for a in order]
    memory = np.full(math.prod(lengths) * dtype.itemsize + 256, POISON, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + 64 + by
    whole = memory[start : start + math.prod(lengths) * dtype.itemsize].view(dtype)
    back = tuple(order.index(a) for a in range(len(shape)))
    array = whole.reshape(lengths).transpose(back)
    every: tuple[Any, ...] = (..., *(slice(None, None, step or 1) for step in steps))
    array = array[every]
    return Made(np.broadcast_to(array, shape) if 0 in steps else array, memory)


def numbers(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """Numbers of all magnitudes, and no NaN: which NaN a NaN is may differ."""
    size = math.prod(shape)
    if dtype.kind in "iu":
        return rng.integers(-100, 100, size).astype(dtype).reshape(shape)
    exponents = {2: 9, 4: 37, 8: 300, 16: 300}[dtype.itemsize]
    values = rng.standard_normal(size) * 10.0 ** rng.integers(-exponents, exponents, size)
    with np.errstate(over="ignore"):
        return values.astype(dtype).reshape(shape)


def kept_at(place: dict[str, Any], shape: tuple[int, ...], threshold: int) -> Array:
    index = reference.mask_index(shape, **place)
    words = np.uint64(KEY.seed), np.uint64(KEY.stream), index, np.uint64(threshold)
    return np.asarray(contract.keep(*words))


def tied_threshold(place: dict[str, Any], shape: tuple[int, ...], nth: int, below: int) -> int:
    """A threshold whose upper half is that of an element, so that it has to be settled."""
    index = reference.mask_index(shape, **place).ravel()
    words = np.uint64(KEY.seed), np.uint64(KEY.stream), index[nth % index.size]
    uniform = contract.uniform32(*words)
    return max(1, int(uniform) - below)


def check(
    what: str,
    out: Made,
    x: Made | None,
    threshold: int,
    rng: np.random.Generator,
    *,
    in_place: bool = False,
    key_pointer: int | None = None,
    **place: Any,
) -> None:
    """Run an operation; y must be what the reference says, and no other byte may change."""
    y = out.array
    kept = kept_at(place, y.shape, threshold)
    index, strides = placement.placement_of(
        y.shape, place.get("noise_shape"), place.get("offset", 0), place.get("global_shape")
    )
    value, source = np.zeros((), y.dtype), y
    if x is not None:
        data = numbers(x.array.shape, y.dtype, rng)
        if 0 in x.array.strides:
            x.memory[:] = rng.integers(0, 60, x.memory.size)
            data = x.array.copy()
        else:
            x.array[...] = data
        source = x.array
        if in_place:
            y[...] = data
            source = y
    if what == "mark":
        operation, result = driver.marking(), kept
    elif what.startswith("drop"):
        operation, factor = driver.dropping(y.dtype), 1.4375123
        computed = np.dtype(np.float32) if y.itemsize == 2 else y.dtype
        value, result = np.array(factor, computed), applied(kept, data, factor)
    elif what.startswith("alpha"):
        operation = driver.alpha_dropping(y.dtype)
        value = np.array([0.8123, 0.3217, -1.4141], np.float32 if y.itemsize == 2 else y.dtype)
        result = affine(kept, data, *value)
    elif what.startswith(("times", "plus")):
        value = np.array(0.75, np.float32 if y.itemsize == 2 else y.dtype)
        threshold %= ALWAYS  # they have no use for one
        drawn = what.partition(" ")[0]
        operation = (driver.gaussian_dropping if drawn == "times" else driver.gaussian_adding)(
            y.dtype
        )
        z = normals_of(reference.mask_index(y.shape, **place), KEY)
        result = noisy(drawn, z, data, value)
    else:
        operation, value = driver.filling(y.dtype), np.array(-77, y.dtype)
        result = np.where(kept, data, value)
    expected = out.memory.copy()
    start = y.__array_interface__["data"][0] - out.memory.__array_interface__["data"][0]
    view = np.ndarray(y.shape, y.dtype, expected, start, y.strides)
    view[...] = result
    driver.apply(
        operation, source, y, index, strides, *KEY, threshold, value, key_pointer=key_pointer
    )
    np.testing.assert_array_equal(y, result)
    assert out.memory.tobytes() == expected.tobytes()


def assert_same_numbers(actual: Array, expected: Array) -> None:
    """The same bits, but that any NaN is a NaN: neither payload nor sign is promised."""
    numbers = [np.where(np.isnan(a), a.dtype.type(0), a) for a in (actual, expected)]
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    assert_same(*numbers)


def is_quick(what: str) -> bool:
    """Whether an operation is compiled for the quick tests; sanitizers see all."""
    first = what.startswith(("drop", "fill", "mark")) or what.endswith("float32")
    return first or bool(os.environ.get(host.SANITIZED))


def dtype_of(what: str) -> np.dtype[Any]:
    if what == "mark":
        return np.dtype(np.bool_)
    name = what.split()[1]
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)
