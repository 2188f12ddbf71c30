"""Where arrays live."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from . import _arguments as arguments


def namespace(x: Any) -> Any:
    """Return the module that makes arrays where x lives: NumPy, or CuPy for its own arrays."""
    return sys.modules["cupy"] if arguments.is_cupy(x) else np
