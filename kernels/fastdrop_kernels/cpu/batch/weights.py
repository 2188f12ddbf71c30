"""Random weights of elements: how many thresholds a uniform reaches, times a factor.

`fastdrop._batch.weights` calls `weights`, for Poisson counts and for Bernoulli weights. It draws
tiles of uniforms, and counts with vectors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...rows import Rows
from ...shielded import shielded
from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, copy_bytes, intrinsic, scratch, scratch_in, wide_vectors
from ..codegen.vectors import BIT, DOUBLE, I8, I16, I32, I64, Lanes, load, select, store
from ..elements.sampler import DRAWS, POINTER, U64
from ..elements.storage import FLOAT64, computed_in
from ..host.catalogue import FLOATS
from ..loops.loop_nest import Kernel
from .draws import call_state, set_key, uniforms
from .rows import Array, RowsCall, array_at, row_kernel, run_rows, word_at

_TILE = 1024  # elements whose uniforms are drawn at once: 4 KiB, which stay in the L1 cache
_VECTOR = DRAWS  # elements that are counted at once
_INTEGERS = {"int8": (I8, 1), "int16": (I16, 2), "int32": (I32, 4), "int64": (I64, 8)}
_COST = 3.0  # relative to dropout, with 12 thresholds (Zen 5, November 2026)


def weights(
    y: Array,
    rows: Rows,
    seed: int,
    stream: int,
    thresholds: npt.NDArray[np.uint32],
    factor: Array,
) -> RowsCall | None:
    """Write how many of the thresholds an element's U reaches, times a factor, to y in C order.

    The factor is int32 where y is of integers, else of the compute type.
    """
    words = [rows.length * y.itemsize, len(thresholds)]
    arrays = y, thresholds, factor
    return run_rows(_kernel(y.dtype.name), rows, arrays, seed, stream, words, _COST)


def prepare(dtype: np.dtype[Any]) -> None:
    """Compile all that `weights` needs for a dtype, or load it from the cache."""
    _kernel(dtype.name)


@functools.cache
@shielded
def _kernel(name: str) -> Kernel:
    """Kernel of `weights`. Words: bytes of a row, number of thresholds."""
    size = _itemsize(name)
    draw, weigh = uniforms(), _weigh(name)
    tile_memory, end_memory = scratch(4 * _TILE), scratch(_VECTOR * size)
    zero, one, two = np.uint64(0), np.uint64(1), np.uint64(2)
    tile_length, item, vector = np.uint64(_TILE), np.uint64(size), np.uint64(_VECTOR)
    uniform = np.uint64(4)

    def row(
        arrays: Any,
        words: Any,
        own: Any,
        r: Any,
        length: Any,
        seed: Any,
        stream: Any,
        index: Any,
    ) -> None:
        wide_vectors()
        call, tile, end = call_state(), tile_memory(), end_memory()
        set_key(call, seed, stream)
        y = advance(array_at(arrays, zero), r * word_at(words, zero))
        thresholds, factor = array_at(arrays, one), array_at(arrays, two)
        count = word_at(words, one)
        for k in range(zero, length, tile_length):
            n = min(tile_length, length - k)
            draw(tile, tile, n, index + k, call)
            whole = n // vector
            weigh(tile, y, whole, thresholds, count, factor)
            y = advance(y, whole * vector * item)
            rest = n - whole * vector
            if rest:
                weigh(advance(tile, whole * vector * uniform), end, one, thresholds, count, factor)
                copy_bytes(y, end, rest * item)

    return row_kernel(f"weights-{name}", row)


def _itemsize(name: str) -> int:
    return _INTEGERS[name][1] if name in _INTEGERS else FLOATS[name].itemsize


def _weigh(name: str) -> Any:
    """Routine ``(uniforms, y, vectors, thresholds, count, factor)``: count, multiply, store."""
    size, write = _itemsize(name), _writer(name)

    @intrinsic
    def weigh(
        typingctx: Any, u: Any, y: Any, vectors: Any, thresholds: Any, count: Any, factor: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            u, y, vectors, thresholds, count, factor = args
            counted = scratch_in(builder, 4 * _VECTOR)
            zeros = Lanes(builder, ir.Constant(I32, 0)).broadcast(_VECTOR)
            with cgutils.for_range(builder, vectors) as outer:
                here = builder.gep(u, [builder.mul(outer.index, ir.Constant(I64, 4 * _VECTOR))])
                uniform = load(builder, here, 0, I32, _VECTOR)
                store(zeros, counted, 0)
                with cgutils.for_range(builder, count) as inner:
                    place = builder.gep(thresholds, [builder.mul(inner.index, ir.Constant(I64, 4))])
                    threshold = load(builder, place, 0, I32, 0).broadcast(_VECTOR)
                    before = load(builder, counted, 0, I32, _VECTOR)
                    store(select(uniform >= threshold, before + 1, before), counted, 0)
                target = builder.gep(
                    y, [builder.mul(outer.index, ir.Constant(I64, size * _VECTOR))]
                )
                write(builder, load(builder, counted, 0, I32, _VECTOR), factor, target)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, U64, POINTER, U64, POINTER), codegen

    def run(u: Any, y: Any, vectors: Any, thresholds: Any, count: Any, factor: Any) -> None:
        wide_vectors()
        weigh(u, y, vectors, thresholds, count, factor)

    signature = types.void(POINTER, POINTER, U64, POINTER, U64, POINTER)
    return routine(f"weigh-{name}", run, signature)


def _writer(name: str) -> Callable[[Any, Lanes, Any, Any], None]:
    """Return ``write(builder, counts, factor, y)``, which stores a vector of counts as a dtype."""
    if name in _INTEGERS:
        element, _ = _INTEGERS[name]

        def write_integers(builder: Any, counts: Lanes, factor: Any, y: Any) -> None:
            product = counts * load(builder, factor, 0, I32, 0).broadcast(_VECTOR)
            store(product if element is I32 else product.convert(element), y, 0)

        return write_integers
    kind = FLOATS[name]

    def write_floats(builder: Any, counts: Lanes, factor: Any, y: Any) -> None:
        numbers = counts.as_float()  # exact: counts are small
        if computed_in(kind) is FLOAT64:
            numbers = numbers.convert(DOUBLE)
        product = numbers * computed_in(kind).load_value(builder, factor, 0).broadcast(_VECTOR)
        every = Lanes(builder, ir.Constant(BIT, 1)).broadcast(_VECTOR)
        kind.store(every, kind.arranged(product), 0, y, 0, None)

    return write_floats
