"""Masking of tokens: inputs and labels of a masked-token model, in one pass.

`fastdrop._batch.tokens` calls `mask_tokens`. Tiles of decisions are drawn as bits; vectors then
move the tokens, and the few that become tokens of the vocabulary are drawn together.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ... import contract
from ...rows import Rows
from ...shielded import shielded
from ...tokens import BY_ID, BY_PLACE, FEW, Rule, Special
from ..codegen.compiler import device, routine
from ..codegen.intrinsics import (
    advance,
    copy_bytes,
    intrinsic,
    loader,
    scratch,
    storer,
    wide_vectors,
)
from ..codegen.vectors import BIT, I8, I16, I64, Lanes, load, store
from ..elements.sampler import POINTER, U64, load64, store64
from ..loops.loop_nest import Kernel
from .draws import uniform_below
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at
from .token_tiles import (
    BITS_BYTES,
    INTEGERS,
    TILE,
    WORD,
    decide,
    in_lane,
    move,
    tile_of,
    vectors,
)

_BATCH = 16  # tokens of the vocabulary that are drawn together, in four chains with AVX-512
_COST = 4.0  # relative to dropout, of 8 bytes (Zen 5, November 2026)
_UNSIGNED = {1: types.uint8, 2: types.uint16, 4: types.uint32, 8: types.uint64}
_FROM_DRAW = np.uint64(2)  # the first of the draws that give tokens of the vocabulary

_ZERO, _ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX, _EIGHT = (
    np.uint64(n) for n in (0, 1, 2, 3, 4, 5, 6, 8)
)
_SIXTY_THREE, _SIXTY_FOUR, _THIRTY_TWO = np.uint64(63), np.uint64(WORD), np.uint64(32)
# Words of a call: those of `Rule`, of which the thresholds are the first three, the bytes of a row
# of tokens, and those of `Special.words`.
(
    _MASK_ID,
    _IGNORED,
    _VOCABULARY,
    _ROW_BYTES,
    _HOW,
    _LEAST,
    _SPAN,
    _TABLE_MASK,
    _IS_EXACT,
    _NUMBER,
) = (np.uint64(k) for k in range(3, 13))
_BY_PLACE, _BY_ID, _FEW = np.uint64(BY_PLACE), np.uint64(BY_ID), np.uint64(FEW)


def mask_tokens(
    y: tuple[Array, Array],
    rows: Rows,
    seed: int,
    stream: int,
    ids: Array,
    rule: Rule,
    special: Special,
) -> RowsCall | None:
    """Write inputs and labels, ``y``, of tokens `ids`; all are in C order and of one dtype.

    The inputs may be the ids themselves.
    """
    inputs, labels = y
    nothing = np.zeros(1, np.uint64)
    read = [nothing if a is None else a for a in (special.marks, special.table, special.ids)]
    words = [*rule, rows.length * ids.itemsize, *special.words()]
    arrays = (ids, inputs, labels, *read)
    return run_rows(_kernel(ids.itemsize), rows, arrays, seed, stream, words, _COST)


def prepare(dtype: np.dtype[Any]) -> None:
    """Compile all that `mask_tokens` needs for a dtype, or load it from the cache."""
    _kernel(dtype.itemsize)


@functools.cache
@shielded
def _kernel(size: int) -> Kernel:
    """Kernel of `mask_tokens` for tokens of so many bytes."""
    draw, moved, replace = decide(), move(size), _replace(size)
    without_marks, without_ids, replaced_places = _without_marks(), _without_ids(size), _places()
    chosen_bits, masked_bits, replaced_bits = (scratch(BITS_BYTES) for _ in range(3))
    places_memory, end_memory = scratch(2 * (TILE + _BATCH)), scratch(3 * WORD * size)
    tile, item, end_bytes = np.uint64(tile_of(size)), np.uint64(size), np.uint64(WORD * size)

    def row(
        arrays: Any,
        words: Any,
        own: Any,
        r: Any,
        length: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        wide_vectors()
        chosen, masked, replaced = chosen_bits(), masked_bits(), replaced_bits()
        places, end = places_memory(), end_memory()
        begin, how = r * word_at(words, _ROW_BYTES), word_at(words, _HOW)
        ids = advance(array_at(arrays, _ZERO), begin)
        inputs = advance(array_at(arrays, _ONE), begin)
        labels = advance(array_at(arrays, _TWO), begin)
        marks = advance(array_at(arrays, _THREE), begin // item)
        table, special = array_at(arrays, _FOUR), array_at(arrays, _FIVE)
        mask_id, ignored = word_at(words, _MASK_ID), word_at(words, _IGNORED)
        done = _ZERO
        while done < length:
            at = index + done
            n = min(length - done, tile - at % tile)
            draw(chosen, masked, replaced, words, n, at, seed, stream)
            if how == _BY_PLACE:
                without_marks(chosen, marks, n)
            elif how == _BY_ID:
                without_ids(chosen, ids, n, words, table, special)
            found = replaced_places(chosen, masked, replaced, n, places)
            whole, rest = n // _SIXTY_FOUR, n % _SIXTY_FOUR
            moved(ids, inputs, labels, chosen, masked, whole, mask_id, ignored)
            if rest:
                behind, of_word = whole * end_bytes, whole * _EIGHT
                target, target_labels = advance(end, end_bytes), advance(end, _TWO * end_bytes)
                copy_bytes(end, advance(ids, behind), rest * item)
                last, last_masked = advance(chosen, of_word), advance(masked, of_word)
                moved(end, target, target_labels, last, last_masked, _ONE, mask_id, ignored)
                copy_bytes(advance(inputs, behind), target, rest * item)
                copy_bytes(advance(labels, behind), target_labels, rest * item)
            if found:
                replace(inputs, places, found, at, seed, stream, word_at(words, _VOCABULARY))
            ids, inputs = advance(ids, n * item), advance(inputs, n * item)
            labels, marks = advance(labels, n * item), advance(marks, n)
            done += n

    return row_kernel(f"mask-tokens-{size}", row)


@functools.cache
def _places() -> Any:
    """Routine ``(chosen, masked, replaced, n, places) -> found``: where tokens are replaced.

    It leaves in `masked` those that are chosen, of n tokens, and writes the places, of 16 bits, of
    those that are replaced and not masked.
    """
    write = storer(types.uint16)

    def run(chosen: Any, masked: Any, replaced: Any, n: Any, places: Any) -> Any:
        found = _ZERO
        for w in range(_ZERO, (n + _SIXTY_THREE) // _SIXTY_FOUR):
            c, m = load64(chosen, _EIGHT * w), load64(masked, _EIGHT * w)
            if n - _SIXTY_FOUR * w < _SIXTY_FOUR:
                c &= (_ONE << (n % _SIXTY_FOUR)) - _ONE
            store64(masked, _EIGHT * w, c & m)
            left = c & load64(replaced, _EIGHT * w) & ~m
            while left:
                write(places, _TWO * found, types.uint16(_SIXTY_FOUR * w + _lowest(left)))
                found += _ONE
                left &= left - _ONE
        return found

    return routine("tokens-places", run, U64(*[POINTER] * 3, U64, POINTER))


@intrinsic
def _lowest(typingctx: Any, word: Any) -> Any:
    """Return the number of the lowest bit that is set, of a word that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(BIT, 1))

    return U64(U64), codegen


