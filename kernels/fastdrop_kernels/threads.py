"""Threads: how many, and a pool of ours that runs the parts of one call.

The pool is ours and not Numba's, whose layers hurt a process that does not expect them: workqueue
aborts when two Python threads enter parallel code at once, and omp kills a forked child at its
first parallel call if the parent ever made one. Here a part is an ordinary call of a kernel that
has released the GIL. The caller works too, and waits only for parts that others have begun, so
that a busy pool or machine makes a call slower but never stalls it.

It is not concurrent.futures' either. An exception may strike the caller between any two steps (a
signal handler's, Ctrl-C), and must neither let it return while others still write to its arrays,
nor leave a lock taken. So only single steps that are done or not done are used here: appending to a
list, putting into a queue, ``dict.setdefault``.
"""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import queue
from collections.abc import Callable, Sequence

Part = Callable[[int, int], None]

_chosen: int | None = None
_workers: list[int] = []
_tickets: queue.SimpleQueue[_Ticket] = queue.SimpleQueue()


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
    """Return how many threads a call may use, the caller's own among them."""
    global _chosen
    if _chosen is None:
        _chosen = _default()
    return _chosen


def set_thread_count(n: int) -> None:
    """Set how many threads a call may use."""
    global _chosen
    _chosen = n


class _Call:
    """The parts of one call, which whoever works on it takes one by one."""

    def __init__(self, part: Part, bounds: Sequence[tuple[int, int]]) -> None:
        self.part, self.bounds = part, bounds
        self.positions = itertools.count()  # next() is one step
        self.stopped = False

    def work(self) -> None:
        while not self.stopped and (position := next(self.positions)) < len(self.bounds):
            self.part(*self.bounds[position])


_NO_CALL = _Call(lambda start, stop: None, ())


class _Ticket:
    """An invitation to help with a call, good until the caller takes it back."""

    def __init__(self, call: _Call) -> None:
        self.call = call
        self.holder: dict[str, str] = {}
        self.finished = False
        self.error: BaseException | None = None
        self.gate = _thread.allocate_lock()
        self.gate.acquire()

    def take(self, who: str) -> bool:
        """Say whether the ticket is, from now on or already, that of `who`."""
        return self.holder.setdefault("holder", who) == who

    def use(self) -> None:
        try:
            self.call.work()
        except BaseException as error:  # goes to the caller
            self.error = error
            self.call.stopped = True
        finally:
            self.finished = True
            self.gate.release()


def _worker(tickets: queue.SimpleQueue[_Ticket]) -> None:
    while True:
        ticket = tickets.get()
        if ticket.take("worker"):
            ticket.use()
        del ticket  # and with it the caller's arrays


def _forget() -> None:
    # In a forked child the threads are gone, and the queue may have been in use.
    global _workers, _tickets
    _workers, _tickets = [], queue.SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run_parts(part: Part, bounds: Sequence[tuple[int, int]]) -> None:
    """Call ``part(start, stop)`` for all bounds, on up to `thread_count` threads.

    However this ends, no part is running any more.
    """
    call = _Call(part, bounds)
    mine: list[_Ticket] = []
    struck: BaseException | None = None
    try:
        helpers = min(thread_count(), len(bounds)) - 1
        # RuntimeError: the interpreter is shutting down, or no thread can be had. Go on with fewer.
        with contextlib.suppress(RuntimeError):
            while len(_workers) < helpers:
                _workers.append(_thread.start_new_thread(_worker, (_tickets,)))
        for _ in range(min(helpers, len(_workers))):
            mine.append(_Ticket(call))
            _tickets.put(mine[-1])
        call.work()
    except BaseException as error:
        call.stopped = True
        struck = error
    while mine:
        try:
            if not mine[-1].take("caller"):
                while not mine[-1].finished:
                    mine[-1].gate.acquire()
                struck = struck or mine[-1].error
            mine.pop().call = _NO_CALL  # it may be in the queue for long, and the arrays should not
        except BaseException as error:  # remember it, and go on waiting
            call.stopped = True
            struck = struck or error
    if struck is not None:
        raise struck
