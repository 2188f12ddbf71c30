"""How an array is cut into numbered blocks: along its chunks, or along its outermost axes.

`apply` calls `cut`. Nothing is read here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Region: TypeAlias = tuple[slice, ...]


class Blocks:
    """The regions of an array of a shape that have the given lengths, or less at its ends.

    They are numbered along `axes`, of which the last changes fastest.
    """

    def __init__(self, shape: tuple[int, ...], lengths: Sequence[int], axes: Sequence[int]) -> None:
        self.shape, self.lengths, self._axes = shape, tuple(lengths), tuple(axes)
        self._counts = [-(-shape[axis] // self.lengths[axis]) for axis in self._axes]

    def __len__(self) -> int:
        """Return the number of blocks."""
        return math.prod(self._counts)

    def __getitem__(self, n: int) -> Region:
        """Return the region of block n."""
        region = [slice(0)] * len(self.shape)
        for axis, count in zip(reversed(self._axes), reversed(self._counts), strict=True):
            n, at = divmod(n, count)
            begin = at * self.lengths[axis]
            region[axis] = slice(begin, min(begin + self.lengths[axis], self.shape[axis]))
        return tuple(region)

    @property
    def elements(self) -> int:
        """The most elements of a block."""
        return math.prod(map(min, self.lengths, self.shape))

    def are_contiguous(self, axes: Sequence[int]) -> bool:
        """Return whether each block is one stretch of an array that is stored along `axes`.

        The last of them is the one along which neighbours lie.
        """
        whole = True  # the axes further in
        for axis in reversed(axes):
            length, n = self.lengths[axis], self.shape[axis]
            if not whole and length > 1 and n > 1:
                return False
            whole = whole and length >= n
        return True


def cut(
    shape: tuple[int, ...],
    axes: Sequence[int],
    itemsize: int,
    limit: int,
    chunks: Sequence[int],
    whole: frozenset[int] = frozenset(),
) -> Blocks:
    """Return blocks of whole chunks, of at most `limit` bytes, but of at least one chunk each.

    They grow along the last of `axes` first. The axes in `whole` are not cut.
    """
    lengths = [
        max(n if axis in whole else min(n, chunk), 1)
        for axis, (n, chunk) in enumerate(zip(shape, chunks, strict=True))
    ]
    for axis in reversed(axes):
        fit = limit // (math.prod(lengths) * max(itemsize, 1))
        if lengths[axis] * fit >= shape[axis]:
            lengths[axis] = max(shape[axis], 1)
            continue
        lengths[axis] *= max(fit, 1)
        if lengths[axis] < shape[axis]:
            break
    return Blocks(shape, lengths, axes)


def chunks_of(store: Any) -> tuple[int, ...] | None:
    """Return the lengths of what a store reads and writes at once; None for one without chunks."""
    for name in ("shards", "chunks"):  # zarr's shards, of several chunks, are files
        lengths = getattr(store, name, None)
        if isinstance(lengths, tuple) and lengths and len(lengths) == len(store.shape):
            if all(isinstance(n, int | np.integer) and n > 0 for n in lengths):
                return tuple(map(int, lengths))
    return None


def common_chunks(
    shape: tuple[int, ...],
    itemsize: int,
    limit: int,
    read: tuple[int, ...] | None,
    written: tuple[int, ...] | None,
) -> tuple[int, ...]:
    """Return the lengths of which blocks are multiples, for what is read and what is written.

    Each chunk of the target belongs to one block, so that no chunk is written twice. Where blocks
    of whole chunks of both would be larger than the limit, the source's chunks are cut.
    """
    if read is None or written is None:
        return read or written or (1,) * len(shape)
    both = [min(math.lcm(a, b), n) for a, b, n in zip(read, written, shape, strict=True)]
    return tuple(both) if math.prod(both) * itemsize <= limit else written
