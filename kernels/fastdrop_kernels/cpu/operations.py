"""Operations: what becomes of an element once it is decided whether it is kept.

An operation is a function ``(kept, x, value) -> y``, the storage types of its input and output, and
a parameter in memory. It selects and never multiplies by the mask, so that a NaN or an infinity in
a dropped place vanishes. A new one is a few lines here; the loops around it are shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import types

from .compiler import device
from .storage import BITS, BOOL, NOTHING, Storage


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class Operation:
    """One member of the kernel family."""

    name: str
    source: Storage  # how x is read
    target: Storage  # how y is written
    parameter: Any  # load(pointer, offset) -> value, once before each loop
    apply: Any  # apply(kept, x, value) -> y


@device
def _drop(kept: Any, x: Any, scale: Any) -> Any:
    scaled = x * scale
    return scaled if kept else type(scaled)(0)


@device
def _fill(kept: Any, x: Any, value: Any) -> Any:
    return x if kept else value


@device
def _mark(kept: Any, x: Any, value: Any) -> Any:
    return types.uint8(kept)


def drop(name: str, kind: Storage) -> Operation:
    """Dropout: kept elements times the parameter, dropped ones +0.0."""
    return Operation(f"drop-{name}", kind, kind, kind.load_value, _drop)


def fill(kind: Storage) -> Operation:
    """Masked fill: kept elements as they are, dropped ones the parameter."""
    return Operation(f"fill-{kind.itemsize}", kind, kind, kind.load_value, _fill)


def mark() -> Operation:
    """Mark an element: 1 kept, 0 dropped. There is no input and no parameter."""
    return Operation("mark", NOTHING, BOOL, NOTHING.load_value, _mark)


def pack() -> Operation:
    """Mark as `mark` does, eight elements to a byte, in memory that was zero."""
    return Operation("pack", NOTHING, BITS, NOTHING.load_value, _mark)
