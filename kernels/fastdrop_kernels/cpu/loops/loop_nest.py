"""Odometers: how a kernel walks over the axes of an array, of which threads share one.

`axes` is a table of rows, outermost first: a length, and the steps of what moves along the axis
(addresses, a mask index), all uint64 modulo 2**64. The innermost axes are treated at once, by
others; the places they begin at count on along the outer ones, as an odometer does.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ...layout import MAX_AXES
from ..codegen.compiler import device
from ..codegen.intrinsics import advance, copy_bytes, scratch
from ..elements.sampler import POINTER, U64, load64, store64
from .call_descriptor import take_chunk

_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)


@device
def length_of(axis: Any) -> Any:
    """Return the length of an axis."""
    return load64(axis, _ZERO)


@device
def step_of(axis: Any, column: Any) -> Any:
    """Return one of the steps of an axis."""
    return load64(axis, _EIGHT * column + _EIGHT)


# Columns of the table of axes of kernels over one array: the steps through thresholds, through x
# and y, and through the mask.
LAW, X, Y, INDEX = (np.uint64(c) for c in range(4))
AXIS_BYTES = np.uint64(8 * 5)  # of a row of that table
# Of inner loops: (x, y, axis, index, call) treats the axis, or two, whose rows of that table begin
# at `axis`, from the element that x, y and the mask index say; `call` is the call state.
INNER = types.void(POINTER, POINTER, POINTER, U64, POINTER)


class Odometer(NamedTuple):
    """What a kernel inlines. `at` is its memory, and begins with the places themselves."""

    memory: Any  # () -> at
    set_up: Any  # (at, table, n_axes, outer) -> axes, a copy, of which so many are counted on
    axis_at: Any  # (axes, a) -> axis
    # (at, begin, counter, chunk, table, split) -> start: go to the next part of the axis `split`.
    # Places are those of `begin`, and `start` steps further. Where the axis ends, none is left.
    next_part: Any
    count_on: Any  # (at, outer) -> finished: go to the next place of the part
    left: Any  # (at, a) -> how many places of an outer axis are not done


@functools.cache
def odometer(columns: int) -> Odometer:
    """Return what walks over a table of axes of so many steps each."""
    each, axis_bytes = np.uint64(columns), np.uint64(8 * (columns + 1))
    counters_place, axes_place = _EIGHT * each, _EIGHT * (each + np.uint64(MAX_AXES))

    @device
    def axis_at(axes: Any, a: Any) -> Any:
        return advance(axes, a * axis_bytes)

    @device
    def set_up(at: Any, table: Any, n_axes: Any, outer: Any) -> Any:
        counters, axes = advance(at, counters_place), advance(at, axes_place)
        copy_bytes(axes, table, n_axes * axis_bytes)
        for a in range(outer):
            store64(counters, a * _EIGHT, _ZERO)
        return axes

    @device
    def next_part(at: Any, begin: Any, counter: Any, chunk: Any, table: Any, split: Any) -> Any:
        whole, cut = axis_at(table, split), axis_at(advance(at, axes_place), split)
        start, length = take_chunk(counter, chunk), length_of(whole)
        if start < length:
            store64(cut, _ZERO, min(chunk, length - start))
            for c in range(each):
                store64(at, _EIGHT * c, load64(begin, _EIGHT * c) + start * step_of(cut, c))
        return start

    @device
    def count_on(at: Any, outer: Any) -> Any:
        counters, axes = advance(at, counters_place), advance(at, axes_place)
        a = outer
        finished = True
        while finished and a > _ZERO:
            a -= _ONE
            axis = axis_at(axes, a)
            moved, steps = load64(counters, a * _EIGHT) + _ONE, _ONE
            finished = moved == length_of(axis)
            if finished:
                moved, steps = _ZERO, _ONE - moved
            store64(counters, a * _EIGHT, moved)
            for c in range(each):
                store64(at, _EIGHT * c, load64(at, _EIGHT * c) + steps * step_of(axis, c))
        return finished

    @device
    def left(at: Any, a: Any) -> Any:
        axis = axis_at(advance(at, axes_place), a)
        return length_of(axis) - load64(advance(at, counters_place), a * _EIGHT)

    memory = scratch(int(axes_place + axis_bytes * np.uint64(MAX_AXES)))
    return Odometer(memory, set_up, axis_at, next_part, count_on, left)
