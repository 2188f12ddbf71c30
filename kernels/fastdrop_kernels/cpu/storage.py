"""Storage types: how an element is read into a value, and a value written as an element.

A new storage type (a half type, say) is one more `Storage` here: its loader may convert on the
way in and its storer round on the way out. Everything else of a kernel is the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import types

from .compiler import device
from .intrinsics import loader, storer


class Storage(NamedTuple):
    """One way to keep elements in memory."""

    itemsize: int  # bytes
    load: Any  # load(pointer, offset) -> value
    store: Any  # store(pointer, offset, value)
    load_value: Any  # as load, of a value in memory as it is computed with
    units_per_byte: int = 1  # of addresses and steps: 8 where they count bits


def _plain(ty: Any, itemsize: int) -> Storage:
    load = loader(ty)
    return Storage(itemsize, load, storer(ty), load)


@device
def _load_nothing(pointer: Any, offset: Any) -> Any:
    return types.uint8(0)


FLOAT32 = _plain(types.float32, 4)
FLOAT64 = _plain(types.float64, 8)
BOOL = _plain(types.uint8, 1)
# An operation that has no input reads this: no memory is touched.
NOTHING = Storage(0, _load_nothing, None, _load_nothing)
# Elements that are only moved, by their size in bytes. complex128 stands for 16 bytes: Numba has no
# such integer, and LLVM moves its two doubles without arithmetic, so every bit pattern survives.
MOVED = {
    1: _plain(types.uint8, 1),
    2: _plain(types.uint16, 2),
    4: _plain(types.uint32, 4),
    8: _plain(types.uint64, 8),
    16: _plain(types.complex128, 16),
}
# The mask, eight elements to a byte. Addresses and steps count bits; the loops write it themselves.
BITS = Storage(0, None, None, _load_nothing, units_per_byte=8)
