"""Threshold streams: thresholds and factors for per-element p, in a buffer that stays in cache.

Streams have for each element the high half of its threshold, the whole threshold (for ties), and
the factor if it is kept. Their step is 1, or 0 where all elements have the same p. `loops.streams`
fills them from p, some elements at a time; `loops.contiguous` reads them through `StreamSampler`,
which draws as `sampler` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir

from ...contract import ALWAYS
from ..codegen.target import VECTOR_BYTES
from ..codegen.vectors import DOUBLE, FLOAT, I16, I64, Lanes, load, select, store
from .sampler import GROUP, Between, Draw, Group, bound
from .storage import FLOAT32, Storage

# The maximal number of elements in streams. With p along rows of this length, dropout of 4,096 rows
# of float32 has 0.96 of the rate of one p with AVX2, and 0.65 with AVX-512 (Zen 5, November 2026).
CAPACITY = 4096
# Groups are read whole, from up to one before the first element to one after the last, and streams
# that are repeated continue for a group after their period.
_PLACES = CAPACITY + 3 * GROUP
# Byte offsets of element 0: high halves of thresholds, factors, thresholds.
_UPPERS = 2 * GROUP
_FACTORS = 2 * _PLACES + 8 * GROUP
_THRESHOLDS = 10 * _PLACES + 8 * GROUP
FACTORS, THRESHOLDS = np.uint64(_FACTORS), np.uint64(_THRESHOLDS)
STREAM_BYTES = 18 * _PLACES

# From 2**20 to below 2**21, the last bit of a float64 is 2**-32. So the low bits of the sum of this
# number and p are p * 2**32, rounded to an integer, ties to even.
_ROUNDER = 1.5 * 2.0**20
_MOST = 1.0 - 2.0**-32  # the upper limit of p below 1: its threshold is 2**32 - 1


def _place_in(builder: Any, streams: Any, table: int, place: Any, itemsize: int) -> Any:
    distance = builder.mul(place, ir.Constant(I64, itemsize))
    return builder.gep(streams, [builder.add(distance, ir.Constant(I64, table))])


class StreamSampler(Draw):
    """A sampler with a key and threshold streams."""

    def __init__(self, builder: Any, seed: Any, stream: Any, streams: Any, step: Any) -> None:
        super().__init__(builder, seed, stream)
        self._streams, self._step = streams, step

    def _at(self, table: int, place: Any, itemsize: int) -> Any:
        place = self.builder.mul(place, self._step)
        return _place_in(self.builder, self._streams, table, place, itemsize)

    def _vector_step(self, nbytes: int) -> Any:
        return self.builder.mul(self._step, ir.Constant(I64, nbytes))

    def decided(self, group: Group, between: Between, place: Any) -> Iterator[Lanes]:
        """Yield the keep masks of a group, whose first element is at a position of the streams."""
        builder = self.builder
        draws, run = self.draws(group, between)
        pointer, step, uppers = self._at(_UPPERS, place, 2), self._vector_step(VECTOR_BYTES), []
        for half in draws:
            uppers.append(load(builder, pointer, 0, I16, half.count))
            pointer = builder.gep(pointer, [step])
        resolved = self.resolve_ties(
            draws,
            uppers,
            [run],
            lambda: (self._at(_THRESHOLDS, place, 8), self._vector_step(8)),
        )
        return (half >= bound(upper) for half, upper in zip(resolved, uppers, strict=True))

    def factors(self, kind: Storage | None, place: Any, k: int, count: int) -> list[Lanes]:
        """Return the factors of the k-th `count` elements of a group; none if `kind` is None."""
        if kind is None:
            return []
        pointer = self._at(_FACTORS, place, kind.itemsize)
        pointer = self.builder.gep(pointer, [self._vector_step(k * count * kind.itemsize)])
        return [kind.load(self.builder, pointer, 0, count, None)]


def write_stream(
    p: Lanes, factor: Storage | None, given: tuple[Lanes, Lanes], streams: Any, place: Any
) -> None:
    """Write contiguous elements of streams, or one element, from a position on.

    p is in float64. `given` is whether the factor is given, and then the factor of all elements.
    """
    builder = p.builder

    def at(table: int, itemsize: int) -> Any:
        return _place_in(builder, streams, table, place, itemsize)

    bits = (select(p < _MOST, p, _MOST) + _ROUNDER).bitcast(I64)
    low = bits & 0xFFFFFFFF
    store((bits >> 16).convert(I16), at(_UPPERS, 2), 0)
    store(select(p >= 1.0, low.constant(ALWAYS), low), at(_THRESHOLDS, 8), 0)
    if factor is not None:
        is_given, one = given
        inverse = 1.0 / (1.0 - p)
        if factor is FLOAT32:
            inverse = inverse.convert(one.element)
        chosen = select(is_given, one.broadcast(inverse.count), inverse)
        store(chosen, at(_FACTORS, factor.itemsize), 0)


def repeat_stream(
    builder: Any, factor: Storage | None, count: int, streams: Any, place: Any
) -> Callable[[Any], None]:
    """Return a function that copies the element at a position to `count` elements."""
    tables = [(_UPPERS, I16), (_THRESHOLDS, I64)]
    if factor is not None:
        tables.append((_FACTORS, FLOAT if factor is FLOAT32 else DOUBLE))
    numbers = []
    for table, element in tables:
        size = {I16: 2, FLOAT: 4}.get(element, 8)
        pointer = _place_in(builder, streams, table, place, size)
        numbers.append((load(builder, pointer, 0, element, 0).broadcast(count), table, size))

    def again(to: Any) -> None:
        for number, table, size in numbers:
            store(number, _place_in(builder, streams, table, to, size), 0)

    return again
