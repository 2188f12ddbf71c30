"""Tables: a threshold of each element, and what else belongs to it, in memory.

Neighbours have neighbours in the tables: vectors of them are loaded as elements are, and all else
is as with a threshold for all (see `span`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from ...contract import ALWAYS
from ..codegen.target import VECTOR_BYTES
from ..codegen.vectors import I16, I64, Lanes, load
from .sampler import GROUP, Between, Draw, bound
from .storage import Storage

Array: TypeAlias = npt.NDArray[Any]

# What `value` points to: room for the operation's parameter, and where each table begins.
_PARAMETER_BYTES = 16
_UPPERS, _THRESHOLDS, _FACTORS = range(3)
_LINE_BYTES = 64  # of a cache line


class Laws(Draw):
    """What decides: a key, and a threshold for each element.

    `place` is that of the first element in the tables, and `tables` says where they are.
    """

    def __init__(self, builder: Any, seed: Any, stream: Any, place: Any, tables: Any) -> None:
        super().__init__(builder, seed, stream)
        self._place = place
        self._tables = [
            load(builder, tables, _PARAMETER_BYTES + 8 * k, I64, 0).value for k in range(3)
        ]

    def _in(self, table: int, behind: Any, itemsize: int) -> Any:
        builder = self.builder
        number = builder.add(self._place, behind)
        distance = builder.mul(number, ir.Constant(I64, itemsize))
        return builder.inttoptr(
            builder.add(self._tables[table], distance), ir.IntType(8).as_pointer()
        )

    def decided(self, block: Any, between: Between, behind: Any) -> Iterator[Lanes]:
        """Yield what is kept of the group that begins at a block, so far behind the first."""
        halves, run = self.halves(block, between)
        there = self._in(_UPPERS, behind, 2)
        uppers = [
            load(self.builder, there, k * VECTOR_BYTES, I16, half.count)
            for k, half in enumerate(halves)
        ]
        settled = self.settled_by(
            halves, uppers, [run], lambda: (self._in(_THRESHOLDS, behind, 8), 8)
        )
        return (half >= bound(upper) for half, upper in zip(settled, uppers, strict=True))

    def factors(self, kinds: Sequence[Storage], behind: Any, k: int, count: int) -> list[Lanes]:
        """Return the factors, if an operation has any, of the k-th `count` elements behind that."""
        return [
            kind.load(
                self.builder,
                self._in(_FACTORS, behind, kind.itemsize),
                k * count * kind.itemsize,
                count,
                None,
            )
            for kind in kinds
        ]


def laid(parameter: bytes, thresholds: Array, factors: Sequence[Array], copies: int) -> Array:
    """Return a parameter, and the addresses of tables, which live as long as this does.

    All is there `copies` times, and before and behind may be read what belongs to a whole group.
    """
    uppers = np.minimum(thresholds, np.uint64(ALWAYS - 1)) >> np.uint64(16)
    tables = [uppers.astype(np.uint16), thresholds, *factors]
    count = copies * tables[0].size
    places, nbytes = [], _LINE_BYTES
    for table in tables:
        places.append(nbytes + GROUP * table.itemsize)
        nbytes += -(-(count + 2 * GROUP) * table.itemsize // _LINE_BYTES) * _LINE_BYTES
    memory = np.zeros(nbytes + _LINE_BYTES, np.uint8)
    memory = memory[-memory.__array_interface__["data"][0] % _LINE_BYTES :]
    begin = memory.__array_interface__["data"][0]
    for table, place in zip(tables, places, strict=True):
        there = memory[place : place + count * table.itemsize].view(table.dtype)
        there.reshape(copies, -1)[...] = table
    told = memory[: _PARAMETER_BYTES + 8 * len(places)]
    told[: len(parameter)] = np.frombuffer(parameter, np.uint8)
    told[_PARAMETER_BYTES:].view(np.uint64)[...] = [begin + place for place in places]
    return told
