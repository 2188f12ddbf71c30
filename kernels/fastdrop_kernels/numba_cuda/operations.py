"""Operations: what an element becomes, depending on whether it is kept.

An operation is a function ``(kept, x, value) -> y`` of one element, the dtypes by which kernels
view its input and output, and that of its parameter. It selects and never multiplies by the mask,
so that a NaN or an infinity in a dropped place is not in the output. The driver calls `operation`;
all operations share the kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import catalogue
from ..catalogue import CATALOGUE
from ..device import compiled


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class Operation:
    """An operation on elements, for which kernels are compiled."""

    name: str
    source: np.dtype[Any] | None  # None: there is no input
    target: np.dtype[Any]
    parameter: np.dtype[Any] | None  # None: there is none
    apply: Callable[[Any, Any, Any], Any]  # (kept, x, value) -> y


def drop(dtype: np.dtype[Any], computed: type[np.floating[Any]]) -> Operation:
    """Dropout: kept elements times the parameter, in the compute type; dropped ones +0.0."""
    zero = computed(0)

    @compiled
    def apply(kept: Any, x: Any, value: Any) -> Any:
        return computed(x) * value if kept else zero

    return Operation(f"drop-{dtype.name}", dtype, dtype, np.dtype(computed), apply)


def fill(dtype: np.dtype[Any]) -> Operation:
    """Masked fill: kept elements as they are, dropped ones the parameter."""

    @compiled
    def apply(kept: Any, x: Any, value: Any) -> Any:
        return x if kept else value

    return Operation(f"fill-{dtype.itemsize}", dtype, dtype, dtype, apply)


def mark() -> Operation:
    """Mark an element: 1 kept, 0 dropped. There is no input and no parameter."""

    @compiled
    def apply(kept: Any, x: Any, value: Any) -> Any:
        return np.uint8(kept)

    return Operation("mark", None, np.dtype(np.uint8), None, apply)


# Dtypes by which elements that are only moved are viewed, by size: GPUs have no integers of 16
# bytes, and complex numbers are moved unchanged.
_MOVED = {
    np.dtype(moved).itemsize: np.dtype(moved)
    for moved in (np.uint8, np.uint16, np.uint32, np.uint64, np.complex128)
}
# Keys are names of rows in `fastdrop_kernels.catalogue`. Alpha and Gaussian are missing, because
# Numba would fuse product and sum, round once, and give other bits than the other backends.
FUNCTIONS: dict[str, Callable[..., Operation]] = {"drop": drop, "fill": fill, "mark": mark}


@functools.cache
def operation(name: str, dtype: np.dtype[Any] | None = None, *variant: Any) -> Operation:
    """Return an operation of the catalogue on elements of a dtype.

    Raises
    ------
    TypeError
        If Numba has no GPU kernel for it.
    """
    if name not in FUNCTIONS:
        raise TypeError(
            f"{name.replace('_', ' ')} is not among the kernels that Numba compiles for a GPU: "
            "install CuPy, which views Numba's arrays"
        )
    elements = CATALOGUE[name].elements
    if elements == catalogue.FLOATS:
        assert dtype is not None
        return drop(dtype, np.dtype(catalogue.FLOAT_TYPES[dtype.name].computed_in).type)
    if elements == catalogue.MOVED:
        assert dtype is not None
        return _fill(dtype.itemsize)
    return mark()


@functools.cache
def _fill(itemsize: int) -> Operation:
    return fill(_MOVED[itemsize])
