"""What standard error is: a terminal, a notebook, or neither.

Notices of compilations (`cpu.codegen.notice`) and progress bars of `fastdrop` ask it.
"""

from __future__ import annotations

import sys
from typing import Any

TERMINAL, NOTEBOOK, FILE = "terminal", "notebook", "file"


def kind_of(stream: Any) -> str:
    """Return whether what is written to a stream is seen on a terminal, in a notebook, or later."""
    if getattr(stream, "isatty", bool)():
        return TERMINAL
    # Jupyter's own stream, which is no terminal, but is replaced by none that is redirected.
    if type(stream).__module__.partition(".")[0] == "ipykernel":
        return NOTEBOOK
    return FILE


def kind() -> str:
    """Return what standard error is now."""
    return kind_of(sys.stderr)
