"""Padding that is never masked (`masked`), and masks independent of the batch length (`dropped`).

An array of p excludes padding: p = 0 there. Other elements are decided as with a single p, because
each element has its own uniform. That depends on the element's index, which changes with the length
of the rows; so ``global_shape`` fixes the largest length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[Any]
PAD = 0
LONGEST = 512  # the largest number of rows of any batch


def masked(tokens: Array, p: float, value: int, key: fd.Key) -> Array:
    """Replace tokens by `value` with probability p, but not padding."""
    probabilities = np.where(tokens == PAD, 0.0, p)
    return fd.masked_fill(tokens, probabilities, value, rng=key)


def dropped(x: Array, p: float, key: fd.Key) -> Array:
    """Drop elements of (samples, length, width) by masks that do not depend on the length."""
    samples, _, width = x.shape
    return fd.dropout(x, p, rng=key, offset=(0, 0, 0), global_shape=(samples, LONGEST, width))


def run() -> None:
    """Check both."""
    rng, key = np.random.default_rng(0), fd.Key(5)
    tokens = rng.integers(1, 1000, (8, 64))
    for row, length in zip(tokens, rng.integers(10, 64, 8), strict=True):
        row[length:] = PAD
    found = masked(tokens, 0.5, -1, key)
    assert (found[tokens == PAD] == PAD).all()
    plain = fd.masked_fill(tokens, 0.5, -1, rng=key)
    assert np.array_equal(found, np.where(tokens == PAD, PAD, plain))

    x = rng.standard_normal((8, 64, 16))
    longer = np.concatenate([x, np.zeros((8, 36, 16))], axis=1)
    assert np.array_equal(dropped(longer, 0.5, key)[:, :64], dropped(x, 0.5, key))
    # Without global_shape, the masks differ.
    assert not np.array_equal(fd.dropout(longer, 0.5, rng=key)[:, :64], fd.dropout(x, 0.5, rng=key))
