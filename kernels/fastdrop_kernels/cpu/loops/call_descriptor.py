"""Shares: how threads divide a call among them, and what all of them are told about it.

Threads share an array by calling the same kernel with the same *cursor*, the slot of an array of
one uint64 that is 0 at first: each takes part after part from it, until none is left. So threads
come to Python, and wait for the GIL, once a call and not once a part: 16 parts of 64 Ki on two
threads took 312 us, 4 parts 274. Who is alone takes one part, `ALL`, and needs no cursor: 0.

What does not change from call to call is in a *record* of words: Numba takes 40 ns to
make a number of an argument, and Python as long to make the argument.
"""

from __future__ import annotations

import array
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..codegen.compiler import device
from ..codegen.intrinsics import pointer_in, scratch, take
from ..codegen.ndarray_layout import slot
from ..elements.sampler import load64, store64

ALL = 1 << 62  # a part that no array is larger than

_ALL, _ZERO, _EIGHT = np.uint64(ALL), np.uint64(0), np.uint64(8)
# What a kernel sets aside for a cursor of its own.
cursor_scratch = scratch(8)

WORDS = np.uint64(6)
# The words of a record.
_LENGTH, _INDEX, _THRESHOLD, _VALUE, _SPLIT, _AXES = (np.uint64(k) for k in range(6))


class Record(NamedTuple):
    """A record, and what it needs to stay alive."""

    at: int  # its address
    words: Any
    alive: tuple[Any, ...]


def record(
    length: int,
    index: int,
    threshold: int,
    value: npt.NDArray[Any],
    split: int = 0,
    axes: npt.NDArray[np.uint64] | None = None,
) -> Record:
    """Return a record of a call: of so many elements, or axes."""
    slots = slot(value), slot(value if axes is None else axes)
    # Python's array says where it is in 0.1 us; NumPy's in 1.5.
    words = array.array("Q", (length, index, threshold, slots[0], split, slots[1]))
    return Record(words.buffer_info()[0], words, (value, axes, slots))


def at_index(told: Record, index: int) -> Record:
    """Return a record that differs in the mask index of the first element."""
    words = told.words[:]
    words[int(_INDEX)] = index
    return Record(words.buffer_info()[0], words, told.alive)


@device
def copied(told: Any, target: Any, index: Any) -> None:
    """Copy a record, with another mask index of the first element."""
    for k in range(WORDS):
        store64(target, _EIGHT * k, load64(told, _EIGHT * k))
    store64(target, _EIGHT * _INDEX, index)


@device
def length_in(told: Any) -> Any:
    """Return how many elements there are, or axes."""
    return load64(told, _EIGHT * _LENGTH)


@device
def index_in(told: Any) -> Any:
    """Return the mask index of the first element."""
    return load64(told, _EIGHT * _INDEX)


@device
def threshold_in(told: Any) -> Any:
    """Return the threshold of all elements."""
    return load64(told, _EIGHT * _THRESHOLD)


@device
def value_in(told: Any) -> Any:
    """Return where the parameter is."""
    return pointer_in(load64(told, _EIGHT * _VALUE))


@device
def split_in(told: Any) -> Any:
    """Return the axis that is cut into parts."""
    return load64(told, _EIGHT * _SPLIT)


@device
def axes_in(told: Any) -> Any:
    """Return where the table of axes is."""
    return pointer_in(load64(told, _EIGHT * _AXES))


@device
def cursor_in(slot: Any, own: Any) -> Any:
    """Return the cursor of a slot, or one's own, made ready, where there is none."""
    store64(own, _ZERO, _ZERO)
    return pointer_in(slot) if slot else own


@device
def take_part(cursor: Any, part: Any) -> Any:
    """Take the next part from a cursor, and return where it begins."""
    if part != _ALL:
        return take(cursor, part)
    begin = load64(cursor, _ZERO)
    store64(cursor, _ZERO, begin + part)
    return begin
