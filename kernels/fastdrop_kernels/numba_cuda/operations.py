"""Operations: what becomes of an element once it is decided whether it is kept.

An operation is a function ``(kept, x, value) -> y`` of one element, the types that its input and
its output are seen as in memory, and that of a parameter. It selects and never multiplies by the
mask, so that a NaN or an infinity in a dropped place vanishes. A new one is a few lines here; the
kernels around it are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..device import compiled


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class Operation:
    """One member of the kernel family."""

    name: str
    source: np.dtype[Any] | None  # None: there is no input
    target: np.dtype[Any]
    parameter: np.dtype[Any] | None  # None: there is none
    apply: Callable[[Any, Any, Any], Any]  # (kept, x, value) -> y


def drop(dtype: np.dtype[Any], computed: type[np.floating[Any]]) -> Operation:
    """Dropout: kept elements times the parameter, as they are computed with; dropped ones +0.0."""
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


DROPS = {
    "float16": drop(np.dtype(np.float16), np.float32),
    "float32": drop(np.dtype(np.float32), np.float32),
    "float64": drop(np.dtype(np.float64), np.float64),
}
# Elements that are only moved, by their size in bytes, as whatever type has that size: no GPU has
# an integer of 16 bytes, and a complex number is moved as it is.
FILLS = {
    np.dtype(moved).itemsize: fill(np.dtype(moved))
    for moved in (np.uint8, np.uint16, np.uint32, np.uint64, np.complex128)
}
MARK = mark()
