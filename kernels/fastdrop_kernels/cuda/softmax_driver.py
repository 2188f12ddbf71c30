"""The driver of the softmax kernels: softmax and dropout of CuPy arrays of any layout.

The CuPy backend calls it; it has the same functions as `fastdrop_kernels.cpu.host.softmax`.
softmax.cuh explains a launch and the fields of its argument.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract import is_degenerate
from ..layout import Axis, c_strides, merged_axes
from . import driver
from .driver import Array
from .launch import ADDRESSES_AND_KEY, AXIS, CALL, LAYOUT, MAX_OPERANDS, Launch, packed_axis
from .modules import MAX_AXES, THREADS, Module
from .operations import FLOATS, Storage

# Threads of a row: at least a warp, and as many as give each thread at most this many groups. So
# many stay in registers: CHUNK of softmax.cuh.
_MIN_THREADS, _GROUPS_PER_THREAD = 32, 4


def _module(name: str, storage: Storage) -> Module:
    kernel = f"softmax_dropout_{name}"
    both = ((kernel, "false"), (f"{kernel}_backward", "true"))
    texts = ((one, f"FASTDROP_ROWS({one}, {storage.name}, {back})\n") for one, back in both)
    return Module(kernel, others=tuple(texts))


MODULES = {name: _module(name, storage) for name, storage in FLOATS.items()}


def softmax_dropout(
    x: Array,
    y: Array,
    axis: int,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    scale: npt.NDArray[Any],
    *,
    key_pointer: int | None = None,
) -> None:
    """Write softmax and dropout of x along an axis to y, which may be x.

    The other arguments are as in `driver.apply`.
    """
    key = seed, stream, key_pointer or 0
    _run("", (y, x), axis, index, index_strides, *key, threshold, scale)


def softmax_dropout_backward(
    x: Array,
    dy: Array,
    dx: Array,
    axis: int,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    scale: npt.NDArray[Any],
    *,
    key_pointer: int | None = None,
) -> None:
    """Write the gradient with respect to x to dx, which may be x or dy."""
    key = seed, stream, key_pointer or 0
    _run("_backward", (dx, x, dy), axis, index, index_strides, *key, threshold, scale)


def _run(
    direction: str,
    arrays: tuple[Array, ...],
    axis: int,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    key: int,
    threshold: int,
    scale: npt.NDArray[Any],
) -> None:
    shape = arrays[0].shape
    if 0 in shape:
        return
    launcher = driver.current()
    steps = c_strides(shape) if index_strides is None else index_strides
    degenerate = is_degenerate(threshold)
    addresses = [launcher.address(array) for array in arrays]
    unused = [0] * (MAX_OPERANDS + 1 - len(arrays))
    name = np.dtype(arrays[0].dtype).name
    kernel, grid, layout = _plan(
        name + direction,
        FLOATS[name],
        shape,
        tuple(tuple(array.strides) for array in arrays),
        (0,) * len(shape) if degenerate else tuple(steps),
        tuple(address % 16 for address in addresses),
        axis,
    )
    first = ADDRESSES_AND_KEY.pack(*addresses, *unused, seed, stream, key)
    if degenerate:
        threshold = 1 if threshold else 0  # uniforms are 0 in the kernel
    call = CALL.pack(index, scale.tobytes(), threshold, degenerate)
    launcher.launch(Launch(MODULES[name], kernel, grid, THREADS, first + call + layout))


@functools.lru_cache(maxsize=512)
def _plan(
    name: str,
    storage: Storage,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    index_strides: tuple[int, ...],
    phases: tuple[int, ...],
    axis: int,
) -> tuple[str, int, bytes]:
    """Plan a layout: kernel, grid, and the part of the argument that depends on the layout only."""
    size, arrays, n = storage.itemsize, range(len(phases)), shape[axis]
    rest = [a for a in range(len(shape)) if a != axis]
    output, *inputs = ([array[a] for a in rest] for array in strides)
    outer_shape = tuple(shape[a] for a in rest)
    merged = merged_axes(
        outer_shape, *map(tuple, inputs), tuple(output), tuple(index_strides[a] for a in rest)
    )
    axes = [(length, y, *xs, i) for length, *xs, y, i in merged]  # y first, as in Params
    steps = [array[axis] if n > 1 else size for array in strides]

    def divisible(by: int, array: int) -> bool:
        moves = (phases[array], *(each[1 + array] for each in axes))
        return not any(number % by for number in moves)

    aligned = [divisible(size, array) and steps[array] % size == 0 for array in arrays]
    width = [0 for _ in arrays]
    if steps[0] == size and aligned[0]:
        width = [_width(size, array, steps[array], axes, phases) for array in arrays]
    rows = math.prod(outer_shape)
    # Rows that do not begin where a group does have a part of one at each end.
    cut = width[0] != 0 and not divisible(16, 0)
    threads = _threads(n + cut * (storage.group - 1), storage)
    grid = -(-rows * threads // THREADS)
    unused = [0] * (MAX_OPERANDS + 1 - len(phases))
    shift = threads.bit_length() - 1
    row = AXIS.pack(threads, index_strides[axis], *[0] * (MAX_OPERANDS + 1), 0, shift)
    layout = LAYOUT.pack(
        rows, n, *steps, *unused, *aligned, *unused, *width, *unused, row, len(axes), 0
    )
    table = b"".join(map(packed_axis, reversed(axes)))
    table += bytes(AXIS.size * MAX_AXES - len(table))
    return f"softmax_dropout_{name}", grid, layout + table


def _threads(n: int, storage: Storage) -> int:
    threads, groups = _MIN_THREADS, -(-n // storage.group)
    while threads < THREADS and threads * _GROUPS_PER_THREAD < groups:
        threads *= 2
    return threads


def _width(size: int, array: int, step: int, axes: list[Axis], phases: tuple[int, ...]) -> int:
    """Return the width of an array's loads in bytes, for groups aligned in y; 0 if none."""
    if step != size:
        return 0
    offsets = [axis[1 + array] - axis[1] for axis in axes]
    return math.gcd(16, phases[array] - phases[0], *offsets)
