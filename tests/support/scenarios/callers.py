"""Many threads call at once, beside a user's own parallel code.

``python -m tests.support.scenarios.callers SCENARIO SECONDS``
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastdrop as fd
from tests.support.oracle import Array

from . import SKIPPED, calls, layers

CALLERS = 8


def executor(seconds: float) -> None:
    """Eight threads of an executor call, while a ninth runs Numba-parallel code all the time."""
    calls.use_threads()
    with ThreadPoolExecutor(CALLERS + 1) as pool:
        callers = [pool.submit(calls.check_for, seconds, n) for n in range(CALLERS)]
        runs = 0
        user = pool.submit(layers.run_parallel_code)  # one at a time: workqueue bears no more
        while not all(caller.done() for caller in callers):
            user.result()
            runs += 1
            user = pool.submit(layers.run_parallel_code)
        user.result()
        made = sum(caller.result() for caller in callers)
    calls.assert_threads_were_used()
    print(f"{made} calls beside {runs} runs of parallel code")
    assert runs > 0


def dask(seconds: float) -> None:
    """Dask's threaded scheduler calls, in tasks that draw masks of their own blocks."""
    try:
        import dask.array
    except ModuleNotFoundError as error:
        print(error)
        sys.exit(SKIPPED)
    calls.use_threads()
    blocks = 2 * CALLERS
    x = dask.array.ones((blocks * calls.ROWS, calls.COLUMNS), dtype=np.float32, chunks=calls.SHAPE)
    kept = np.load(calls.mask_file())

    def right(block: Array) -> Array:
        y = fd.dropout(block, calls.P, rng=calls.KEY, scale=1.0)
        return np.full((1, 1), np.array_equal(y, kept))

    result = x.map_blocks(right, dtype=bool, chunks=(1, 1), meta=np.empty((0, 0), bool))
    for _ in calls.rounds(seconds):
        rights = result.compute(scheduler="threads", num_workers=CALLERS)
        assert rights.shape == (blocks, 1)
        assert rights.all()
    calls.assert_threads_were_used()


if __name__ == "__main__":
    layers.main({"executor": executor, "dask": dask})
