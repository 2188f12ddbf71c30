"""Schedules of calls: the order of the axes, the inner loop, and the axis that threads share.

`call_plan` and `driver` call this module, which calls `layout.plan`.
"""

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

# Operations that need the uniform use transposed tiles from this many rows on; a tile always draws
# 32 (on a Cascade Lake). gaussian_noise of 8 long rows in Fortran order takes 12.2 ns an element by
# the transposed schedule and 6.1 by the strided; of 16, 6.5 and 9.1 (Cascade Lake, November 2026).
_UNIFORM_ROWS = 12
# Rows far apart in the mask are faster as transposed tiles up to this many elements: 100 rows of 48
# take 0.74 of the time, 1000 0.65; of 64 0.95 and 0.84, but up to 1.6 in a wider array; of 96 1.18
# and 0.98. Normal numbers: 1000 rows of 128 0.56, of 256 1.03 (Cascade Lake, November 2026).
_NARROW = 48
_UNIFORM_NARROW = 128


def _index_strides(
    shape: tuple[int, ...], index_strides: tuple[int, ...] | None, threshold: int
) -> tuple[int, ...]:
    if is_degenerate(threshold):  # one decision for all elements
        return (0,) * len(shape)
    return c_strides(shape) if index_strides is None else index_strides


def packed_layout(
    shape: tuple[int, ...], index_strides: tuple[int, ...] | None, threshold: int
) -> Plan:
    """Return the layout plan of a packed mask, whose bits are in C order."""
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
    """Return the layout plan of arrays; `index_strides` None means those of C order."""
    itemsize = tiled_bytes(operation)
    if operation.needs_uniform:
        # Never degenerate. The strided schedule serves every layout, but is slow for rows that are
        # short or not consecutive in the mask.
        steps = c_strides(shape) if index_strides is None else index_strides
        strides = input_strides, output_strides, steps
        return plan(
            shape,
            *strides,
            transposed_from=_UNIFORM_ROWS,
            narrow=_UNIFORM_NARROW,
            itemsize=itemsize,
        )
    if threshold == 0 and itemsize:
        # All is kept, whatever is drawn. Tiles take a fifth of the strided schedule's time.
        drawn = _order_of(shape, output_strides)
        tiles = plan(shape, input_strides, output_strides, drawn, itemsize=itemsize)
        if tiles.schedule == TILED:
            return tiles
    steps = _index_strides(shape, index_strides, threshold)
    return plan(shape, input_strides, output_strides, steps, narrow=_NARROW, itemsize=itemsize)


def _order_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index strides of a mask that lies in memory as an array of these strides does."""
    order = sorted(range(len(shape)), key=lambda a: -abs(strides[a]))
    steps = c_strides(tuple([shape[a] for a in order]))
    return tuple([step for _, step in sorted(zip(order, steps, strict=True))])


def input_strides_of(operation: Operation, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of an operation's input: 0 if it has none."""
    return strides if operation.source.bits else (0,) * len(strides)


def are_contiguous(
    operation: Operation,
    shape: tuple[int, ...],
    input_strides: tuple[int, ...],
    output_strides: tuple[int, ...],
) -> bool:
    """Return whether these are the strides of C-contiguous arrays."""
    steps = c_strides(shape)
    return all(
        strides == tuple([step * storage.itemsize for step in steps])
        for strides, storage in (
            (input_strides_of(operation, input_strides), operation.source),
            (output_strides, operation.target),
        )
    )


def split_axis(axes: list[Axis], schedule: str, packed: bool) -> tuple[int, int]:
    """Return an axis that threads may share, and the multiple for its chunk lengths.

    It is the outermost that is long enough, because chunks of inner axes have short rows: 16 Mi in
    rows of 4,096 whose decisions are shared 16 times took 30 ms on two threads, and take 12.5 ms on
    one (Cascade Lake, November 2026).
    """
    if packed:  # rows may share a byte; multiples of 8 rows do not
        return 0, 64
    longest = max(range(len(axes)), key=lambda a: axes[a][0])
    if schedule == TRANSPOSED:
        # Columns if there are enough, since chunks of few rows cannot use the tile pipeline: 1536 x
        # 1400 on two threads has 0.8 of C order's rate, not 0.3 (Cascade Lake, November 2026).
        *_, columns, rows = (axis[0] for axis in axes)
        enough = min(2 * thread_count(), rows // SEGMENT_ROWS)
        if longest == len(axes) - 1 and columns // 64 >= enough:
            longest -= 1
        if longest == len(axes) - 1:
            return longest, SEGMENT_ROWS
        # A chunk's first and last tile do not overlap with another in the tile pipeline.
        return longest, 128 if columns >= 4 * 128 * thread_count() else 64
    if schedule == TILED:
        return longest, {len(axes) - 2: 256, len(axes) - 1: 64}.get(longest, 1)
    outer = (a for a in range(len(axes) - 1) if axes[a][0] >= CHUNKS_PER_THREAD)
    split = next(outer, longest)
    return split, 64 if split == len(axes) - 1 else 1


def split_axis_of_rows(axes: list[Axis], packed: bool) -> tuple[int, int]:
    """Return the same as `split_axis` for kernels whose inner loop has two axes.

    It is the longest axis, counted in tiles along the innermost.
    """
    last = len(axes) - 1
    if packed:  # see `split_axis`
        split = next((a for a in range(last) if axes[a][0] > 1), last)
        return split, GROUP if split == last else 64
    split = max(range(len(axes)), key=lambda a: axes[a][0] if a < last else axes[a][0] // TILE)
    return split, GROUP if split == last else 1
