"""Blocks: a p of each element that is the same for large parts of an array, part by part.

Of a p for every channel or sample, each one's elements are a plain call: 64 x 64 x 3136 float32
with a p of each of 64 channels take 1.46 ns an element on one thread, where drawing 32-bit uniforms
takes 2.03 and one p for all 0.77. Blocks of 64 Ki elements gain nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import contract
from ..threads import run_together
from .operations import Operation

Array: TypeAlias = npt.NDArray[Any]

# Elements of a block that is worth a call, and bytes from one to the next.
_LARGE, _APART = 1 << 17, 2048


def varying(p: Array, y: Array) -> list[int] | None:
    """Return the axes along which p varies, if what lies between is worth a call; else None."""
    axes = [a for a, n in enumerate(p.shape) if n > 1 and p.strides[a]]
    blocks = 1
    for a in axes:
        blocks *= p.shape[a]
        if abs(y.strides[a]) < _APART:
            return None
    return axes if y.size >= blocks * _LARGE else None


def apply_by_blocks(
    apply: Callable[..., None],
    operation: Operation,
    x: Array,
    y: Array,
    axes: list[int],
    p: Array,
    index: int,
    index_strides: tuple[int, ...],
    seed: int,
    stream: int,
    value: Array,
    threads: int,
) -> None:
    """Apply what decides by p as `operation.plain`, for every place along some axes.

    `threads` take blocks by turns; where each call shares its work itself, it is 1.
    """
    assert operation.plain is not None
    others = tuple([s for a, s in enumerate(index_strides) if a not in axes])
    places = list(np.ndindex(*[p.shape[a] for a in axes]))

    def work() -> None:
        while places:
            try:
                place = places.pop()
            except IndexError:  # another thread was faster
                return
            at: list[Any] = [...] + [slice(None)] * p.ndim  # an array, of no axes too
            first = index
            for a, k in zip(axes, place, strict=True):
                at[1 + a] = k
                first += k * index_strides[a]
            its = float(p[tuple(at)].flat[0])
            factor = np.array(contract.scale(its), value.dtype) if operation.inverse else value
            parts = [array[tuple(at)] for array in (x, y)]
            threshold = contract.threshold(its)
            apply(operation.plain, *parts, first, others, seed, stream, threshold, factor)

    run_together(work, threads)
