"""Marks of tests that need what not every operating system has."""

from __future__ import annotations

import os
import sys

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="this system has no /proc, as Linux has"
)
needs_permissions = pytest.mark.skipif(
    os.name != "posix", reason="this system has no permissions as POSIX has"
)
needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows sends no signals to processes"
)
