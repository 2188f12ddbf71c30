"""The driver of the kernels over rows: softmax and dropout of CuPy arrays, of any layout.

It mirrors `fastdrop_kernels.cpu.host.softmax`; softmax.cuh says what a launch does, and what the
fields of its argument are there.
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
from .launch import AXIS, KEYED, LAW, LAYOUT, MAX_OPERANDS, Launch, packed_axis
from .modules import MOST_AXES, THREADS, Module
from .operations import FLOATS, Storage

# Threads that share a row: the fewest, a warp at least, that have so many groups each.
_LEAST_THREADS, _GROUPS_EACH = 32, 4


def _module(name: str, storage: Storage) -> Module:
    kernel = f"softmax_dropout_{name}"
    text = f"FASTDROP_ROWS({kernel}, {storage.name})\n"
    return Module(kernel, "", (), definition=text)


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
    """Write the softmax of x along an axis, dropped and scaled; y may be x.

    Arguments as of `driver.apply`.
    """
    law = seed, stream, key_pointer or 0, threshold, scale
    _run("", (y, x), axis, index, index_strides, *law)


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
    """Write the gradient of x, given that of the result; dx may be either."""
    law = seed, stream, key_pointer or 0, threshold, scale
    _run("_backward", (dx, x, dy), axis, index, index_strides, *law)


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
    kernel, grid, layout = _planned(
        name + direction,
        FLOATS[name],
        shape,
        tuple(tuple(array.strides) for array in arrays),
        (0,) * len(shape) if degenerate else tuple(steps),
        tuple(address % 16 for address in addresses),
        axis,
    )
    first = KEYED.pack(*addresses, *unused, seed, stream, key)
    limit = (1 if threshold else 0) if degenerate else threshold
    law = LAW.pack(index, scale.tobytes(), limit, degenerate)
    launcher.launch(Launch(MODULES[name], kernel, grid, THREADS, first + law + layout))


@functools.lru_cache(maxsize=512)
def _planned(
    name: str,
    storage: Storage,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    index_strides: tuple[int, ...],
    phases: tuple[int, ...],
    axis: int,
) -> tuple[str, int, bytes]:
    """Plan a layout: kernel, grid, and what of its argument does not change from call to call."""
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
        moves = (phases[array], steps[array], *(each[1 + array] for each in axes))
        return not any(number % by for number in moves)

    whole = [divisible(size, array) for array in arrays]
    width = [0 for _ in arrays]
    if steps[0] == size and whole[0]:
        width = [_width(size, array, steps[array], axes, phases) for array in arrays]
    rows = math.prod(outer_shape)
    threads = _threads(n, storage)
    grid = -(-rows * threads // THREADS)
    unused = [0] * (MAX_OPERANDS + 1 - len(phases))
    row = AXIS.pack(threads, index_strides[axis], *[0] * (MAX_OPERANDS + 1), 0, 0)
    layout = LAYOUT.pack(
        rows, n, *steps, *unused, *whole, *unused, *width, *unused, row, len(axes), 0
    )
    table = b"".join(map(packed_axis, reversed(axes)))
    table += bytes(AXIS.size * MOST_AXES - len(table))
    return f"softmax_dropout_{name}", grid, layout + table


def _threads(n: int, storage: Storage) -> int:
    threads, groups = _LEAST_THREADS, n // storage.group + 1
    while threads < THREADS and threads * _GROUPS_EACH < groups:
        threads *= 2
    return threads


def _width(size: int, array: int, step: int, axes: list[Axis], phases: tuple[int, ...]) -> int:
    """Return the bytes of a group that can be loaded at once, where y's is aligned; 0 for none."""
    if step != size:
        return 0
    apart = [axis[1 + array] - axis[1] for axis in axes]
    return math.gcd(16, phases[array] - phases[0], *apart)
