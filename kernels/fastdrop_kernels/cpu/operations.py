"""Operations: what becomes of an element once it is decided whether it is kept.

An operation is a function ``(kept, x, value) -> y``, the storage types of its input and output, and
a parameter in memory. It selects and never multiplies by the mask, so that a NaN or an infinity in
a dropped place vanishes. A new one is a few lines here; the loops around it are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .lanes import Lanes, select
from .storage import BITS, BOOL, NOTHING, Storage


@dataclass(frozen=True, eq=False)  # compared and hashed as objects, which is quick
class Operation:
    """One member of the kernel family."""

    name: str
    source: Storage  # how x is read
    target: Storage  # how y is written
    apply: Callable[[Lanes, Lanes, Lanes], Lanes]  # (kept, x, value) -> y, traced


def _drop(kept: Lanes, x: Lanes, scale: Lanes) -> Lanes:
    return select(kept, x * scale, 0)


def _fill(kept: Lanes, x: Lanes, value: Lanes) -> Lanes:
    return select(kept, x, value)


def _mark(kept: Lanes, x: Lanes, value: Lanes) -> Lanes:
    return kept


def drop(name: str, kind: Storage) -> Operation:
    """Dropout: kept elements times the parameter, dropped ones +0.0."""
    return Operation(f"drop-{name}", kind, kind, _drop)


def fill(kind: Storage) -> Operation:
    """Masked fill: kept elements as they are, dropped ones the parameter."""
    return Operation(f"fill-{kind.itemsize}", kind, kind, _fill)


def mark() -> Operation:
    """Mark an element: 1 kept, 0 dropped. There is no input and no parameter."""
    return Operation("mark", NOTHING, BOOL, _mark)


def pack() -> Operation:
    """Mark as `mark` does, eight elements to a byte, in memory that was zero."""
    return Operation("pack", NOTHING, BITS, _mark)
