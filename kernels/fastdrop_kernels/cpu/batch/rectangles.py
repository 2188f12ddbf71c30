"""Rectangles of images: where they are, for both backends.

`erasing` calls `drawer` for each image, and `fastdrop._batch.erasing` calls `rectangles` for images
on a GPU. The numbers of a rectangle are float64, each operation rounded once, so they are the same
on any processor.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from ... import contract
from ...contract import ALWAYS
from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, clear_bytes, loader
from ..elements.sampler import POINTER, U64, store64
from ..loops.loop_nest import Kernel
from .draws import draw32, uniform_below
from .rows import array_at, row_kernel, run_rows, word_at

ATTEMPTS = 10  # at a rectangle that fits, as in torchvision
SQUARINGS = 10  # of the exponential function
RECTANGLE = 4  # uint64: top, left, height and width
RECTANGLE_BYTES = 8 * RECTANGLE
COST = 150.0  # of a rectangle, in elements of dropout (Zen 5, November 2026)
_BYTES = np.uint64(RECTANGLE_BYTES)
_ZERO, _ONE, _TWO, _THREE = (np.uint64(n) for n in range(4))
_EIGHT, _SIXTEEN, _LAST_WORD = (np.uint64(n) for n in (8, 16, 24))
_UNIT = 2.0**-32
_TO_INTEGER = 2.0**52  # added and subtracted, it rounds to an integer, halves to even
_SCALE_DOWN = 2.0**-SQUARINGS

_double_at = loader(types.float64)


class Drawing(NamedTuple):
    """What rectangles are drawn by."""

    threshold: int  # of the probability that an image has rectangles
    number: int  # rectangles of an image
    # float64: least share of the area, largest less least, the same of the logarithm of the ratio
    numbers: npt.NDArray[np.float64]


@device
def _exponential(t: Any) -> Any:
    """Return about ``exp(t)``: the power 2**SQUARINGS of a polynomial, by squaring."""
    x = t * _SCALE_DOWN
    power = 1.0 + x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0)))
    for _ in range(SQUARINGS):
        power *= power
    return power


@device
def _rounded(x: Any) -> Any:
    """Return the nearest integer of a number in [0, 2**51], halves to even, as a float."""
    return (x + _TO_INTEGER) - _TO_INTEGER


@functools.cache
@shielded
def drawer() -> Any:
    """Routine ``(made, numbers, threshold, count, height, width, seed, stream, index)``.

    It writes the rectangles of an image, whose first element has this index, to `made`. One that is
    not there has a height and a width of 0.
    """
    draw, below = draw32(), uniform_below()
    attempts = np.uint64(ATTEMPTS)

    def run(
        made: Any,
        numbers: Any,
        threshold: Any,
        count: Any,
        height: Any,
        width: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        clear_bytes(made, count * _BYTES)
        if draw(seed, stream, index, _ZERO) >= threshold:
            return
        pixels, least, more = (
            types.float64(height * width),
            _double_at(numbers, _ZERO),
            _double_at(numbers, _EIGHT),
        )
        least_ratio, more_ratio = _double_at(numbers, _SIXTEEN), _double_at(numbers, _LAST_WORD)
        tall, wide = types.float64(height), types.float64(width)
        for k in range(count):
            rectangle = advance(made, k * _BYTES)
            for attempt in range(attempts):
                key = contract.derive(seed, stream, k * attempts + attempt + _ONE)
                u = types.float64(draw(key[0], key[1], index, _ZERO)) * _UNIT
                v = types.float64(draw(key[0], key[1], index, _ONE)) * _UNIT
                side = math.sqrt(pixels * (least + more * u))
                factor = _exponential((least_ratio + more_ratio * v) * 0.5)
                h, w = side * factor, side / factor
                # Compared first: what is huge is no integer.
                if h < tall and w < wide:
                    h, w = _rounded(h), _rounded(w)
                    if h < tall and w < wide:
                        high, broad = types.uint64(h), types.uint64(w)
                        across = width - broad + _ONE
                        places = (height - high + _ONE) * across
                        place = below(key[0], key[1], index, _TWO, places)
                        store64(rectangle, _ZERO, place // across)
                        store64(rectangle, _EIGHT, place % across)
                        store64(rectangle, _SIXTEEN, high)
                        store64(rectangle, _LAST_WORD, broad)
                        break

    return routine("draw-rectangles", run, types.void(POINTER, POINTER, *[U64] * 7))


@functools.cache
@shielded
def _kernel() -> Kernel:
    """Kernel of `rectangles`. Words: threshold, rectangles of an image, height, width."""
    draw = drawer()

    def row(
        arrays: Any, words: Any, own: Any, r: Any, length: Any, seed: Any, stream: Any, index: Any
    ) -> None:
        threshold, count = word_at(words, _ZERO), word_at(words, _ONE)
        made, numbers = advance(array_at(arrays, _ZERO), r * count * _BYTES), array_at(arrays, _ONE)
        size = word_at(words, _TWO), word_at(words, _THREE)
        draw(made, numbers, threshold, count, size[0], size[1], seed, stream, index)

    return row_kernel("erasing-rectangles", row)


def prepare() -> None:
    """Compile what `rectangles` needs, or load it from the cache."""
    _kernel()


def rectangles(
    rows: Rows, seed: int, stream: int, drawing: Drawing, height: int, width: int
) -> npt.NDArray[np.uint64]:
    """Return the rectangles of images, of shape (images, count, 4): top, left, height and width.

    A rectangle that is not there has a height and a width of 0.

    Parameters
    ----------
    rows : Rows
        A row is an image.
    drawing : Drawing
        What they are drawn by.
    height, width : int
        Of the images, in pixels.
    """
    threshold, count, numbers = drawing
    assert 0 <= threshold <= ALWAYS
    made: npt.NDArray[np.uint64] = np.empty((rows.number, count, RECTANGLE), np.uint64)
    words = threshold, count, height, width
    cost = COST * count / max(rows.length, 1)
    run_rows(_kernel(), rows, (made, numbers), seed, stream, words, cost)
    return made
