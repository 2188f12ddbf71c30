"""A signal handler forks while a call waits for other threads.

``python -m tests.support.scenarios.forked_handler call``: for those that share its work;
``python -m tests.support.scenarios.forked_handler first``: for that which imports and compiles.

The parent's call must end as if nothing had happened, and the child's must not wait for threads
that it does not have.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from typing import Any

import fastdrop as fd
from fastdrop_kernels import threads
from fastdrop_kernels.shielded import run_shielded

from .children import wait
from .first_call import call

assert sys.platform != "win32"

HELPED, STRUCK = 2.0, 0.5  # seconds


def compute() -> None:
    call()
    fd.set_num_threads(3)
    assert fd.dropout_mask(3 << 20, 0.25, rng=1).mean() > 0.7


def main(which: str) -> None:
    warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)
    caller, begun = threading.get_ident(), threading.Event()
    children: list[int] = []

    def work() -> None:
        if threading.get_ident() == caller:
            begun.wait()
        else:
            begun.set()
            time.sleep(HELPED)

    def handler(*_: Any) -> None:
        children.append(os.fork())

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, STRUCK)
    try:
        if which == "call":
            threads.run_together(work, 2)
        else:
            run_shielded(work)
    except RuntimeError as error:
        ended = children == [0] and "was forked inside" in str(error)
        if ended:
            compute()  # the next calls have threads of their own
        os._exit(0 if ended else 1)
    if children == [0]:
        os._exit(2)
    assert len(children) == 1, children
    wait(*children)
    compute()


if __name__ == "__main__":
    main(sys.argv[1])
    print("done")
