"""What dropout by an array of p must give: every element has its own threshold and factor."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support.normals import uniforms
from tests.support.oracle import Array, index_of

KEY = fd.Key(2**40 + 1, 2**63 + 5)
# 1 and 0, next to 1, and where the threshold is rounded: ties to even, and up to 2**32.
SPECIAL = [1.0, 0.0, 1 - 2**-53, 1 - 2**-33, 0.5 * 2**-32, 1.5 * 2**-32, 2.5 * 2**-32, 0.3]
_threshold = np.vectorize(contract.threshold, otypes=[np.uint64])


def probabilities(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Random probabilities, and special ones among them."""
    p = rng.random(shape)
    special = SPECIAL[: p.size]
    p.flat[: len(special)] = special
    return p


def kept_by(p: Array, shape: tuple[int, ...], key: fd.Key = KEY, **where: Any) -> Array:
    """Which elements are kept."""
    drawn = uniforms(index_of(shape, **where), key).astype(np.uint64)
    return np.asarray(drawn >= np.broadcast_to(_threshold(p), shape))


def expected(
    x: Array, p: Array, scale: float | None = None, key: fd.Key = KEY, **where: Any
) -> Array:
    """What ``fastdrop.dropout(x, p, rng=key, scale=scale, **where)`` must give."""
    computed = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    with np.errstate(all="ignore"):
        factor = (1 / (1 - p) if scale is None else np.asarray(scale)).astype(computed)
        product = (x.astype(computed) * factor).astype(x.dtype)
    return np.where(kept_by(p, x.shape, key, **where), product, np.zeros((), x.dtype))
