"""Panels: rectangles of elements for arrays that jump through the mask, as in Fortran order.

Memory is contiguous along rows, the mask along columns. A *strip* is as many rows as a vector has
halves, by 8 columns: a block for each row. Four chains draw the blocks of every fourth row, so that
the 16-bit halves of four words, put side by side, are those of four rows in order: the transpose
takes shifts and masks and no shuffles.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .. import contract
from .bits import BLOCKS, HALVES, POINTER, ROUNDS, U64, Between, Law, Pair, settler
from .compiler import routine
from .intrinsics import advance, intrinsic, prefetch, scratch, wide_vectors
from .lanes import I16, I32, I64, Lanes, iota, load, select, store
from .loops import any_loop, put_vector, read_vector, sizes
from .operations import MARKS, Operation
from .shared import PAIR
from .span import FAR, NEAR, spread
from .storage import BITS
from .target import VECTOR_BYTES

_ROWS, _COLUMNS = np.uint64(HALVES), np.uint64(8)
_MARK_BYTES = np.uint64(2 * HALVES)  # of a column of a strip
# Where rows do not begin with a block, the 8 elements of a row lie in two, and the second is kept
# for the next 8 columns: 16 bytes a row, for that many rows.
_KEPT_ROWS = np.uint64(1024)
_ROW_BYTES = np.uint64(16)
_kept_scratch = scratch(int(_KEPT_ROWS * _ROW_BYTES))
_LINE = 64
# Bytes down each column that FAR asks for ahead: 1 Mi float32 at 0.64 of the rate of C order, not
# 0.55, and 16 Mi at 0.8. All from 320 to 1600 are alike, and so is asking for the second level.
_AHEAD_BYTES = 320
_ZERO, _SEVEN = np.uint64(0), np.uint64(7)


class _Strip:
    """The rows of a strip: where each one's bits are."""

    def __init__(self, law: Law, index: Any, row_step: Any) -> None:
        builder = law.builder
        first, step = Lanes(builder, index), Lanes(builder, row_step)
        rows = [iota(builder, I64, BLOCKS) * 4 + chain for chain in range(4)]
        indices = [first + row * step for row in rows]
        self.law, self._blocks = law, [index >> 3 for index in indices]
        self._lanes = [index & 7 for index in indices]

    def blocks(self, q: int, between: Between = lambda r: None) -> list[Pair]:
        """Return the bits of every row's q-th block, of all four chains."""
        counters = [contract.split(block + q) for block in self._blocks]
        return self.law.drawn(counters, between)

    def moved(self, blocks: list[Pair], following: list[Pair]) -> list[Pair]:
        """Return the 8 halves of every row that begin at its own place inside a block."""
        result = []
        for (w0, w1), (w2, w3), lane in zip(blocks, following, self._lanes, strict=True):
            far, shift = lane >= 4, (lane & 3) * 16
            words = [select(far, w1, w0), select(far, w2, w1), select(far, w3, w2)]
            # (b << 1) << (63 - shift) is b << (64 - shift), which may not be a shift by 64.
            low, high = (
                (a >> shift) | ((b << 1) << (shift ^ 63))
                for a, b in zip(words, words[1:], strict=False)
            )
            result.append((low, high))
        return result


def _columns(blocks: list[Pair]) -> list[Lanes]:
    """Return the 8 columns of a strip: halves in the order of the rows."""
    return [column for words in zip(*blocks, strict=True) for column in _transposed(*words)]


