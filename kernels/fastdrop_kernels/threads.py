"""The number of threads, and the thread pool whose workers share the work of a call.

The host code of the CPU kernels calls `run_together`. Each worker calls the same kernel as the
caller, without the GIL, and all take chunks of the array by an atomic counter in memory. The caller
waits only for chunks that workers have begun, so a busy pool or machine makes a call slower but
never blocks it. `using` sets limits for a context, and may name a team of threads that runs work in
place of the pool (see `cpu.host.openmp`). Results depend on none of this.

Numba's threading layers are not used, because they can break the process: workqueue aborts if two
Python threads enter parallel code at once, and omp kills a forked child at its first parallel call
if the parent ever made one. concurrent.futures is not used either: an exception may interrupt the
caller between any two bytecodes (a signal handler's, Ctrl-C), and must neither let it return while
workers write to its arrays, nor leave a lock locked. So the code below uses atomic steps only:
list.append, SimpleQueue.put, dict.setdefault.

A signal handler may even fork while a call waits. The child has no workers, so its copy of the call
cannot finish, and raises RuntimeError.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
import re
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Protocol, TypeAlias

Work: TypeAlias = Callable[[], None]


class Team(Protocol):
    """Threads other than the pool's, which an array library has for its own kernels."""

    parallel_from: int  # elements from which on the team is faster than one thread
    chunk: int  # the least elements of a chunk

    def is_usable(self) -> bool:
        """Return whether the team's threads are in this process."""

    def run(self, work: Work, threads: int) -> bool:
        """Run `work` on so many threads, and return True; or False if it is none for the team.

        It is always the context's number: OpenMP runtimes end the threads that a smaller team does
        not need, and start them again for the next larger one.
        """


# Of a context: the number of threads, the team, and `parallel_from`; None where it sets none.
_Limits: TypeAlias = "tuple[int | None, Team | None, int | None]"

_NO_LIMITS: _Limits = (None, None, None)
_limits: ContextVar[_Limits] = ContextVar("fastdrop_threads", default=_NO_LIMITS)

_chosen: int | None = None
_workers: list[int] = []
_tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
_forks = 0  # number of forks between the first process and this one
_FORK_CHECK_SECONDS = 0.5  # how often a waiting caller checks whether it is in a forked child


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


class using:
    """Limit the threads of calls in a ``with`` statement; results are the same.

    `count` is the number of threads, `parallel_from` the least elements of dropout that several
    threads share; `team` runs kernels in place of the pool. None keeps what the context has. The
    limits belong to the context (`contextvars`): other threads have their own. Each object serves
    one ``with`` statement. Entering and leaving takes 0.3 us.
    """

    __slots__ = ("_given", "_token")
    _token: Token[_Limits]

    def __init__(
        self,
        count: int | None = None,
        team: Team | None = None,
        parallel_from: int | None = None,
    ) -> None:
        self._given = (count, team, parallel_from)

    def __enter__(self) -> None:
        """Set the limits."""
        limits, outer = self._given, _limits.get()
        if outer is not _NO_LIMITS:
            count, team, parallel_from = limits
            limits = (
                outer[0] if count is None else count,
                outer[1] if team is None else team,
                outer[2] if parallel_from is None else parallel_from,
            )
        self._token = _limits.set(limits)

    def __exit__(self, *error: object) -> None:
        """Restore the context's limits."""
        _limits.reset(self._token)


class without_team:
    """Let the pool run all calls in a ``with`` statement; the number of threads stays."""

    __slots__ = ("_token",)
    _token: Token[_Limits]

    def __enter__(self) -> None:
        """Set no team."""
        self._token = _limits.set((_limits.get()[0], None, None))

    def __exit__(self, *error: object) -> None:
        """Restore the context's limits."""
        _limits.reset(self._token)


def team_and_parallel_from() -> tuple[Team | None, int | None]:
    """Return the context's team, unless it is of another process, and `parallel_from`, or None.

    Without a `parallel_from` of its own, a context with a team has the team's.
    """
    _, team, parallel_from = _limits.get()
    if team is not None:
        if not team.is_usable():
            team = None
        elif parallel_from is None:
            parallel_from = team.parallel_from
    return team, parallel_from


