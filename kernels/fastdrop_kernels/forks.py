"""When the process may fork: when no other thread does what the child could then never do.

A forked child has one thread, and every lock as it was at the fork: one that another thread held
stays taken for ever. A first call imports Numba and compiles, and a child that was forked meanwhile
would hang in its own first call. So forks wait for both to end, also for imports of Numba that are
somebody else's.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import logging
import os
import sys
from typing import Protocol

from .shielded import import_in_progress


class _Lock(Protocol):
    def acquire(self) -> object: ...
    def release(self) -> object: ...


# To be held while importing what a call needs. Take it before an import's own lock, not in there.
importing = _thread.RLock()

# Hooks of `register_at_fork` run last to first before a fork. That of logging takes its lock, which
# Numba's import needs: so it must have been registered, that is to say imported, before ours.
_ = logging

_taken: list[_Lock] = []
_NEEDED = {"fastdrop", "fastdrop_kernels", "llvmlite", "numba"}  # by what a first call imports


def _wait_for_imports() -> None:
    """Let other threads end their imports of what a child's first call needs."""
    for name in list(sys.modules):
        if name.partition(".")[0] in _NEEDED and import_in_progress(name):
            # Returns at once where it is this thread's own import that forks.
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _before() -> None:
    # First: who imports may want the lock.
    _wait_for_imports()
    importing.acquire()
    _taken.append(importing)
    # Numba's, held by whoever compiles, be it a user's code: children take it, to load a kernel.
    module = sys.modules.get("numba.core.compiler_lock")
    compiling: _Lock | None = getattr(module, "global_compiler_lock", None)
    if compiling is not None:
        compiling.acquire()
        _taken.append(compiling)


def _after() -> None:
    # Another thread may fork, and take them, as soon as the last is released.
    taken = _taken[:]
    _taken.clear()
    while taken:
        taken.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
