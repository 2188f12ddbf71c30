"""Find the kernels, also in a source tree that has not been installed."""

from __future__ import annotations

import os
import sys

try:
    import fastdrop_kernels  # noqa: F401
except ModuleNotFoundError:
    _kernels = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernels")
    if not os.path.isdir(os.path.join(_kernels, "fastdrop_kernels")):
        raise ImportError(
            "fastdrop_kernels is missing, which is installed together with fastdrop: install "
            "fastdrop again"
        ) from None
    sys.path.append(_kernels)
