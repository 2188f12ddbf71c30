"""The driver: which kernel, over which parts of an array, on which threads.

Everything is one call of a serial kernel, or a few over parts of the array. A part's result does
not depend on the others', nor on who computes it: the mask is a function of the index.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...contract import is_certain
from ...layout import AXES, LINE, NEIGHBOURS, Plan, apart_from, c_strides
from ...threads import run_together, thread_count
from ..codegen.ndarray_layout import LAYOUT_IS_KNOWN, slot
from ..codegen.target import NONTEMPORAL as NONTEMPORAL_IS_FAST
from ..elements.operations import Operation
from ..elements.sampler import GROUP
from ..loops.call_descriptor import ALL, Descriptor, descriptor
from ..loops.contiguous import FAR, NEAR, NEAR_BYTES, NONTEMPORAL, has_nontemporal
from ..loops.kernels import along, box, flat
from ..loops.loop_nest import Kernel
from ..loops.tiles import program
from . import fast_call as whole_calls
from .call_plan import Prepared, prepared, starter
from .catalogue import (
    DROPS,
    FLOATS,
    PACK,
    alpha_dropping,
    bias_act_dropping,
    bias_act_dropping_backward,
    dropping,
    dropping_each,
    filling,
    filling_each,
    gaussian_adding,
    gaussian_dropping,
    marking,
    marking_each,
    packing,
)
from .chunks import pack_by_pieces
from .fast_call import express_record
from .multi_operand import apply_jointly, prepare_jointly, sums
from .per_column import by_lines
from .schedule import (
    PARTS_PER_THREAD,
    are_contiguous,
    input_strides_of,
    layout_of,
    packed_layout,
    split_of,
)

__all__ = [
    "LAYOUT_IS_KNOWN",
    "NEAR_BYTES",
    "alpha_dropping",
    "apply",
    "bias_act_dropping",
    "bias_act_dropping_backward",
    "dropping",
    "dropping_each",
    "express",
    "express_record",
    "filling",
    "filling_each",
    "gaussian_adding",
    "gaussian_dropping",
    "marking",
    "marking_each",
    "pack",
    "pack_each",
    "packing",
    "prepare",
    "repeatable",
    "sum_to",
]

Array: TypeAlias = npt.NDArray[Any]


class Job(NamedTuple):
    """A call whose layouts and law are known: what is left are the arrays, and the key."""

    operation: Operation
    kernel: Kernel | None  # None: nontemporal, unless it is in place
    told: Descriptor
    first: int  # mask index
    length: int  # of what threads share, in parts that are multiples
    weight: int
    multiple: int


# Elements below which a second thread costs more than it saves, on a machine of two cores whose
# other core was idle: 1 Mi takes 0.75 of one thread's time on two if called again and again, as a
# training loop does, but 1.15 after 20 ms in which one thread did something else, and 2 Mi 0.6 and
# 0.9. Of what is walked over, 1 Mi in runs of 16 that share a decision takes 0.6.
PARALLEL_FROM = 1 << 20
# Normal numbers take six times as long: 512 Ki in 0.97 ms on two threads, not 1.65. By 4 and not 6,
# threads come in from 256 Ki on, and not from 171 Ki, where nobody has timed whether they pay.
_EXACT = 4
# Parts are small, so that a thread that starts late or shares its core does not hold up the others
# (16 Mi on two threads: 10% faster than with 4 parts to each), but begin with lines that nobody has
# asked for: 2 Mi takes 5% less in parts of 64 Ki than of 32 Ki, and no less in larger ones.
_PART = 1 << 16


def _last_level_cache() -> int:
    try:
        size = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):
        size = 0
    return size if size > 0 else 32 << 20


# Bytes of contiguous output from which it is written by nontemporal stores, if not in place: where
# output and input together fill the last-level cache. Of 16 MiB (of 32) on a Zen 5, one thread,
# float32 takes 0.75 of the time, float64 0.69; with a np.multiply of the output after each, 0.95
# and 0.93. Of 4 MiB, which that finds in the cache otherwise, 1.17 and 1.40, of 8 MiB 1.03 and
# 0.95.
_NONTEMPORAL_FROM = _last_level_cache() // 2 if NONTEMPORAL_IS_FAST else 1 << 63


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Return float64 sums over the axes where `shape`, of as many axes as x has, has a 1.

    The same for any number of threads.
    """
    return sums(x.dtype.name, FLOATS[x.dtype.name], x, shape, shares)


