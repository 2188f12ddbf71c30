"""Say on standard error that kernels are being compiled, if that takes more than a second.

`compiler` reports each compilation, and a thread watches until there are no more: calls of kernels
that are there, or in the cache, come by nothing of this. It is said on a terminal or in a notebook,
and elsewhere only if FASTDROP_VERBOSE=1.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ... import console
from ...shielded import frames

_PATIENCE = 1.0  # seconds of compiling before it is said
_PAUSE = 0.2  # seconds without a compilation after which there are no more
_INTERVAL = 0.05  # seconds between looks

_about: str | None = None  # what is compiled, if a caller says it; "" if nothing is to be said
_current: _Burst | None = None
_state = threading.Lock()  # of the two below; nothing is waited for while it is held
_printing = threading.Lock()  # held while something is written


class _Burst:
    """Compilations of one call that follow each other."""

    def __init__(self, what: str, kept_in: Callable[[], str]) -> None:
        self.what, self.kept_in = what, kept_in
        self.begun = self.ended = time.monotonic()
        self.running = 1  # compilations inside each other
        self.finished = threading.Event()  # there are no more, says who knows
        # Not a daemon, which could be writing when the interpreter ends.
        self.thread = threading.Thread(
            target=_watch, args=(self,), name="fastdrop-notice", daemon=False
        )


@contextmanager
def compilation(kept_in: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Watch a compilation, from when the function that this yields is called, if it is.

    ``kept_in()`` is the folder in which the kernel will be, or "".
    """
    begun: list[_Burst] = []

    def begins() -> None:
        if (burst := _begin(kept_in)) is not None:
            begun.append(burst)

    try:
        yield begins
    finally:
        for burst in begun:
            with _state:
                burst.running -= 1
                burst.ended = time.monotonic()


@contextmanager
def about(what: str) -> Iterator[None]:
    """Name what is compiled in a ``with`` statement; with "" nothing is said.

    At its end it has been said how long that took.
    """
    global _about
    before, _about = _about, what
    try:
        yield
    finally:
        _about = before
        burst = _current
        if burst is not None and burst.what == what:
            burst.finished.set()
            burst.thread.join(_PATIENCE)  # no longer, if another thread compiles meanwhile


def _begin(kept_in: Callable[[], str]) -> _Burst | None:
    global _current
    if not _is_wanted() or _about == "":
        return None
    what = _about or _caller()
    with _state:
        burst = _current
        if burst is not None and (burst.running or burst.what == what):
            burst.running += 1
            return burst
        burst = _current = _Burst(what, kept_in)
    try:
        burst.thread.start()
    except RuntimeError:  # no thread can be started, or the interpreter is shutting down
        _current = None
    return burst


def _watch(burst: _Burst) -> None:
    """Say what is compiled after a second, and how long it took at the end."""
    global _current
    told = False
    while True:
        is_finished = burst.finished.wait(_INTERVAL)
        now = time.monotonic()
        if not told and burst.running and now - burst.begun > _PATIENCE:
            folder = burst.kept_in()
            kept = f", once: kernels are kept in {folder}" if folder else ""
            told = _say(f"fastdrop: compiling {burst.what}{kept}")
        with _state:
            is_last = _current is burst and (
                now - burst.ended < _PAUSE or burst.what == _about  # loads some in between
            )
            goes_on = burst.running or (is_last and not is_finished)
            if not goes_on or not threading.main_thread().is_alive():
                if _current is burst:
                    _current = None
                break
        burst.finished.clear()
    if told and not burst.running:
        _say(f"fastdrop: compiled in {burst.ended - burst.begun:.1f} s")


def _is_wanted() -> bool:
    chosen = os.environ.get("FASTDROP_VERBOSE")
    return chosen != "0" if chosen else console.kind() != console.FILE


def _say(text: str) -> bool:
    if not _is_wanted():
        return False
    with _printing, suppress(Exception):  # a stream that was closed
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    return True


def _caller() -> str:
    """Return which public function or class the user has called, and for which dtype."""
    public = getattr(sys.modules.get("fastdrop"), "__all__", ())
    found = "kernels"
    for frame in frames():  # inside out
        if frame.f_globals.get("__name__", "").partition(".")[0] != "fastdrop":
            continue
        own, code = frame.f_locals, frame.f_code
        arguments = [own.get(name) for name in code.co_varnames[: code.co_argcount]]
        name, first = code.co_name, arguments[:1]
        if "self" in own and type(own["self"]).__name__ in public:
            name, first = type(own["self"]).__name__, arguments[1:2]
        if name in public:
            found = name + "".join(map(_for_dtype, first))
    return found


def _for_dtype(x: Any) -> str:
    dtype = getattr(x, "dtype", None)
    return "" if dtype is None else f" for {str(dtype).rpartition('.')[2]}"


def shortened(folder: Path) -> str:
    """Return a path with the home folder as ``~``."""
    with suppress(RuntimeError, ValueError):
        return str(Path("~") / folder.relative_to(Path.home()))
    return str(folder)


def _forget() -> None:
    """Forget in a forked child, where no thread watches, nor gives back a lock that it held."""
    global _current, _state
    _current, _state = None, threading.Lock()
    _printing.release()


# No fork while something is written: the child would have the stream's lock, held for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_printing.acquire, after_in_parent=_printing.release, after_in_child=_forget
    )
