"""Forks in a process that has used a team of OpenMP threads.

``python -m tests.support.scenarios.openmp_forks SCENARIO RUNTIME``
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract, threads
from fastdrop_kernels.cpu.host import driver, openmp
from tests.support import openmp as runtimes
from tests.support.oracle import data, dropped, poison

from .children import fork, wait

KEY, P, N = fd.Key(2**40 + 3, 11), 0.3, 300_021
THREADS = 3
x = np.arange(1, N + 1).astype(np.float32)
expected = data(dropped(x, P, KEY))


def compute(call: Any, team: Any) -> None:
    """Make a call on several threads, and compare every bit."""
    for _ in range(3):
        y = poison(np.empty_like(x))
        places = [a.__array_interface__["data"][0] for a in (x, y)]
        with threads.using(THREADS, team):
            assert call(*places, N, 0, *KEY)
        assert data(y) == expected


def drop_call() -> Any:
    """Return the call by addresses."""
    operation = driver.operation("drop", x.dtype)
    factor = np.array(contract.scale(P), np.float32)
    return driver.address_call(operation, contract.threshold(P), factor)


def after_use(which: str) -> None:
    """Fork children, and a child's child, when the parent has used its team."""
    team, call = runtimes.team_or_exit(which), drop_call()
    regions = runtimes.count_regions(team)
    compute(call, team)
    assert regions == [THREADS] * 3

    def child() -> None:
        assert not team.is_usable()
        with threads.using(THREADS, team, 1):
            compute(call, None)  # in the context of the team
        compute(call, team)
        assert len(threads._workers) == THREADS - 1  # the pool's, of this process
        assert openmp.team_of(runtimes.load(which)) is None
        assert len(regions) == 3

    def child_with_a_child() -> None:
        child()
        wait(fork(child))

    wait(fork(child_with_a_child), fork(child))
    compute(call, team)  # the parent goes on as before
    assert len(regions) == 6


def during_calls(which: str) -> None:
    """Fork while other threads are inside parallel regions."""
    team, call = runtimes.team_or_exit(which), drop_call()
    stop, errors = threading.Event(), []

    def caller() -> None:
        try:
            while not stop.is_set():
                compute(call, team)
        except BaseException as error:
            errors.append(error)
            raise

    callers = [threading.Thread(target=caller) for _ in range(2)]
    for thread in callers:
        thread.start()
    for _ in range(5):
        wait(fork(lambda: compute(call, team)))
    stop.set()
    for thread in callers:
        thread.join()
    assert not errors, errors


if __name__ == "__main__":
    {"after_use": after_use, "during_calls": during_calls}[sys.argv[1]](sys.argv[2])
    print("done")
