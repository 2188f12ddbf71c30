"""What a call must give: the reference mask, applied with plain NumPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import fastdrop as fd
from fastdrop_kernels import contract, reference

Array: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]

ROOT = Path(__file__).resolve().parents[2]
POISON = 0xAB


def index_of(
    shape: tuple[int, ...],
    noise_shape: tuple[int | None, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    global_shape: tuple[int, ...] | None = None,
) -> Array:
    """The mask index of every element of an array."""
    noise = None
    if noise_shape is not None:
        full = shape if global_shape is None else global_shape
        padded = (1,) * (len(full) - len(noise_shape)) + tuple(noise_shape)
        noise = tuple(f if n is None else n for n, f in zip(padded, full, strict=True))
    return reference.mask_index(shape, noise, offset, global_shape)


def mask(shape: tuple[int, ...], p: float, key: fd.Key, **where: Any) -> Mask:
    """The mask that the contract gives an array; True = kept."""
    return reference.keep_mask(index_of(shape, **where), p, key.seed, key.stream)


def applied(kept: Mask, x: Array, factor: float) -> Array:
    """What dropout with a given mask must give."""
    result = np.zeros(x.shape, x.dtype)
    # float16 and bfloat16 are computed in float32 and rounded once.
    computed = np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype
    with np.errstate(all="ignore"):
        product = x.astype(computed, copy=False) * computed.type(factor)
        np.copyto(result, product.astype(x.dtype, copy=False), where=kept)
    return result


def affine(kept: Mask, x: Array, a: float, b: float, c: float) -> Array:
    """What is ``x * a + b`` where kept and c where dropped, each number and result rounded once."""
    computed = np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype
    with np.errstate(all="ignore"):
        product = x.astype(computed) * computed.type(a)
        chosen = np.where(kept, product + computed.type(b), computed.type(c))
        return np.asarray(chosen.astype(x.dtype))


def alpha_numbers(p: float) -> tuple[float, float, float]:
    """The numbers a, b and c of alpha dropout, as torch writes them."""
    if p in (0.0, 1.0):
        return 1.0 - p, -0.0 if p == 0.0 else 0.0, 0.0
    alpha = 1.7580993408473766
    a = 1.0 / math.sqrt((alpha * alpha * p + 1.0) * (1.0 - p))
    return a, alpha * a * p, alpha * a * p - alpha * a


def dropped(x: Array, p: float, key: fd.Key, **where: Any) -> Array:
    """What ``fastdrop.dropout(x, p, rng=key, **where)`` must give."""
    return applied(mask(x.shape, p, key, **where), x, contract.scale(p))


def filled(x: Array, p: float, value: Any, key: fd.Key, **where: Any) -> Array:
    """What ``fastdrop.masked_fill(x, p, value, rng=key, **where)`` must give."""
    result: Array = x.copy(order="C")
    result[~mask(x.shape, p, key, **where)] = value
    return result


def data(x: Array) -> bytes:
    """The bytes of an array's elements in C order."""
    return x.reshape(-1).tobytes()  # of 64 axes too, which NumPy 2.2 wants flat


def assert_same(actual: Array, expected: Array) -> None:
    """Same shape, dtype and bits; only which NaN a NaN is may differ."""
    assert type(actual) is np.ndarray
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if data(actual) == data(expected):
        return
    if actual.dtype.name == "bfloat16":  # whose NaN NumPy does not take for equal
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_array_equal(actual, expected)  # says where they differ
    numbers = ~np.isnan(expected)  # a GPU makes NaN of another sign
    np.testing.assert_array_equal(np.signbit(actual[numbers]), np.signbit(expected[numbers]))


def poisoned(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array whose bytes are all ones that no result has by accident."""
    return poison(np.empty(shape, dtype))


def poison(x: Array) -> Array:
    """Fill an array of any layout with the poison, and return it."""
    bits = np.frombuffer(bytes([POISON]) * x.itemsize, x.dtype)
    x[...] = bits[0]
    return x


def misaligned(x: Array, by: int) -> Array:
    """A copy of a contiguous array, `by` bytes behind a multiple of 64."""
    memory = np.empty(x.nbytes + 128 + by, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + by
    view = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def key_from(rng: np.random.Generator) -> fd.Key:
    return fd.as_key(rng)
