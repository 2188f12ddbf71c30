"""Forked children that must succeed."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable

# From 3.12 on Python warns of every fork in a process with threads.
warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)

_fork: Callable[[], int] = getattr(os, "fork", lambda: 0)  # Windows has none


def fork(work: Callable[[], None]) -> int:
    """Do some work in a forked child; returns its process id."""
    child = _fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return child


def wait(*children: int) -> None:
    """Wait for children, all of which must succeed."""
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(ends), f"children ended with {ends}"
