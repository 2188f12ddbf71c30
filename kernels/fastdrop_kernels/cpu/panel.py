"""Panels: the halves of a rectangle of elements, for arrays that jump through the mask."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from .. import contract
from .bits import POINTER, U64, load64, settler, store16, store64
from .compiler import device, routine
from .intrinsics import advance, scratch, wide_vectors

_ZERO, _ONE = np.uint64(0), np.uint64(1)
_HALF_BYTES, _WORD_BYTES = np.uint64(2), np.uint64(8)
_HALF_BITS = np.uint64(16)
_LANES = np.uint64(4)  # halves in a 64-bit word
_LANES_LSB = np.uint64(0x0001000100010001)
_LANES_MSB = np.uint64(0x8000800080008000)

# A panel is PANEL_COLUMNS elements along the axis whose index step is 1, times PANEL_ROWS along
# another. Its halves are written column by column, PANEL_ROWS to each, as they will be used.
PANEL_ROWS = np.uint64(256)
PANEL_COLUMNS = np.uint64(64)
COLUMN_BYTES = np.uint64(2) * PANEL_ROWS
_TWO_COLUMNS, _THREE_COLUMNS = np.uint64(2) * COLUMN_BYTES, np.uint64(3) * COLUMN_BYTES
panel_scratch = scratch(int(PANEL_COLUMNS * COLUMN_BYTES))
_PLANE_BYTES = np.uint64(8) * PANEL_ROWS
_planes_scratch = scratch(18 * int(_PLANE_BYTES))


@device
def _maybe_tied(word: Any, pattern: Any, found: Any) -> Any:
    """Collect in `found` whether one of the four halves of a word ties.

    Some lane's top bit gets set if, and only if, a lane of ``word ^ pattern`` is zero. Which lane
    cannot be told (a borrow may mark lanes above it), but it costs three vector operations for 32
    elements (LLVM merges the last three into a ternary one), not a loop of its own.
    """
    lanes = word ^ pattern
    return found | ((lanes - _LANES_LSB) & ~lanes)


@functools.cache
def panel_drawer() -> Any:
    """Routine ``(halves, rows, columns, index, row_step, seed, stream, threshold)``.

    Writes the settled halves of the elements ``index + r * row_step + c``, column by column, and
    others without meaning to fill up the columns to a multiple of four.
    """
    settle = settler()

    def draw_panel(
        halves: Any,
        rows: Any,
        columns: Any,
        index: Any,
        row_step: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
    ) -> None:
        wide_vectors()
        # Planes: a word of four halves of every row, then the next word of every row, so that the
        # rows are the lanes of a vector.
        planes = _planes_scratch()
        k0, k1 = contract.split(seed)
        c2, c3 = contract.split(stream)
        # A row of 64 elements may begin inside a block and then touches 9; if all rows begin at the
        # same place of theirs, it is known which.
        slack = index & np.uint64(7) if row_step & np.uint64(7) == _ZERO else np.uint64(7)
        for q in range((columns + slack + np.uint64(7)) >> np.uint64(3)):
            for r in range(rows):
                c0, c1 = contract.split(((index + r * row_step) >> np.uint64(3)) + q)
                low, high = contract.philox4x32_10(c0, c1, c2, c3, k0, k1)
                at = np.uint64(2) * q * _PLANE_BYTES + _WORD_BYTES * r
                store64(planes, at, low)
                store64(planes, at + _PLANE_BYTES, high)
        pattern = (threshold >> _HALF_BITS) * _LANES_LSB
        found = _ZERO
        for g in range((columns + np.uint64(3)) >> np.uint64(2)):
            for r in range(rows):
                # Rows begin at any of the 8 places of a block: word g of a row begins with its
                # 4g-th element and is made of planes g, g + 1 and g + 2.
                place = (index + r * row_step) & np.uint64(7)
                at = g * _PLANE_BYTES + _WORD_BYTES * r
                word0 = load64(planes, at)
                word1 = load64(planes, at + _PLANE_BYTES)
                word2 = load64(planes, at + _PLANE_BYTES + _PLANE_BYTES)
                # Not ``word1 if place >= 4 else word0``: LLVM would select addresses and gather.
                upper = _ZERO - (place >> np.uint64(2))
                near = word0 ^ ((word0 ^ word1) & upper)
                far = word1 ^ ((word1 ^ word2) & upper)
                shift = (place & np.uint64(3)) * _HALF_BITS
                # (far << 1) << (63 - shift) is far << (64 - shift), which may not be a shift by 64.
                word = (near >> shift) | ((far << _ONE) << (np.uint64(63) - shift))
                found = _maybe_tied(word, pattern, found)
                at = g * (_LANES * COLUMN_BYTES) + _HALF_BYTES * r
                # Written out: as a loop it is vectorised itself, four lanes wide.
                store16(halves, at, types.uint16(word))
                store16(halves, at + COLUMN_BYTES, types.uint16(word >> np.uint64(16)))
                store16(halves, at + _TWO_COLUMNS, types.uint16(word >> np.uint64(32)))
                store16(halves, at + _THREE_COLUMNS, types.uint16(word >> np.uint64(48)))
        if found & _LANES_MSB:
            for c in range(columns):
                column = advance(halves, c * COLUMN_BYTES)
                settle(column, rows, index + c, row_step, seed, stream, threshold)

    return routine("draw-panel", draw_panel, types.void(POINTER, *[U64] * 7))
