"""Launches: which kernels, over which grids, with which bytes as their argument. Pure Python.

What depends on the layout alone is planned once and kept as bytes; a call puts addresses, key and
parameters in front. kernels.cuh says what the forms are.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..contract import is_degenerate
from ..layout import Axis, merged_axes
from .modules import (
    ADVANCE,
    ANY,
    AXES,
    FLAT,
    IN_FLIGHT,
    LINE,
    MOST_AXES,
    PANEL,
    RUNS,
    THREADS,
    Module,
    kernel_name,
)
from .operations import Operation

MAX_OPERANDS = 3
MAX_BLOCKS = 2**31 - 1  # of a grid
NARROW_BELOW = 2**31 - 2**20  # elements that are counted in 32 bits, with room to round up

_BLOCK = 8
_UNUSED = [(0,) * (MAX_OPERANDS + 1 - used) for used in range(MAX_OPERANDS + 2)]

# Params of operations.cuh: addresses and key, what else may change from call to call, and what does
# not; and one Axis.
KEYED = struct.Struct("<4Q 2Q Q")
LAW = struct.Struct("<Q 32s 2I")
LAYOUT = struct.Struct("<2Q 4q 4I 4I 56s 2I")
AXIS = struct.Struct("<2Q 4q 2I")


class Launch(NamedTuple):
    """One kernel launch."""

    module: Module
    kernel: str
    grid: int
    block: int
    argument: bytes  # the only argument, a struct by value


class Piece(NamedTuple):
    """A launch of a layout, without what changes from call to call."""

    kernel: str
    grid: int
    shifts: tuple[int, ...]  # to add to the addresses of y and the operands
    index_shift: int
    layout: bytes


def launches(
    operation: Operation,
    addresses: list[int],
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    index: int,
    index_strides: tuple[int, ...],
    seed: int,
    stream: int,
    threshold: int,
    value: bytes = b"",
    key_pointer: int | None = None,
) -> list[Launch]:
    """Plan the launches of an operation over arrays that are not empty; mostly there is one.

    Parameters
    ----------
    operation : Operation
        What to do.
    addresses : list of int
        Of y, and then of the operands.
    shape : tuple of int
        Of all of them.
    strides : tuple of tuple of int
        In bytes, in the order of `addresses`; in bits for y where the operation packs.
    index : int
        Mask index of the first element.
    index_strides : tuple of int
        Steps through the mask, in elements.
    seed, stream : int
        The key.
    threshold : int
        From 0 to ``2**32``.
    value : bytes
        The parameters of the operation, at most 32 bytes.
    key_pointer : int, optional
        Address of seed and stream in device memory, which are read there instead.
    """
    again = repeatable(operation, shape, strides, index, index_strides, threshold, value)
    return again(seed, stream, key_pointer or 0, *addresses)


def repeatable(
    operation: Operation,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    index: int,
    index_strides: tuple[int, ...],
    threshold: int,
    value: bytes = b"",
) -> Callable[..., list[Launch]]:
    """Return ``again(seed, stream, key_pointer, *addresses)``, which plans as `launches` does.

    Without a key in device memory, its address is 0.
    """
    common = not (operation.exact or operation.own)
    degenerate = common and is_degenerate(threshold)
    if degenerate:  # one decision for all, however they are indexed
        index_strides = (0,) * len(shape)
        threshold = 1 if threshold else 0  # all noise is 0
    module, unused = operation.module, _UNUSED[len(strides)]
    known: dict[tuple[int, ...], list[_Ready]] = {}  # by phases: at most 16 of each address

    def ready_for(phases: tuple[int, ...]) -> list[_Ready]:
        found = known[phases] = [
            (kernel, grid, shifts, LAW.pack(index + shift, value, threshold, degenerate) + layout)
            for kernel, grid, shifts, shift, layout in pieces(
                operation, shape, strides, index_strides, phases
            )
        ]
        return found

    def again(seed: int, stream: int, key_pointer: int, *addresses: int) -> list[Launch]:
        phases = tuple([address % 16 for address in addresses])
        ready = known.get(phases) or ready_for(phases)
        made, places = [], addresses
        for kernel, grid, shifts, rest in ready:
            if len(ready) > 1:
                places = tuple([(a + s) % 2**64 for a, s in zip(addresses, shifts, strict=True)])
            first = KEYED.pack(*places, *unused, seed, stream, key_pointer)
            made.append(_launch(Launch, (module, kernel, grid, THREADS, first + rest)))
        return made

    return again


_Ready = tuple[str, int, tuple[int, ...], bytes]  # a piece, with all but addresses and key
_launch = tuple.__new__  # half the time of the class's own


def advancing(key_pointer: int) -> Launch:
    """Plan the launch that adds 1 to the stream of a key in device memory, modulo ``2**64``."""
    return Launch(ADVANCE, "advance", 1, 1, struct.pack("<Q", key_pointer))


@functools.lru_cache(maxsize=1024)
def pieces(
    operation: Operation,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    index_strides: tuple[int, ...],
    phases: tuple[int, ...],
) -> tuple[Piece, ...]:
    """Plan a layout; `phases` are the addresses modulo 16."""
    output, *inputs = strides
    axes = merged_axes(shape, *inputs, output, index_strides)
    # From here on y comes first, as in Params.
    ordered = [(n, y, *x, i) for n, *x, y, i in axes]
    return tuple(_cut(operation, ordered, phases, (0,) * len(strides), 0))


def _cut(
    operation: Operation,
    axes: list[Axis],
    phases: tuple[int, ...],
    shifts: tuple[int, ...],
    index_shift: int,
) -> Iterator[Piece]:
    """Cut in two what is too much for a launch."""
    kernel, grid, layout = _planned(operation, axes, phases)
    # Bits are packed in C order, so that parts of the outermost axis alone are whole bytes.
    packed = operation.storage.together > 1
    at = 0 if packed else max(range(len(axes)), key=lambda a: axes[a][0], default=0)
    inside = math.prod(axis[0] for axis in axes[1:])
    unit = _BLOCK // math.gcd(_BLOCK, inside) if packed else 1
    if grid <= MAX_BLOCKS or axes[at][0] < 2 * unit:
        yield Piece(kernel, grid, shifts, index_shift, layout)
        return
    length, *steps, index_step = axes[at]
    middle = length // 2 // unit * unit
    for start, stop in ((0, middle), (middle, length)):
        part = [*axes[:at], (stop - start, *steps, index_step), *axes[at + 1 :]]
        moves = [start * step // operation.storage.together for step in steps]
        yield from _cut(
            operation,
            part,
            tuple((phase + move) % 16 for phase, move in zip(phases, moves, strict=True)),
            tuple(shift + move for shift, move in zip(shifts, moves, strict=True)),
            index_shift + start * index_step,
        )


def _form(operation: Operation, axes: list[Axis]) -> str:
    length, step, *_, index_step = axes[-1]
    if operation.storage.together > 1:  # y is contiguous, but rows may begin within a byte
        return FLAT if len(axes) == 1 and index_step == 1 else ANY
    if len(axes) > AXES:
        return ANY
    if step == operation.storage.itemsize and index_step <= 1:
        return LINE if index_step else RUNS
    if index_step > 1 and any(axis[-1] == 1 for axis in axes):
        return PANEL
    return ANY


def _planned(
    operation: Operation, axes: list[Axis], phases: tuple[int, ...]
) -> tuple[str, int, bytes]:
    sizes = [storage.itemsize for storage in (operation.storage, *operation.operands)]
    together = operation.storage.together
    arrays = range(len(phases))
    axes = axes or [(1, *sizes, 0)]
    form = _form(operation, axes)
    elements = math.prod(axis[0] for axis in axes)
    unused = [0] * (MAX_OPERANDS + 1 - len(phases))

    def divisible(by: int, array: int) -> bool:
        steps = [] if together > 1 else [axis[1 + array] for axis in axes]
        return not any(number % by for number in (phases[array], *steps))

    whole = [divisible(sizes[array], array) for array in arrays]
    width = [0 for _ in arrays]
    slots, around = 0, axes
    if form == ANY:
        length, step = elements, [0 for _ in arrays]
        groups = -(-elements // together)
    else:
        inner = axes[-1] if form != PANEL else next(axis for axis in axes if axis[-1] == 1)
        around = [axis for axis in axes if axis is not inner]
        length, step = inner[0], list(inner[1:-1])
        if form == PANEL:
            slots = (length + 2 * _BLOCK - 2) // _BLOCK
        else:
            width = [0, *(_width(operation, i, inner, around, phases) for i in arrays[1:])]
            slots = _slots(operation, length, around, phases[0], whole[0])
            step[0] = sizes[0]
        groups = slots * math.prod(axis[0] for axis in around)
        if form == LINE and not around and whole[0] and all(width[1:]):
            form = FLAT
    narrow = elements < NARROW_BELOW
    at_once = -(-IN_FLIGHT // operation.module.share) if form == FLAT else 1
    grid = -(-groups // (THREADS * at_once))
    layout = LAYOUT.pack(
        groups,
        length,
        *step,
        *unused,
        *whole,
        *unused,
        *width,
        *unused,
        packed_axis((slots, 0)),
        len(around),
        0,
    )
    table = b"".join(map(packed_axis, reversed(around)))
    table += bytes(AXIS.size * (MOST_AXES if form == ANY else AXES) - len(table))
    return kernel_name(operation.module, form, narrow), grid, layout + table


def packed_axis(axis: Axis) -> bytes:
    """Return an axis as kernels read it: length, steps through memory and index step."""
    length, *steps, index_step = axis
    # For the division by the length, see `divided` in kernels.cuh: right below 2**31.
    shift = max(length - 1, 0).bit_length()
    magic = ((1 << 32) * ((1 << shift) - length) // length + 1) % 2**32 if length else 0
    return AXIS.pack(
        length, index_step, *steps, *[0] * (MAX_OPERANDS + 1 - len(steps)), magic, shift
    )


def _width(
    operation: Operation, array: int, inner: Axis, around: list[Axis], phases: tuple[int, ...]
) -> int:
    """Return the bytes of an operand's group that can be loaded at once, where y's is aligned."""
    written, read = operation.storage, operation.operands[array - 1]
    if inner[1 + array] != read.itemsize:
        return 0
    # What lies between an element of the operand and where it would lie if both began together.
    places = [phases[array] - phases[0] // written.itemsize * read.itemsize]
    places += [axis[1 + array] - axis[1] // written.itemsize * read.itemsize for axis in around]
    return math.gcd(16, written.group * read.itemsize, *places)


def _slots(operation: Operation, length: int, around: list[Axis], phase: int, whole: bool) -> int:
    """Return the groups that a row may touch."""
    group, together = operation.storage.group, operation.storage.together
    if together > 1:
        behind = phase % 4 * together
    elif not whole:
        behind = 0
    elif any(axis[1] % 16 for axis in around):  # rows begin anywhere in a group
        behind = group - 1
    else:
        behind = phase // operation.storage.itemsize
    return -(-(behind + length) // group)
