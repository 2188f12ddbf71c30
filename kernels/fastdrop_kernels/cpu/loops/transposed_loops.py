"""Strips: the loops of a panel that treat one, or many down the same columns; see `panel`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import types

from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, intrinsic, wide_vectors
from ..codegen.vectors import I16, I32, Lanes, iota, load
from ..elements.operations import Operation
from ..elements.sampler import (
    HALVES,
    POINTER,
    ROUNDS,
    U64,
    Law,
    in_long_vectors,
    settler,
    uniforms_of,
)
from .apply import sizes
from .call_descriptor import State, loaded
from .contiguous import NEAR
from .transposed_tile import COLUMNS, Columns, Strip, columns_of, got_blocks, put_blocks

ROWS = np.uint64(HALVES)
ROW_BYTES = np.uint64(16)  # of a row's block, at each level
# Bytes down each column that FAR asks for ahead: 1 Mi float32 at 0.64 of the rate of C order, not
# 0.55, and 16 Mi at 0.8. All from 320 to 1600 are alike, and so is asking for the second level.
AHEAD_BYTES = 320
_ZERO = np.uint64(0)


def blocks_keeper(levels: int) -> Any:
    """Intrinsic ``(kept, index, row_step, call)``: the bits of the blocks in which rows begin."""

    @intrinsic
    def keep_blocks(typingctx: Any, kept: Any, index: Any, row_step: Any, call: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kept, index, row_step, call = args
            rows = Strip(law_of(builder, loaded(builder, call)), index, row_step)
            for level in range(levels):
                put_blocks(rows.blocks(0, level), kept, level)
            return context.get_dummy_value()

        return types.void(POINTER, U64, U64, POINTER), codegen

    return keep_blocks


def law_of(builder: Any, state: State) -> Law:
    """Return what decides, of a call state."""
    return Law(builder, state.seed, state.stream, state.threshold)


def levels_of(operation: Operation) -> int:
    """Return how many times 16 bits are drawn of every element: for decisions, or uniforms."""
    return 2 if operation.exact else 1


def strip_of(operation: Operation, aligned: bool, way: str, partial: bool = False) -> Any:
    """Intrinsic ``(x, x_column, y, y_column, ..., index, row_step, ..., kept, n)``: a strip.

    Where rows begin inside blocks (not `aligned`), `kept` holds the bits of these blocks, and then
    of those that follow. If it is `partial`, only its first n rows are touched.
    """
    levels = levels_of(operation)

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
        call: Any,
        kept: Any,
        n: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, x_column, y, y_column, *ahead, index, row_step, call, kept, n = args
            state = loaded(builder, call)
            law = law_of(builder, state)
            rows = Strip(law, index, row_step)
            columns = Columns(operation, way, builder, (x, x_column), (y, y_column))
            where = None
            if partial:
                where = iota(builder, I16, HALVES) < Lanes(builder, n).converted(I16)
            else:
                columns.stage()

            def between(r: int) -> None:
                columns.between(ahead, ROUNDS - 1, r)

            halves = []
            for level in range(levels):
                if aligned:
                    words = rows.blocks(0, level, between)
                else:
                    following = rows.blocks(1, level, between)
                    words = rows.moved(got_blocks(builder, kept, level), following)
                    put_blocks(following, kept, level)
                halves.append(columns_of(words))
            noise: Iterator[Lanes]
            if operation.exact:
                uniforms = [uniforms_of(*levels) for levels in zip(*halves, strict=True)]
                pairs = map(operation.noise, in_long_vectors(uniforms))  # of columns
                noise = (column for pair in pairs for column in pair.parted())
            else:
                runs = [(builder.add(index, j), row_step, HALVES) for j in columns.each]
                noise = (column >= law.bound for column in law.settled(halves[0], runs))
            columns.put(noise, operation.parameters(builder, state.value), where)
            return context.get_dummy_value()

        signature = types.void(POINTER, U64, POINTER, *[U64] * 5, POINTER, POINTER, U64)
        return signature, codegen

    return strip


@functools.cache
def noise_loop(drawn: Operation) -> Any:
    """Routine ``(noise, index, row_step, kept, call)``.

    It writes a strip's noise, column by column.
    """
    settler()  # known by its symbol
    strip: Any = strip_of(drawn, False, NEAR)
    column_bytes = ROWS * np.uint64(drawn.target.itemsize)

    def draw(
        noise: Any,
        index: Any,
        row_step: Any,
        kept: Any,
        call: Any,
    ) -> None:
        wide_vectors()
        strip(
            noise,
            _ZERO,
            noise,
            column_bytes,
            _ZERO,
            _ZERO,
            index,
            row_step,
            call,
            kept,
            ROWS,
        )

    return routine(f"{drawn.name}-strip", draw, types.void(POINTER, U64, U64, POINTER, POINTER))


@functools.cache
def strips_loop(operation: Operation, aligned: bool, way: str) -> Any:
    """Routine ``(x, x_column, y, y_column, x_next, y_next, ..., count)``: strips down 8 columns.

    ``x_next`` and ``y_next`` lead from the end of these columns to the beginning of the next.

    A routine of its own, because LLVM keeps too much in registers beside it in the panel's:
    1024 x 1024 float32 at 0.69 of the rate of C order, not 0.62 (before there were pillars).
    """
    strip = strip_of(operation, aligned, way)
    in_size, out_size = sizes(operation)
    ahead, x_bytes, y_bytes = np.uint64(AHEAD_BYTES), ROWS * in_size, ROWS * out_size
    kept_bytes = ROWS * ROW_BYTES

    def strips(
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        x_next: Any,
        y_next: Any,
        index: Any,
        row_step: Any,
        call: Any,
        kept: Any,
        count: Any,
    ) -> None:
        wide_vectors()
        for k in range(count):
            x_ahead = y_ahead = ahead
            if k * x_bytes + ahead >= count * x_bytes:
                x_ahead += x_next
            if k * y_bytes + ahead >= count * y_bytes:
                y_ahead += y_next
            strip(
                advance(x, k * x_bytes),
                x_column,
                advance(y, k * y_bytes),
                y_column,
                x_ahead,
                y_ahead,
                index + k * ROWS * row_step,
                row_step,
                call,
                advance(kept, k * kept_bytes),
                ROWS,
            )

    signature = types.void(POINTER, U64, POINTER, *[U64] * 5, POINTER, POINTER, U64)
    blocks = "blocks" if aligned else "anywhere"
    return routine(f"{operation.name}-{way}-strips-{blocks}", strips, signature)


@functools.cache
def part_loop(operation: Operation) -> Any:
    """Routine ``(x, x_column, y, y_column, ..., kept, n)``: the first n rows of a strip."""
    part = strip_of(operation, False, NEAR, partial=True)

    def partial(
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        index: Any,
        row_step: Any,
        call: Any,
        kept: Any,
        n: Any,
    ) -> None:
        wide_vectors()
        part(
            x,
            x_column,
            y,
            y_column,
            _ZERO,
            _ZERO,
            index,
            row_step,
            call,
            kept,
            n,
        )

    signature = types.void(POINTER, U64, POINTER, *[U64] * 3, POINTER, POINTER, U64)
    return routine(f"{operation.name}-strip-part", partial, signature)


def strip_putter(operation: Operation, way: str) -> Any:
    """Intrinsic ``(x, x_column, y, y_column, x_ahead, y_ahead, noise, value)``: one strip.

    Its noise is in memory, column by column, 32 bits each.
    """

    @intrinsic
    def put(
        typingctx: Any,
        x: Any,
        x_column: Any,
        y: Any,
        y_column: Any,
        x_ahead: Any,
        y_ahead: Any,
        noise: Any,
        value: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, x_column, y, y_column, *ahead, noise, value = args
            columns = Columns(operation, way, builder, (x, x_column), (y, y_column))
            columns.between(ahead, 1, 0)
            there = (load(builder, noise, 4 * HALVES * j, I32, HALVES) for j in range(COLUMNS))
            columns.put(there, operation.parameters(builder, value))
            return context.get_dummy_value()

        return types.void(POINTER, U64, POINTER, *[U64] * 3, POINTER, POINTER), codegen

    return put
