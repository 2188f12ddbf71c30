"""Rectangles of images that are filled, in a copy or in place.

`fastdrop._batch.erasing` calls `erase`, which draws the rectangles of each image by `rectangles`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    advance,
    copy_bytes,
    intrinsic,
    scratch,
    wide_vectors,
)
from ..codegen.vectors import BIT, DOUBLE, FLOAT, Lanes, load
from ..elements.operations import buffer_draw
from ..elements.sampler import DRAWS, GROUP, POINTER, U64, load64
from ..elements.storage import FLOAT64, computed_in
from ..host.catalogue import FLOATS, operation_by_name
from ..loops.contiguous import CACHED, contiguous_loop
from ..loops.copy import gather
from ..loops.loop_nest import Kernel
from .draws import SECOND_DRAW, call_state, set_key
from .rectangles import COST, RECTANGLE, RECTANGLE_BYTES, Drawing, drawer
from .rectangles import prepare as prepare_rectangles
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at

_BYTES = np.uint64(RECTANGLE_BYTES)
_COPIED, _FILLED = 0.3, 0.1  # of an element: copied, or left alone but for the rectangles
_NOISE = 1.0
_TILE = 2048  # normal numbers that are drawn at once: 8 KiB, which stay in the L1 cache
_MOST = 1024  # of them, at most so many are converted at once
_ZERO, _ONE, _TWO, _THREE, _FOUR = (np.uint64(n) for n in range(5))
_EIGHT, _SIXTEEN, _LAST_WORD = (np.uint64(n) for n in (8, 16, 24))

# Words of `erase`: rows of pixels of a plane, elements of such a row, elements of a pixel,
# rectangles of an image, whether x is copied, bytes of the steps of the values along images,
# planes, rows, pixels and elements of a pixel, elements of an image, and the threshold of the
# probability that it has rectangles.
_HEIGHT, _ROW, _PIXEL, _COUNT, _COPIES, _V_IMAGE, _V_PLANE, _V_ROW, _V_PIXEL, _V_ELEMENT = (
    np.uint64(k) for k in range(10)
)
_IMAGE, _THRESHOLD = np.uint64(10), np.uint64(11)


def erase(
    y: Array,
    rows: Rows,
    seed: int,
    stream: int,
    x: Array,
    value: Array | None,
    drawing: Drawing,
    height: int,
    width: int,
    pixel: int,
    steps: tuple[int, ...],
) -> RowsCall | None:
    """Fill rectangles of the images y, and copy the rest from x unless y is x.

    Parameters
    ----------
    y, x : ndarray
        Images in C order: planes of rows of pixels of `pixel` elements.
    value : ndarray or None
        What elements become. None: normal numbers of their draw 1.
    drawing : Drawing
        What rectangles are drawn by.
    height, width : int
        Of the images, in pixels.
    steps : tuple of int
        Bytes between the values along images, planes, rows, pixels and elements of a pixel.
    """
    copies = x is not y
    kernel = _noise_kernel(y.dtype.name) if value is None else _fill_kernel(y.itemsize)
    threshold, count, numbers = drawing
    words = [height, width * pixel, pixel, count, int(copies), *steps, rows.length, threshold]
    cost = (_COPIED if copies else _FILLED) * y.itemsize / 4 + _NOISE * (value is None)
    cost += COST * count / max(rows.length, 1)
    arrays = y, x, numbers, numbers if value is None else value
    own = RECTANGLE * count, np.uint64
    return run_rows(kernel, rows, arrays, seed, stream, words, cost, own)


def prepare(dtype: np.dtype[Any] | None) -> None:
    """Compile all that images of a dtype need, or load it from the cache.

    Without a dtype: what images on a GPU need.
    """
    if dtype is None:
        prepare_rectangles()
        return
    _fill_kernel(dtype.itemsize)
    if dtype.name in FLOATS:
        _noise_kernel(dtype.name)


def _images_kernel(name: str, size: int, fill: Any) -> Kernel:
    """Make a kernel of what fills a rectangle of a plane.

    ``fill(plane, top, left, h, w, value, words, seed, stream, index)``, with `value` the address of
    the first value of the plane, and `index` the mask index of its first element.
    """
    item, draw = np.uint64(size), drawer()

    def row(
        arrays: Any, words: Any, own: Any, r: Any, length: Any, seed: Any, stream: Any, index: Any
    ) -> None:
        count, height, row_length = (
            word_at(words, _COUNT),
            word_at(words, _HEIGHT),
            word_at(words, _ROW),
        )
        width, threshold = row_length // word_at(words, _PIXEL), word_at(words, _THRESHOLD)
        numbers = array_at(arrays, _TWO)
        draw(own, numbers, threshold, count, height, width, seed, stream, index)
        elements, plane = word_at(words, _IMAGE), height * row_length
        y = advance(array_at(arrays, _ZERO), r * elements * item)
        if word_at(words, _COPIES):
            copy_bytes(y, advance(array_at(arrays, _ONE), r * elements * item), elements * item)
        value = advance(array_at(arrays, _THREE), r * word_at(words, _V_IMAGE))
        for k in range(count):
            rectangle = advance(own, k * _BYTES)
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
