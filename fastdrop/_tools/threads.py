"""How many threads a call may use."""

from __future__ import annotations

from typing import Any

from fastdrop_kernels import forks

from .._check import arguments


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, for this process.

    Masks and results are the same for any number. Small arrays use one thread in any case.

    Parameters
    ----------
    n : int
        At least 1; the calling thread is one of them.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer, or below 1.
    """
    _pool().set_thread_count(arguments.whole("n", n, 1))


def get_num_threads() -> int:
    """Return how many threads a call may use.

    What `set_num_threads` set, else FASTDROP_NUM_THREADS, else NUMBA_NUM_THREADS, else the number
    of processors that this process may run on.

    Returns
    -------
    int
    """
    count: int = _pool().thread_count()
    return count


def _pool() -> Any:
    with forks.importing:
        from fastdrop_kernels import threads
    return threads
