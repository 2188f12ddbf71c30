"""The operations that the driver applies, by the dtype of what they are applied to."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ..elements import activations, operations, storage
from ..elements.operations import Operation

FLOATS = {
    "float16": storage.FLOAT16,
    "bfloat16": storage.BFLOAT16,
    "float32": storage.FLOAT32,
    "float64": storage.FLOAT64,
}
DROPS = {name: operations.drop(name, kind) for name, kind in FLOATS.items()}
_ALPHAS = {name: operations.alpha(name, kind) for name, kind in FLOATS.items()}
_GAUSSIAN_DROPS = {name: operations.gaussian_drop(name, kind) for name, kind in FLOATS.items()}
_GAUSSIAN_ADDS = {name: operations.gaussian_add(name, kind) for name, kind in FLOATS.items()}
_FILLS = {size: operations.fill(kind) for size, kind in storage.MOVED.items()}
_MARK = operations.mark()
PACK = operations.pack()


class PerElement(NamedTuple):
    """An operation that decides by a p of each element."""

    operation: Operation
    given: bool  # whether its parameter is given, or the factor that p makes of it


@functools.cache  # a dtype's name takes 5 us
def dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * value`` where kept, and +0.0 where dropped.

    The value is a float32 for the half types, which are computed with in float32.
    """
    return DROPS[dtype.name]


@functools.cache
def alpha_dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * a + b`` where kept, and c where dropped.

    The value is a, b and c, of the type of `dropping`'s.
    """
    return _ALPHAS[dtype.name]


@functools.cache
def gaussian_dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * (1 + value * z)``, z an element's standard normal."""
    return _GAUSSIAN_DROPS[dtype.name]


@functools.cache
def gaussian_adding(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x + value * z``, z an element's standard normal."""
    return _GAUSSIAN_ADDS[dtype.name]


@functools.cache
def bias_act_dropping(dtype: np.dtype[Any], act: str, bias: bool, residual: bool) -> Operation:
    """Return the operation that writes ``act(x + bias) * value + residual`` where kept.

    Where dropped, ``0.0 + residual``. Bias and residual are operands, of which either may be
    missing, and then what stands for it is.
    """
    return activations.bias_act_drop(dtype.name, FLOATS[dtype.name], act, bias, residual)


@functools.cache
def bias_act_dropping_backward(dtype: np.dtype[Any], act: str, bias: bool) -> Operation:
    """Return the operation that writes that one's gradient by x, given that of its result.

    The operands are x, and the bias if there is one; the value is the same.
    """
    return activations.bias_act_drop_backward(dtype.name, FLOATS[dtype.name], act, bias)


def filling(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes x where kept, and the value where dropped."""
    return _FILLS[dtype.itemsize]


def marking() -> Operation:
    """Return the operation that writes 1 where kept and 0 where dropped, whatever x and value."""
    return _MARK


@functools.cache
def dropping_each(dtype: np.dtype[Any], scaled: bool) -> PerElement:
    """Return `dropping` by a p of each element, an operand in float64 or float32.

    Kept elements are multiplied by the value if `scaled`, else by ``1 / (1 - p)``, rounded once.
    """
    return PerElement(dropping(dtype), scaled)


@functools.cache
def filling_each(dtype: np.dtype[Any]) -> PerElement:
    """Return `filling` by a p of each element."""
    return PerElement(filling(dtype), True)


@functools.cache
def marking_each() -> PerElement:
    """Return `marking` by a p of each element."""
    return PerElement(_MARK, True)


def packing() -> Operation:
    """Return the operation that writes a mask's bits, 8 elements to a byte."""
    return PACK
