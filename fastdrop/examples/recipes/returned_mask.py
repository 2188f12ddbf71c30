"""Return the mask together with the result: draw it from the same key.

An `fd.Mask` does this in 16 bytes: ``x * mask`` is the result, and ``np.asarray(mask)`` the array
that loops store. `fd.dropout_mask` returns it as bools, or packed to bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[Any]


def dropout_and_mask(x: Array, p: float, rng: fd.Key | np.random.Generator) -> tuple[Array, Array]:
    """Return the result of dropout, and the mask of kept elements."""
    key = fd.as_key(rng)  # once, because a Generator gives a new key each time
    return fd.dropout(x, p, rng=key), fd.dropout_mask(x.shape, p, rng=key)


def run() -> None:
    """Check that result and mask agree."""
    x = np.random.default_rng(0).uniform(1, 2, (5, 7)).astype(np.float32)
    y, kept = dropout_and_mask(x, 0.25, np.random.default_rng(1))
    assert np.array_equal(y != 0, kept)
    assert np.array_equal(y[kept], x[kept] * np.float32(1 / 0.75))
    mask = fd.Mask(x.shape, 0.25, rng=fd.as_key(np.random.default_rng(1)))
    assert np.array_equal(x * mask, y)
    assert np.array_equal(np.asarray(mask) != 0, kept)
