"""Make forks wait until no other thread imports or compiles what a child will need.

A forked child has one thread, and all locks in their state at the fork: one that another thread
held is never released. A first call imports Numba and compiles; a child forked meanwhile would
deadlock in its own first call. So hooks of `os.register_at_fork` wait for both to end, also for the
user's imports of Numba. Importing this module registers the hooks; callers hold `importing`.
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


# Held while importing kernels. Lock order: acquire it before any module's import lock.
importing = _thread.RLock()

# Before a fork, hooks run in reverse order of registration. The hook of logging acquires its lock,
# which Numba's import needs; so logging must be imported, and its hook registered, before ours.
_ = logging

_held: list[_Lock] = []
_NEEDED = {"fastdrop", "fastdrop_kernels", "llvmlite", "numba"}  # imported by a first call


def _wait_for_imports() -> None:
    """Wait until no other thread is importing a module that a child's first call needs."""
    for name in list(sys.modules):
        if name.partition(".")[0] in _NEEDED and import_in_progress(name):
            # Returns at once if this thread itself is importing the module.
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _before() -> None:
    # First, because the importing thread may need the lock.
    _wait_for_imports()
    importing.acquire()
    _held.append(importing)
    # Numba's compiler lock is held during every compilation, also of users' functions; a child
    # needs it to load a kernel.
    module = sys.modules.get("numba.core.compiler_lock")
    compiling: _Lock | None = getattr(module, "global_compiler_lock", None)
    # llvmlite's is held during every call of LLVM. Some of them, as for the names of kernels that
    # are looked up in the cache, are made without Numba's; who has both took Numba's first.
    library = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    calling: _Lock | None = getattr(getattr(library, "_lock", None), "_lock", None)
    for lock in (compiling, calling):
        if lock is not None:
            lock.acquire()
            _held.append(lock)


def _after() -> None:
    # Clear the list first: another thread may fork as soon as the last lock is released.
    held = _held[:]
    _held.clear()
    while held:
        held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
