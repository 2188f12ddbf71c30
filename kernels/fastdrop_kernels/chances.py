"""What kernels compare and multiply with, made of arrays of probabilities. NumPy's, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def thresholds(p: Array) -> Array:
    """Return `contract.threshold` of each probability, as uint64."""
    limited = np.minimum(np.rint(p * 2.0**32), 2.0**32 - 1)  # ties go to even
    return np.where(p < 1.0, limited, 2.0**32).astype(np.uint64)


def factors(p: Array, factor: Array | None, dtype: np.dtype[Any]) -> Array:
    """Return the factors of kept elements: one that is given, or ``1 / (1 - p)``, rounded once.

    They are infinite where nothing is kept.
    """
    with np.errstate(divide="ignore"):
        kept = 1.0 / (1.0 - p) if factor is None else factor
    return np.where(p < 1.0, kept, np.inf).astype(dtype)