def prepare(operations: Iterable[Operation]) -> None:
    """Compile, or load from the cache, all that `apply` may call for some operations."""
    if LAYOUT_IS_KNOWN:
        starter()
    for operation in operations:
        if operation.operands:
            prepare_jointly(operation)
            if operation.plain:
                prepare([operation.plain])
            if operation.tabled:
                for way in (NEAR, FAR):
                    along(operation.tabled, way)
            continue
        if operation in DROPS.values() and LAYOUT_IS_KNOWN:
            for way in (NEAR, FAR):
                whole_calls.express(operation, way)
        ways = [NEAR] if operation is PACK else [NEAR, FAR]
        for way in ways:
            program(operation, way)
            for form in AXES:
                box(operation, form, way)
        if _is_nontemporal(operation, 1 << 62):
            ways.append(NONTEMPORAL)
        for way in ways:
            flat(operation, way)


def express(operation: Operation, nbytes: int) -> Any:
    """Return the kernel of `express` for arrays so large; None if they go another way.

    That is where threads share the work, or stores are nontemporal.
    """
    if nbytes <= NEAR_BYTES:
        return whole_calls.express(operation, NEAR)
    if _is_nontemporal(operation, nbytes):
        return None
    if nbytes >= PARALLEL_FROM * operation.target.itemsize and thread_count() > 1:
        return None
    return whole_calls.express(operation, FAR)


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
    if math.prod(shape) == 0:
        return
    _do(_packing(shape, index, index_strides, threshold, y), y, y, seed, stream)


def _packing(
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: Array,
) -> Job:
    if index_strides is None and not is_certain(threshold) and index % 8 == 0:
        return _line(PACK, math.prod(shape), 0, index, threshold, value)
    # Other parts would share bytes, and `_walk` cuts where they do not.
    return _walk(PACK, packed_layout(shape, index_strides, threshold), index, threshold, value)


def pack_each(
    y: Array,
    shape: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    seed: int,
    stream: int,
    p: Array,
) -> None:
    """Do as `pack`, by a p of each element, of that shape."""
    if y.size:
        pack_by_pieces(apply, marking_each(), y, shape, p, index, index_strides, seed, stream)


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
    operands: Sequence[Array] = (),
) -> None:
    """Apply an operation; `index_strides` None means those of C order.

    `operands` are what it declares, of the shape of x (views with steps of 0 are).
    """
    if operation.operands:
        if y.size:
            steps = c_strides(y.shape) if index_strides is None else index_strides
            _apply_together(operation, x, y, operands, index, steps, seed, stream, threshold, value)
        return
    if y.size:
        contiguous = x.flags.c_contiguous and y.flags.c_contiguous
        law = index, index_strides, threshold, value
        job = _job(operation, contiguous, x.shape, x.strides, y.strides, y.nbytes, *law)
        _do(job, x, y, seed, stream)


def repeatable(
    operation: Operation,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...] | None,
    output_strides: tuple[int, ...],
    index: int,
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: Array,
) -> Prepared | None:
    """Return what `apply` or `pack` does to arrays of a layout, without operands: not empty ones.

    `input_strides` are None where no x is read, and `output_strides` are bits where bits are
    packed. All that does not change from call to call is done then. That took 15 of a small call's
    20 us, and of 1 Mi float32, after which little of Python is left in the caches, 90 of 520.
    """
    if not LAYOUT_IS_KNOWN:
        return None
    read = output_strides if input_strides is None else input_strides
    law = index, index_strides, threshold, value
    nbytes = (math.prod(shape) * operation.target.bits + 7) // 8
    if operation is PACK:
        job = _packing(shape, *law)
    else:
        contiguous = are_contiguous(operation, shape, read, output_strides)
        job = _job(operation, contiguous, shape, read, output_strides, nbytes, *law)
    alone = job.kernel is not None and job.weight < PARALLEL_FROM
    return prepared(
        job.kernel,
        job.told,
        apart_from(shape, read, output_strides, operation.target.itemsize),
        in_place=read == output_strides,
        cleared=nbytes if operation is PACK else 0,
        several=None if alone else functools.partial(_do_at, job),
    )


