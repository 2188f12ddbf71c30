"""Dropout as Triton users write it: a uniform an element from a seed and the element's index."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

SEED = 2026
BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _seeded(x, y, n, p, scale, seed, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < n
    values = tl.load(x + index, mask=inside)
    kept = tl.rand(seed, index) >= p
    tl.store(y + index, tl.where(kept, values * scale, 0.0), mask=inside)


def seeded(x: Any, y: Any, p: float) -> Any:
    """Write dropout of a tensor to another, and return that."""
    n = x.numel()
    _seeded[(triton.cdiv(n, BLOCK),)](x, y, n, p, 1 / (1 - p), SEED, BLOCK=BLOCK)
    return y
