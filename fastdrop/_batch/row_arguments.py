"""Checks of lengths of rows without their padding, and of shares, for functions on batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._check import arguments, detect


def checked_row_lengths(
    value: Any, shape: tuple[int, ...], most: int, of: str, axis: str
) -> npt.NDArray[np.int64] | None:
    """Return lengths as an array of a shape, each of which must be in [0, most]; or None.

    `of` and `axis` say in errors what has that shape, and what has that length.
    """
    if value is None:
        return None
    if detect.on_gpu(value):
        raise TypeError(
            f"row_lengths is {detect.a_kind_of(value)} on a GPU: give a NumPy array, or a list"
        )
    lengths = arguments.integers("row_lengths", value)
    if lengths.shape != shape:
        raise ValueError(
            f"row_lengths has shape {lengths.shape}, and {of} is {shape}: give a length for each "
            "row"
        )
    if not lengths.size:
        return np.zeros(shape, np.int64)
    least, longest = int(lengths.min()), int(lengths.max())
    if least < 0 or longest > most:
        wrong = least if least < 0 else longest
        raise ValueError(
            f"row_lengths has {wrong}, and {axis} has {most} elements: give 0 to {most}"
        )
    return lengths.astype(np.int64)


def checked_share(name: str, value: Any, meaning: str) -> float:
    """Return a number in [0, 1]; `meaning` says in errors what it is."""
    share = arguments.real(name, value, f"a finite number, {meaning}")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{name}={value!r} is not in [0, 1]: {name} is {meaning}")
    return share
