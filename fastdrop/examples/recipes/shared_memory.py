"""Shared memory: four processes drop their columns of one array, in place.

Each process is told the name of the memory and its columns. What they write together is the result
of one call on the whole array, bit for bit, and no process waits for another.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[np.float32]

SHAPE = (64, 1000)
P = 0.5
KEY = fd.Key(9)


def array_in(memory: SharedMemory) -> Array:
    """Return the array that lies in shared memory."""
    array: Array = np.ndarray(SHAPE, np.float32, memory.buf)
    return array


def drop_columns(whole: Array, start: int, stop: int) -> None:
    """Drop elements of some columns, by the mask of the whole array."""
    part = whole[:, start:stop]
    with fd.threads(1):  # the other processors have processes of their own
        fd.dropout(part, P, rng=KEY, offset=(0, start), global_shape=whole.shape, out=part)


def work(name: str, start: int, stop: int) -> None:
    """Do what one process does."""
    memory = SharedMemory(name)
    drop_columns(array_in(memory), start, stop)
    memory.close()


def run() -> None:
    """Compare four processes, whose numbers of columns differ, with one call."""
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    expected = fd.dropout(x, P, rng=KEY)
    # Without offset and global_shape, equal blocks of columns have equal masks. (This is done first
    # so that four processes need not compile one kernel.)
    wrong = x.copy()
    for part in (wrong[:, :250], wrong[:, 250:500]):
        fd.dropout(part, P, rng=KEY, out=part)
    assert np.array_equal(wrong[:, :250] == 0, wrong[:, 250:500] == 0)

    bounds = [0, 250, 497, 501, 1000]
    memory = SharedMemory(create=True, size=x.nbytes)
    try:
        array_in(memory)[:] = x
        with ProcessPoolExecutor(4, get_context("spawn")) as pool:
            list(pool.map(work, [memory.name] * 4, bounds[:-1], bounds[1:]))
        found = array_in(memory).copy()
    finally:
        memory.close()
        memory.unlink()
    assert found.tobytes() == expected.tobytes()
