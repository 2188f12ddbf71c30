"""Operations: the function applied to an element once its decision is drawn.

An operation has a function ``(kept, x, value) -> y`` of one element, and the dtypes of input,
output and parameter. It selects and never multiplies by the mask, so that a dropped NaN or infinity
disappears. The driver chooses an operation, and the kernels call its function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..device import compiled


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, which is fast
class Operation:
    """An element-wise operation."""

    name: str
    source: np.dtype[Any] | None  # None: there is no input
    target: np.dtype[Any]
    parameter: np.dtype[Any] | None  # None: there is none
    apply: Callable[[Any, Any, Any], Any]  # (kept, x, value) -> y


def drop(dtype: np.dtype[Any], computed: type[np.floating[Any]]) -> Operation:
    """Dropout: kept elements times the parameter, in the compute type; +0.0 where dropped."""
    zero = computed(0)

    @compiled
    def apply(kept: Any, x: Any, value: Any) -> Any:
        return computed(x) * value if kept else zero

    return Operation(f"drop-{dtype.name}", dtype, dtype, np.dtype(computed), apply)


def fill(dtype: np.dtype[Any]) -> Operation:
    """Masked fill: kept elements unchanged, the parameter where dropped."""

    @compiled
    def apply(kept: Any, x: Any, value: Any) -> Any:
        return x if kept else value

    return Operation(f"fill-{dtype.itemsize}", dtype, dtype, dtype, apply)


def mark() -> Operation:
    """Keep mask: 1 kept, 0 dropped. There is no input and no parameter."""

    @compiled
    def apply(kept: Any, x: Any, value: Any) -> Any:
        return np.uint8(kept)

    return Operation("mark", None, np.dtype(np.uint8), None, apply)


DROPS = {
    "float16": drop(np.dtype(np.float16), np.float32),
    "float32": drop(np.dtype(np.float32), np.float32),
    "float64": drop(np.dtype(np.float64), np.float64),
}
# By element size in bytes: elements are copied as any type of that size. For 16 bytes that is a
# complex number, because GPUs have no such integer.
FILLS = {
    np.dtype(raw).itemsize: fill(np.dtype(raw))
    for raw in (np.uint8, np.uint16, np.uint32, np.uint64, np.complex128)
}
MARK = mark()
