"""Thresholds and factors for arrays of drop probabilities, computed with NumPy on the host.

The CUDA driver calls this module for per-element p.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def thresholds(p: Array) -> Array:
    """Return `contract.threshold` of each probability, as uint64."""
    # In place: allocating memory takes as long as writing to it.
    result: Array = np.asarray(p * 2.0**32)
    np.rint(result, out=result)  # ties go to even
    np.minimum(result, 2.0**32 - 1, out=result)
    np.copyto(result, 2.0**32, where=p >= 1.0)
    return result.astype(np.uint64)


def factors(p: Array, factor: Array | None, dtype: np.dtype[Any]) -> Array:
    """Return the factors of kept elements: `factor`, or ``1 / (1 - p)`` rounded once.

    They are infinite where p is 1.
    """
    if factor is not None:
        return np.where(p < 1.0, factor, np.inf).astype(dtype)
    result: Array = np.asarray(1.0 - p)
    with np.errstate(divide="ignore"):
        np.divide(1.0, result, out=result)
    return result.astype(dtype, copy=False)