@intrinsic
def _bytes_set(typingctx: Any, marks: Any) -> Any:
    """Return a bit for each of 64 bytes: whether it is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return (load(builder, args[0], 0, I8, WORD) >= 1).as_integer().value

    return U64(POINTER), codegen


@functools.cache
def _without_marks() -> Any:
    """Routine ``(bits, marks, n)``: clear the bits of n elements whose byte is not 0."""
    memory = scratch(WORD)

    def run(bits: Any, marks: Any, n: Any) -> None:
        wide_vectors()
        end = memory()
        for w in range(_ZERO, n // _SIXTY_FOUR):
            set_ = _bytes_set(advance(marks, _SIXTY_FOUR * w))
            store64(bits, _EIGHT * w, load64(bits, _EIGHT * w) & ~set_)
        rest, w = n % _SIXTY_FOUR, n // _SIXTY_FOUR
        if rest:
            copy_bytes(end, advance(marks, n - rest), rest)
            store64(bits, _EIGHT * w, load64(bits, _EIGHT * w) & ~_bytes_set(end))

    return routine("tokens-without-marks", run, types.void(POINTER, POINTER, U64))


def _bits_of(size: int, found: Any) -> Any:
    """Return the bits of 64 integers at a pointer: ``found(vector)``, traced, of each."""
    count, parts = vectors(size)

    def bits(builder: Any, ids: Any) -> Any:
        word = Lanes(builder, ir.Constant(I64, 0))
        for k in range(parts):
            vector = load(builder, ids, k * count * size, INTEGERS[size], count)
            part = found(vector).as_integer()
            word = word | ((part if count == WORD else part.convert(I64)) << k * count)
        return word.value

    return bits


def _in_range(size: int) -> Any:
    """Intrinsic ``(ids, least, span)``: bits of 64 ids, whether they are at most `span` above."""

    @intrinsic
    def in_range(typingctx: Any, ids: Any, least: Any, span: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            ids, *numbers = args
            least, span = (in_lane(builder, n, size).broadcast(vectors(size)[0]) for n in numbers)
            return _bits_of(size, lambda found: span >= found - least)(builder, ids)

        return U64(POINTER, U64, U64), codegen

    return in_range


def _other_than(size: int) -> Any:
    """Intrinsic ``(ids, least, special)``: bits of 64 ids, whether they are none of `FEW`.

    `special` are those, less `least`.
    """

    @intrinsic
    def other_than(typingctx: Any, ids: Any, least: Any, special: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            ids, least, special = args
            numbers = [
                builder.add(load(builder, special, 8 * k, I64, 0).value, least) for k in range(FEW)
            ]
            count, _ = vectors(size)
            several = [in_lane(builder, number, size).broadcast(count) for number in numbers]

            def found(vector: Lanes) -> Lanes:
                # With AVX-512 each but the first is one instruction, a comparison under a mask.
                others = ~vector.equals(several[0])
                for number in several[1:]:
                    others = others & ~vector.equals(number)
                return others

            return _bits_of(size, found)(builder, ids)

        return U64(POINTER, U64, POINTER), codegen

    return other_than


@functools.cache
def _without_ids(size: int) -> Any:
    """Routine ``(bits, ids, n, words, table, special)``: clear the bits of special ids.

    A few are compared with vectors. Of more, chosen tokens that lie in their range are looked up.
    """
    in_range, other_than = _in_range(size), _other_than(size)
    memory, item = scratch(WORD * size), np.uint64(size)
    load_id, mask = loader(_UNSIGNED[size]), np.uint64(2 ** (8 * size) - 1)

    def run(bits: Any, ids: Any, n: Any, words: Any, table: Any, special: Any) -> None:
        wide_vectors()
        end = memory()
        least, span = word_at(words, _LEAST), word_at(words, _SPAN)
        table_mask, exact = word_at(words, _TABLE_MASK), word_at(words, _IS_EXACT)
        number = word_at(words, _NUMBER)
        for w in range(_ZERO, (n + _SIXTY_THREE) // _SIXTY_FOUR):
            here = advance(ids, _SIXTY_FOUR * w * item)
            if n - _SIXTY_FOUR * w < _SIXTY_FOUR:
                copy_bytes(end, here, (n % _SIXTY_FOUR) * item)
                here = end
            chosen = load64(bits, _EIGHT * w)
            if number == _FEW:
                store64(bits, _EIGHT * w, chosen & other_than(here, least, special))
                continue
            left = chosen & in_range(here, least, span)
            while left:
                k = _lowest(left)
                offset = (np.uint64(load_id(here, k * item)) - least) & mask
                bit = offset & table_mask
                if load64(table, (bit >> _SIX) * _EIGHT) >> (bit & _SIXTY_THREE) & _ONE:
                    if exact or _is_among(special, number, offset):
                        chosen &= ~(_ONE << k)
                left &= left - _ONE
            store64(bits, _EIGHT * w, chosen)

    signature = types.void(POINTER, POINTER, U64, POINTER, POINTER, POINTER)
    return routine(f"tokens-without-ids-{size}", run, signature)


@device
def _is_among(numbers: Any, count: Any, number: Any) -> Any:
    """Say whether a number is among sorted ones, uint64."""
    low, high = _ZERO, count
    while low < high:
        middle = (low + high) // _TWO
        if load64(numbers, _EIGHT * middle) < number:
            low = middle + _ONE
        else:
            high = middle
    return low < count and load64(numbers, _EIGHT * low) == number


@intrinsic
def _products(
    typingctx: Any, places: Any, products: Any, index: Any, seed: Any, stream: Any, n: Any
) -> Any:
    """Write ``u * n`` of the elements at `_BATCH` places behind an index, u being their draw 2."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places, products, *numbers = args
        index, seed, stream, n = (Lanes(builder, a) for a in numbers)
        element = load(builder, places, 0, I16, _BATCH).convert(I64) + index
        store(contract.draw32(seed, stream, element, _FROM_DRAW) * n, products, 0)
        return context.get_dummy_value()

    return types.void(POINTER, POINTER, U64, U64, U64, U64), codegen


