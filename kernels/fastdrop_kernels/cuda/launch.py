"""Plan launches: which kernels, with which grid, and the bytes of their argument. Pure Python.

The driver calls `launches` and `launch_plan`. The part of the argument that depends on the layout
only is planned once and cached as bytes; a call prepends addresses, key and parameters. groups.cuh
explains the schedules.
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
    CONTIGUOUS,
    IN_FLIGHT,
    MAX_AXES,
    RUNS,
    STRIDED,
    THREADS,
    TRANSPOSED,
    Module,
    kernel_name,
)
from .operations import Operation

MAX_OPERANDS = 3
MAX_BLOCKS = 2**31 - 1  # of a grid
INDEX32_BELOW = 2**31 - 2**20  # elements; 32-bit indices need some room to round up

WARP = 32
_BLOCK = 8
_UNUSED = [(0,) * (MAX_OPERANDS + 1 - used) for used in range(MAX_OPERANDS + 2)]

# `Params` of operations.cuh in three parts: addresses and key, call parameters, layout. And `Axis`.
ADDRESSES_AND_KEY = struct.Struct("<4Q 2Q Q")
CALL = struct.Struct("<Q 32s 2I")
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
    """A launch of a layout, without the part of the argument that differs between calls."""

    kernel: str
    grid: int
    shifts: tuple[int, ...]  # added to the addresses of y and the operands
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
    """Plan the launches of an operation on non-empty arrays; usually one.

    Parameters
    ----------
    operation : Operation
        The operation.
    addresses : list of int
        Of y, and then of the operands.
    shape : tuple of int
        Of all arrays.
    strides : tuple of tuple of int
        In bytes, in the order of `addresses`; in bits for a packed y.
    index : int
        Mask index of the first element.
    index_strides : tuple of int
        Mask index strides.
    seed, stream : int
        The key.
    threshold : int
        From 0 to ``2**32``.
    value : bytes
        The parameters of the operation, at most 32 bytes.
    key_pointer : int, optional
        Address of seed and stream in device memory, to be used instead of the arguments.
    """
    make_launches = launch_plan(operation, shape, strides, index, index_strides, threshold, value)
    return make_launches(seed, stream, key_pointer or 0, *addresses)


def launch_plan(
    operation: Operation,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    index: int,
    index_strides: tuple[int, ...],
    threshold: int,
    value: bytes = b"",
) -> Callable[..., list[Launch]]:
    """Return ``make_launches(seed, stream, key_pointer, *addresses)`` for arrays of one layout.

    `key_pointer` is 0 if the key is not in device memory.
    """
    common = not (operation.needs_uniform or operation.per_element)
    degenerate = common and is_degenerate(threshold)
    if degenerate:  # one decision for all elements, whatever their indices
        index_strides = (0,) * len(shape)
        threshold = 1 if threshold else 0  # uniforms are 0 in the kernel
    module, unused = operation.module, _UNUSED[len(strides)]
    cached: dict[tuple[int, ...], list[_Planned]] = {}  # by phases: at most 16 for each address

    def plan_for(phases: tuple[int, ...]) -> list[_Planned]:
        planned = cached[phases] = [
            (kernel, grid, shifts, CALL.pack(index + shift, value, threshold, degenerate) + layout)
            for kernel, grid, shifts, shift, layout in pieces(
                operation, shape, strides, index_strides, phases, index % _BLOCK
            )
        ]
        return planned

    def make_launches(seed: int, stream: int, key_pointer: int, *addresses: int) -> list[Launch]:
        phases = tuple([address % 16 for address in addresses])
        planned = cached.get(phases) or plan_for(phases)
        result, shifted = [], addresses
        for kernel, grid, shifts, rest in planned:
            if len(planned) > 1:
                shifted = tuple([(a + s) % 2**64 for a, s in zip(addresses, shifts, strict=True)])
            first = ADDRESSES_AND_KEY.pack(*shifted, *unused, seed, stream, key_pointer)
            result.append(_launch(Launch, (module, kernel, grid, THREADS, first + rest)))
        return result

    return make_launches


_Planned = tuple[str, int, tuple[int, ...], bytes]  # a piece, without addresses and key
_launch = tuple.__new__  # twice as fast as Launch(...)


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
    index_phase: int,
) -> tuple[Piece, ...]:
    """Plan the launches of a layout.

    `phases` are the addresses modulo 16, `index_phase` is the first mask index modulo 8.
    """
    output, *inputs = strides
    axes = merged_axes(shape, *inputs, output, index_strides)
    # y first, as in Params.
    ordered = [(n, y, *x, i) for n, *x, y, i in axes]
    return tuple(_split(operation, ordered, phases, index_phase, (0,) * len(strides), 0))


def _split(
    operation: Operation,
    axes: list[Axis],
    phases: tuple[int, ...],
    index_phase: int,
    shifts: tuple[int, ...],
    index_shift: int,
) -> Iterator[Piece]:
    """Split a layout in two until each part fits one launch."""
    phase = (index_phase + index_shift) % _BLOCK
    kernel, grid, layout = _plan(operation, axes, phases, phase)
    # Packed masks are in C order: only parts of the outermost axis can be whole bytes.
    packed = operation.storage.per_unit > 1
    at = 0 if packed else max(range(len(axes)), key=lambda a: axes[a][0], default=0)
    inner = math.prod(axis[0] for axis in axes[1:])
    unit = _BLOCK // math.gcd(_BLOCK, inner) if packed else 1
    if grid <= MAX_BLOCKS or axes[at][0] < 2 * unit:
        yield Piece(kernel, grid, shifts, index_shift, layout)
        return
    length, *steps, index_step = axes[at]
    middle = length // 2 // unit * unit
    for start, stop in ((0, middle), (middle, length)):
        part = [*axes[:at], (stop - start, *steps, index_step), *axes[at + 1 :]]
        moves = [start * step // operation.storage.per_unit for step in steps]
        yield from _split(
            operation,
            part,
            tuple((phase + move) % 16 for phase, move in zip(phases, moves, strict=True)),
            index_phase,
            tuple(shift + move for shift, move in zip(shifts, moves, strict=True)),
            index_shift + start * index_step,
        )


def _schedule(operation: Operation, axes: list[Axis]) -> str:
    length, step, *_, index_step = axes[-1]
    if operation.storage.per_unit > 1:  # y is contiguous, but rows may begin within a byte
        return CONTIGUOUS if len(axes) == 1 and index_step == 1 else ANY
    if len(axes) > AXES:
        return ANY
    if step == operation.storage.itemsize and index_step <= 1:
        return STRIDED if index_step else RUNS
    if index_step > 1 and any(axis[-1] == 1 for axis in axes):
        return TRANSPOSED
    return ANY


def _plan(
    operation: Operation, axes: list[Axis], phases: tuple[int, ...], index_phase: int
) -> tuple[str, int, bytes]:
    sizes = [storage.itemsize for storage in (operation.storage, *operation.operands)]
    per_unit = operation.storage.per_unit
    arrays = range(len(phases))
    axes = axes or [(1, *sizes, 0)]
    schedule = _schedule(operation, axes)
    elements = math.prod(axis[0] for axis in axes)
    unused = [0] * (MAX_OPERANDS + 1 - len(phases))

    def divisible(by: int, array: int) -> bool:
        steps = [] if per_unit > 1 else [axis[1 + array] for axis in axes]
        return not any(number % by for number in (phases[array], *steps))

    aligned = [divisible(sizes[array], array) for array in arrays]
    width = [0 for _ in arrays]
    row_groups, outer = 0, axes
    if schedule == ANY:
        length, step = elements, [0 for _ in arrays]
        groups = -(-elements // per_unit)
    else:
        inner = axes[-1] if schedule != TRANSPOSED else next(axis for axis in axes if axis[-1] == 1)
        outer = [axis for axis in axes if axis is not inner]
        length, step = inner[0], list(inner[1:-1])
        if schedule == TRANSPOSED:
            row_groups = (length + 2 * _BLOCK - 2) // _BLOCK
        else:
            width = [0, *(_width(operation, i, inner, outer, phases) for i in arrays[1:])]
            row_groups = _row_groups(operation, length, outer, phases[0], aligned[0])
            step[0] = sizes[0]
        groups = row_groups * math.prod(axis[0] for axis in outer)
        if schedule == STRIDED and not outer and aligned[0] and all(width[1:]):
            schedule = CONTIGUOUS
    index32 = elements < INDEX32_BELOW
    empty, per_block = 0, THREADS
    if schedule == CONTIGUOUS:
        empty, per_block = _contiguous_groups(operation, phases[0], index_phase)
    grid = -(-(groups + empty) // per_block)
    layout = LAYOUT.pack(
        groups,
        length,
        *step,
        *unused,
        *aligned,
        *unused,
        *width,
        *unused,
        packed_axis((row_groups, 0)),
        len(outer),
        0,
    )
    table = b"".join(map(packed_axis, reversed(outer)))
    table += bytes(AXIS.size * (MAX_AXES if schedule == ANY else AXES) - len(table))
    return kernel_name(operation.module, schedule, index32), grid, layout + table


def _contiguous_groups(operation: Operation, phase: int, index_phase: int) -> tuple[int, int]:
    """Return the empty groups in front of the first, and the groups of a CUDA block.

    They are those of `run_contiguous` in kernels.cuh.
    """
    group, module = operation.storage.group, operation.module
    rows = -(-IN_FLIGHT // module.divisor) * (1 if operation.operands else 2)
    per_warp = WARP * rows
    if operation.needs_uniform or operation.per_element:
        return 0, THREADS // WARP * per_warp
    skipped = 0 if operation.storage.per_unit > 1 else phase // operation.storage.itemsize
    begin = (index_phase - skipped) % _BLOCK
    if begin % min(group, _BLOCK):  # groups cut blocks
        per_warp -= max(_BLOCK // group, 2)
    return begin // group if group < _BLOCK else 0, THREADS // WARP * per_warp


def packed_axis(axis: Axis) -> bytes:
    """Return an axis as kernels read it: length, index stride, strides in memory, and divisor."""
    length, *steps, index_step = axis
    # For the division by the length, see `divide` in groups.cuh; exact below 2**31.
    shift = max(length - 1, 0).bit_length()
    magic = ((1 << 32) * ((1 << shift) - length) // length + 1) % 2**32 if length else 0
    return AXIS.pack(
        length, index_step, *steps, *[0] * (MAX_OPERANDS + 1 - len(steps)), magic, shift
    )


def _width(
    operation: Operation, array: int, inner: Axis, outer: list[Axis], phases: tuple[int, ...]
) -> int:
    """Return the width of an operand's loads in bytes, for groups aligned in y; 0 if none."""
    written, read = operation.storage, operation.operands[array - 1]
    if inner[1 + array] != read.itemsize:
        return 0
    # Offsets of the operand's elements relative to those of an operand aligned like y.
    offsets = [phases[array] - phases[0] // written.itemsize * read.itemsize]
    offsets += [axis[1 + array] - axis[1] // written.itemsize * read.itemsize for axis in outer]
    return math.gcd(16, written.group * read.itemsize, *offsets)


def _row_groups(
    operation: Operation, length: int, outer: list[Axis], phase: int, aligned: bool
) -> int:
    """Return the number of groups that a row may touch."""
    group, per_unit = operation.storage.group, operation.storage.per_unit
    if per_unit > 1:
        skipped = phase % 4 * per_unit
    elif not aligned:
        skipped = 0
    elif any(axis[1] % 16 for axis in outer):  # rows may begin at any element of a group
        skipped = group - 1
    else:
        skipped = phase // operation.storage.itemsize
    return -(-(skipped + length) // group)
