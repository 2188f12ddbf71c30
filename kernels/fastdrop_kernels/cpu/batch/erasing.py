"""Rectangles of images: where they are, for both backends, and filling them.

`fastdrop._batch.erasing` calls `rectangles`, whose result the driver for CuPy's arrays takes too,
and `erase`. The numbers of a rectangle are float64, each operation rounded once, so they are the
same on any processor.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from ... import contract
from ...contract import ALWAYS
from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    advance,
    clear_bytes,
    copy_bytes,
    intrinsic,
    loader,
    scratch,
    wide_vectors,
)
from ..codegen.vectors import BIT, DOUBLE, FLOAT, Lanes, load
from ..elements.operations import buffer_draw
from ..elements.sampler import DRAWS, GROUP, POINTER, U64, load64, store64
from ..elements.storage import FLOAT64, computed_in
from ..host.catalogue import FLOATS, operation_by_name
from ..loops.contiguous import CACHED, contiguous_loop
from ..loops.copy import gather
from ..loops.loop_nest import Kernel
from .draws import SECOND_DRAW, call_state, draw32, set_key, uniform_below
from .rows import Array, array_at, row_kernel, run_rows, word_at

ATTEMPTS = 10  # at a rectangle that fits, as in torchvision
SQUARINGS = 10  # of the exponential function
RECTANGLE = 4  # uint64: top, left, height and width
_BYTES = np.uint64(8 * RECTANGLE)
_COST = 150.0  # of a rectangle, in elements of dropout (Zen 5, November 2026)
_COPIED, _FILLED = 0.3, 0.1  # of an element: copied, or left alone but for the rectangles
_NOISE = 1.0
_TILE = 2048  # normal numbers that are drawn at once: 8 KiB, which stay in the L1 cache
_MOST = 1024  # of them, at most so many are converted at once
_ZERO, _ONE, _TWO, _THREE, _FOUR = (np.uint64(n) for n in range(5))
_EIGHT, _SIXTEEN, _LAST_WORD = (np.uint64(n) for n in (8, 16, 24))
_UNIT = 2.0**-32
_TO_INTEGER = 2.0**52  # added and subtracted, it rounds to an integer, halves to even
_SCALE_DOWN = 2.0**-SQUARINGS

_double_at = loader(types.float64)
# Words of `erase`: rows of pixels of a plane, elements of such a row, elements of a pixel,
# rectangles of an image, whether x is copied, bytes of the steps of the values along images,
# planes, rows, pixels and elements of a pixel, elements of an image.
_HEIGHT, _ROW, _PIXEL, _COUNT, _COPIES, _V_IMAGE, _V_PLANE, _V_ROW, _V_PIXEL, _V_ELEMENT = (
    np.uint64(k) for k in range(10)
)
_IMAGE = np.uint64(10)


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
def _rectangles_kernel() -> Kernel:
    """Kernel of `rectangles`. Words: threshold, rectangles of an image, height, width."""
    draw, below = draw32(), uniform_below()
    attempts = np.uint64(ATTEMPTS)

    def row(
        arrays: Any, words: Any, own: Any, r: Any, length: Any, seed: Any, stream: Any, index: Any
    ) -> None:
        count, height, width = word_at(words, _ONE), word_at(words, _TWO), word_at(words, _THREE)
        made = advance(array_at(arrays, _ZERO), r * count * _BYTES)
        numbers = array_at(arrays, _ONE)
        clear_bytes(made, count * _BYTES)
        if draw(seed, stream, index, _ZERO) >= word_at(words, _ZERO):
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

    return row_kernel("erasing-rectangles", row)


def rectangles(
    rows: Rows,
    seed: int,
    stream: int,
    threshold: int,
    count: int,
    height: int,
    width: int,
    numbers: npt.NDArray[np.float64],
) -> npt.NDArray[np.uint64]:
    """Return the rectangles of images, of shape (images, count, 4): top, left, height and width.

    A rectangle that is not there has a height and a width of 0.

    Parameters
    ----------
    rows : Rows
        A row is an image.
    threshold : int
        Of the probability that an image has rectangles.
    count : int
        Rectangles of an image.
    height, width : int
        Of the images, in pixels.
    numbers : ndarray of float64
        Least share of the area, and largest less least; the same of the logarithm of the ratio.
    """
    assert 0 <= threshold <= ALWAYS
    made: npt.NDArray[np.uint64] = np.empty((rows.number, count, RECTANGLE), np.uint64)
    words = threshold, count, height, width
    cost = _COST * count / max(rows.length, 1)
    run_rows(_rectangles_kernel(), rows, (made, numbers), seed, stream, words, cost)
    return made


def erase(
    y: Array,
    rows: Rows,
    seed: int,
    stream: int,
    x: Array,
    value: Array | None,
    made: Array,
    height: int,
    width: int,
    pixel: int,
    steps: tuple[int, ...],
) -> None:
    """Fill the rectangles of the images y, and copy the rest from x unless y is x.

    Parameters
    ----------
    y, x : ndarray
        Images in C order: planes of rows of pixels of `pixel` elements.
    value : ndarray or None
        What elements become. None: normal numbers of their draw 1.
    made : ndarray
        What `rectangles` returned.
    height, width : int
        Of the images, in pixels.
    steps : tuple of int
        Bytes between the values along images, planes, rows, pixels and elements of a pixel.
    """
    copies = x is not y
    kernel = _noise_kernel(y.dtype.name) if value is None else _fill_kernel(y.itemsize)
    words = [height, width * pixel, pixel, made.shape[1], int(copies), *steps, rows.length]
    cost = (_COPIED if copies else _FILLED) * y.itemsize / 4 + _NOISE * (value is None)
    arrays = y, x, made, made if value is None else value
    run_rows(kernel, rows, arrays, seed, stream, words, cost)


def prepare(dtype: np.dtype[Any] | None) -> None:
    """Compile all that images of a dtype need, or load it from the cache.

    Without a dtype: what `rectangles` needs, which draws for images on a GPU, too.
    """
    _rectangles_kernel()
    if dtype is not None:
        _fill_kernel(dtype.itemsize)
        if dtype.name in FLOATS:
            _noise_kernel(dtype.name)


def _images_kernel(name: str, size: int, fill: Any) -> Kernel:
    """Make a kernel of what fills a rectangle of a plane.

    ``fill(plane, top, left, h, w, value, words, seed, stream, index)``, with `value` the address of
    the first value of the plane, and `index` the mask index of its first element.
    """
    item = np.uint64(size)

    def row(
        arrays: Any, words: Any, own: Any, r: Any, length: Any, seed: Any, stream: Any, index: Any
    ) -> None:
        elements = word_at(words, _IMAGE)
        y = advance(array_at(arrays, _ZERO), r * elements * item)
        if word_at(words, _COPIES):
            copy_bytes(y, advance(array_at(arrays, _ONE), r * elements * item), elements * item)
        count, plane = word_at(words, _COUNT), word_at(words, _HEIGHT) * word_at(words, _ROW)
        value = advance(array_at(arrays, _THREE), r * word_at(words, _V_IMAGE))
        for k in range(count):
            rectangle = advance(array_at(arrays, _TWO), (r * count + k) * _BYTES)
            top, left = load64(rectangle, _ZERO), load64(rectangle, _EIGHT)
            h, w = load64(rectangle, _SIXTEEN), load64(rectangle, _LAST_WORD)
            if h and w:
                for c in range(elements // plane):
                    place, its = c * plane, advance(value, c * word_at(words, _V_PLANE))
                    to = advance(y, place * item)
                    fill(to, top, left, h, w, its, words, seed, stream, index + place)

    return row_kernel(name, row)


@functools.cache
@shielded
def _fill_kernel(size: int) -> Kernel:
    """Kernel of `erase` by values, for elements of a size."""
    collect, item = gather(size), np.uint64(size)

    @device
    def fill(
        plane: Any, top: Any, left: Any, h: Any, w: Any, value: Any, words: Any,
        seed: Any, stream: Any, index: Any,
    ) -> None:  # fmt: skip
        length, pixel = word_at(words, _ROW) * item, word_at(words, _PIXEL)
        by_row, by_pixel = word_at(words, _V_ROW), word_at(words, _V_PIXEL)
        by_element = word_at(words, _V_ELEMENT)
        first = advance(plane, top * length + left * pixel * item)
        of = advance(value, top * by_row + left * by_pixel)
        n = w * pixel
        even = pixel == _ONE or by_pixel == pixel * by_element
        step = by_pixel if pixel == _ONE else by_element
        for i in range(h):
            to, its = advance(first, i * length), advance(of, i * by_row)
            if i and not by_row:
                copy_bytes(to, first, n * item)
            elif even and step == item:
                copy_bytes(to, its, n * item)
            elif even:
                collect(to, its, step, n)
            else:
                for t in range(w):
                    there = advance(to, t * pixel * item)
                    collect(there, advance(its, t * by_pixel), by_element, pixel)

    return _images_kernel(f"erase-{size}", size, fill)


@functools.cache
@shielded
def _noise_kernel(name: str) -> Kernel:
    """Kernel of `erase` by normal numbers, for elements of a dtype."""
    size = FLOATS[name].itemsize
    draw = contiguous_loop(buffer_draw(operation_by_name("gaussian_add", name, size)), CACHED)
    convert, item = _converter(name), np.uint64(size)
    tile_memory, made_memory = scratch(4 * (_TILE + 2 * GROUP + DRAWS)), scratch(size * _MOST)
    tile_length, most, group = np.uint64(_TILE), np.uint64(_MOST), np.uint64(GROUP)

    @device
    def fill(
        plane: Any, top: Any, left: Any, h: Any, w: Any, value: Any, words: Any,
        seed: Any, stream: Any, index: Any,
    ) -> None:  # fmt: skip
        length, pixel = word_at(words, _ROW), word_at(words, _PIXEL)
        call, tile, made = call_state(), tile_memory(), made_memory()
        set_key(call, seed, stream)
        n, begin, end = w * pixel, _ZERO, _ZERO
        # Whole groups are drawn, and what lies between rows too if that is less than a group.
        together = length < n + group
        last = index + (top + h - _ONE) * length + left * pixel + n
        for i in range(h):
            first = (top + i) * length + left * pixel
            for done in range(_ZERO, n, most):
                m, at = min(most, n - done), index + first + done
                if at < begin or at + m > end:
                    begin, end = at - at % group, at + m
                    if together:
                        end = max(end, min(begin + tile_length, last))
                    end += (_ZERO - end) % group
                    draw(tile, tile, end - begin, begin + SECOND_DRAW, call)
                convert(advance(tile, (at - begin) * _FOUR), made, m)
                copy_bytes(advance(plane, (first + done) * item), made, m * item)

    return _images_kernel(f"erase-noise-{name}", size, fill)


def _converter(name: str) -> Any:
    """Routine ``(normals, y, n)``: convert float32 numbers to a dtype, in whole vectors."""
    kind, size = FLOATS[name], np.uint64(FLOATS[name].itemsize)

    @intrinsic
    def vector(typingctx: Any, normals: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            numbers = load(builder, args[0], 0, FLOAT, DRAWS)
            if computed_in(kind) is FLOAT64:
                numbers = numbers.convert(DOUBLE)
            every = Lanes(builder, ir.Constant(BIT, 1)).broadcast(DRAWS)
            kind.store(every, kind.arranged(numbers), 0, args[1], 0, None)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER), codegen

    def run(normals: Any, y: Any, n: Any) -> None:
        wide_vectors()
        for t in range(_ZERO, n, np.uint64(DRAWS)):
            vector(advance(normals, t * _FOUR), advance(y, t * size))

    return routine(f"normals-to-{name}", run, types.void(POINTER, POINTER, U64))
