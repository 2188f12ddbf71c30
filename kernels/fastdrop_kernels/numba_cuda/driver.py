"""The driver of Numba's GPU kernels, for arrays with ``__cuda_array_interface__``.

The public package calls it as it calls the CPU's driver, with a stream. It launches `kernels`, and
does not wait for them. They run on the current device, which must be the device of the arrays, in
order with the streams that the arrays name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from ..layout import c_strides, plan
from .kernels import THREADS, TILE, elements, packed, packed_blocks, tiles
from .memory import SIMULATED, ArrayDescription, describe, flat_memory, ordered
from .operations import Operation, operation

# Numba warns of grids of fewer blocks, which users of small arrays cannot change. Blocks after the
# end of the array do nothing. In the simulator they would take seconds.
MIN_BLOCKS = 1 if SIMULATED else 128

__all__ = ["apply", "operation", "pack"]


def apply(
    operation: Operation,
    x: Any,
    y: Any,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    value: npt.NDArray[Any],
    cuda_stream: int = 0,
) -> None:
    """Apply an operation; `index_strides` None means those of C order.

    `value` is in the host's memory. `cuda_stream` is a stream's handle, 0 for the default stream.
    """
    size = operation.target.itemsize
    target = describe(y, size)
    source = target if operation.source is None else describe(x, size)
    n = target.size
    if n == 0:
        return
    y_line, y_first = flat_memory(target, operation.target)
    x_line, x_first = y_line, y_first
    if operation.source is not None:
        x_line, x_first = flat_memory(source, operation.source)
    key = np.uint64(seed), np.uint64(stream), np.uint64(threshold)
    parameter = _parameter(operation, value)
    plain = source.is_c_contiguous(size) and target.is_c_contiguous(size)
    if index_strides is None and plain:
        launch = _launch(tiles(operation), index % 8 + n, TILE, cuda_stream)
        with ordered((target, source), cuda_stream):
            launch(x_line, y_line, n, np.uint64(index), *key, parameter)
        return
    steps = _steps(source, size), _steps(target, size)
    mask_steps = c_strides(target.shape) if index_strides is None else index_strides
    axes, *_ = plan(target.shape, *steps, mask_steps)
    launch = _launch(elements(operation, _count(n)), n, THREADS, cuda_stream)
    columns = tuple(zip(*axes, strict=True))  # lengths, and the strides of x, y and mask
    with ordered((target, source), cuda_stream):
        launch(x_line, y_line, n, *columns, x_first, y_first, index, *key, parameter)


def pack(
    y: Any,
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    cuda_stream: int = 0,
) -> None:
    """Write the mask of `shape`, in C order, 8 elements to a byte, to the contiguous bytes `y`."""
    n = int(np.prod(shape, dtype=np.int64))
    if n == 0:
        return
    target = describe(y, 1)
    bytes_, _ = flat_memory(target, np.dtype(np.uint8))
    key = np.uint64(seed), np.uint64(stream), np.uint64(threshold)
    if index_strides is None and index % 8 == 0:
        launch = _launch(packed_blocks(), n, TILE, cuda_stream)
        with ordered((target,), cuda_stream):
            launch(bytes_, n, np.uint64(index), *key)
        return
    bits = c_strides(shape)
    mask_steps = bits if index_strides is None else index_strides
    # Bits are numbered in C order, so the axes keep their order; those of length 1 add nothing.
    launch = _launch(packed(_count(n)), n, TILE, cuda_stream)
    with ordered((target,), cuda_stream):
        launch(bytes_, n, shape or (1,), mask_steps or (0,), index, *key)


def _parameter(operation: Operation, value: npt.NDArray[Any]) -> Any:
    if operation.parameter is None:
        return np.uint8(0)
    return value.reshape(1).view(operation.parameter)[0]


def _steps(array: ArrayDescription, itemsize: int) -> tuple[int, ...]:
    if any(stride % itemsize for stride in array.strides):
        raise ValueError(
            f"an array's strides {array.strides} are no multiples of its {itemsize} bytes an "
            "element, and a GPU cannot reach such elements: give a contiguous copy"
        )
    return tuple(stride // itemsize for stride in array.strides)


def _count(n: int) -> Any:
    return np.uint32 if n < 1 << 32 else np.uint64


def _launch(kernel: Any, n: int, elements_of_a_block: int, cuda_stream: int) -> Any:
    stream = cuda.external_stream(cuda_stream) if cuda_stream and not SIMULATED else 0
    return kernel[max(MIN_BLOCKS, -(-n // elements_of_a_block)), THREADS, stream]