def _job(
    operation: Operation,
    contiguous: bool,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    nbytes: int,
    index: int,
    index_strides: tuple[int, ...] | None,
    threshold: int,
    value: Array,
) -> Job:
    if contiguous and index_strides is None and (operation.exact or not is_certain(threshold)):
        return _line(operation, math.prod(shape), nbytes, index, threshold, value)
    input_strides = input_strides_of(operation, input_strides)
    layout = layout_of(operation, shape, input_strides, output_strides, index_strides, threshold)
    return _walk(operation, layout, index, threshold, value)


def _apply_together(
    operation: Operation,
    x: Array,
    y: Array,
    operands: Sequence[Array],
    index: int,
    index_strides: tuple[int, ...],
    seed: int,
    stream: int,
    threshold: int,
    value: Array,
) -> None:
    strides = input_strides_of(operation, x.strides), y.strides, index_strides
    found = by_lines(operation, operands[0], value, y.shape, *strides)
    if found:
        alone, layout, threshold, value = found
        _do(_walk(alone, layout, index, threshold, value), x, y, seed, stream)
        return
    place = index, index_strides, seed, stream
    apply_jointly(operation, x, y, operands, *place, threshold, value, shares)


def _line(
    operation: Operation, n: int, nbytes: int, index: int, threshold: int, value: Array
) -> Job:
    told, weight = descriptor(n, threshold, value), _weight(operation) * n
    kernel = None
    if not _is_nontemporal(operation, nbytes):
        kernel = flat(operation, NEAR if nbytes <= NEAR_BYTES else FAR)
    return Job(operation, kernel, told, index, n, weight, GROUP)


def _is_nontemporal(operation: Operation, nbytes: int) -> bool:
    """Whether so many contiguous bytes are written by nontemporal stores, if not in place."""
    return nbytes >= _NONTEMPORAL_FROM and has_nontemporal(operation)


def _do_at(job: Job, x: Array, y: Array, index: int, seed: int, stream: int) -> None:
    """Do a job whose first mask index is another."""
    _do(job._replace(first=index), x, y, seed, stream)


def _do(job: Job, x: Array, y: Array, seed: int, stream: int) -> None:
    """Do a job, on as many threads as pay."""
    operation, kernel, told, first, length, weight, multiple = job
    if kernel is None:
        # What is read shortly before it is written is in the caches already.
        in_place = operation.source.bits and np.may_share_memory(x, y)
        kernel = flat(operation, FAR if in_place else NONTEMPORAL)
    part, threads = shares(length, weight, multiple)
    if operation is PACK:
        y.fill(0)
    if threads == 1:
        kernel(slot(x), slot(y), told.at, first, seed, stream, 0, part)
        return
    counter = np.zeros(1, np.uint64)

    def work() -> None:
        # The arrays, and not their slots, so that they live as long as a thread is working.
        kernel(slot(x), slot(y), told.at, first, seed, stream, slot(counter), part)

    run_together(work, threads)


def _walk(operation: Operation, layout: Plan, index: int, threshold: int, value: Array) -> Job:
    kernel, its_program, split, multiple = _kernel_of(operation, layout)
    told = descriptor(len(layout.axes), threshold, value, split, layout.table, its_program)
    weight = _weight(operation) * layout.elements
    return Job(operation, kernel, told, index, layout.axes[split][0], weight, multiple)


def _kernel_of(operation: Operation, layout: Plan) -> tuple[Kernel, Array | None, int, int]:
    """Return the kernel for a box, its program, the axis that threads share, and what multiples."""
    axes, form, _, n = layout
    packed = operation is PACK
    far = not packed and n * operation.target.bits > 8 * NEAR_BYTES
    way = FAR if far else NEAR
    split = split_of(axes, form, packed)
    if form == NEIGHBOURS:
        return along(operation, way), None, *split
    return box(operation, form, way), program(operation, way) if form == LINE else None, *split


def _weight(operation: Operation) -> int:
    return _EXACT if operation.exact else 1


def shares(length: int, elements: int, multiple: int) -> tuple[int, int]:
    """Return how long the parts of an axis are, and how many threads share them."""
    threads = thread_count()
    if elements < PARALLEL_FROM or threads == 1:
        return ALL, 1
    parts = min(threads * PARTS_PER_THREAD, max(1, elements // _PART))
    size = -(-length // parts)
    size = -(-size // multiple) * multiple
    return size, min(threads, -(-length // size))
