"""Lines: one axis of any steps in memory, where decisions are consecutive or one for all."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..codegen.compiler import device, routine
from ..codegen.intrinsics import advance, pointer_at, scratch
from ..elements.operations import Operation, drawn_for
from ..elements.sampler import GROUP, U64, is_degenerate, load16, load32, load64, store64
from .apply import any_loop, noise_bytes, shared_loop, sizes
from .call_descriptor import BUFFER, END, FIRST, ONCE, REACH, THRESHOLD, VALUE
from .contiguous import NEAR, span_loop
from .loop_nest import INDEX, INNER, X, Y, length_of, step_of
from .shared import MOST

_GROUP = np.uint64(GROUP)
_MARKS_BYTES = np.uint64(2 * MOST)  # of all that are kept
# What a kernel sets aside for `line_loop`, and for loops over two axes. Marks are packed 64 at a
# time, and may be loaded so far past the end.
marks_scratch = scratch(int(_MARKS_BYTES) + 2 * 64)
_ZERO, _ONE, _FOUR = (np.uint64(n) for n in (0, 1, 4))

_SHARED, _CONSECUTIVE = np.uint64(0), np.uint64(1)  # index steps


@device
def joined_step(n: Any, step: Any, short: Any) -> Any:
    """Return the index step from line to line where many lines' marks are drawn at once, else 0.

    That is where lines of n follow each other closely, and are not longer than `short`.
    """
    return step if n <= short and step >= n and step - n <= n // _FOUR else _ZERO


@functools.cache
def line_loop(operation: Operation, way: str) -> Any:
    """Inner loop (see `loop_nest.INNER`) over one axis of any steps in memory, index step 0 or 1.

    The mask buffer of the call state holds the noise of some elements, from FIRST on and below END:
    marks, or what an exact operation needs. So a row of decisions that is shared by many rows of
    the array is drawn once; where no row is (ONCE), they need not go through memory. But if lines
    of one axis follow each other closely, REACH indices in all (else 0), their marks are drawn
    together: a line of 1,024 costs 5 groups of bits and two copies if drawn by itself (rows of a
    wider array, float32: 0.3 of the rate of C order).
    """
    draw, span = span_loop(drawn_for(operation), NEAR), span_loop(operation, way)
    decides, noise_size = not operation.exact, noise_bytes(operation)
    load_noise = load16 if decides else load32
    most = _MARKS_BYTES // noise_size
    apply, apply_shared = any_loop(operation), shared_loop(operation)
    in_size, out_size = sizes(operation)

    def line(x: Any, y: Any, axis: Any, index: Any, call: Any) -> None:
        n, xs, ys, step = length_of(axis), step_of(axis, X), step_of(axis, Y), step_of(axis, INDEX)
        threshold, value = load64(call, THRESHOLD), pointer_at(load64(call, VALUE))
        reach = load64(call, REACH)
        if decides and is_degenerate(threshold):
            apply_shared(x, xs, y, ys, n, U64(threshold == _ZERO), value)
            return
        contiguous = step == _CONSECUTIVE and xs == in_size and ys == out_size
        if contiguous and (n > most or (load64(call, ONCE) and not reach)):
            span(x, y, n, index, call)
            return
        marks = pointer_at(load64(call, BUFFER))
        start = _ZERO
        while start < n:
            element = index + start * step
            m = min(most, n - start) if step else _ONE
            first = load64(call, FIRST)
            if element < first or element + m > load64(call, END):
                first = element
                # A decision shared along the line is seldom the only one: draw those that follow.
                drawn = m if step else _GROUP - element % _GROUP
                if step and reach > start + m:
                    drawn = min(reach - start, most)
                    beyond = (element + drawn) % _GROUP  # of the last whole group
                    drawn -= min(beyond, drawn - m)
                draw(marks, marks, drawn, element, call)
                store64(call, FIRST, first)
                store64(call, END, element + drawn)
            mark = advance(marks, noise_size * (element - first))
            if step == _SHARED:
                apply_shared(x, xs, y, ys, n, U64(load_noise(mark, _ZERO)), value)
                return
            apply(advance(x, start * xs), xs, advance(y, start * ys), ys, mark, m, value)
            start += m

    return routine(f"{operation.name}-{way}-line", line, INNER)
