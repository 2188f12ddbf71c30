"""Where arrays live."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def is_cupy(x: Any) -> bool:
    """Say whether x is an array of CuPy's, without importing it."""
    return type(x).__module__.partition(".")[0] == "cupy"


def namespace(x: Any) -> Any:
    """Return the module that makes arrays where x lives: NumPy, or CuPy for its own arrays."""
    return sys.modules["cupy"] if is_cupy(x) else np
