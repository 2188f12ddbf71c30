"""Forked children that must succeed."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable

# What Python says of every fork beside threads, from 3.12 on.
warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)


def fork(work: Callable[[], None]) -> int:
    """Do some work in a forked child; returns its process id."""
    child = os.fork()
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
