"""The driver: which kernel, over which parts of an array, on which threads.

Everything is one call of a serial kernel, or a few over parts of the array. A part's result does
not depend on the others', nor on who computes it: the mask is a function of the index.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable
from typing import Any, TypeAlias

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt

from ..plan import AXES, LINE, PANEL, Plan, c_strides, plan
from ..threads import run_parts, thread_count
from . import operations, storage
from .box import MAX_AXES, box
from .express import express, express_record
from .flat import flat
from .memory import LAYOUT_IS_KNOWN, slot
from .operations import Operation
from .span import FAR, NEAR, NEAR_BYTES, STREAM

__all__ = [
    "LAYOUT_IS_KNOWN",
    "NEAR_BYTES",
    "apply",
    "dropping",
    "express",
    "express_record",
    "filling",
    "marking",
    "pack",
    "packing",
    "prepare",
]

Array: TypeAlias = npt.NDArray[Any]

_DROPS = {
    "float16": operations.drop("float16", storage.FLOAT16),
    "bfloat16": operations.drop("bfloat16", storage.BFLOAT16),
    "float32": operations.drop("float32", storage.FLOAT32),
    "float64": operations.drop("float64", storage.FLOAT64),
}
_FILLS = {size: operations.fill(kind) for size, kind in storage.MOVED.items()}
_MARK = operations.mark()
_PACK = operations.pack()

_ALWAYS = 1 << 32  # the threshold that drops all

# Elements below which a second thread costs more than it saves. Handing over takes 20 to 50 us if
# the threads were busy just before, more after a pause: 256 Ki took 1.3 times as long on two.
PARALLEL_FROM = 1 << 20
# Parts are small, so that a thread that starts late or shares its core does not hold up the others
# (16 Mi on two threads: 10% faster than with 4 parts to each), but not so small that taking the
# next one, 2 us, is felt.
_PART = 1 << 16
_PARTS_PER_THREAD = 16


def _last_level_cache() -> int:
    try:
        size = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):
        size = 0
    return size if size > 0 else 32 << 20


# Writing past the caches takes 30% longer on Cascade Lake (16 Mi float32), where a core waits as
# long for such a store as for a line to be read. On Zen 5 it made hand-written code a quarter
# faster; this kernel has not been timed there.
_STREAMED_FROM = _last_level_cache() if llvm.get_host_cpu_name().startswith("znver") else 1 << 63


@functools.cache  # a dtype's name takes 5 us
def dropping(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes ``x * value`` where kept, and +0.0 where dropped.

    The value is a float32 for the half types, which are computed with in float32.
    """
    return _DROPS[dtype.name]


def filling(dtype: np.dtype[Any]) -> Operation:
    """Return the operation that writes x where kept, and the value where dropped."""
    return _FILLS[dtype.itemsize]


def marking() -> Operation:
    """Return the operation that writes 1 where kept and 0 where dropped, whatever x and value."""
    return _MARK


def prepare(operations: Iterable[Operation]) -> None:
    """Compile, or load from the cache, all that `apply` may call for some operations."""
    for operation in operations:
        if operation in _DROPS.values() and LAYOUT_IS_KNOWN:
            express(operation)
        if operation is _PACK:
            ways, forms = [NEAR], [LINE, PANEL]
        else:
            ways, forms = [NEAR, FAR], list(AXES)
            box(operation, LINE, FAR)
        if _STREAMED_FROM < 1 << 63 and operation is not _PACK:
            ways.append(STREAM)
        for way in ways:
            flat(operation, way)
        for form in forms:
            box(operation, form, NEAR)


def packing() -> Operation:
    """Return the operation of `pack`."""
    return _PACK


def pack(
    y: Array,
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
) -> None:
    """Write the mask of `shape`, in C order, 8 elements to a byte, to the contiguous bytes `y`."""
    n = math.prod(shape)
    if n == 0:
        return
    # What may fail (a setting, compiling) before anything is written.
    thread_count()
    if index_strides is None and not _certain(threshold) and index % 8 == 0:
        flat(_PACK, NEAR)
        y.fill(0)
        _line(_PACK, y, y, n, index, seed, stream, threshold, y)
        return
    # Other parts would share bytes, and `_walk` cuts where they do not.
    bits, nothing = c_strides(shape), (0,) * len(shape)
    layout = plan(shape, nothing, bits, _index_strides(shape, index_strides, threshold))
    box(_PACK, PANEL if layout.form == PANEL else LINE, NEAR)
    y.fill(0)
    _walk(_PACK, y, y, layout, index, seed, stream, threshold, y)


