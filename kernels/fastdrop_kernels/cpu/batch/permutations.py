"""A permutation of the rows of each column, by sorting their draws.

`swap` calls `permutations`. Draws are spread evenly, so their highest bits divide them into buckets
of about as many each. In a bucket each draw is compared with each, in vectors, which says where its
row comes; equal draws are compared by the next ones. Columns of more than a million rows are sorted
by digits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    advance,
    clear_bytes,
    intrinsic,
    loader,
    scratch,
    storer,
    wide_vectors,
)
from ..codegen.vectors import I16, I32, I64, Lanes, iota, load, select, store
from ..elements.sampler import POINTER, U64, load32, load64, store64
from ..loops.loop_nest import Kernel
from .draws import SECOND_DRAW, call_state, precedes, set_key, uniforms
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at

_TILE = 2048  # draws at once: 8 KiB, which stay in the L1 cache
_MOST_BITS = 11  # of a digit; their counts, and the lines that are being written, stay in the cache
_COST = 14.0  # relative to dropout (Zen 5, November 2026)
# Buckets have 16 to 32 entries on average. One of more than `_ROOM`, which comes once in a thousand
# columns, writes into the next one, and then the column is sorted otherwise. The distance between
# buckets is an odd number of cache lines: at 512 bytes, the lines that are being written would be
# in an eighth of the sets of a cache. 100,000 rows take 0.19 to 0.23 ms by buckets, and 0.34 by
# digits; with buckets of half the entries 0.29 (Zen 5, busy, November 2026).
_ROOM, _BUCKET_BYTES, _MOST_BUCKET_BITS = 64, 576, 15
_MEAN = 32  # at most, of a bucket
_RANKED, _UNROLLED = 32, 4  # entries that are ranked at once, and with which in a turn
_ZERO, _ONE, _TWO, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 4, 8))
_WORD_BITS, _WORD, _ALL = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(2**64 - 1)

store32 = storer(types.uint32)


def sort_memory(n: int) -> int:
    """Return how many words of memory a thread needs that sorts columns of n rows."""
    bits = _bucket_bits(n)
    if bits > _MOST_BUCKET_BITS:
        return 2 * n
    # If the last bucket had all entries, they would still lie in the memory.
    return max(2 * n, n + ((_BUCKET_BYTES // 8 + 1) << bits))


def _bucket_bits(n: int) -> int:
    return max(0, (-(-n // _MEAN) - 1).bit_length())


def permutations(
    y: Array, seed: int, stream: int, first: int = 0, ready: Sequence[Array] = ()
) -> RowsCall | None:
    """Write to each row of y, of uint32 and in C order, the order of its elements' draws.

    Draws are those from draw 1 on of the elements of y, whose indices begin at `first`. So row c is
    the permutation of column c of a table, of which y is the transpose, or of a later column.
    `ready` are arrays of `sort_memory` words that are there already, for the first threads.
    """
    columns, n = y.shape
    rows = Rows(columns, n, n, first, n)
    # With 64 times as many values as there are rows, few entries are out of place, and branches of
    # the insertion are seldom predicted wrong: 100,000 rows take 0.32 ms, and 0.65 with 4 times as
    # many (Zen 5, November 2026).
    bits = min(_MOST_BITS, (n.bit_length() + 1) // 2 + 3)
    bucket_bits = _bucket_bits(n)
    words = [bits, int(bucket_bits <= _MOST_BUCKET_BITS), bucket_bits]
    own = sort_memory(n), np.uint64
    return run_rows(_kernel(), rows, (y,), seed, stream, words, _COST, own, ready=ready)


def prepare_permutations() -> None:
    """Compile all that `permutations` needs, or load it from the cache."""
    _kernel()


@device
def count(counts: Any, k: Any) -> Any:
    """Add 1 to the k-th count, a uint32, and return what it was."""
    before = load32(counts, _FOUR * k)
    store32(counts, _FOUR * k, before + types.uint32(1))
    return np.uint64(before)


@device
def become_places(counts: Any, n: Any) -> None:
    """Replace counts by their sums before each: the places where what was counted begins."""
    total = types.uint32(0)
    for k in range(_ZERO, n):
        here = load32(counts, _FOUR * k)
        store32(counts, _FOUR * k, total)
        total += here


def _insertion() -> Any:
    """Return ``insert(entries, n, seed, stream, index)``: sort n entries that are almost in order.

    An entry is a draw, above the row's number. Equal draws are ordered by the next ones.
    """
    before = precedes()

    @device
    def insert(entries: Any, n: Any, seed: Any, stream: Any, index: Any) -> None:
        for k in range(_ONE, n):
            entry, place = load64(entries, _EIGHT * k), k
            while place:
                left = load64(entries, _EIGHT * (place - _ONE))
                if left >> _WORD_BITS < entry >> _WORD_BITS:
                    break
                if left >> _WORD_BITS == entry >> _WORD_BITS:
                    i, j = index + (entry & _WORD), index + (left & _WORD)
                    if not before(seed, stream, i, j, _TWO):
                        break
                store64(entries, _EIGHT * place, left)
                place -= _ONE
            store64(entries, _EIGHT * place, entry)

    return insert


# The signature of a sort of a column: (y, n, own, bits, seed, stream, index).
_SORT = types.void(POINTER, U64, POINTER, *[U64] * 4)


@functools.cache
@shielded
def _by_digits() -> Any:
    """Routine, see `_SORT`: a radix sort by two digits of so many bits, and insertion.

    Own memory: 16 bytes an element. Entries are scattered by the second digit to the one half of
    the memory, and by the first digit to the other.
    """
    draw, insert = uniforms(), _insertion()
    tile_memory, count_memory = scratch(4 * _TILE), scratch(8 << _MOST_BITS)
    tile = np.uint64(_TILE)

    def run(y: Any, n: Any, own: Any, bits: Any, seed: Any, stream: Any, index: Any) -> None:
        wide_vectors()
        call, drawn, first = call_state(), tile_memory(), count_memory()
        set_key(call, seed, stream)
        values = _ONE << bits
        second = advance(first, _FOUR * values)
        low, high, mask = _WORD_BITS - _TWO * bits, _WORD_BITS - bits, values - _ONE
        clear_bytes(first, _EIGHT * values)
        for k in range(_ZERO, n, tile):
            m = min(tile, n - k)
            draw(drawn, drawn, m, index + k + SECOND_DRAW, call)
            for t in range(_ZERO, m):
                u = np.uint64(load32(drawn, _FOUR * t))
                count(second, (u >> low) & mask)
                count(first, u >> high)
        become_places(first, values)
        become_places(second, values)
        made, other = own, advance(own, _EIGHT * n)
        for k in range(_ZERO, n, tile):
            m = min(tile, n - k)
            draw(drawn, drawn, m, index + k + SECOND_DRAW, call)
            for t in range(_ZERO, m):
                u = np.uint64(load32(drawn, _FOUR * t))
                place = count(second, (u >> low) & mask)
                store64(made, _EIGHT * place, (u << _WORD_BITS) | (k + t))
        for k in range(_ZERO, n):
            entry = load64(made, _EIGHT * k)
            place = count(first, entry >> (_WORD_BITS + high))
            store64(other, _EIGHT * place, entry)
        insert(other, n, seed, stream, index)
        for k in range(_ZERO, n):
            store32(y, _FOUR * k, types.uint32(load64(other, _EIGHT * k) & _WORD))

    return routine("permute-by-digits", run, _SORT)


@intrinsic
def _ranks(typingctx: Any, entries: Any, first: Any, turns: Any, ranks: Any) -> Any:
    """Write how many of the highest 16 bits are smaller than those of `_RANKED` entries.

    They are compared with those of `_UNROLLED` entries in each turn.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        entries, first, turns, ranks = args
        here = builder.gep(entries, [builder.shl(first, ir.Constant(I64, 3))])
        own = (load(builder, here, 0, I64, _RANKED) >> 48).convert(I16)
        nothing = Lanes(builder, ir.Constant(I16, 0)).broadcast(_RANKED)
        smaller = cgutils.alloca_once_value(builder, nothing.value)
        with cgutils.for_range(builder, turns) as loop:
            there = builder.mul(loop.index, ir.Constant(I64, 8 * _UNROLLED))
            others = builder.gep(entries, [there])
            found = Lanes(builder, builder.load(smaller))
            for k in range(_UNROLLED):
                other = load(builder, others, 8 * k + 6, I16, 0).broadcast(_RANKED)
                found = select(other < own, found + 1, found)
            builder.store(found.value, smaller)
        place = builder.gep(ranks, [builder.shl(first, ir.Constant(I64, 1))])
        store(Lanes(builder, builder.load(smaller)), place, 0)
        return context.get_dummy_value()

    return types.void(POINTER, U64, U64, POINTER), codegen


