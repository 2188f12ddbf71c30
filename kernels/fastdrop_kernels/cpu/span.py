"""Spans: neighbours in memory with consecutive mask indices, the way of nearly all elements.

Bits, decision and element meet in registers here, group by group; only the ends of a span, which
are no whole groups, go through memory.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .bits import (
    GROUP,
    HALVES,
    POINTER,
    TILE,
    U64,
    Law,
    decision_bound,
    drawer,
    halves_scratch,
    settler,
)
from .compiler import routine
from .intrinsics import (
    address_of,
    advance,
    intrinsic,
    past_caches,
    prefetch,
    scratch_in,
    store_fence,
    wide_vectors,
)
from .lanes import I64, Lanes, load, store
from .loops import apply_vector, settled_loop, sizes
from .operations import Operation
from .storage import BITS

_HALF_BYTES = np.uint64(2)
_GROUP, _TILE = np.uint64(GROUP), np.uint64(TILE)
_ZERO, _THREE, _SEVEN, _EIGHT = (np.uint64(n) for n in (0, 3, 7, 8))
_LINE = 64  # bytes of a cache line

# How a span goes through memory.
NEAR = "near"  # it is in the caches, or the hardware fetches it
NEAR_BYTES = 1 << 19  # of output: with the input, the second-level cache holds it
FAR = "far"  # lines are asked for before they are needed
STREAM = "stream"  # and whole lines are written past the caches; not for use in place

# Elements that FAR asks ahead, in bytes of input and of output. The hardware's prefetcher falls
# behind while bits are drawn. 16 Mi float32 on a Cascade Lake, as times np.multiply: 1 Ki elements
# ahead, input and output, 1.0; input only 1.02; 4 Ki ahead 1.02 and 1.08; nothing 1.15.
_AHEAD_BYTES = 4096


def _spread(lines: list[Any], rounds: int, r: int) -> list[Any]:
    return lines[len(lines) * r // rounds : len(lines) * (r + 1) // rounds]


def _groups(operation: Operation, way: str) -> Any:
    """Intrinsic ``(x, y, block, count, seed, stream, threshold, value)``: whole groups."""
    in_bytes, out_bytes = (GROUP * s.bits // 8 for s in (operation.source, operation.target))
    wanted = [(0, at) for at in range(0, in_bytes, _LINE)]
    if way == FAR:
        wanted += [(1, at) for at in range(0, out_bytes, _LINE)]
    if way == NEAR:
        wanted = []

    @intrinsic
    def groups(
        typingctx: Any,
        x: Any,
        y: Any,
        block: Any,
        count: Any,
        seed: Any,
        stream: Any,
        threshold: Any,
        value: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, y, block, count, seed, stream, threshold, value = args
            law = Law(builder, seed, stream, threshold)
            parameter = operation.source.load_value(builder, value)
            staged = _Stage(builder, y, out_bytes) if way == STREAM else None
            with cgutils.for_range(builder, count) as loop:

                def behind(pointer: Any, size: int) -> Any:
                    return builder.gep(pointer, [builder.mul(loop.index, ir.Constant(I64, size))])

                sides = behind(x, in_bytes), behind(y, out_bytes)

                def between(r: int) -> None:
                    for side, at in _spread(wanted, 9, r):
                        prefetch(builder, sides[side], at + _AHEAD_BYTES, side == 1)

                first = builder.add(block, builder.mul(loop.index, ir.Constant(I64, GROUP // 8)))
                halves = law.group(first, between)
                target = staged.begin if staged else sides[1]
                for k, vector in enumerate(halves):
                    kept = operation.source.decide(vector, law.bound)
                    apply_vector(operation, kept, sides[0], target, k, HALVES, parameter)
                if staged:
                    staged.write_lines(loop.index)
            if staged:
                staged.write_rest(builder.gep(y, [builder.mul(count, ir.Constant(I64, out_bytes))]))
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, *[U64] * 5, POINTER), codegen

    return groups


class _Stage:
    """Collects a group's output, and writes it as whole lines past the caches.

    The output may begin inside a line. The stage begins at the same place of a line, with the bytes
    that lie before in memory, which must be the same span's.
    """

    def __init__(self, builder: Any, y: Any, nbytes: int) -> None:
        self.builder, self.nbytes = builder, nbytes
        self.memory = scratch_in(builder, nbytes + _LINE)
        address = builder.ptrtoint(y, I64)
        self.skip = builder.and_(address, ir.Constant(I64, _LINE - 1))
        self.base = builder.gep(y, [builder.neg(self.skip)])
        self.begin = builder.gep(self.memory, [self.skip])
        store(self._line(self.base, 0), self.memory, 0)

    def _line(self, pointer: Any, offset: int) -> Lanes:
        return load(self.builder, pointer, offset, I64, _LINE // 8)

    def write_lines(self, index: Any) -> None:
        builder = self.builder
        base = builder.gep(self.base, [builder.mul(index, ir.Constant(I64, self.nbytes))])
        for at in range(0, self.nbytes, _LINE):
            past_caches(builder, store(self._line(self.memory, at), base, at, align=_LINE))
        store(self._line(self.memory, self.nbytes), self.memory, 0)

    def write_rest(self, end: Any) -> None:
        builder = self.builder
        line = builder.gep(end, [builder.neg(self.skip)])
        with cgutils.for_range(builder, self.skip) as loop:
            byte = builder.load(builder.gep(self.memory, [loop.index]))
            builder.store(byte, builder.gep(line, [loop.index]))


@functools.cache
def span_loop(operation: Operation, way: str) -> Any:
    """Routine ``(x, y, n, index, seed, stream, threshold, value)``: n neighbours.

    Their mask indices are consecutive from `index` on. What lies between whole groups goes the way
    of `settled_loop`.
    """
    if way == STREAM and GROUP * operation.target.bits // 8 < _LINE:
        way = FAR  # narrow vectors of narrow elements fill no line
    settler()  # known by its symbol
    draw, settled, groups = drawer(), settled_loop(operation), _groups(operation, way)
    in_size, out_size = sizes(operation)
    packed, streamed = operation.target is BITS, way == STREAM

    def span(
        x: Any, y: Any, n: Any, index: Any, seed: Any, stream: Any, threshold: Any, value: Any
    ) -> None:
        wide_vectors()
        halves = halves_scratch()
        bound = decision_bound(threshold)
        first = (_GROUP - index % _GROUP) % _GROUP
        if streamed:
            first += _GROUP  # so that the line that groups begin in has been written
        first = min(first, n)
        count = (n - first) // _GROUP
        if packed:
            if (address_of(y) + first) & _SEVEN:
                count = _ZERO
        start, stop = _ZERO, first
        for _ in range(2):
            while start < stop:
                element = index + start
                m = min(_TILE - element % _TILE, stop - start)
                lane = element % _GROUP
                draw(halves, element - lane, lane + m, seed, stream, threshold)
                bits = advance(halves, _HALF_BYTES * lane)
                source, target = advance(x, start * in_size), advance(y, start * out_size)
                settled(source, target, bits, m, bound, value)
                start += m
            if stop < n and count:
                target = advance(y, start * out_size)
                if packed:
                    bit = address_of(target)
                    target = advance(target, (bit >> _THREE) - bit)
                source = advance(x, start * in_size)
                block = (index + start) // _EIGHT
                groups(source, target, block, count, seed, stream, threshold, value)
                start += count * _GROUP
            stop = n
        if streamed:
            store_fence()

    signature = types.void(POINTER, POINTER, *[U64] * 5, POINTER)
    return routine(f"{operation.name}-span-{way}", span, signature)
