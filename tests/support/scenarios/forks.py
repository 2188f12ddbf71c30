"""Forks, in a process whose parent has used threads, its own and a threading layer's.

``python -m tests.support.scenarios.forks SCENARIO SECONDS``

Children call fastdrop only: Numba-parallel code in a child of a parent that ran it is ended by
Numba's omp layer, whatever else the process does.
"""

from __future__ import annotations

import threading

from . import calls, layers
from .children import fork, wait

OF_ONE_PROCESS = 4  # children alive at once


def compute() -> None:
    """Do what every child does: calls on threads of its own, for it has inherited none."""
    calls.check_all()
    calls.assert_threads_were_used()


def compute_and_fork() -> None:
    """Compute in a child and in its own child."""
    compute()
    wait(fork(compute))


def after_use(seconds: float) -> None:
    """Fork when the parent has used its threads."""
    calls.use_threads()
    for _ in calls.rounds(seconds):
        wait(*(fork(compute_and_fork) for _ in range(OF_ONE_PROCESS)))
        compute()


def during_calls(seconds: float) -> None:
    """Fork while other threads are inside calls."""
    calls.use_threads()
    stop = threading.Event()
    errors: list[BaseException] = []

    def caller() -> None:
        try:
            while not stop.is_set():
                calls.check_all()
        except BaseException as error:
            errors.append(error)
            raise

    callers = [threading.Thread(target=caller) for _ in range(2)]
    for thread in callers:
        thread.start()
    for _ in calls.rounds(seconds, least=5):
        wait(fork(compute))
    stop.set()
    for thread in callers:
        thread.join()
    assert not errors, errors


if __name__ == "__main__":
    layers.main({"after_use": after_use, "during_calls": during_calls})
