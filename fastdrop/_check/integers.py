"""Convert an argument to a Python integer.

Keys and all other argument checks call `as_integer`; it calls nothing of the package.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def as_integer(name: str, value: Any) -> int:
    """Return an integer; raise TypeError for a bool, although Python's bool is an int."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is a bool: give an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: give an integer") from None
