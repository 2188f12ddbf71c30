"""Threshold streams: what p of every element decides and scales by, in memory that stays in cache.

A stream is made of p, a stretch at a time, and says of each element the upper half of its
threshold, all of its threshold (for ties), and the factor of kept elements. Its step is 1, or 0
where all elements of a stretch have one p. The loops over contiguous elements read streams as they
read x (see `loops.contiguous`); `loops.streams` makes them.
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

# Elements of a stream, at most. By a p along rows so long, dropout of 4,096 of them in float32 has
# 0.96 of a plain call's rate with AVX2, 0.65 with AVX-512 (Zen 5, 2026-11).
CAPACITY = 4096
# Groups are read whole, from up to one before the first element to one behind the last; and a
# stream that is repeated goes on for a group behind its period.
_PLACES = CAPACITY + 3 * GROUP
# Byte offsets of the element 0 of a stream.
_UPPERS = 2 * GROUP
_FACTORS = 2 * _PLACES + 8 * GROUP
_THRESHOLDS = 10 * _PLACES + 8 * GROUP
FACTORS, THRESHOLDS = np.uint64(_FACTORS), np.uint64(_THRESHOLDS)
STREAM_BYTES = 18 * _PLACES

# Below 2**21 and from 2**20 on, the last bit of a float64 is 2**-32. So a sum with p is p times
# 2**32 rounded to an integer, ties to even, in the lower bits.
_ROUNDER = 1.5 * 2.0**20
_MOST = 1.0 - 2.0**-32  # what p below 1 is taken for at most: its threshold is 2**32 - 1


def _place_in(builder: Any, streams: Any, table: int, place: Any, itemsize: int) -> Any:
    distance = builder.mul(place, ir.Constant(I64, itemsize))
    return builder.gep(streams, [builder.add(distance, ir.Constant(I64, table))])


class StreamSampler(Draw):
    """What decides: a key, and a stream of thresholds."""

    def __init__(self, builder: Any, seed: Any, stream: Any, streams: Any, step: Any) -> None:
        super().__init__(builder, seed, stream)
        self._streams, self._step = streams, step

    def _at(self, table: int, place: Any, itemsize: int) -> Any:
        place = self.builder.mul(place, self._step)
        return _place_in(self.builder, self._streams, table, place, itemsize)

    def _vector_step(self, nbytes: int) -> Any:
        return self.builder.mul(self._step, ir.Constant(I64, nbytes))

    def decided(self, group: Group, between: Between, place: Any) -> Iterator[Lanes]:
        """Yield what is kept of a group, which begins at a place of the stream."""
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
        """Return the factors of the k-th `count` elements of a group, in order; none if no kind."""
        if kind is None:
            return []
        pointer = self._at(_FACTORS, place, kind.itemsize)
        pointer = self.builder.gep(pointer, [self._vector_step(k * count * kind.itemsize)])
        return [kind.load(self.builder, pointer, 0, count, None)]


def write_stream(
    p: Lanes, factor: Storage | None, given: tuple[Lanes, Lanes], streams: Any, place: Any
) -> None:
    """Write what a stream says of neighbours, or of one element, from a place on.

    p is in float64. `given` is whether factors are given, and if they are, the one of all elements.
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
    """Return what writes the same as is said of the element at a place to `count` neighbours."""
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
