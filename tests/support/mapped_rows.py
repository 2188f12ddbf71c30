"""Rows of a mapped file, for `apply_blocks` in the tests' process and in those that it starts."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd
from tests.support.oracle import Array

KEY, P = fd.Key(11), 0.5


def opened(file: str, mode: Any) -> Array:
    """Return a file as rows of 1000 numbers."""
    return np.memmap(file, np.float32, mode).reshape(-1, 1000)
