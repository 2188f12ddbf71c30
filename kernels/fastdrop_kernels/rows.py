"""Rows: arrays as rows of elements, each row with a key and a first mask index.

The functions on batches (`fastdrop._batch`) make `Rows` of their shapes, placements and keys, and
pass them to the backends, which process each row by itself.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import contract
from .layout import c_strides

TABLE_WORDS = 3  # of a row: seed, stream, index of the first element


class Rows(NamedTuple):
    """Rows of elements whose mask indices are consecutive."""

    number: int  # of rows
    length: int  # elements of a row
    last: int  # elements of the last row
    first: int  # mask index of the first element
    step: int  # from the index of a row to that of the next
    # Of shape (number, 3) and uint64, where rows have keys of their own, or no common step: seed,
    # stream and index. Without keys, seed and stream are 0 and those of the call count.
    table: Any = None
    has_keys: bool = False

    @property
    def elements(self) -> int:
        """Number of elements of all rows."""
        return (self.number - 1) * self.length + self.last if self.number else 0


def whole_rows(
    outer: tuple[int, ...],
    length: int,
    first: int = 0,
    index_strides: tuple[int, ...] | None = None,
    keys: npt.NDArray[np.uint64] | None = None,
) -> Rows:
    """Return the rows of an array of shape ``(*outer, length)``, in C order.

    Parameters
    ----------
    outer : tuple of int
        Lengths of the axes in front of the rows.
    length : int
        Elements of a row.
    first : int
        Mask index of the first element.
    index_strides : tuple of int, optional
        Mask index strides of the outer axes; None means those of C order.
    keys : ndarray of uint64, of shape (outer[0], 2), optional
        A key for each sample, along the first axis. Then a sample's indices begin at 0.
    """
    count = math.prod(outer)
    if keys is not None:
        per_key = math.prod(outer[1:])
        table: npt.NDArray[np.uint64] = np.empty((count, TABLE_WORDS), np.uint64)
        table[:, :2] = np.repeat(keys, per_key, axis=0)
        table[:, 2] = np.tile(np.arange(per_key, dtype=np.uint64), len(keys)) * np.uint64(length)
        return Rows(count, length, length, 0, 0, table, True)
    given = c_strides((*outer, length))[:-1] if index_strides is None else index_strides
    moving = [a for a, n in enumerate(outer) if n > 1]
    if not moving:
        return Rows(count, length, length, first, 0)
    step = given[moving[-1]]
    expected = step
    for a in reversed(moving):
        if given[a] != expected:
            break
        expected *= outer[a]
    else:
        return Rows(count, length, length, first, step)
    index: Any = np.full(outer, first, np.uint64)
    for a, stride in enumerate(given):
        along = np.arange(outer[a], dtype=np.uint64) * np.uint64(stride)
        index += along.reshape((-1,) + (1,) * (len(outer) - a - 1))
    table = np.zeros((count, TABLE_WORDS), np.uint64)
    table[:, 2] = index.ravel()
    return Rows(count, length, length, first, 0, table)


def pieces(elements: int, first: int, piece: int) -> Rows:
    """Return elements with consecutive indices, of one key, as rows that threads can share."""
    if elements <= piece:
        return Rows(int(elements > 0), elements, elements, first, 0)
    count = -(-elements // piece)
    return Rows(count, piece, elements - (count - 1) * piece, first, piece)


def folded(seed: int, stream: int, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the keys of `contract.fold_in` for each number, of shape (len(numbers), 2)."""
    words = contract.fold_in(np.uint64(seed), np.uint64(stream), numbers)
    return np.stack(np.broadcast_arrays(*words), axis=-1)


class BandGeometry(NamedTuple):
    """Where lines of samples lie in an array in C order; lengths and steps are in elements.

    Of two axes with bands, the first is the outer one, and the other the inner one. A line is all
    elements of a place on the axes in front of the inner one. The other axes there are channels, in
    three groups: in front of the samples' and the outer axis, between these, and behind them.
    """

    sample_step: int
    channel_steps_0: int
    channel_steps_1: int
    channel_steps_2: int
    channels_1: int
    channels_2: int
    outer_step: int
    channels: int  # of all groups
    outer: int
    line: int
    scale: int  # elements of a place on the inner axis
    time_is_inner: int


@functools.lru_cache(maxsize=256)
def band_geometry(
    shape: tuple[int, ...], time: int, frequency: int, sample: int | None
) -> BandGeometry | None:
    """Return the geometry of a shape; None if samples lie behind the inner axis."""
    outer, inner = sorted((time, frequency))
    if sample is not None and sample > inner:
        return None
    steps = c_strides(shape)
    low, high = sorted((outer, outer if sample is None else sample))
    groups = shape[:low], shape[low + 1 : high], shape[high + 1 : inner]
    counts = tuple(math.prod(group) for group in groups)
    # The step of a group is that of its last axis; without axes it is not used.
    places = low - 1, high - 1, inner - 1
    step_0, step_1, step_2 = (
        steps[place] if group else 0 for place, group in zip(places, groups, strict=True)
    )
    return BandGeometry(
        0 if sample is None else steps[sample],
        *(step_0, step_1, step_2),
        *(counts[1], counts[2]),
        steps[outer],
        math.prod(counts),
        shape[outer],
        math.prod(shape[inner:]),
        steps[inner],
        int(time > frequency),
    )


class Along(NamedTuple):
    """How rows along an axis of an array lie in runs of elements with consecutive mask indices.

    Along the last axis, a run has whole rows, one behind the other. Along another, it has the first
    elements of adjacent rows, and their next elements are `step` further in the mask.
    """

    n: int  # elements of a row
    rows: int  # of a run
    runs: int  # between an element of a row and the next one in memory: 1 for the last axis
    step: int  # in the mask, from an element of a row to the next
    is_last: bool


def divided(rows: Rows, parts: int, step: int, length: int) -> Rows:
    """Divide each row into parts whose mask indices are `step` apart, taken to have a length."""
    if parts == 1:
        return rows._replace(length=length, last=length)
    if rows.number == 1 and rows.table is None:
        return Rows(parts, length, length, rows.first, step)
    table: npt.NDArray[np.uint64] = np.zeros((rows.number, parts, TABLE_WORDS), np.uint64)
    if rows.table is None:
        numbers = np.arange(rows.number, dtype=np.uint64)
        table[..., 2] = (np.uint64(rows.first) + numbers * np.uint64(rows.step))[:, None]
    else:
        table[...] = rows.table[:, None]
    table[..., 2] += np.arange(parts, dtype=np.uint64) * np.uint64(step)
    return Rows(
        rows.number * parts, length, length, 0, 0, table.reshape(-1, TABLE_WORDS), rows.has_keys
    )
