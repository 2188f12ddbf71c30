"""What drop_block2d and drop_block3d must give: torchvision's formulas, block by block."""

from __future__ import annotations

import math

import numpy as np

import fastdrop as fd
from tests.support.oracle import Array, Mask, applied, mask


def kept_mask(shape: tuple[int, ...], p: float, size: int, key: fd.Key) -> Mask:
    """Each element that the small mask drops is the first of a dropped block."""
    space = shape[2:]
    grid = [n - size + 1 for n in space]
    gamma = (p * math.prod(space)) / (size ** len(space) * math.prod(grid))
    kept = np.ones(shape, bool)
    starts = np.argwhere(~mask((*shape[:2], *grid), gamma, key))
    for n, c, *corner in starts:
        block = tuple(slice(a, a + size) for a in corner)
        kept[n, c][block] = False
    return kept


def expected_of(x: Array, p: float, size: int, key: fd.Key, eps: float = 1e-6) -> Array:
    kept = kept_mask(x.shape, p, size, key)
    return applied(kept, x, kept.size / (eps + kept.sum()))