def _certain(threshold: int) -> bool:
    return threshold == 0 or threshold == _ALWAYS


def _index_strides(
    shape: tuple[int, ...], index_strides: tuple[int, ...] | None, threshold: int
) -> tuple[int, ...]:
    if _certain(threshold):  # one decision for all, however they are indexed
        return (0,) * len(shape)
    return c_strides(shape) if index_strides is None else index_strides


def apply(
    operation: Operation,
    x: Array,
    y: Array,
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    threshold: int,
    value: Array,
) -> None:
    """Apply an operation; `index_strides` None means those of C order."""
    plain = index_strides is None and not _certain(threshold)
    if plain and x.flags.c_contiguous and y.flags.c_contiguous:
        _line(operation, x, y, y.size, index, seed, stream, threshold, value)
    elif y.size:
        strides = _index_strides(x.shape, index_strides, threshold)
        input_strides = x.strides if operation.source.bits else (0,) * x.ndim
        layout = plan(x.shape, input_strides, y.strides, strides)
        _walk(operation, x, y, layout, index, seed, stream, threshold, value)


def _line(
    operation: Operation,
    x: Array,
    y: Array,
    n: int,
    index: int,
    seed: int,
    stream: int,
    threshold: int,
    value: Array,
) -> None:
    kernel = flat(operation, _way(operation, x, y))
    if n < PARALLEL_FROM or thread_count() == 1:
        kernel(slot(x), slot(y), 0, n, index, seed, stream, threshold, slot(value))
        return

    def part(start: int, stop: int) -> None:
        # The arrays, and not their slots, so that they live as long as a part is running.
        kernel(slot(x), slot(y), start, stop, index, seed, stream, threshold, slot(value))

    # Parts begin at multiples of what is drawn at once, so that no bits are drawn twice.
    run_parts(part, _bounds(n, n, 2048, -index % 2048))


def _way(operation: Operation, x: Array, y: Array) -> str:
    if y.nbytes <= NEAR_BYTES or operation is _PACK:
        return NEAR
    in_place = operation.source.bits and np.may_share_memory(x, y)
    return STREAM if y.nbytes >= _STREAMED_FROM and not in_place else FAR


def _walk(
    operation: Operation,
    x: Array,
    y: Array,
    layout: Plan,
    index: int,
    seed: int,
    stream: int,
    threshold: int,
    value: Array,
) -> None:
    axes, form, table, n = layout
    packed = operation is _PACK
    if packed and form != PANEL:  # bits are no bytes that could be written alone
        form = LINE
    assert len(axes) <= MAX_AXES
    # Panels ask ahead in any case, and what is shared leaves the hardware the time to do so.
    far = form == LINE and not packed and n * operation.target.bits > 8 * NEAR_BYTES
    kernel = box(operation, form, FAR if far else NEAR)
    if n < PARALLEL_FROM or thread_count() == 1:
        places = slot(x), slot(y), 0, 0, slot(table), len(axes)
        kernel(*places, index, seed, stream, threshold, slot(value))
        return
    # Packed rows may share a byte, and whole multiples of 8 rows never do.
    split = 0 if packed else max(range(len(axes)), key=lambda a: axes[a][0])
    length, *steps = axes[split]

    def part(start: int, stop: int) -> None:
        mine = table.copy()
        mine[split, 0] = stop - start
        x_start, y_start, first = (start * step % 2**64 for step in steps)
        places = slot(x), slot(y), x_start, y_start, slot(mine), len(axes)
        kernel(*places, (index + first) % 2**64, seed, stream, threshold, slot(value))

    run_parts(part, _bounds(length, n, 64, 0))


def _bounds(length: int, elements: int, multiple: int, first: int) -> list[tuple[int, int]]:
    """Split ``range(length)`` at `first` plus multiples, into parts of at least _PART elements."""
    parts = min(thread_count() * _PARTS_PER_THREAD, max(1, elements // _PART))
    size = max(1, -(-length // parts))
    size = -(-size // multiple) * multiple
    cuts = [0, *range(first + size if first < length else length, length, size), length]
    return [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if a < b]
