"""What happens to the process while its threads call: forks, new processes, exits, interruptions.

`run` calls one after the other, from the main thread, which alone gets signals. Each must end in
time, as must the children; what they compute is compared as everywhere.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import fastdrop as fd
from tests.support import oracle
from tests.support.subprocesses import Process

from .cases import run_case

assert sys.platform != "win32"  # which has neither forks nor these signals

PATIENCE = 600.0  # seconds, for a child
CASES_OF_A_CHILD = 4
BIG = 1 << 22
# From 3.12 on Python warns of every fork in a process with threads.
warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)


def some_cases(seed: int, first: int) -> None:
    """What a child does: a few cases, on threads of its own."""
    for number in range(first, first + CASES_OF_A_CHILD):
        try:
            run_case(seed, number)
        except BaseException:
            os.write(2, f"in a child, --case {number}:\n{traceback.format_exc()}".encode())
            raise


def fork(seed: int, first: int) -> None:
    """A forked child computes, forks one of its own, and leaves by os._exit."""
    _wait(_forked(seed, first, deeper=True))


def _forked(seed: int, first: int, deeper: bool) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    with contextlib.suppress(BaseException):
        some_cases(seed, first)
        if deeper:
            _wait(_forked(seed, first + CASES_OF_A_CHILD, deeper=False))
        status = 0
    os._exit(status)


def _wait(child: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > end:
            for process in reversed([child, *_descendants(child)]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGABRT)  # it prints where its threads are
                time.sleep(0.2)
            os.waitpid(child, 0)
            raise AssertionError(f"a forked child hung for {PATIENCE:g} s")
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"a forked child ended with {code}"


def _descendants(process: int) -> list[int]:
    """Return the children of a process and theirs, each behind its parent."""
    found: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, file.read_text(encoding="ascii").split()):
            found += [child, *_descendants(child)]
    return found


def _process(method: str) -> Callable[[int, int], None]:
    def start(seed: int, first: int) -> None:
        context: multiprocessing.context.BaseContext = multiprocessing.get_context(method)
        child = context.Process(  # type: ignore[attr-defined]
            target=some_cases, args=(seed, first)
        )
        child.start()
        child.join(PATIENCE)
        code = child.exitcode
        if code is None:
            child.kill()
            raise AssertionError(f"a process by {method} hung for {PATIENCE:g} s")
        child.close()
        assert code == 0, f"a process by {method} ended with {code}"

    start.__doc__ = f"A process that multiprocessing starts by {method} computes."
    return start


def exit_in_calls(seed: int, first: int) -> None:
    """An interpreter exits while its threads are in calls."""
    r = np.random.default_rng([seed, first])
    last = ("pass", "sys.exit(0)", "raise SystemExit", "os._exit(0)")[int(r.integers(4))]
    code = f"""
        import os, sys, threading, time
        import numpy as np, fastdrop as fd
        fd.set_num_threads(3)
        x = np.ones({BIG >> 1}, np.float32)
        fd.dropout(x, 0.5, rng=1)
        def call():
            while True:
                fd.dropout(x, 0.5, rng=1)
        for _ in range(3):
            threading.Thread(target=call, daemon=True).start()
        time.sleep({r.random() / 20})
        {last}
    """
    done = Process(["-c", textwrap.dedent(code)], {}).finish(PATIENCE)
    assert done.status == 0 and not done.stderr, str(done)


_armed = False


def _strike(*_: object) -> None:
    """A handler that raises where it is expected to, and nowhere else."""
    if _armed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _arrival(after: float, how: str) -> Iterator[None]:
    """Let a signal come after some seconds: by a timer, or sent by a thread."""
    if how == "timer":
        signal.setitimer(signal.ITIMER_REAL, after)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        return
    main = threading.main_thread().ident
    assert main is not None
    number = signal.SIGINT
    sender = threading.Timer(after, lambda: signal.pthread_kill(main, number))
    sender.start()
    yield
    sender.join()


def interrupt(seed: int, first: int) -> None:
    """Ctrl-C in a call that threads share: then nothing writes any more, and all goes on."""
    global _armed
    r = np.random.default_rng([seed, first])
    x, key = r.standard_normal(BIG, np.float32), fd.Key(first)
    right = fd.dropout(x, 0.5, rng=key)
    place = r.integers(0, BIG - 5000)
    expected = oracle.dropped(x[place : place + 5000], 0.5, key, offset=int(place))
    oracle.assert_same(right[place : place + 5000], expected)
    old = [(n, signal.signal(n, _strike)) for n in (signal.SIGALRM, signal.SIGINT)]
    try:
        for _ in range(5):
            out, struck = oracle.poisoned(x.shape, x.dtype), False
            how = ("timer", "thread")[int(r.integers(2))]
            with _arrival(float(r.uniform(1e-4, 6e-3)), how), fd.threads(int(r.integers(2, 5))):
                try:
                    _armed = True
                    fd.dropout(x, 0.5, rng=key, out=out)
                    _armed = False
                except KeyboardInterrupt:
                    _armed, struck = False, True
                before = out.copy()
                time.sleep(0.005)
            assert before.tobytes() == out.tobytes(), "written after the call was interrupted"
            if struck:
                bits, wanted = out.view(np.uint32), right.view(np.uint32)
                untouched = bits == int.from_bytes(bytes([oracle.POISON]) * 4, "little")
                assert (untouched | (bits == wanted)).all(), "an element is neither old nor new"
            else:
                assert out.tobytes() == right.tobytes()
            assert fd.dropout(x, 0.5, rng=key).tobytes() == right.tobytes(), "the next call"
    finally:
        _armed = False
        for number, handler in old:
            signal.signal(number, handler)


EVENTS: dict[str, Callable[[int, int], None]] = {
    "fork": fork,
    "interrupt": interrupt,
    "multiprocessing, fork": _process("fork"),
    "multiprocessing, spawn": _process("spawn"),
    "exit": exit_in_calls,
}
# In this order, again and again: starting Python takes a second or two of a processor.
ORDER = (
    *("fork", "interrupt", "multiprocessing, fork", "interrupt", "exit", "fork", "interrupt"),
    *("multiprocessing, spawn", "fork", "interrupt", "fork", "interrupt", "fork", "interrupt"),
)


def run_event(seed: int, number: int) -> str:
    """Run an event; return its name. Its cases have numbers that no thread gets to."""
    name = ORDER[number % len(ORDER)]
    EVENTS[name](seed, (1 << 40) + 16 * number)
    return name
