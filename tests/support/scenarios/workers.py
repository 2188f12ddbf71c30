"""The workers of multiprocessing call.

``python -m tests.support.scenarios.workers fork|forkserver|spawn SECONDS``
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import warnings

from . import calls, layers

WORKERS = 2


def task(_: int) -> int:
    """Make every call on several threads, and say in which process."""
    calls.use_threads()
    return os.getpid()


def pool(method: str, seconds: float) -> None:
    """Give tasks to a pool of processes, when this one has used its threads."""
    calls.use_threads()
    with multiprocessing.get_context(method).Pool(WORKERS) as workers:
        for _ in calls.rounds(seconds):
            assert os.getpid() not in workers.map(task, range(2 * WORKERS), chunksize=1)
            calls.check_all()
        workers.close()
        workers.join()


if __name__ == "__main__":
    # What Python says of every fork beside threads, from 3.12 on.
    warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)
    methods = multiprocessing.get_all_start_methods()
    layers.main({method: functools.partial(pool, method) for method in methods})
