"""Shield imports and compilations from signal handlers, by running them in another thread.

Python raises a signal handler's exception, such as KeyboardInterrupt, between any two bytecodes of
the main thread. Inside an import of Numba or a compilation, that would leave modules and registries
half initialised, and every later call of the process would fail. Other threads get no signals. The
backends and all functions that compile kernels use this module.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


def import_in_progress(name: str) -> bool:
    """Return whether a module is currently being imported, by any thread."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def run_shielded(work: Callable[[], Result]) -> Result:
    """Return ``work()``, run in a thread that goes on if an exception interrupts the caller.

    The caller must not hold a lock that the work needs. Inside an import it holds that module's
    import lock, so there the work runs in the calling thread.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or threading.stack_size()  # a stack size set by the user may be too small
        or _inside_an_import()
    ):
        return work()
    results: list[Result] = []
    errors: list[BaseException] = []

    caller = sys._getframe()

    def guarded() -> None:
        nonlocal caller
        number = threading.get_ident()
        _callers[number] = caller
        del caller  # which refers to this function
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            del _callers[number]

    # Not a daemon: LLVM may crash if the process exits during a compilation.
    thread = threading.Thread(target=guarded, name="fastdrop-first-call", daemon=False)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started, or the interpreter is shutting down
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


# By the number of a thread that works in `run_shielded`: the frame that waits for it.
_callers: dict[int, FrameType] = {}


def frames() -> Iterator[FrameType]:
    """Yield the frames of the present call from inside out, and those that wait for its thread."""
    waiting = _callers.get(threading.get_ident())
    for innermost in (sys._getframe(1), waiting):
        frame = innermost
        while frame is not None:
            yield frame
            frame = frame.f_back


def _inside_an_import() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def shielded(make: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a function to be run by `run_shielded`."""

    @functools.wraps(make)
    def wrapper(*args: Any) -> Result:
        return run_shielded(functools.partial(make, *args))

    return wrapper
