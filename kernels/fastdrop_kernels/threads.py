"""Threads: how many, and a pool of ours whose threads help with a call.

The pool is ours and not Numba's, whose layers hurt a process that does not expect them: workqueue
aborts when two Python threads enter parallel code at once, and omp kills a forked child at its
first parallel call if the parent ever made one. Here a helper calls the same kernel as the caller,
without the GIL, and both take part after part of the array from a cursor in memory. The caller
waits only for parts that others have begun, so that a busy pool or machine makes a call slower but
never stalls it.

It is not concurrent.futures' either. An exception may strike the caller between any two steps (a
signal handler's, Ctrl-C), and must neither let it return while others still write to its arrays,
nor leave a lock taken. So only single steps that are done or not done are used here: appending to a
list, putting into a queue, ``dict.setdefault``.

A signal handler may even fork while a call waits. The child has none of the threads that were
helping, so that its call cannot end, and raises.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
import re
from collections.abc import Callable

Work = Callable[[], None]

_chosen: int | None = None
_workers: list[int] = []
_tickets: queue.SimpleQueue[_Ticket] = queue.SimpleQueue()
_forks = 0  # between this process and the first
_LOOK_AGAIN_SECONDS = 0.5  # whether this is still the same process


def _default() -> int:
    for name in ("FASTDROP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        text = os.environ.get(name)
        if text:
            if re.fullmatch(r"0*[1-9][0-9]{0,5}", text.strip(), re.ASCII):
                return int(text)
            raise ValueError(
                f"{name}={text!r} is not a number of threads: give an integer from 1 to 999999"
            )
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


class _Ticket:
    """An invitation to help with a call, good until the caller takes it back."""

    def __init__(self, work: Work) -> None:
        self.work = work
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
            self.work()
        except BaseException as error:  # goes to the caller
            self.error = error
        finally:
            self.finished = True
            self.gate.release()


def _nothing() -> None:
    pass


def _worker(tickets: queue.SimpleQueue[_Ticket]) -> None:
    while True:
        ticket = tickets.get()
        if ticket.take("worker"):
            ticket.use()
        del ticket  # and with it the caller's arrays


def _forget() -> None:
    # In a forked child the threads are gone, and the queue may have been in use.
    global _workers, _tickets, _forks
    _workers, _tickets = [], queue.SimpleQueue()
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run_together(work: Work, threads: int) -> None:
    """Call `work` on up to so many threads at once, the caller's own among them.

    Each call of `work` takes parts of a whole until none is left, so it does not matter how many
    come to help, or how late. It never returns or raises while anybody is still working: callers
    rely on that where `work` uses memory by its address, which lives as long as their call.
    """
    if threads == 1:
        work()
        return
    mine: list[_Ticket] = []
    struck: BaseException | None = None
    forks, alone = _forks, False
    try:
        # RuntimeError: the interpreter is shutting down, or no thread can be had. Go on with fewer.
        with contextlib.suppress(RuntimeError):
            while len(_workers) < threads - 1:
                _workers.append(_thread.start_new_thread(_worker, (_tickets,)))
        for _ in range(min(threads - 1, len(_workers))):
            mine.append(_Ticket(work))
            _tickets.put(mine[-1])
        work()
    except BaseException as error:
        struck = error
    while mine:
        try:
            if not mine[-1].take("caller"):
                while not mine[-1].finished and forks == _forks:
                    mine[-1].gate.acquire(timeout=_LOOK_AGAIN_SECONDS)
                alone = alone or not mine[-1].finished
                struck = struck or mine[-1].error
            mine.pop().work = _nothing  # it may be in the queue for long, and the arrays should not
        except BaseException as error:  # remember it, and go on waiting
            struck = struck or error
    if alone:
        raise RuntimeError(
            "this process was forked inside this call, by a signal handler, and the threads that "
            "shared its work are not here: leave such a child by os._exit or os.exec"
        ) from struck
    if struck is not None:
        raise struck
