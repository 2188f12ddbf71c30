"""Decisions that several elements share, as `noise_shape` asks for: two axes treated at once.

*Runs*: one decision for all elements along the inner axis (whole channels). *Repeats*: the same
decisions again for every step along the outer axis (locked over time). Either way they are drawn
once, as marks.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..codegen.compiler import routine
from ..codegen.intrinsics import advance, pointer_at, wide_vectors
from ..elements.operations import MARKS, Operation
from ..elements.sampler import HALVES, load16, load64
from .apply import certain, elements, sizes
from .call_descriptor import BUFFER, VALUE
from .contiguous import NEAR, span_loop
from .loop_nest import AXIS_BYTES, INNER, X, Y, length_of, step_of

MOST = 8192  # decisions that are kept as marks: 16 KiB
_MOST, _VECTOR = np.uint64(MOST), np.uint64(HALVES)
_MARK_BYTES = np.uint64(2)
_ZERO = np.uint64(0)


@functools.cache
def runs_loop(operation: Operation) -> Any:
    """Inner loop over two axes, of index steps 1 and, inside, 0. A dropped run is not even read."""
    draw = span_loop(MARKS, NEAR)
    keep, drop = certain(operation, HALVES, True), certain(operation, HALVES, False)
    keep_one, drop_one = certain(operation, 0, True), certain(operation, 0, False)
    in_size, out_size = sizes(operation)

    def runs(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        wide_vectors()
        inside = advance(axis, AXIS_BYTES)
        outer, x_outer, y_outer = length_of(axis), step_of(axis, X), step_of(axis, Y)
        inner, x_inner, y_inner = length_of(inside), step_of(inside, X), step_of(inside, Y)
        marks, value = pointer_at(load64(call, BUFFER)), pointer_at(load64(call, VALUE))
        whole = inner - inner % _VECTOR if x_inner == in_size and y_inner == out_size else _ZERO
        for begin in range(_ZERO, outer, _MOST):
            count = min(_MOST, outer - begin)
            draw(marks, marks, count, index + begin, call)
            for r in range(count):
                a, b = advance(x, (begin + r) * x_outer), advance(y, (begin + r) * y_outer)
                if load16(marks, _MARK_BYTES * r):
                    for t in range(_ZERO, whole, _VECTOR):
                        keep(advance(a, t * in_size), advance(b, t * out_size), value)
                    for t in range(whole, inner):
                        keep_one(advance(a, t * x_inner), advance(b, t * y_inner), value)
                else:
                    for t in range(_ZERO, whole, _VECTOR):
                        drop(advance(a, t * in_size), advance(b, t * out_size), value)
                    for t in range(whole, inner):
                        drop_one(advance(a, t * x_inner), advance(b, t * y_inner), value)

    return routine(f"{operation.name}-runs", runs, INNER)


@functools.cache
def repeats_loop(operation: Operation) -> Any:
    """Inner loop over two axes, of index steps 0 and, inside, 1."""
    draw = span_loop(MARKS, NEAR)
    # Not `any_loop`, which is called for each row: float64 rows of 3 to 8 took 1.8 to 2.4 times as
    # long, and float32 rows of 33 1.3 times (4,000 of 20 float32 0.5, though).
    many, one = elements(operation, HALVES), elements(operation, 0)
    in_size, out_size = sizes(operation)

    def repeats(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        wide_vectors()
        inside = advance(axis, AXIS_BYTES)
        outer, x_outer, y_outer = length_of(axis), step_of(axis, X), step_of(axis, Y)
        inner, x_inner, y_inner = length_of(inside), step_of(inside, X), step_of(inside, Y)
        marks, value = pointer_at(load64(call, BUFFER)), pointer_at(load64(call, VALUE))
        contiguous = x_inner == in_size and y_inner == out_size
        for begin in range(_ZERO, inner, _MOST):
            count = min(_MOST, inner - begin)
            whole = count - count % _VECTOR if contiguous else _ZERO
            draw(marks, marks, count, index + begin, call)
            for r in range(outer):
                a = advance(x, r * x_outer + begin * x_inner)
                b = advance(y, r * y_outer + begin * y_inner)
                for t in range(_ZERO, whole, _VECTOR):
                    mark = advance(marks, _MARK_BYTES * t)
                    many(advance(a, t * in_size), advance(b, t * out_size), mark, value)
                for t in range(whole, count):
                    mark = advance(marks, _MARK_BYTES * t)
                    one(advance(a, t * x_inner), advance(b, t * y_inner), mark, value)

    return routine(f"{operation.name}-repeats", repeats, INNER)
