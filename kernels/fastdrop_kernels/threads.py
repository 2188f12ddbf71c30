"""Threads: how many, and a pool of ours that runs a few parts of one call.

The pool is ours and not Numba's, whose layers hurt a process that does not expect them: workqueue
aborts when two Python threads enter parallel code at once, and omp kills a forked child at its
first parallel call if the parent ever made one. Here a part is an ordinary call of a kernel that
has released the GIL. The caller works too, and waits only for parts that others have begun, so
that a busy pool or machine makes a call slower but never stalls it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_chosen: int | None = None


def _default() -> int:
    for name in ("FASTDROP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        text = os.environ.get(name)
        if text:
            with contextlib.suppress(ValueError):
                if int(text) >= 1:
                    return int(text)
            raise ValueError(f"{name}={text!r} is not a number of threads: give an integer >= 1")
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """How many threads a call may use, the caller's own among them."""
    global _chosen
    if _chosen is None:
        _chosen = _default()
    return _chosen


def set_thread_count(n: int) -> None:
    """Set how many threads a call may use."""
    global _chosen, _pool
    with _lock:
        if _pool is not None and n - 1 > _pool._max_workers:
            _pool.shutdown(wait=False)
            _pool = None
        _chosen = n


def _forget() -> None:
    # In a forked child the threads are gone, and the lock may have been held by one of them.
    global _pool, _lock
    _pool = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _submit(work: Callable[[], None], helpers: int) -> list[Future[None]]:
    global _pool
    futures: list[Future[None]] = []
    # RuntimeError: the interpreter is shutting down, or no thread can be had. Go on with fewer.
    with contextlib.suppress(RuntimeError), _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(thread_count() - 1, 1), thread_name_prefix="fastdrop")
        for _ in range(helpers):
            futures.append(_pool.submit(work))
    return futures


def run_parts(part: Callable[[int, int], None], bounds: Sequence[tuple[int, int]]) -> None:
    """Call ``part(start, stop)`` for all bounds, on up to `thread_count` threads."""
    positions = itertools.count()  # next() is atomic

    def work() -> None:
        while (position := next(positions)) < len(bounds):
            part(*bounds[position])

    helpers = _submit(work, min(thread_count(), len(bounds)) - 1)
    try:
        work()
    finally:
        for helper in helpers:
            helper.cancel()  # of use only if it has not begun
        for helper in helpers:
            if not helper.cancelled():
                helper.result()
