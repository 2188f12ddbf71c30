"""Arrays that are read and written by slices alone, as those on disk are, and note each."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.oracle import Array


class Sliced:
    """An array of no library, with chunks, that fails where it is told to."""

    def __init__(self, values: Array, chunks: tuple[int, ...] | None = None) -> None:
        self.values, self.chunks = values, chunks
        self.shape, self.dtype = values.shape, values.dtype
        self.read: list[Any] = []
        self.written: list[Any] = []
        self.fails_at = -1  # the number of the write that raises

    def __getitem__(self, region: Any) -> Array:
        self.read.append(region)
        block: Array = self.values[region].copy()
        return block

    def __setitem__(self, region: Any, values: Array) -> None:
        if len(self.written) == self.fails_at:
            self.values[region].reshape(-1)[:1] = np.nan  # torn
            raise OSError("the disk is full")
        self.written.append(region)
        self.values[region] = values
