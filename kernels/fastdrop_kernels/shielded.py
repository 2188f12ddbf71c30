"""Work that no signal cuts short: importing and compiling, which leave half of themselves behind.

Python raises what a signal handler raises, KeyboardInterrupt above all, between any two steps of
the main thread. Inside an import of Numba or a compilation that leaves modules and registries half
made, and every later call of the process fails. Other threads are not struck.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


def import_in_progress(name: str) -> bool:
    """Say whether the import of a module has begun and not ended."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def run_shielded(work: Callable[[], Result]) -> Result:
    """Return what some work returns, or raise what it raises; it goes on if the caller is struck.

    The caller may hold no lock that the work takes. Inside an import it holds that module's, and
    so the work is done there and then.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or threading.stack_size()  # what the user chose may be too little
        or _inside_an_import()
    ):
        return work()
    results: list[Result] = []
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    # No daemon: a process that ends waits for it, for LLVM does not take it well to be left.
    thread = threading.Thread(target=guarded, name="fastdrop-first-call", daemon=False)
    try:
        thread.start()
    except RuntimeError:  # no thread can be had, or the interpreter is shutting down
        return work()
    thread.join()
    if errors:
        raise errors[0]
    if not results:
        raise RuntimeError(
            "this process was forked inside a first call, by a signal handler, and the thread that "
            "imports and compiles is not here: leave such a child by os._exit or os.exec"
        )
    return results[0]


def _inside_an_import() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def shielded(make: Callable[..., Result]) -> Callable[..., Result]:
    """Let a function do its work uninterrupted."""

    @functools.wraps(make)
    def made(*which: Any) -> Result:
        return run_shielded(functools.partial(make, *which))

    return made
