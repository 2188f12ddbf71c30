"""The driver of the CUDA kernels: operations on CuPy arrays as launches on the current stream.

The CuPy backend calls it; it has the same functions as the CPU driver, and calls `launch` and the
launcher. Nothing here synchronises or allocates. Arrays must be on the current device, and the
output must not overlap an input unless both are identical.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import contract, probabilities
from ..layout import c_strides
from .launch import Launch, advancing, launch_plan, launches
from .operations import FLOATS, PACK, RAW, Operation, operation, per_element

__all__ = [
    "advance",
    "apply",
    "current",
    "layout_call",
    "operation",
    "pack",
    "per_element",
    "per_element_operands",
]

Array: TypeAlias = Any  # a CuPy array


class Launcher(Protocol):
    """What launches need: the address of an array, and something that runs them."""

    def address(self, array: Array) -> int: ...  # noqa: D102

    def launch(self, launch: Launch) -> None: ...  # noqa: D102


_launcher: Launcher | None = None


def current() -> Launcher:
    """Return what runs launches."""
    global _launcher
    if _launcher is None:
        from .cupy_launcher import CupyLauncher  # imports CuPy

        _launcher = CupyLauncher()
    return _launcher


def per_element_operands(
    operation: Operation, p: npt.NDArray[Any], factor: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[Any], ...]:
    """Return the operands of an operation by a p of each element, NumPy's, of the shape of p.

    `factor` is that of all kept elements; None gives each ``1 / (1 - p)``.
    """
    p = p.astype(np.float64, copy=False)
    thresholds, last = probabilities.thresholds(p), operation.operands[-1]
    if last is RAW[8]:
        return (thresholds,)
    computed = np.dtype(np.float64 if last is FLOATS["float64"] else np.float32)
    limited = np.minimum(thresholds, np.uint64(contract.ALWAYS - 1)).astype(np.uint32)
    return limited, probabilities.factors(p, factor, computed)


def apply(
    operation: Operation,
    x: Array,
    y: Array,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    value: npt.NDArray[Any],
    operands: tuple[Array, ...] = (),
    *,
    key_pointer: int | None = None,
) -> None:
    """Apply an operation; `index_strides` None means those of C order.

    `operands` are what the operation reads beside x: arrays of its shape, views of smaller ones
    too, of the storage types that the operation declares.

    With `key_pointer`, the address of two uint64 in device memory, seed and stream are read there
    when the kernel runs, and those given are not used.
    """
    shape = y.shape
    if 0 in shape:
        return
    run = current()
    # A mask has operands, or none, but no x.
    reads_x = len(operation.operands) > len(operands)
    arrays = (y, x, *operands) if reads_x else (y, *operands)
    addresses = [run.address(array) for array in arrays]
    strides = tuple([array.strides for array in arrays])
    parameter = value.tobytes() if reads_x else b""
    steps = c_strides(shape) if index_strides is None else index_strides
    for launch in launches(
        operation, addresses, shape, strides, index, steps, seed, stream, threshold, parameter,
        key_pointer,
    ):  # fmt: skip
        run.launch(launch)


def layout_call(
    operation: Operation,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...] | None,
    output_strides: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: npt.NDArray[Any],
) -> Callable[..., None]:
    """Return ``call(x, y, seed, stream, *, key_pointer=None)`` for arrays of one layout.

    x and y are their addresses. They are not empty, and there are no other operands. Of a mask,
    `input_strides` are None, and y is given for x too; `output_strides` are bits where it is
    packed.
    """
    steps = c_strides(shape) if index_strides is None else index_strides
    reads_x = input_strides is not None
    strides = (output_strides, input_strides) if input_strides is not None else (output_strides,)
    parameter = value.tobytes() if reads_x else b""
    make_launches = launch_plan(operation, shape, strides, index, steps, threshold, parameter)

    def call(x: int, y: int, seed: int, stream: int, *, key_pointer: int | None = None) -> None:
        run = current()
        addresses = (y, x) if reads_x else (y,)
        for launch in make_launches(seed, stream, key_pointer or 0, *addresses):
            run.launch(launch)

    return call


def pack(
    y: Array,
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    *,
    key_pointer: int | None = None,
) -> None:
    """Write the mask of `shape`, in C order, 8 elements to a byte, to the contiguous bytes `y`."""
    if math.prod(shape) == 0:
        return
    run = current()
    bits = c_strides(shape)
    steps = bits if index_strides is None else index_strides
    for launch in launches(
        PACK, [run.address(y)], shape, (bits,), index, steps, seed, stream, threshold, b"",
        key_pointer,
    ):  # fmt: skip
        run.launch(launch)


def advance(key_pointer: int) -> None:
    """Add 1 to the stream of a key in device memory, modulo ``2**64``."""
    current().launch(advancing(key_pointer))
