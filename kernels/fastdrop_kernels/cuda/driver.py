"""The driver of the CUDA kernels: operations on CuPy arrays as launches on the current stream.

The CuPy backend calls it; it has the same functions as the CPU driver, and calls `launch` and the
launcher. Nothing here synchronises or allocates. Arrays must be on the current device, and the
output must not overlap an input unless both are identical.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import contract, probabilities
from ..layout import c_strides
from .launch import Launch, advancing, launch_plan, launches
from .operations import (
    ALPHAS,
    DROPS,
    DROPS_EACH,
    FILLS,
    FILLS_EACH,
    FLOAT64,
    GAUSSIAN_ADDS,
    GAUSSIAN_DROPS,
    MARK,
    MARK_EACH,
    PACK,
    RAW,
    Operation,
    bias_act_drop,
    bias_act_drop_backward,
)

Array: TypeAlias = Any  # a CuPy array


class Launcher(Protocol):
    """Runs launches; tests have one for the host."""

    def address(self, array: Array) -> int: ...  # noqa: D102

    def launch(self, launch: Launch) -> None: ...  # noqa: D102


_launcher: Launcher | None = None


def current() -> Launcher:
    """Return the launcher."""
    global _launcher
    if _launcher is None:
        from .cupy_launcher import CupyLauncher  # imports CuPy

        _launcher = CupyLauncher()
    return _launcher


@functools.lru_cache(maxsize=64)  # dtype.name takes 2 us
def dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * value`` where kept, and +0.0 where dropped.

    The value is a float32 for the half types, which are computed in float32.
    """
    return DROPS[dtype.name]


@functools.lru_cache(maxsize=64)
def dropping_each(dtype: np.dtype[Any], scaled: bool = False) -> Operation:
    """Return dropout with per-element thresholds and factors, which are operands.

    Thresholds are uint32, factors of the type of `dropping`'s value. An infinite factor drops its
    element, because a threshold of ``2**32`` does not fit. With `scaled`, one factor for all
    elements is an operand too.
    """
    return DROPS_EACH[dtype.name]


def filling_each(dtype: np.dtype[Any]) -> Operation:
    """Return `filling` with per-element thresholds, a uint64 operand."""
    return FILLS_EACH[dtype.itemsize]


def marking_each() -> Operation:
    """Return `marking` with per-element thresholds, a uint64 operand."""
    return MARK_EACH


def per_element_operands(
    operation: Operation, p: npt.NDArray[Any], factor: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[Any], ...]:
    """Return the threshold and factor operands of a per-element p, as NumPy arrays of its shape.

    `factor` is that of all kept elements; None means ``1 / (1 - p)`` for each.
    """
    thresholds, last = probabilities.thresholds(p), operation.operands[-1]
    if last is RAW[8]:
        return (thresholds,)
    computed = np.dtype(np.float64 if last is FLOAT64 else np.float32)
    limited = np.minimum(thresholds, np.uint64(contract.ALWAYS - 1)).astype(np.uint32)
    return limited, probabilities.factors(p, factor, computed)


@functools.lru_cache(maxsize=256)
def bias_act_dropping(dtype: np.dtype[Any], act: str, bias: bool, residual: bool) -> Operation:
    """Return the operation ``dropout(act(x + bias)) + residual``; the value is that of `dropping`.

    Bias and residual, if present, are the operands, in this order.
    """
    return bias_act_drop(dtype.name, act, bias, residual)


@functools.lru_cache(maxsize=256)
def bias_act_dropping_backward(dtype: np.dtype[Any], act: str, bias: bool) -> Operation:
    """Return its gradient with respect to x, applied to dy; the operands are x and bias, if any."""
    return bias_act_drop_backward(dtype.name, act, bias)


@functools.lru_cache(maxsize=64)
def alpha_dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * a + b`` where kept, and c where dropped.

    The value is an array of a, b and c, of the type of `dropping`'s value.
    """
    return ALPHAS[dtype.name]


@functools.lru_cache(maxsize=64)
def gaussian_dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * (1 + value * z)``, with z standard normal."""
    return GAUSSIAN_DROPS[dtype.name]


@functools.lru_cache(maxsize=64)
def gaussian_adding(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x + value * z``, with z standard normal."""
    return GAUSSIAN_ADDS[dtype.name]


def filling(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes x where kept, and the value where dropped."""
    return FILLS[dtype.itemsize]


def marking() -> Operation:
    """Return the operation that writes the keep mask, 1 where kept and 0 where dropped."""
    return MARK


def packing() -> Operation:
    """Return the operation of `pack`."""
    return PACK


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

    `operands` are further inputs: arrays of the shape of x (broadcast views too), of the storage
    types that the operation declares.

    With `key_pointer`, the address of two uint64 in device memory, the kernel reads seed and stream
    there when it runs, and the arguments `seed` and `stream` are ignored.
    """
    shape = y.shape
    if 0 in shape:
        return
    run = current()
    # Mask operations have no x.
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
    """Return ``call(x, y, seed, stream, *, key_pointer=None)`` for non-empty arrays of one layout.

    x and y are addresses; there are no other operands. For masks, `input_strides` are None, and
    callers pass y for x; for packed masks, `output_strides` are in bits.
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
    """Write the packed mask of `shape`, in C order, to the contiguous bytes `y`."""
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
