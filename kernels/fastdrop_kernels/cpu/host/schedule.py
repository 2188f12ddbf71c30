"""Layouts: how an operation walks through arrays, of which forms, and where threads part them."""

from __future__ import annotations

from ...contract import is_degenerate
from ...layout import TILED, TRANSPOSED, Axis, Plan, c_strides, plan
from ...threads import thread_count
from ..elements.operations import Operation
from ..elements.sampler import GROUP
from ..loops.streams import TILE
from ..loops.tile_transpose import tiled_bytes
from ..loops.transposed import SEGMENT_ROWS
from .work_sharing import CHUNKS_PER_THREAD

# Rows that are worth a panel of normal numbers, which draws 32 at once (on a Cascade Lake), wanted
# or not: gaussian_noise of 8 long rows in Fortran order takes 12.2 ns an element as panels and 6.1
# as lines, of 16 6.5 and 9.1.
_EXACT_ROWS = 12
# Elements of a line, up to which panels are faster where lines lie far apart in the mask: 100 lines
# of 48 take 0.74 of the time, 1000 0.65; of 64 0.95 and 0.84, but up to 1.6 in a wider array; of 96
# 1.18 and 0.98. Normal numbers: 1000 lines of 128 take 0.56, of 256 1.03.
_NARROW = 48
_EXACT_NARROW = 128


def _index_strides(
    shape: tuple[int, ...], index_strides: tuple[int, ...] | None, threshold: int
) -> tuple[int, ...]:
    if is_degenerate(threshold):  # one decision for all, however they are indexed
        return (0,) * len(shape)
    return c_strides(shape) if index_strides is None else index_strides


def packed_layout(
    shape: tuple[int, ...], index_strides: tuple[int, ...] | None, threshold: int
) -> Plan:
    """Return how to walk through the bits of a mask in C order."""
    bits, nothing = c_strides(shape), (0,) * len(shape)
    return plan(shape, nothing, bits, _index_strides(shape, index_strides, threshold))


def layout_of(
    operation: Operation,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
    index_strides: tuple[int, ...] | None,
    threshold: int,
) -> Plan:
    """Return how to walk through arrays; `index_strides` None means those of C order."""
    itemsize = tiled_bytes(operation)
    if operation.needs_uniform:
        # Certain at no threshold. Of the forms it goes in lines and panels: lines are right for
        # every layout, and slow where they are short or jump through the mask.
        steps = c_strides(shape) if index_strides is None else index_strides
        strides = input_strides, output_strides, steps
        return plan(
            shape, *strides, transposed_from=_EXACT_ROWS, narrow=_EXACT_NARROW, itemsize=itemsize
        )
    steps = _index_strides(shape, index_strides, threshold)
    return plan(shape, input_strides, output_strides, steps, narrow=_NARROW, itemsize=itemsize)


def input_strides_of(operation: Operation, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the steps through what an operation reads: none if it reads nothing."""
    return strides if operation.source.bits else (0,) * len(strides)


def are_contiguous(
    operation: Operation,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
) -> bool:
    """Say whether these are the strides of arrays in C order."""
    steps = c_strides(shape)
    return all(
        strides == tuple([step * storage.itemsize for step in steps])
        for strides, storage in (
            (input_strides_of(operation, input_strides), operation.source),
            (output_strides, operation.target),
        )
    )


def split_axis(axes: list[Axis], schedule: str, packed: bool) -> tuple[int, int]:
    """Return an axis that threads may share, and what their parts should be multiples of.

    The outermost that is long enough: parts of an inner one are strips, whose lines are short (16
    Mi in rows of 4,096 that are shared 16 times took 30 ms on two threads, and one takes 12.5).
    """
    if packed:  # rows may share a byte, and whole multiples of 8 rows never do
        return 0, 64
    longest = max(range(len(axes)), key=lambda a: axes[a][0])
    if schedule == TRANSPOSED:
        # Columns if there are enough, for parts of few rows have no tiles in flight: 1536 x 1400 on
        # two threads at 0.8 of the rate of C order, not 0.3.
        *_, columns, rows = (axis[0] for axis in axes)
        enough = min(2 * thread_count(), rows // SEGMENT_ROWS)
        if longest == len(axes) - 1 and columns // 64 >= enough:
            longest -= 1
        if longest == len(axes) - 1:
            return longest, SEGMENT_ROWS
        # A part's first and last tile have none beside them.
        return longest, 128 if columns >= 4 * 128 * thread_count() else 64
    if schedule == TILED:
        return longest, {len(axes) - 2: 256, len(axes) - 1: 64}.get(longest, 1)
    outer = (a for a in range(len(axes) - 1) if axes[a][0] >= CHUNKS_PER_THREAD)
    split = next(outer, longest)
    return split, 64 if split == len(axes) - 1 else 1


def split_axis_of_rows(axes: list[Axis], packed: bool) -> tuple[int, int]:
    """Return the axis that threads share, where two are treated at once, and of what multiples.

    The longest, where rows are cut seldom.
    """
    last = len(axes) - 1
    if packed:  # as above
        split = next((a for a in range(last) if axes[a][0] > 1), last)
        return split, GROUP if split == last else 64
    split = max(range(len(axes)), key=lambda a: axes[a][0] if a < last else axes[a][0] // TILE)
    return split, GROUP if split == last else 1
