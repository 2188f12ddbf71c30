"""Intrinsics for micro-tiles: they draw the bits, and apply operations.

A micro-tile has as many rows as a vector has 16-bit lanes, and 8 columns. A row is contiguous in
the mask, like a Philox block, and a column in memory. `transposed` puts loops around these
intrinsics, which call `elements.sampler` and `apply`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ... import contract
from ..codegen.intrinsics import intrinsic, prefetch, scratch_in
from ..codegen.target import REGISTERS, VECTOR_BYTES
from ..codegen.vectors import BIT, I16, I32, I64, Lanes, iota, load, select, store
from ..elements.operations import Operation
from ..elements.sampler import (
    BLOCKS,
    DRAWS,
    POINTER,
    ROUNDS,
    U64,
    Between,
    Pair,
    Sampler,
    at_second_level,
    in_long_vectors,
    uniforms_of,
)
from .apply import LINE_BYTES, apply_vector, put_vector, read_vector
from .call_descriptor import State, loaded
from .contiguous import spread
from .loop_nest import AXIS_BYTES, INDEX, X, Y

COLUMNS = 8
# A segment is the part of a column that one step of the tile pipeline applies the operation to. It
# spans 8 micro-tiles, as many as these have columns: a step draws one and applies one segment.
SEGMENT = COLUMNS
_ROUNDS = ROUNDS - 1  # those with a gap for other instructions after them
_VECTORS = 4  # vectors of blocks in a micro-tile: 4 x BLOCKS rows are DRAWS rows
# Vectors of blocks that are drawn at once; each takes four registers.
_AT_ONCE = 4 if REGISTERS == 32 else 2
GAPS = _ROUNDS * (_VECTORS // _AT_ONCE)  # gaps between rounds while a micro-tile is drawn
KEPT_BYTES = DRAWS // 8  # of the keep bits of one column of a micro-tile
MASK_BYTES = COLUMNS * KEPT_BYTES  # of a micro-tile


class MicroTile:
    """The rows of a micro-tile, and their 16-bit draws."""

    def __init__(self, sampler: Sampler, index: Any, row_step: Any) -> None:
        builder = sampler.builder
        first, step = Lanes(builder, index), Lanes(builder, row_step)
        # Vector k has the rows k, k + 4, k + 8 and so on. So 64-bit lanes of the same number belong
        # to four consecutive rows, and transposing takes only shifts and masks.
        rows = [iota(builder, I64, BLOCKS) * _VECTORS + k for k in range(_VECTORS)]
        indices = [first + row * step for row in rows]
        self.sampler, self.index, self.row_step = sampler, index, row_step
        self._blocks = [index >> 3 for index in indices]
        self._lanes = [index & 7 for index in indices]

    def blocks(self, q: int, level: int = 0, between: Between = lambda r: None) -> list[Pair]:
        """Draw the q-th block of every row at a level; `between` as in `Sampler.drawn`."""
        counters = [contract.split(block + q) for block in self._blocks]
        if level:
            counters = [(c0, at_second_level(c1)) for c0, c1 in counters]
        words: list[Pair] = []
        for k in range(0, _VECTORS, _AT_ONCE):
            before = k // _AT_ONCE * _ROUNDS
            words += self.sampler.drawn(
                counters[k : k + _AT_ONCE], functools.partial(_later, between, before)
            )
        return words

    def columns(
        self, level: int, aligned: bool, carried: Any, between: Between = lambda r: None
    ) -> list[Lanes]:
        """Return the 16-bit draws of all elements at a level, column by column.

        If rows begin inside blocks (not `aligned`), memory at `carried` holds the draws of these
        blocks. They are replaced by those of the blocks that follow.
        """
        if aligned:
            words = self.blocks(0, level, between)
        else:
            following = self.blocks(1, level, between)
            words = self._moved(_load_blocks(self.sampler.builder, carried, level), following)
            store_blocks(following, carried, level)
        return [column for four in zip(*words, strict=True) for column in _transposed(*four)]

    def decided(self, aligned: bool, carried: Any, between: Between) -> Iterator[Lanes]:
        """Yield keep masks, column by column."""
        columns, builder = self.columns(0, aligned, carried, between), self.sampler.builder
        runs = [
            (builder.add(self.index, ir.Constant(I64, j)), self.row_step, DRAWS)
            for j in range(COLUMNS)
        ]
        return (column >= self.sampler.bound for column in self.sampler.resolved(columns, runs))

    def decisions(self, operation: Operation, carried: Any, between: Between) -> Iterator[Lanes]:
        """Yield keep masks, or what the operation makes of uniforms, column by column."""
        if not operation.needs_uniform:
            return self.decided(False, carried, between)
        levels = [self.columns(level, False, carried, between) for level in range(2)]
        uniforms = [uniforms_of(*both) for both in zip(*levels, strict=True)]
        pairs = map(operation.of_uniform, in_long_vectors(uniforms))  # of columns
        return (column for pair in pairs for column in pair.split())

    def _moved(self, blocks: list[Pair], following: list[Pair]) -> list[Pair]:
        """Return the draws of 8 elements of every row, from its first element in a block on."""
        result = []
        for (w0, w1), (w2, w3), lane in zip(blocks, following, self._lanes, strict=True):
            far, shift = lane >= 4, (lane & 3) * 16
            words = [select(far, w1, w0), select(far, w2, w1), select(far, w3, w2)]
            # (b << 1) << (63 - shift) is b << (64 - shift), but never shifts by 64.
            low, high = (
                (a >> shift) | ((b << 1) << (shift ^ 63))
                for a, b in zip(words, words[1:], strict=False)
            )
            result.append((low, high))
        return result


def _later(between: Between, before: int, r: int) -> None:
    between(before + r)


def _transposed(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> list[Lanes]:
    """Return the first 16-bit lanes of the 64-bit words of four vectors, the second, and so on."""

    def merged(a: Lanes, b: Lanes, element: Any, bits: int) -> tuple[Lanes, Lanes]:
        a, b = a.bitcast(element), b.bitcast(element)
        low, up, down = (1 << bits) - 1, b << bits, a >> bits
        if bits == 16:  # 1024 x 1024 float32 at 0.91 of C order, not 0.88 (Cascade Lake, 2026-11)
            up, down = up.arithmetic_fence(), down.arithmetic_fence()
        return (a & low) | up, down | (b & (low << bits))

    even, odd = zip(merged(a, b, I32, 16), merged(c, d, I32, 16), strict=True)
    first, third = merged(*even, I64, 32)
    second, fourth = merged(*odd, I64, 32)
    return [column.bitcast(I16) for column in (first, second, third, fourth)]


def store_blocks(blocks: list[Pair], pointer: Any, level: int) -> None:
    """Write the draws of blocks to memory, 16 bytes per row and level."""
    for k, word in enumerate(word for pair in blocks for word in pair):
        store(word, pointer, (8 * level + k) * VECTOR_BYTES)


def _load_blocks(builder: Any, pointer: Any, level: int) -> list[Pair]:
    words = [load(builder, pointer, (8 * level + k) * VECTOR_BYTES, I64, BLOCKS) for k in range(8)]
    return list(zip(words[::2], words[1::2], strict=True))


def _loaded(builder: Any, call: Any) -> tuple[State, Sampler]:
    """Load a call state, and declare its key and threshold invariant.

    No routine here changes them, but LLVM cannot know that elements are not written there. With the
    metadata, round keys are computed once per loop and not for every micro-tile. Loops of a few
    micro-tiles are slower with it: 64 x 4000 float32 0.48 of the rate of C order, not 0.70 (Zen 5,
    AVX-512, 2026-11).
    """
    state = loaded(builder, call)
    for word in (state.seed, state.stream, state.threshold):
        word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return state, Sampler(builder, state.seed, state.stream, state.threshold)


def _word(builder: Any, pointer: Any, offset: Any) -> Any:
    return load(builder, pointer, int(offset), I64, 0).value


def carry_blocks(levels: int) -> Any:
    """Intrinsic ``(carried, index, row_step, call)``: draw the blocks in which rows begin."""

    @intrinsic
    def carry(typingctx: Any, carried: Any, index: Any, row_step: Any, call: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            carried, index, row_step, call = args
            rows = MicroTile(_loaded(builder, call)[1], index, row_step)
            for level in range(levels):
                store_blocks(rows.blocks(0, level), carried, level)
            return context.get_dummy_value()

        return types.void(POINTER, U64, U64, POINTER), codegen

    return carry


def draw_decisions(drawn: Operation) -> Any:
    """Intrinsic ``(decision, index, row_step, carried, call)``: write decisions by columns."""
    column_bytes = DRAWS * drawn.target.bits // 8

    @intrinsic
    def draw(
        typingctx: Any, decision: Any, index: Any, row_step: Any, carried: Any, call: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            decision, index, row_step, carried, call = args
            rows = MicroTile(_loaded(builder, call)[1], index, row_step)
            for j, column in enumerate(rows.decisions(drawn, carried, lambda r: None)):
                place = builder.gep(decision, [ir.Constant(I64, j * column_bytes)])
                apply_vector(drawn, column, decision, place, 0, DRAWS, [])
            return context.get_dummy_value()

        return types.void(POINTER, U64, U64, POINTER, POINTER), codegen

    return draw


def micro_tile(operation: Operation, partial: bool) -> Any:
    """Intrinsic ``(x, y, axis, index, call, carried, n)``: draw a micro-tile and apply to it.

    `axis` points to the axis of columns, followed by that of rows. Columns are contiguous in
    memory. If `partial`, only the first n rows are read and written.
    """

    @intrinsic
    def treat(
        typingctx: Any,
        x: Any,
        y: Any,
        axis: Any,
        index: Any,
        call: Any,
        carried: Any,
        n: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, axis, index, call, carried, n = args
            state = loaded(builder, call)
            sampler = Sampler(builder, state.seed, state.stream, state.threshold)
            row_step = _word(builder, axis, AXIS_BYTES + np.uint64(8) * INDEX + np.uint64(8))
            places = _columns_at(builder, x, y, axis)
            where = None
            given, fetch = [place[0] for place in places], lambda r: None
            if partial:
                where = iota(builder, I16, DRAWS) < Lanes(builder, n).convert(I16)
            elif operation.source.copied:
                given, fetch = _staged(operation, builder, given)
            rows = MicroTile(sampler, index, row_step)
            decision = rows.decisions(operation, carried, fetch)
            parameters = operation.parameters(builder, state.value)
            _apply_columns(operation, builder, given, places, decision, parameters, where)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 3, U64, POINTER, POINTER, U64), codegen

    return treat


def apply_decisions(operation: Operation) -> Any:
    """Intrinsic ``(x, y, axis, decision, value)``: apply by 32-bit numbers in memory, by columns.

    256 x 256 `gaussian_noise` in Fortran order is at 0.91 of the rate of C order, and at 0.84 with
    a loop over each column (Zen 5, AVX-512, 2026-11).
    """

    @intrinsic
    def apply(typingctx: Any, x: Any, y: Any, axis: Any, decision: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, axis, decision, value = args
            places = _columns_at(builder, x, y, axis)
            there = (load(builder, decision, 4 * DRAWS * j, I32, DRAWS) for j in range(COLUMNS))
            parameters = operation.parameters(builder, value)
            given = [place[0] for place in places]
            _apply_columns(operation, builder, given, places, there, parameters)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 5), codegen

    return apply


def _columns_at(builder: Any, x: Any, y: Any, axis: Any) -> list[tuple[Any, Any]]:
    """Return where the columns of a micro-tile begin in x and y."""
    x_step, y_step = (_word(builder, axis, np.uint64(8) * side + np.uint64(8)) for side in (X, Y))
    columns = [ir.Constant(I64, j) for j in range(COLUMNS)]
    return [
        (builder.gep(x, [builder.mul(j, x_step)]), builder.gep(y, [builder.mul(j, y_step)]))
        for j in columns
    ]


def _apply_columns(
    operation: Operation,
    builder: Any,
    given: list[Any],
    places: list[tuple[Any, Any]],
    decision: Iterator[Lanes],
    parameters: list[Lanes],
    where: Lanes | None = None,
) -> None:
    """Apply an operation to the columns of a micro-tile, whose inputs are at `given`.

    If columns are whole pages apart, a load waits for the preceding store to the same offset in
    another page. So as many columns are loaded as registers hold before one is written (256 x 256
    float32 in place: 7% faster; Cascade Lake, 2026-11).
    """
    bits = max(operation.source.bits, operation.target.bits)
    some = max(1, min(COLUMNS, 16 * VECTOR_BYTES * 8 // (bits * DRAWS)))
    for first in range(0, COLUMNS, some):
        these = range(first, min(first + some, COLUMNS))
        read = [read_vector(operation, builder, given[j], 0, DRAWS, where) for j in these]
        for j, values in zip(these, read, strict=True):
            to = places[j][1]
            put_vector(operation, next(decision), values, to, 0, DRAWS, parameters, where)


def _staged(operation: Operation, builder: Any, columns: list[Any]) -> tuple[list[Any], Between]:
    """Return places on the stack for the input columns, and what copies these in the gaps.

    So the input is ready when the draws are, even if it comes from the L2 cache: columns that are
    whole pages apart compete for the same L1 sets. 1024 x 1024 float32 by micro-tiles is at 0.83 of
    the rate of C order, not 0.76, and in place at 1.00, not 0.94 (Cascade Lake, 2026-11).
    """
    size = DRAWS * operation.source.bits // 8
    vector = min(size, VECTOR_BYTES)
    memory = scratch_in(builder, COLUMNS * size)
    copies = [builder.gep(memory, [ir.Constant(I64, j * size)]) for j in range(COLUMNS)]
    vectors = [(j, at) for j in range(COLUMNS) for at in range(0, size, vector)]

    def fetch(r: int) -> None:
        for j, at in spread(vectors, GAPS, r):
            store(load(builder, columns[j], at, I64, vector // 8), copies[j], at, align=vector)

    return copies, fetch


def _apply_kept(operation: Operation, builder: Any, places: Any, k: int, parameters: Any) -> None:
    """Apply an operation to the k-th `DRAWS` elements of a segment, by their keep bits."""
    sizes = (
        DRAWS * operation.source.bits // 8,
        DRAWS * operation.target.bits // 8,
        MASK_BYTES,
    )
    x, y, mask = (
        builder.gep(place, [ir.Constant(I64, k * size)])
        for place, size in zip(places, sizes, strict=True)
    )
    bits = builder.load(builder.bitcast(mask, ir.IntType(DRAWS).as_pointer()), align=1)
    kept = Lanes(builder, builder.bitcast(bits, ir.VectorType(BIT, DRAWS)))
    apply_vector(operation, kept, x, y, 0, DRAWS, parameters)


def apply_segment(operation: Operation) -> Any:
    """Intrinsic ``(x, y, mask, value)``: apply an operation to a segment, by its keep bits."""

    @intrinsic
    def apply(typingctx: Any, x: Any, y: Any, mask: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            *places, value = args
            parameters = operation.parameters(builder, value)
            for k in range(SEGMENT):
                _apply_kept(operation, builder, places, k, parameters)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 4), codegen

    return apply


# Byte offsets in the record of the micro-tile that a step draws: addresses of its keep bits and its
# carried blocks, the mask index of its first element, and the index step from row to row.
DRAWN_MASK, DRAWN_CARRIED, DRAWN_INDEX, DRAWN_ROW_STEP = (np.uint64(8 * k) for k in range(4))


def pipeline_step(operation: Operation, aligned: bool) -> Any:
    """Intrinsic ``(x, y, mask, x_ahead, y_ahead, drawn, call)``: a step of the tile pipeline.

    It draws the micro-tile that `drawn` describes (see `DRAWN_MASK`). Between the Philox rounds it
    applies the operation to a segment of the previous tile, and prefetches the cache lines from
    `x_ahead` and `y_ahead` on.
    """
    lines = [
        (side, at)
        for side, storage in enumerate((operation.source, operation.target))
        for at in range(0, SEGMENT * DRAWS * storage.bits // 8, LINE_BYTES)
    ]

    @intrinsic
    def step(
        typingctx: Any,
        x: Any,
        y: Any,
        mask: Any,
        x_ahead: Any,
        y_ahead: Any,
        drawn: Any,
        call: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            places, ahead, (drawn, call) = args[:3], args[3:5], args[5:]
            state, sampler = _loaded(builder, call)
            draw_mask, carried = (
                builder.inttoptr(_word(builder, drawn, at), drawn.type)
                for at in (DRAWN_MASK, DRAWN_CARRIED)
            )
            index, row_step = (_word(builder, drawn, at) for at in (DRAWN_INDEX, DRAWN_ROW_STEP))
            rows = MicroTile(sampler, index, row_step)
            parameters = operation.parameters(builder, state.value)

            def between(r: int) -> None:
                for side, at in spread(lines, GAPS, r):
                    prefetch(builder, ahead[side], at, side == 1)
                for k in spread(range(SEGMENT), GAPS, r):
                    _apply_kept(operation, builder, places, k, parameters)

            for j, kept in enumerate(rows.decided(aligned, carried, between)):
                store(kept.as_integer(), draw_mask, j * KEPT_BYTES)
            return context.get_dummy_value()

        return types.void(*[POINTER] * 7), codegen

    return step
