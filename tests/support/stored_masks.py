"""The array that a mask stands for, and what a product with it must give, by the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import oracle
from tests.support.oracle import Array


def stored(
    shape: tuple[int, ...], p: float, key: fd.Key, scale: float | None = None, **where: Any
) -> Array:
    """What a loop would have stored: 0.0 where dropped, the scale where kept."""
    factor = contract.scale(p) if scale is None else scale
    return np.where(oracle.mask(shape, p, key, **where), factor, 0.0)


def multiplied(x: Array, mask: Array) -> Array:
    """What the fused product of x and a stored mask gives, in the dtype of x.

    One factor for all kept elements, which is not 0; +0.0 where dropped.
    """
    x, mask = np.broadcast_arrays(x, mask)
    factor = mask[mask != 0][0] if mask.any() else 0.0
    if x.dtype.kind == "c":
        pair = oracle.applied(mask != 0, x.real, factor), oracle.applied(mask != 0, x.imag, factor)
        result = np.empty(x.shape, x.dtype)
        result.real, result.imag = pair
        return result
    return oracle.applied(mask != 0, x, factor)
