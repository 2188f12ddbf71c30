"""Random erasing in plain Python, by the contract's functions: slow, and the reference."""

from __future__ import annotations

import decimal
import math
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support.normals import standard_normal
from tests.support.oracle import Array

Rectangle = tuple[int, int, int, int]  # top, left, height, width


def logarithm(ratio: float) -> float:
    with decimal.localcontext() as context:
        context.prec = 50
        return float(decimal.Decimal(ratio).ln())


def exponential(t: float) -> float:
    """About exp(t), by the operations that the contract says."""
    x = t / 1024
    power = 1 + x * (1 + (x / 2) * (1 + (x / 3) * (1 + x / 4)))
    for _ in range(10):
        power = power * power
    return power


def draw(key: Any, index: int, number: int) -> int:
    words = [np.uint64(word) for word in (*key, index, number)]
    return int(contract.draw32(*words))


def rectangles(
    key: Any,
    index: int,
    height: int,
    width: int,
    p: float,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    count: int = 1,
) -> list[Rectangle]:
    """The rectangles of an image whose first element has a mask index."""
    if draw(key, index, 0) >= contract.threshold(p):
        return []
    found = []
    low, high = map(logarithm, ratio)
    for k in range(count):
        for attempt in range(10):
            number = np.uint64(10 * k + attempt + 1)
            own = contract.derive(np.uint64(key[0]), np.uint64(key[1]), number)
            u, v = (draw(own, index, n) / 2**32 for n in (0, 1))
            side = math.sqrt(height * width * (scale[0] + (scale[1] - scale[0]) * u))
            factor = exponential((low + (high - low) * v) / 2)
            h, w = round(side * factor), round(side / factor)
            if h < height and w < width:
                across = width - w + 1
                places = np.uint64((height - h + 1) * across)
                place = int(contract.uniform_below(*own, np.uint64(index), np.uint64(2), places))
                found.append((place // across, place % across, h, w))
                break
    return found


def normals(key: Any, index: int, elements: int) -> Array:
    """The normal numbers of the draw 1 of elements."""
    each = np.uint64(index) + np.arange(elements, dtype=np.uint64)
    bits = contract.draw32(np.uint64(key[0]), np.uint64(key[1]), each, np.uint64(1))
    return standard_normal(np.asarray(bits, np.uint32))


def erased(
    images: Array,
    p: float,
    key: fd.Key | Array,
    value: Any = 0,
    last: bool = False,
    first: int = 0,
    **settings: Any,
) -> Array:
    """What random_erasing must return; `value` broadcasts to images, or is "noise"."""
    result: Array = images.copy(order="C")
    size = math.prod(images.shape[1:])
    for r, image in enumerate(result):
        own = (key.seed, key.stream) if isinstance(key, fd.Key) else tuple(map(int, key[r]))
        index = 0 if not isinstance(key, fd.Key) else first + r * size
        planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0) if last else image
        if isinstance(value, str):
            its = normals(own, index, size).reshape(image.shape).astype(images.dtype)
        else:
            its = np.broadcast_to(np.asarray(value, images.dtype), images.shape)[r]
        its = its[None] if its.ndim == 2 else np.moveaxis(its, -1, 0) if last else its
        for top, left, h, w in rectangles(
            own, index, planes.shape[1], planes.shape[2], p, **settings
        ):
            there = np.s_[:, top : top + h, left : left + w]
            planes[there] = its[there]
    return result
