"""Convert an argument to a Python integer.

Keys and all other argument checks call `as_integer`; it describes values by `detect`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .detect import described


def as_integer(name: str, value: Any) -> int:
    """Return an integer; raise TypeError for a bool, although Python's bool is an int."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is a bool: give an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{described(name, value)}: give an integer") from None
