"""The tiled schedule: input and output are contiguous along different axes, as for `x.T`.

The mask is contiguous along one of the two axes. The contiguous loop runs between a buffer in the
L1 cache and the array that is contiguous along the same axis as the mask. Between the buffer and
the other array, blocks are transposed in registers. `kernels` calls `tiled_loop`, which calls
`contiguous.contiguous_loop`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import address_of, advance, intrinsic, prefetch, scratch, wide_vectors
from ..codegen.target import REGISTERS, VECTOR_BYTES
from ..codegen.vectors import I8, I16, I32, I64, Lanes, load, store
from ..elements.operations import Operation
from ..elements.sampler import POINTER, U64
from .apply import LINE_BYTES
from .contiguous import CACHED, CACHED_BYTES, contiguous_loop
from .copy import gather, scatter
from .loop_nest import AXIS_BYTES, INDEX, INNER, X, Y, length_of, step_of

_INTEGERS = {1: I8, 2: I16, 4: I32, 8: I64}
_LANE_BYTES = 16  # part of a vector inside which shuffles are cheap
# Columns of a tile, a whole number of groups. Its rows are one cache line of every column, so that
# a cache line is read, or written, once: 16 KiB in all.
_WIDTH = np.uint64(256)
_BUFFER_BYTES = 256 * LINE_BYTES
# Up to this many columns, consecutive rows of a tile are computed as one, so that few draws are
# unused. 256 x 256 float64 out of a buffer: 0.70 of the rate of C order one by one, and 0.27 as
# one, because a tile is then transposed without other work in between (Zen 5, AVX2, 2026-11).
_JOINED = np.uint64(128)
_CACHED_BYTES = np.uint64(CACHED_BYTES)
_ZERO, _ONE, _LINE = (np.uint64(n) for n in (0, 1, LINE_BYTES))


def tiled_bytes(operation: Operation) -> int:
    """Return the bytes of an element of input and output, or 0 if the schedule does not apply."""
    size = operation.source.itemsize
    return size if size == operation.target.itemsize and size in _INTEGERS else 0


def block_lanes(itemsize: int) -> int:
    """Return the number of rows of a square block: they are vectors, and should fit registers."""
    return min(VECTOR_BYTES // itemsize, REGISTERS)


def transposed(rows: list[Lanes], itemsize: int) -> list[Lanes]:
    """Return the columns of a square block, given its rows.

    A step exchanges one bit of the row number with one bit of the lane number, by one shuffle per
    row: it interleaves vectors, or selects parts of 16 bytes.
    """
    count = len(rows)
    inside = min(_LANE_BYTES // itemsize, count)
    parts = count // inside

    def exchanged(distance: int, pair: Callable[[Lanes, Lanes], list[Lanes]]) -> list[Lanes]:
        result = list(rows)
        for k in range(count):
            if not k & distance:
                result[k], result[k + distance] = pair(rows[k], rows[k + distance])
        return result

    def interleaved(lanes: int) -> Callable[[Lanes, Lanes], list[Lanes]]:
        def order(second: int) -> list[int]:
            return [
                part + source * count + second * inside // 2 + k * lanes + lane
                for part in range(0, count, inside)
                for k in range(inside // 2 // lanes)
                for source in range(2)
                for lane in range(lanes)
            ]

        return lambda a, b: [a.shuffle(order(second), b) for second in range(2)]

    def chosen(a: Lanes, b: Lanes) -> list[Lanes]:
        return [
            a.shuffle(
                [
                    source * count + part * inside + lane
                    for source in range(2)
                    for part in range(second, parts, 2)
                    for lane in range(inside)
                ],
                b,
            )
            for second in range(2)
        ]

    distance = 1
    while distance < inside:
        rows = exchanged(distance, interleaved(distance))
        distance *= 2
    while distance < count:
        rows = exchanged(distance, chosen)
        distance *= 2
    # Inside 16 bytes, columns are now in bit-reversed order.
    bits = inside.bit_length() - 1
    reverse = [int(f"{k:0{bits}b}"[::-1], 2) if bits else 0 for k in range(inside)]
    return [rows[k - k % inside + reverse[k % inside]] for k in range(count)]


def _block(itemsize: int) -> Any:
    """Intrinsic ``(source, source_step, target, target_step)``: transpose a block."""
    count, element = block_lanes(itemsize), _INTEGERS[itemsize]

    @intrinsic
    def block(typingctx: Any, source: Any, source_step: Any, target: Any, target_step: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source, source_step, target, target_step = args
            rows = []
            for _ in range(count):
                rows.append(load(builder, source, 0, element, count))
                source = builder.gep(source, [source_step])
            for column in transposed(rows, itemsize):
                store(column, target, 0)
                target = builder.gep(target, [target_step])
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, U64), codegen

    return block


@intrinsic
def _prefetch_line(typingctx: Any, pointer: Any) -> Any:
    """Prefetch the cache line at a pointer, for reading, even if it is written next.

    Prefetching for writing is as fast, but lines that are only read stay clean this way.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch(builder, args[0], 0, False)
        return context.get_dummy_value()

    return types.void(POINTER), codegen


