"""Pieces: arrays cut into parts that follow each other in C order, and what is done piece by piece.

A mask of a p of each element is packed so: the kernels that read a p write bytes, and a byte of
bits may have elements of two rows, of two p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...layout import c_strides
from ..elements.operations import Operation

Array: TypeAlias = npt.NDArray[Any]

_NOTHING = np.zeros((), np.uint8)  # a parameter, of which marks have none
_PIECE = 1 << 20  # elements whose marks wait for being packed, a byte each: enough for threads


def pieces(shape: tuple[int, ...], room: int) -> tuple[int, Callable[[int], tuple[slice, ...]]]:
    """Cut an array into pieces of at most `room` elements: how many, and where the n-th is.

    They follow each other in C order, and so do the elements of each.
    """
    lengths = []
    for length in reversed(shape):
        lengths.append(max(1, min(length, room)))
        room //= length
    lengths.reverse()
    counts = [-(-whole // part) for whole, part in zip(shape, lengths, strict=True)]

    def places(number: int) -> tuple[slice, ...]:
        at: tuple[Any, ...] = np.unravel_index(number, counts) if counts else ()
        starts = [int(k) * part for k, part in zip(at, lengths, strict=True)]
        return tuple(
            slice(start, min(start + part, whole))
            for start, part, whole in zip(starts, lengths, shape, strict=True)
        )

    return math.prod(counts), places


def pack_by_pieces(
    apply: Callable[..., None],
    marking: Operation,
    y: Array,
    shape: tuple[int, ...],
    p: Array,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
) -> None:
    """Write the mask of `shape`, 8 elements to a byte, by the p of each.

    `marking` is the operation that writes it as bytes.
    """
    steps = c_strides(shape) if index_strides is None else index_strides
    count, places = pieces(shape, _PIECE)
    marks = np.empty(min(_PIECE, math.prod(shape)) + 7, np.bool_)
    held = written = 0  # marks that wait, and bytes of y
    for number in range(count):
        place = places(number)
        at: tuple[Any, ...] = (..., *place)  # an array, of no axes too
        its = p[at]
        piece = marks[held : held + its.size].reshape(its.shape)
        first = index + sum(s.start * step for s, step in zip(place, steps, strict=True))
        apply(marking, piece, piece, first, steps, seed, stream, 0, _NOTHING, (its,))
        held += its.size
        full = held if number == count - 1 else held // 8 * 8
        bits = np.packbits(marks[:full], bitorder="little")
        y[written : written + bits.size] = bits
        marks[: held - full] = marks[full:held]
        held, written = held - full, written + bits.size
