"""Fills of batches: `masked_fill` from an array, and `random_erasing`, beside what people write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd

FAMILY = "fill"
Array = npt.NDArray[Any]
Row = tuple[str, dict[str, Callable[[], object]], str, str, float]
P = 0.3
KEY = fd.Key(42)


def rows(seconds: float) -> Iterator[Row]:
    """Yield what is timed: its name, contenders, which is ours, and how fast it is to be.

    A result is validated before it is timed. `seconds` is the time that all of it may take; with
    few, arrays are small.
    """
    quick = seconds < 10
    for dtype in ("uint8", "float32", "float64"):
        yield _fill(dtype, 1 << 18 if quick else 1 << 24)
    for dtype in ("uint8", "float32"):
        for in_place in (False, True):
            yield _erasing(dtype, 8 if quick else 128, in_place)


def _fill(dtype: str, n: int) -> Row:
    x, value = (np.arange(n, dtype=np.uint32) * k % 251 for k in (3, 7))
    x, value, y = x.astype(dtype), value.astype(dtype), np.empty(n, dtype)
    rng = np.random.default_rng(0)
    kept = fd.dropout_mask(n, P, rng=KEY)
    np.testing.assert_array_equal(
        fd.masked_fill(x, P, value, rng=KEY, out=y), np.where(kept, x, value)
    )
    calls: dict[str, Callable[[], object]] = {
        "fastdrop": lambda: fd.masked_fill(x, P, value, rng=KEY, out=y),
        "NumPy, where": lambda: np.where(rng.random(x.shape) < P, value, x),
        "np.add of both": lambda: np.add(x, value, out=y),
    }
    return f"masked_fill from an array, {n:,} of {dtype}", calls, "fastdrop", "np.add of both", 1.0


def _erasing(dtype: str, images: int, in_place: bool) -> Row:
    shape = images, 3, 224, 224
    x = np.random.default_rng(0).integers(0, 255, shape, np.uint8).astype(dtype)
    y = x.copy()
    changed = fd.random_erasing(x, rng=KEY, value=255, out=np.empty_like(x)) != x
    expected = ~fd.dropout_mask(shape, 0.5, rng=KEY)[:, 0, 0, 0]
    assert np.array_equal(changed.any((1, 2, 3)), expected)
    rng = np.random.default_rng(0)
    target = x if in_place else y
    calls: dict[str, Callable[[], object]] = {
        "fastdrop": lambda: fd.random_erasing(x, rng=KEY, out=target),
        "NumPy, a loop over images": lambda: _loop(x, target, rng),
        "np.copyto": lambda: np.copyto(y, x),
    }
    what = f"random_erasing{' in place' * in_place}, {images} of 3 x 224 x 224, {dtype}"
    return what, calls, "fastdrop", "np.copyto", 1.0


def _loop(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Erase as torchvision.transforms.v2.RandomErasing does, in a loop, as users write it."""
    if y is not x:
        np.copyto(y, x)
    height, width = x.shape[-2:]
    low, high = math.log(0.3), math.log(3.3)
    for image in y:
        if rng.random() >= 0.5:
            continue
        for _ in range(10):
            area = height * width * rng.uniform(0.02, 0.33)
            ratio = math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                image[:, top : top + h, left : left + w] = 0
                break
    return y
