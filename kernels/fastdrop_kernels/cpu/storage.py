"""Storage types: how elements are read into values, and values written as elements.

A storage type is a few lines here: its loader may convert on the way in and its storer round on
the way out. Everything else of a kernel is the same. All of it is traced (see `lanes`), for whole
vectors (`count` lanes) and for single elements (`count` 0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from . import lanes
from .lanes import DOUBLE, FLOAT, I8, I16, I32, I64, Lanes


class Storage(NamedTuple):
    """One way to keep elements in memory."""

    bits: int  # of an element
    load: Callable[[Any, Any, int, int], Lanes]  # (builder, pointer, offset in bytes, count)
    store: Callable[[Lanes, Any, int], Any]  # (value, pointer, offset); returns the last store
    load_value: Callable[[Any, Any], Lanes]  # (builder, pointer): one, as it is computed with

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.bits // 8


def _plain(element: Any, bits: int, units: int = 1) -> Storage:
    """Elements that are what is computed with, or `units` of them."""

    def load(builder: Any, pointer: Any, offset: int, count: int) -> Lanes:
        many = count * units if units > 1 and count else count or units * (units > 1)
        return lanes.load(builder, pointer, offset, element, many)

    def load_value(builder: Any, pointer: Any) -> Lanes:
        return load(builder, pointer, 0, 0)

    return Storage(bits, load, lanes.store, load_value)


def _load_nothing(builder: Any, pointer: Any, offset: int, count: int) -> Lanes:
    return Lanes(builder, ir.Constant(I8, 0))


def _load_no_value(builder: Any, pointer: Any) -> Lanes:
    return Lanes(builder, ir.Constant(I8, 0))


def _store_bool(value: Lanes, pointer: Any, offset: int) -> Any:
    return lanes.store(value.converted(I8), pointer, offset)


def _store_bits(value: Lanes, pointer: Any, offset: int) -> Any:
    return lanes.store(value.as_number(), pointer, offset)


FLOAT32 = _plain(FLOAT, 32)
FLOAT64 = _plain(DOUBLE, 64)
# An operation that has no input reads this: no memory is touched.
NOTHING = Storage(0, _load_nothing, lanes.store, _load_no_value)
# Decisions, one to a byte, and eight to a byte in little bit order (whole bytes only).
BOOL = Storage(8, _load_nothing, _store_bool, _load_no_value)
BITS = Storage(1, _load_nothing, _store_bits, _load_no_value)
# Elements that are only moved, by their size in bytes.
MOVED = {
    1: _plain(I8, 8),
    2: _plain(I16, 16),
    4: _plain(I32, 32),
    8: _plain(I64, 64),
    16: _plain(I64, 128, units=2),
}
