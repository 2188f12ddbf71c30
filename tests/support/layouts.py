"""Layouts of one array in memory, by name: functions that copy an array into each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.oracle import Array, misaligned

LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.copy,
    "F": lambda x: np.array(x, order="F"),
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, -1)[::2, ..., ::3],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ..., ::-1])[::-1, ..., ::-1],
    "rows of a wider array": lambda x: np.concatenate([x, x], -1)[..., : x.shape[-1]],
    "misaligned": lambda x: misaligned(x, x.itemsize),
}
