"""Integers from what callers give as such.

Keys and all other argument checks use it. It calls nothing of the package.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def as_integer(name: str, value: Any) -> int:
    """Return an integer; a bool, which Python counts among them, is refused."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is a bool: give an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: give an integer") from None