def _transposed(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> list[Lanes]:
    """Return the first halves of the words of four chains, the second, and so on."""

    def merged(a: Lanes, b: Lanes, element: Any, bits: int) -> tuple[Lanes, Lanes]:
        a, b = a.seen_as(element), b.seen_as(element)
        low = (1 << bits) - 1
        return (a & low) | (b << bits), (a >> bits) | (b & (low << bits))

    even, odd = zip(merged(a, b, I32, 16), merged(c, d, I32, 16), strict=True)
    first, third = merged(*even, I64, 32)
    second, fourth = merged(*odd, I64, 32)
    return [column.seen_as(I16) for column in (first, second, third, fourth)]


@intrinsic
def _keep_blocks(
    typingctx: Any, kept: Any, index: Any, row_step: Any, seed: Any, stream: Any, threshold: Any
) -> Any:
    """Write the bits of the blocks in which the rows of a strip begin."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kept, index, row_step, *key = args
        _put(_Strip(Law(builder, *key), index, row_step).blocks(0), kept)
        return context.get_dummy_value()

    return types.void(POINTER, *[U64] * 5), codegen


def _put(blocks: list[Pair], pointer: Any) -> None:
    for k, word in enumerate(word for pair in blocks for word in pair):
        store(word, pointer, k * VECTOR_BYTES)


def _got(builder: Any, pointer: Any) -> list[Pair]:
    words = [load(builder, pointer, k * VECTOR_BYTES, I64, BLOCKS) for k in range(8)]
    return list(zip(words[::2], words[1::2], strict=True))


def _strip(operation: Operation, aligned: bool, way: str) -> Any:
    """Intrinsic ``(x, x_column, y, y_column, index, row_step, ..., kept)``: one strip.

    Where rows begin inside blocks (not `aligned`), `kept` holds the bits of these blocks, and then
    of those that follow.
    """
    sides = operation.source, operation.target
    wanted = [
        (column, side, at)
        for column in range(8)
        for side, storage in enumerate(sides)
        for at in range(0, HALVES * storage.bits // 8 * (way == FAR), _LINE)
    ]
    # Columns may be whole pages apart, and then a load waits for the store that precedes it, which
    # goes to the same place of another page. So several are loaded before any of them is written,
    # as many as registers hold (256 x 256 float32 in place: 7% faster).
    most = max(storage.bits for storage in sides) * HALVES // 8
    at_once = max(1, min(8, 16 * VECTOR_BYTES // most))

    @intrinsic
    def strip(
        typingctx: Any,
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        x_ahead: Any,
        y_ahead: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        kept: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, x_column, y, y_column, *ahead, index, row_step, seed, stream, threshold = args[:-2]
            value, kept = args[-2:]
            key = seed, stream, threshold
            law = Law(builder, *key)
            rows = _Strip(law, index, row_step)
            parameters = operation.parameters(builder, value)
            each = [ir.Constant(I64, j) for j in range(8)]
            columns = [
                (
                    builder.gep(x, [builder.mul(column, x_column)]),
                    builder.gep(y, [builder.mul(column, y_column)]),
                )
                for column in each
            ]

            def between(r: int) -> None:
                for column, side, at in spread(wanted, ROUNDS - 1, r):
                    place = builder.gep(columns[column][side], [ahead[side]])
                    prefetch(builder, place, at, side == 1)

            if aligned:
                words = rows.blocks(0, between)
            else:
                following = rows.blocks(1, between)
                words = rows.moved(_got(builder, kept), following)
                _put(following, kept)
            runs = [(builder.add(index, column), row_step, HALVES) for column in each]
            halves = law.settled(_columns(words), runs)
            for begin in range(0, 8, at_once):
                some = slice(begin, begin + at_once)
                given = [read_vector(operation, builder, a, 0, HALVES) for a, _ in columns[some]]
                for vector, x, (_, y) in zip(halves[some], given, columns[some], strict=True):
                    kept_ones = vector >= law.bound
                    put_vector(operation, kept_ones, x, y, 0, HALVES, parameters)
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, *[U64] * 8, POINTER, POINTER), codegen

    return strip


@functools.cache
def _strip_of_marks() -> Any:
    """Routine ``(marks, index, row_step, seed, stream, threshold, kept)``."""
    settler()  # known by its symbol
    strip = _strip(MARKS, False, NEAR)

    def marked(
        marks: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        kept: Any,
    ) -> None:
        wide_vectors()
        strip(
            marks,
            _ZERO,
            marks,
            _MARK_BYTES,
            _ZERO,
            _ZERO,
            index,
            row_step,
            seed,
            stream,
            threshold,
            marks,
            kept,
        )

    return routine("marks-strip", marked, types.void(POINTER, *[U64] * 5, POINTER))


@functools.cache
def panel_loop(operation: Operation, way: str) -> Any:
    """Routine over two axes: index step 1 along columns, memory nearest along rows inside.

    Goes down 8 columns at a time: that many streams the hardware can follow, and 32 it cannot
    (1000 x 1003 float32: a fifth of the rate of C order, not four fifths).
    """
    settler()  # known by its symbol
    strip, strip_aligned = _strip(operation, False, way), _strip(operation, True, way)
    strip_of_marks, apply = _strip_of_marks(), any_loop(operation)
    in_size, out_size = sizes(operation)
    packed = operation.target is BITS
    ahead = np.uint64(_AHEAD_BYTES)

    def panel(
        x: Any,
        x_column: Any,
        x_row: Any,
        y: Any,
        y_column: Any,
        y_row: Any,
        columns: Any,
        rows: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
        marks: Any,
    ) -> None:
        wide_vectors()
        kept_blocks = _kept_scratch()
        whole = rows - rows % _ROWS
        if packed or x_row != in_size or y_row != out_size:
            whole = _ZERO
        aligned = (index | row_step | columns) & _SEVEN == _ZERO and whole == rows
        most = rows if aligned else _KEPT_ROWS
        for begin in range(_ZERO, rows, most):
            end = min(begin + most, rows)
            height = end - begin
            if not aligned:
                for row in range(begin, end, _ROWS):
                    kept = advance(kept_blocks, (row - begin) * _ROW_BYTES)
                    first = index + row * row_step
                    _keep_blocks(kept, first, row_step, seed, stream, threshold)
            for column in range(_ZERO, columns, _COLUMNS):
                width = min(_COLUMNS, columns - column)
                for row in range(begin, end, _ROWS):
                    i = index + row * row_step + column
                    a = advance(x, row * x_row + column * x_column)
                    b = advance(y, row * y_row + column * y_column)
                    # At the end of these columns, ask for the next.
                    x_ahead = y_ahead = ahead
                    if (row - begin) * x_row + ahead >= height * x_row:
                        x_ahead += _COLUMNS * x_column - height * x_row
                    if (row - begin) * y_row + ahead >= height * y_row:
                        y_ahead += _COLUMNS * y_column - height * y_row
                    if aligned:
                        strip_aligned(
                            a,
                            x_column,
                            b,
                            y_column,
                            x_ahead,
                            y_ahead,
                            i,
                            row_step,
                            seed,
                            stream,
                            threshold,
                            value,
                            marks,
                        )
                        continue
                    kept = advance(kept_blocks, (row - begin) * _ROW_BYTES)
                    if row < whole and width == _COLUMNS:
                        strip(
                            a,
                            x_column,
                            b,
                            y_column,
                            x_ahead,
                            y_ahead,
                            i,
                            row_step,
                            seed,
                            stream,
                            threshold,
                            value,
                            kept,
                        )
                        continue
                    count = min(_ROWS, rows - row)
                    strip_of_marks(marks, i, row_step, seed, stream, threshold, kept)
                    for j in range(width):
                        mark = advance(marks, j * _MARK_BYTES)
                        from_column, to_column = advance(a, j * x_column), advance(b, j * y_column)
                        apply(from_column, x_row, to_column, y_row, mark, count, value)

    return routine(f"{operation.name}-{way}-panel", panel, PAIR)