@functools.cache
def _replace(size: int) -> Any:
    """Routine ``(inputs, places, found, index, seed, stream, n)``: write uniform tokens below n.

    At `found` places, of 16 bits each, behind the token whose mask index is `index`.
    """
    below, memory = uniform_below(), scratch(8 * _BATCH)
    unsigned, item, batch = _UNSIGNED[size], np.uint64(size), np.uint64(_BATCH)
    write, load_place = storer(unsigned), loader(types.uint16)

    def run(
        inputs: Any, places: Any, found: Any, index: Any, seed: Any, stream: Any, n: Any
    ) -> None:
        wide_vectors()
        products = memory()
        word = np.uint64(0xFFFFFFFF)
        least = contract.rejected_below(n)
        for k in range(_ZERO, found, batch):
            _products(advance(places, _TWO * k), products, index, seed, stream, n)
            for j in range(_ZERO, min(batch, found - k)):
                place = np.uint64(load_place(places, _TWO * (k + j)))
                product = load64(products, _EIGHT * j)
                token = product >> _THIRTY_TWO
                if product & word < least:  # rarely
                    token = below(seed, stream, index + place, _FROM_DRAW, n)
                write(inputs, place * item, unsigned(token))

    return routine(f"tokens-replace-{size}", run, types.void(POINTER, POINTER, *[U64] * 5))
