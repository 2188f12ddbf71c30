"""Columns: a threshold and a factor for each p of an array, where p varies along lines.

They are made once a call, and lie in tables beside the elements, so that lines are a plain call's:
of a p for every column, (4096, 1024) float32 take 0.87 ns an element on one thread, where joint
calls take 1.85 and one p for all 0.72; float64 1.63, 2.61 and 1.45, bfloat16 0.60, 1.64 and 0.42. A
table that is short is written several times, so that its end, where a group of bits is drawn for
both sides, is seldom come to.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ... import probabilities as chances
from ...layout import Plan, neighbours_plan
from ..elements.operations import Operation
from ..elements.sampler import GROUP
from ..elements.threshold_tables import laid
from ..loops.call_descriptor import ALL
from ..loops.kernels import LAWS
from .per_row import laws_of, own_numbers

Array: TypeAlias = npt.NDArray[Any]


def by_lines(
    operation: Operation, p: Array, value: Array, shape: tuple[int, ...], *strides: tuple[int, ...]
) -> tuple[Operation, Plan, int, Array] | None:
    """Return what does the same line by line, its plan, and the threshold and value it takes.

    p is a view of the array's shape; `strides` are those of the input, the output and the index.
    None where lines would not pay.
    """
    if not operation.plain or not operation.tabled:
        return None
    found = laws_of(operation, p, value, shape, *strides)
    if found:
        layout, laws = found
        return operation.plain, layout, LAWS, laws
    tables = tables_of(operation, p, value, shape, *strides)
    return (operation.tabled, *tables) if tables else None


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
    if p.size < _LEAST:
        return None
    own, steps = own_numbers(p, 1)
    if own.size * _TIMES > p.size or own.size > _MOST:
        return None
    apart = operation.source.itemsize, operation.target.itemsize
    found = neighbours_plan(shape, apart, steps, input_strides, output_strides, index_strides)
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
    factors = []
    if operation.tabled.operands:
        factor = None if operation.inverse else np.frombuffer(parameter, computed)[0]
        factors.append(chances.factors(chance, factor, computed))
    return laid(parameter, chances.thresholds(chance), factors, copies)
