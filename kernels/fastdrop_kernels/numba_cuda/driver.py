"""The driver: which kernel, over how many threads, for arrays with ``__cuda_array_interface__``.

The entries are those of the CPU's driver, and a stream. Nothing waits for a kernel to
end. Kernels run on the current device, which must be the one that the arrays are on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from ..layout import c_strides, plan
from . import operations
from .kernels import THREADS, TILE, elements, packed, packed_blocks, tiles
from .memory import SIMULATED, Placed, line, place
from .operations import Operation

# Numba warns of grids of fewer blocks, as if whoever has a small array could change that. Blocks
# behind the end find nothing to do. In the simulator they would take seconds.
LEAST_BLOCKS = 1 if SIMULATED else 128

__all__ = [
    "alpha_dropping",
    "apply",
    "dropping",
    "filling",
    "gaussian_adding",
    "gaussian_dropping",
    "marking",
    "pack",
]


def dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * value`` where kept, and +0.0 where dropped.

    The value is a float32 for float16, which is computed with in float32.
    """
    return operations.DROPS[dtype.name]


def alpha_dropping(dtype: np.dtype[Any]) -> Operation:
    """Refuse: Numba would round the product and the sum once, and give other bits than all else."""
    return _refused("alpha dropout")


def gaussian_dropping(dtype: np.dtype[Any]) -> Operation:
    """Refuse, as above."""
    return _refused("Gaussian dropout")


def gaussian_adding(dtype: np.dtype[Any]) -> Operation:
    """Refuse, as above."""
    return _refused("Gaussian noise")


def _refused(what: str) -> Operation:
    raise TypeError(
        f"{what} is not among the kernels that Numba compiles for a GPU: install CuPy, which views "
        "Numba's arrays"
    )


def filling(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes x where kept, and the value where dropped."""
    return operations.FILLS[dtype.itemsize]


def marking() -> Operation:
    """Return the operation that writes 1 where kept and 0 where dropped, whatever x and value."""
    return operations.MARK


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
    target = place(y, size)
    source = target if operation.source is None else place(x, size)
    n = target.size
    if n == 0:
        return
    y_line, y_first = line(target, operation.target, cuda_stream)
    x_line, x_first = y_line, y_first
    if operation.source is not None:
        x_line, x_first = line(source, operation.source, cuda_stream)
    key = np.uint64(seed), np.uint64(stream), np.uint64(threshold)
    parameter = _parameter(operation, value)
    plain = source.is_c_contiguous(size) and target.is_c_contiguous(size)
    if index_strides is None and plain:
        launch = _launch(tiles(operation), index % 8 + n, TILE, cuda_stream)
        launch(x_line, y_line, n, np.uint64(index), *key, parameter)
        return
    steps = _steps(source, size), _steps(target, size)
    mask_steps = c_strides(target.shape) if index_strides is None else index_strides
    axes, *_ = plan(target.shape, *steps, mask_steps)
    launch = _launch(elements(operation, _count(n)), n, THREADS, cuda_stream)
    columns = tuple(zip(*axes, strict=True))  # lengths, and the three kinds of steps
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
    bytes_, _ = line(place(y, 1), np.dtype(np.uint8), cuda_stream)
    key = np.uint64(seed), np.uint64(stream), np.uint64(threshold)
    if index_strides is None and index % 8 == 0:
        launch = _launch(packed_blocks(), n, TILE, cuda_stream)
        launch(bytes_, n, np.uint64(index), *key)
        return
    bits = c_strides(shape)
    mask_steps = bits if index_strides is None else index_strides
    # Bits are numbered in C order, which no axis may leave: those of length 1 have no step.
    launch = _launch(packed(_count(n)), n, TILE, cuda_stream)
    launch(bytes_, n, shape or (1,), mask_steps or (0,), index, *key)


def _parameter(operation: Operation, value: npt.NDArray[Any]) -> Any:
    if operation.parameter is None:
        return np.uint8(0)
    return value.reshape(1).view(operation.parameter)[0]


def _steps(placed: Placed, itemsize: int) -> tuple[int, ...]:
    if any(stride % itemsize for stride in placed.strides):
        raise ValueError(
            f"an array's strides {placed.strides} are no multiples of its {itemsize} bytes an "
            "element, and a GPU cannot reach such elements: give a contiguous copy"
        )
    return tuple(stride // itemsize for stride in placed.strides)


def _count(n: int) -> Any:
    return np.uint32 if n < 1 << 32 else np.uint64


def _launch(kernel: Any, n: int, elements_of_a_block: int, cuda_stream: int) -> Any:
    stream = cuda.external_stream(cuda_stream) if cuda_stream and not SIMULATED else 0
    return kernel[max(LEAST_BLOCKS, -(-n // elements_of_a_block)), THREADS, stream]