@intrinsic
def _order(typingctx: Any, entries: Any, n: Any, y: Any, keys: Any) -> Any:
    """Write the rows of up to `_RANKED` entries to y, in their order, and return the sum of ranks.

    That is of all lanes: of those that are no entries, the rank is n, if no entry has the largest
    16 bits. They are written to y as well, and there overwritten, as lanes are stored last to
    first. So nothing depends on n but one comparison: loops of n turns are predicted wrong.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        entries, n, y, keys = args
        number = Lanes(builder, n).convert(I16).broadcast(_RANKED)
        own = (load(builder, entries, 0, I64, _RANKED) >> 48).convert(I16)
        own = select(iota(builder, I16, _RANKED) < number, own, 0xFFFF)
        store(own, keys, 0)
        ranks = own.constant(0)
        for k in range(_RANKED):
            other = load(builder, keys, 2 * k, I16, 0).broadcast(_RANKED)
            ranks = select(other < own, ranks + 1, ranks)
        store(ranks, keys, 0)
        for k in reversed(range(_RANKED)):
            rank = load(builder, keys, 2 * k, I16, 0).convert(I64)
            row = load(builder, entries, 8 * k, I32, 0)
            store(row, builder.gep(y, [builder.shl(rank.value, ir.Constant(I64, 2))]), 0)
        ty = ranks.value.type
        fnty = ir.FunctionType(I16, [ty])
        name = f"llvm.vector.reduce.add.v{_RANKED}i16"
        reduce = cgutils.get_or_insert_function(builder.module, fnty, name)
        return builder.zext(builder.call(reduce, [ranks.value]), I64)

    return U64(POINTER, U64, POINTER, POINTER), codegen


@functools.cache
@shielded
def _by_buckets() -> Any:
    """Routine, see `_SORT`, with the bits of a bucket's number; it returns whether all had room.

    Own memory: where each bucket ends, the buckets, and 8 bytes an element behind them.
    """
    draw, insert = uniforms(), _insertion()
    tile_memory, ranks_memory = scratch(4 * _TILE), scratch(2 * _ROOM)
    load16 = loader(types.uint16)
    tile, bucket, ranked = np.uint64(_TILE), np.uint64(_BUCKET_BYTES), np.uint64(_RANKED)
    room, unrolled = np.uint64(_ROOM), np.uint64(_UNROLLED)

    def run(y: Any, n: Any, own: Any, bits: Any, seed: Any, stream: Any, index: Any) -> Any:
        wide_vectors()
        call, drawn, ranks = call_state(), tile_memory(), ranks_memory()
        set_key(call, seed, stream)
        buckets, high, low = _ONE << bits, _WORD_BITS - bits, _WORD_BITS + bits
        ends, own = own, advance(own, _EIGHT * buckets)
        for b in range(_ZERO, buckets):
            store32(ends, _FOUR * b, types.uint32(b * bucket))
        for k in range(_ZERO, n, tile):
            m = min(tile, n - k)
            draw(drawn, drawn, m, index + k + SECOND_DRAW, call)
            for t in range(_ZERO, m):
                u = np.uint64(load32(drawn, _FOUR * t))
                place = _FOUR * (u >> high)
                end = load32(ends, place)
                store64(own, np.uint64(end), (u << low) | (k + t))
                store32(ends, place, end + types.uint32(8))
        done = _ZERO
        for b in range(_ZERO, buckets):
            if np.uint64(load32(ends, _FOUR * b)) - b * bucket > _EIGHT * room:
                return _ZERO
        for b in range(_ZERO, buckets):
            entries = advance(own, b * bucket)
            m = (np.uint64(load32(ends, _FOUR * b)) - b * bucket) // _EIGHT
            if m <= ranked and done + ranked < n:
                total = _order(entries, m, y, ranks)
                if _TWO * (total - (ranked - m) * m) + m == m * m:
                    y = advance(y, _FOUR * m)
                    done += m
                    continue
            for k in range(_ZERO, unrolled):  # which are smaller than none
                store64(entries, _EIGHT * (m + k), _ALL)
            turns = (m + unrolled - _ONE) // unrolled
            for k in range(_ZERO, m, ranked):
                _ranks(entries, k, turns, ranks)
            total = _ZERO
            for k in range(_ZERO, m):
                rank = np.uint64(load16(ranks, _TWO * k))
                total += rank
                store32(y, _FOUR * rank, load32(entries, _EIGHT * k))
            if _TWO * total + m != m * m:  # two are equal, and so are their ranks
                insert(entries, m, seed, stream, index)
                for k in range(_ZERO, m):
                    store32(y, _FOUR * k, load32(entries, _EIGHT * k))
            y = advance(y, _FOUR * m)
            done += m
        return _ONE

    return routine("permute-by-buckets", run, types.uint64(*_SORT.args))


@functools.cache
@shielded
def _kernel() -> Kernel:
    """Kernel of `permutations`. Words: bits of a digit, whether there are buckets, their bits."""
    by_digits, by_buckets = _by_digits(), _by_buckets()

    def column(
        arrays: Any,
        words: Any,
        own: Any,
        r: Any,
        n: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        y = advance(array_at(arrays, _ZERO), _FOUR * r * n)
        if word_at(words, _ONE):
            if by_buckets(y, n, own, word_at(words, _TWO), seed, stream, index):
                return
        by_digits(y, n, own, word_at(words, _ZERO), seed, stream, index)

    return row_kernel("permutations", column)
