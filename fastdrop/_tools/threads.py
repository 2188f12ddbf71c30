"""Get and set the number of threads that a call may use, for the process or in a context.

The functions call the thread pool, `fastdrop_kernels.threads`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from fastdrop_kernels import forks

from .._check import arguments, detect

_MOST = 999_999  # as of FASTDROP_NUM_THREADS


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
    _pool().set_thread_count(_checked(n))


def get_num_threads() -> int:
    """Return how many threads a call may use.

    The number of a `threads` statement that the call is in, or the number set by
    `set_num_threads`, else FASTDROP_NUM_THREADS, else NUMBA_NUM_THREADS, else
    the number of processors available to this process.

    Returns
    -------
    int
    """
    count: int = _pool().thread_count()
    return count


def threads(n: int) -> contextlib.AbstractContextManager[None]:
    """Limit the threads of calls in a ``with`` statement, in this context alone.

    The limit belongs to the context (`contextvars`) and not to the process: other threads and
    other asyncio tasks keep their own. So it goes into the function that a worker runs, not around
    the executor. Statements may be nested; the innermost rules. Results are the same.

    Parameters
    ----------
    n : int
        At least 1; the calling thread is one of them.

    Returns
    -------
    context manager
        For one ``with`` statement.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer, or below 1.

    Examples
    --------
    >>> import fastdrop as fd
    >>> with fd.threads(1):
    ...     fd.get_num_threads()
    1
    """
    limit: contextlib.AbstractContextManager[None] = _pool().using(_checked(n))
    return limit


def _checked(n: Any) -> int:
    number = arguments.whole("n", n, 1)
    if number > _MOST:
        raise ValueError(f"n={detect.short(number)} is above {_MOST}: give a number of threads")
    return number


def _pool() -> Any:
    with forks.importing:
        from fastdrop_kernels import threads
    return threads
