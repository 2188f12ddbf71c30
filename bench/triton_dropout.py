"""Dropout in Triton, in the way of its tutorial: a uniform for each element, by its index.

A contender of `bench.gpu`. It is a module of its own, because Triton reads a kernel's source file.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

_BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]  # of any type where Triton is missing
def _seeded(x, y, n, p, seed, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Write x / (1 - p) where the uniform of an element is above p, and 0 elsewhere."""
    index = tl.program_id(axis=0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < n
    value = tl.load(x + index, mask=inside)
    kept = tl.rand(seed, index) > p
    tl.store(y + index, tl.where(kept, value / (1 - p), 0.0), mask=inside)


def dropout(x: Any, y: Any, p: float, seed: int) -> Any:
    """Drop elements of a tensor of torch's into another; the same seed gives the same mask."""
    _seeded[(triton.cdiv(x.numel(), _BLOCK),)](x, y, x.numel(), p, seed, BLOCK=_BLOCK)
    return y