@functools.cache
def transpose_loop(itemsize: int) -> Any:
    """Routine ``(strided, step, buffer, width, first, end, gathers)``: transpose parts of a tile.

    A part has as many columns as a block; `first` and `end` number the parts. If `gathers`, they go
    from the array, whose columns are `step` bytes apart, to the buffer, whose rows have `width`
    elements; else back. If the last part is incomplete, it begins earlier, and repeats columns.
    """
    block, lanes, size = _block(itemsize), np.uint64(block_lanes(itemsize)), np.uint64(itemsize)
    block_bytes, blocks = lanes * size, _LINE // (lanes * size)

    def transpose(
        strided: Any, step: Any, buffer: Any, width: Any, first: Any, end: Any, gathers: Any
    ) -> None:
        wide_vectors()
        pitch = width * size
        for s in range(first, end):
            j = min(s * lanes, width - lanes)
            column, rows = advance(strided, j * step), advance(buffer, j * size)
            for _ in range(blocks):
                if gathers:
                    block(column, step, rows, pitch)
                else:
                    block(rows, pitch, column, step)
                column, rows = advance(column, block_bytes), advance(rows, lanes * pitch)

    signature = types.void(POINTER, U64, POINTER, *[U64] * 4)
    return routine(f"transpose-{itemsize}", transpose, signature)


@functools.cache
def tiled_loop(operation: Operation) -> Any:
    """Inner loop over columns (index step 1) and, inside, rows (any index step).

    Rows are contiguous in the output and columns in the input, or the reverse. While the rows of a
    tile are computed, another tile is transposed in parts: the next one if the input is transposed,
    the previous one if the output is. This gives prefetched cache lines time to arrive.
    """
    size = operation.target.itemsize
    run_contiguous, transpose = contiguous_loop(operation, CACHED), transpose_loop(size)
    load_row, store_column = gather(size), scatter(size, False)
    itemsize, line, lanes = (np.uint64(n) for n in (size, LINE_BYTES // size, block_lanes(size)))
    two_buffers = scratch(2 * _BUFFER_BYTES)

    @device
    def row_by_row(x: Any, y: Any, axis: Any, index: Any, call: Any, buffer: Any) -> None:
        inside = advance(axis, AXIS_BYTES)
        columns, x_column, y_column = length_of(axis), step_of(axis, X), step_of(axis, Y)
        for row in range(length_of(inside)):
            first = index + row * step_of(inside, INDEX)
            for c in range(_ZERO, columns, _WIDTH):
                n = min(_WIDTH, columns - c)
                a = advance(x, row * step_of(inside, X) + c * x_column)
                b = advance(y, row * step_of(inside, Y) + c * y_column)
                if y_column == itemsize:
                    load_row(buffer, a, x_column, n)
                    run_contiguous(buffer, b, n, first + c, call)
                else:
                    run_contiguous(a, buffer, n, first + c, call)
                    store_column(b, y_column, buffer, n)

    def tiled(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        wide_vectors()
        inside = advance(axis, AXIS_BYTES)
        columns, rows = length_of(axis), length_of(inside)
        x_row, y_row, row_step = step_of(inside, X), step_of(inside, Y), step_of(inside, INDEX)
        buffer = two_buffers()
        if columns < lanes or rows < line:  # a small chunk of one of several threads
            row_by_row(x, y, axis, index, call, buffer)
            return
        other = advance(buffer, np.uint64(_BUFFER_BYTES))
        gathers = step_of(axis, Y) == itemsize
        x_column, y_column = step_of(axis, X), step_of(axis, Y)
        strided, step, row_bytes = (x, x_column, y_row) if gathers else (y, y_column, x_row)
        # The second tile begins where cache lines begin, if that is the same row in all columns.
        head = line
        if rows > line and step % _LINE == _ZERO and address_of(strided) % _LINE:
            head = (_LINE - address_of(strided) % _LINE) // itemsize
        joined = columns <= _JOINED and row_step == columns and row_bytes == columns * itemsize
        prefetches = rows * columns * itemsize > _CACHED_BYTES
        last, end = rows - line, _ZERO
        while end < columns:
            # The last tile begins earlier if it has fewer columns than a block, and if the rows end
            # before it does: some elements are computed twice.
            c = min(end, columns - lanes)
            width = min(_WIDTH, columns - c)
            end, count = c + width, (width + lanes - _ONE) // lanes
            top = advance(strided, c * step)
            if gathers:
                transpose(top, step, other, width, _ZERO, count, gathers)
            row, before = _ZERO, _ZERO
            while row < rows:
                at = min(row, last)
                a = advance(x, at * x_row + c * x_column)
                b = advance(y, at * y_row + c * y_column)
                first = index + at * row_step + c
                row += line if row else head
                buffer, other = other, buffer
                due = count
                if gathers:
                    before = min(row, last)
                    due = count if row < rows else _ZERO
                elif not at:
                    due = _ZERO
                tile_columns = advance(top, before * itemsize)
                for k in range(line):
                    rows_there = advance(buffer, k * width * itemsize)
                    of = rows_there if gathers else advance(a, k * x_row)
                    to = advance(b, k * y_row) if gathers else rows_there
                    done, upto = due * k // line, due * (k + _ONE) // line
                    if prefetches:
                        ahead = advance(to if gathers else of, row_bytes)
                        for t in range(_ZERO, width * itemsize, _LINE):
                            _prefetch_line(advance(ahead, t))
                        for j in range(done * lanes, upto * lanes):
                            _prefetch_line(advance(tile_columns, j * step))
                    if not joined:
                        run_contiguous(of, to, width, first + k * row_step, call)
                    elif not k:
                        run_contiguous(of, to, width * line, first, call)
                    transpose(tile_columns, step, other, width, done, upto, gathers)
                before = at
            if not gathers:
                transpose(
                    advance(top, before * itemsize), step, buffer, width, _ZERO, count, gathers
                )

    return routine(f"{operation.name}-tiled", tiled, INNER)
