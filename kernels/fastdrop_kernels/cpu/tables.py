"""Tables: a threshold and a factor for each p of an array, where p varies along lines.

Neighbours in memory have neighbours in the tables: vectors of them are loaded as elements are, and
what is left is a plain call's loop (see `span`). A table that is short is written several times, so
that its end, where a group of bits may have to be drawn for both sides, is seldom come to.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from .. import chances
from ..contract import ALWAYS
from ..plan import Plan, c_strides, neighbours_plan
from .bits import GROUP, Between, Draw, Law, bound
from .lanes import I16, I64, Lanes, load
from .operations import Operation
from .shares import ALL
from .storage import Storage
from .target import VECTOR_BYTES

Array: TypeAlias = npt.NDArray[Any]

# What `value` points to: room for the operation's parameter, and where tables begin.
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


def law_of(
    operation: Operation, builder: Any, seed: Any, stream: Any, threshold: Any, value: Any
) -> Law | Laws:
    """Return what decides for an operation, of what its loops are told."""
    if operation.tables:
        return Laws(builder, seed, stream, threshold, value)
    return Law(builder, seed, stream, threshold)


class Tables(NamedTuple):
    """How to walk through an array, and what tables say of it."""

    layout: Plan  # its first steps are those through the tables
    period: int  # places, behind which what the tables say is said again
    told: Array  # what `value` points to


# Tables pay from so many elements on, of so many for each p: to make them takes 40 us, and 12 ns a
# p. 65,536 elements by 256 of p: 2.0 ns, not 3.0; 1 Mi by 16 Ki 1.43, not 2.02, by 32 Ki 1.78, not
# 1.87, and by 64 Ki 2.34.
_LEAST, _TIMES = 1 << 16, 32
_MOST = 1 << 15  # numbers, whose tables take half a MiB, and most of a second-level cache
_REMEMBERED = 1 << 12  # of a p that may come again
# Elements of a table, and of a line, at least. In lines of 128 from anywhere in a group, two groups
# are drawn for each: 3.9 ns an element, where joint calls take 2.9; of 256 2.2 and 2.4.
_LONG, _LINE = 4096, max(128, GROUP)


def tables_of(
    operation: Operation,
    p: Array,
    value: Array,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    index_strides: tuple[int, ...],
) -> Tables | None:
    """Return tables of p, a view of the array's shape; None where they would not pay.

    That is where p is no smaller than the array, or its neighbours are not the elements'.
    """
    assert operation.tabled
    # Without what the view repeats.
    own: Array = p[tuple([slice(None) if step else slice(1) for step in p.strides])]
    if p.size < _LEAST or p.size < _TIMES * own.size or own.size > _MOST:
        return None
    steps = [step * (n > 1) for step, n in zip(c_strides(own.shape), own.shape, strict=True)]
    apart = operation.source.itemsize, operation.target.itemsize
    found = neighbours_plan(
        shape, apart, tuple(steps), input_strides, output_strides, index_strides
    )
    if found is None:
        return None
    layout, period = found
    if layout.axes[-1][0] < _LINE:
        return None
    copies = -(-min(_LONG, layout.axes[-1][0]) // period) if period else 1
    tell = _told if own.size <= _REMEMBERED else _told.__wrapped__
    told = tell(operation, own.tobytes(), value.tobytes(), value.dtype, copies)
    return Tables(layout, period * copies or ALL, told)


@functools.lru_cache(maxsize=16)
def _told(
    operation: Operation, p: bytes, parameter: bytes, computed: np.dtype[Any], copies: int
) -> Array:
    """Return what `value` points to; the tables live as long as that does.

    Layers come with the same p again, and to make tables of 1,024 takes 60 us.
    """
    assert operation.tabled
    chance = np.frombuffer(p)
    thresholds = chances.thresholds(chance)
    uppers = np.minimum(thresholds, np.uint64(ALWAYS - 1)) >> np.uint64(16)
    tables = [uppers.astype(np.uint16), thresholds]
    if operation.tabled.operands:
        factor = None if operation.inverse else np.frombuffer(parameter, computed)[0]
        tables.append(chances.factors(chance, factor, computed))
    return _laid(parameter, tables, copies)


def _laid(parameter: bytes, tables: Sequence[Array], copies: int) -> Array:
    """Return a parameter, and the addresses of tables, which live as long as this does.

    Before and behind each, what belongs to a whole group may be read.
    """
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
