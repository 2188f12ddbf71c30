"""Strips: as many rows of a panel as a vector has halves, by 8 columns; see `panel`.

Here is what is traced: how a strip's bits are drawn, and how its elements are treated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir

from ... import contract
from ..codegen.intrinsics import prefetch, scratch_in
from ..codegen.target import VECTOR_BYTES
from ..codegen.vectors import I16, I32, I64, Lanes, iota, load, select, store
from ..elements.operations import Operation
from ..elements.sampler import BLOCKS, HALVES, Between, Law, Pair, at_second_level
from .apply import put_vector, read_vector
from .contiguous import FAR, spread

COLUMNS = 8
_LINE = 64


class Strip:
    """The rows of a strip: where each one's bits are."""

    def __init__(self, law: Law, index: Any, row_step: Any) -> None:
        builder = law.builder
        first, step = Lanes(builder, index), Lanes(builder, row_step)
        rows = [iota(builder, I64, BLOCKS) * 4 + chain for chain in range(4)]
        indices = [first + row * step for row in rows]
        self.law, self._blocks = law, [index >> 3 for index in indices]
        self._lanes = [index & 7 for index in indices]

    def blocks(self, q: int, level: int = 0, between: Between = lambda r: None) -> list[Pair]:
        """Return the bits of every row's q-th block at a level, of all four chains."""
        counters = [contract.split(block + q) for block in self._blocks]
        if level:
            counters = [(c0, at_second_level(c1)) for c0, c1 in counters]
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


def columns_of(blocks: list[Pair]) -> list[Lanes]:
    """Return the 8 columns of a strip: halves in the order of the rows."""
    return [column for words in zip(*blocks, strict=True) for column in _transposed(*words)]


def _transposed(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> list[Lanes]:
    """Return the first halves of the words of four chains, the second, and so on."""

    def merged(a: Lanes, b: Lanes, element: Any, bits: int) -> tuple[Lanes, Lanes]:
        a, b = a.seen_as(element), b.seen_as(element)
        low, up, down = (1 << bits) - 1, b << bits, a >> bits
        if bits == 16:  # 1024 x 1024 float32 at 0.91 of the rate of C order, not 0.88
            up, down = up.fenced(), down.fenced()
        return (a & low) | up, down | (b & (low << bits))

    even, odd = zip(merged(a, b, I32, 16), merged(c, d, I32, 16), strict=True)
    first, third = merged(*even, I64, 32)
    second, fourth = merged(*odd, I64, 32)
    return [column.seen_as(I16) for column in (first, second, third, fourth)]


def put_blocks(blocks: list[Pair], pointer: Any, level: int) -> None:
    """Write what `Strip.blocks` returns at a level to memory, 16 bytes a row and level."""
    for k, word in enumerate(word for pair in blocks for word in pair):
        store(word, pointer, (8 * level + k) * VECTOR_BYTES)


def got_blocks(builder: Any, pointer: Any, level: int) -> list[Pair]:
    """Return what `put_blocks` wrote."""
    words = [load(builder, pointer, (8 * level + k) * VECTOR_BYTES, I64, BLOCKS) for k in range(8)]
    return list(zip(words[::2], words[1::2], strict=True))


class Columns:
    """The columns of a strip: where each one's elements are, and what is put to them."""

    def __init__(
        self, operation: Operation, way: str, builder: Any, x: tuple[Any, Any], y: tuple[Any, Any]
    ) -> None:
        self.operation, self.builder = operation, builder
        self.each = [ir.Constant(I64, j) for j in range(COLUMNS)]
        self._places = [
            tuple(builder.gep(side, [builder.mul(j, apart)]) for side, apart in (x, y))
            for j in self.each
        ]
        self._fetched: list[tuple[int, int]] = []  # columns, and bytes down each
        self._staged: list[Any] = []
        self._vector = 0
        self._sides = operation.source, operation.target
        self._lines = [
            (column, side, at)
            for column in range(COLUMNS)
            for side, storage in enumerate(self._sides)
            for at in range(0, HALVES * storage.bits // 8 * (way == FAR), _LINE)
        ]

    def stage(self) -> None:
        """Let `between` copy the input to the stack, where `put` then finds it.

        So it is there when the bits are, though its lines may have to come from the second level:
        columns that lie whole pages apart all want the same places of the first. 1024 x 1024
        float32 without pillars at 0.83 of the rate of C order, not 0.76, and in place at 1.00, not
        0.94. To fetch three strips ahead, so that input and output never want the same places:
        0.58.
        """
        if not self.operation.source.copied:
            return
        size = HALVES * self.operation.source.bits // 8
        memory = scratch_in(self.builder, COLUMNS * size)
        self._staged = [
            self.builder.gep(memory, [ir.Constant(I64, column * size)]) for column in range(COLUMNS)
        ]
        self._vector = min(size, VECTOR_BYTES)  # bytes
        self._fetched = [(j, at) for j in range(COLUMNS) for at in range(0, size, self._vector)]

    def between(self, ahead: list[Any], rounds: int, r: int) -> None:
        """Ask for lines, `ahead` bytes on, and fetch the input, so that all rounds do alike."""
        builder = self.builder
        for column, side, at in spread(self._lines, rounds, r):
            place = builder.gep(self._places[column][side], [ahead[side]])
            prefetch(builder, place, at, side == 1)
        for column, at in spread(self._fetched, rounds, r):
            vector = load(builder, self._places[column][0], at, I64, self._vector // 8)
            store(vector, self._staged[column], at, align=self._vector)

    def put(
        self, noise: Iterator[Lanes], parameters: list[Lanes], where: Lanes | None = None
    ) -> None:
        """Put the operation to all columns, whose noise comes one by one.

        Only rows are touched where `where` holds.
        """
        # Columns may be whole pages apart, and then a load waits for the store that precedes it,
        # which goes to the same place of another page. So several are loaded before any of them is
        # written, as many as registers hold (256 x 256 float32 in place: 7% faster).
        most = max(storage.bits for storage in self._sides) * HALVES // 8
        at_once = max(1, min(COLUMNS, 16 * VECTOR_BYTES // most))
        given = self._staged if self._fetched else [x for x, _ in self._places]
        for begin in range(0, COLUMNS, at_once):
            some = range(begin, min(begin + at_once, COLUMNS))
            read = [
                read_vector(self.operation, self.builder, given[j], 0, HALVES, where) for j in some
            ]
            for j, x in zip(some, read, strict=True):
                y = self._places[j][1]
                put_vector(self.operation, next(noise), x, y, 0, HALVES, parameters, where)