def fork_count() -> int:
    """Return the number of forks between the process that imported this module and this one."""
    return _forks


def thread_count() -> int:
    """Return the number of threads that a call may use, including the calling one."""
    global _chosen
    count = _limits.get()[0]
    if count is not None:
        return count
    if _chosen is None:
        _chosen = _default()
    return _chosen


def set_thread_count(n: int) -> None:
    """Set the number of threads that a call may use, where the context sets none."""
    global _chosen
    _chosen = n


class _Task:
    """A worker's share of a call: run by a worker, unless the caller claims it first."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.owner: dict[str, str] = {}
        self.finished = False
        self.error: BaseException | None = None
        self.gate = _thread.allocate_lock()
        self.gate.acquire()

    def claim(self, who: str) -> bool:
        """Claim the task for `who`, atomically; return whether it belongs to `who`."""
        return self.owner.setdefault("owner", who) == who

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # raised by the caller
            self.error = error
        finally:
            self.finished = True
            self.gate.release()


def _nothing() -> None:
    pass


def _worker(tasks: queue.SimpleQueue[_Task]) -> None:
    while True:
        task = tasks.get()
        if task.claim("worker"):
            task.run()
        del task  # it references the caller's arrays


def _forget() -> None:
    # In a forked child there are no workers, and the queue may be in an inconsistent state.
    global _workers, _tasks, _forks
    _workers, _tasks = [], queue.SimpleQueue()
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run_together(work: Work, threads: int) -> None:
    """Call `work` on up to `threads` threads at once, including the calling one.

    Each call of `work` takes chunks until none is left, so any number of workers may join, at any
    time. This function never returns or raises while a worker is running: `work` may use memory by
    address that lives only as long as the caller's frame. If the context has a team that can run
    `work`, it does.
    """
    if threads == 1:
        work()
        return
    team, _ = team_and_parallel_from()
    if team is None:
        _run_on_pool(work, threads)
    elif not team.run(work, thread_count()):
        with without_team():  # whose threads would only disturb the pool's
            _run_on_pool(work, threads)


def _run_on_pool(work: Work, threads: int) -> None:
    tasks: list[_Task] = []
    lost: list[_Task] = []
    raised: BaseException | None = None
    forks = _forks
    try:
        # RuntimeError: no thread can be started, or the interpreter is shutting down. Use fewer.
        with contextlib.suppress(RuntimeError):
            while len(_workers) < threads - 1:
                _workers.append(_thread.start_new_thread(_worker, (_tasks,)))
        for _ in range(min(threads - 1, len(_workers))):
            tasks.append(_Task(work))
            _tasks.put(tasks[-1])
        work()
    except BaseException as error:
        raised = error
    # A handler's exception may also come where a loop jumps back, which belongs to no `try` inside
    # the loop. So the loops are inside: that of `_finish` in one, and the one here in another.
    try:
        while True:
            try:
                _finish(tasks, lost, forks)
                break
            except BaseException as error:  # keep the first, and go on waiting
                raised = raised or error
    except BaseException as error:
        raised = raised or error
        _finish(tasks, lost, forks)
    if lost:
        raise RuntimeError(
            "this process was forked inside this call, by a signal handler, and the threads that "
            "shared its work are not here: leave such a child by os._exit or os.exec"
        ) from raised
    if raised is not None:
        raise raised


def _finish(tasks: list[_Task], lost: list[_Task], forks: int) -> None:
    """Claim each task, or wait for its worker, and raise the worker's error.

    An exception may interrupt this anywhere. What is still in `tasks` may be running then, and the
    next call goes on with it. Tasks whose worker is not in this process are added to `lost`.
    """
    while tasks:
        task = tasks[-1]
        error = None
        if not task.claim("caller"):
            while not task.finished and forks == _forks:
                task.gate.acquire(timeout=_FORK_CHECK_SECONDS)
            if not task.finished:
                lost.append(task)
            error, task.error = task.error, None
        tasks.pop().work = _nothing  # drops the reference to the arrays; it may stay queued
        if error is not None:
            raise error
