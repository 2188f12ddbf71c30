"""Call for some time from many threads, and stop at the first result that is wrong.

``python -m tests.support.endurance.run --seed S --seconds T``; `python -m bench endure` watches it.
It prints a line of JSON a second: what has been called, and what is wrong, if anything is. With
``--case N`` or ``--case eN`` it runs that case or event alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import gc
import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import internals

from . import events
from .cases import run_case

assert sys.platform != "win32"

STUCK = 600.0  # seconds after which a case counts as one that hangs
REST = 20.0  # seconds from one look at the memory to the next


class Callers:
    """Threads that run one case after the other."""

    def __init__(self, seed: int, threads: int) -> None:
        self._seed, self._numbers = seed, itertools.count()
        self.calls: Counter[str] = Counter()
        self.elements = 0
        self.failure: tuple[str, BaseException] | None = None
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._may_begin = threading.Event()
        self._may_begin.set()
        self._running: dict[int, tuple[int, float]] = {}
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        me = threading.get_ident()
        while not self._stop.is_set():
            self._running[me] = -1, time.monotonic()  # so that who lets them rest waits for it
            if not self._may_begin.is_set():
                self._running.pop(me)
                self._may_begin.wait()
                continue
            number = next(self._numbers)
            self._running[me] = number, time.monotonic()
            try:
                name, elements = run_case(self._seed, number)
            except BaseException as error:
                self.failure = self.failure or (str(number), error)
                self._stop.set()
                traceback.print_exception(type(error), error, error.__traceback__)
                sys.stderr.flush()
                return
            with self._lock:
                self.calls[name] += 1
                self.elements += elements
            self._running.pop(me, None)

    def stuck(self) -> int | None:
        """The number of a case that does not end."""
        now = time.monotonic()
        return next((n for n, begun in list(self._running.values()) if now - begun > STUCK), None)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Let the running cases end, and the next ones begin only after it."""
        self._may_begin.clear()
        while self._running and not self.failure and self.stuck() is None:
            time.sleep(0.01)
        try:
            yield
        finally:
            self._may_begin.set()

    def stop(self) -> None:
        """Let the running cases end."""
        self._stop.set()
        self._may_begin.set()
        for thread in self._threads:
            thread.join(STUCK)
            assert not thread.is_alive(), "a thread does not end"


def memory() -> dict[str, int]:
    """Bytes that the process has when freed ones are given back, and what it keeps on purpose."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    kept = {"kernels": internals.kernel_count(), "compiled": internals.compiled_count()}
    return {"at_rest": pages * os.sysconf("SC_PAGE_SIZE"), **kept}


def say(**what: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(what), flush=True)


def fail(number: str, error: BaseException | str) -> None:
    """Say what failed, where everything is, and end the process at once."""
    if isinstance(error, BaseException):
        traceback.print_exception(type(error), error, error.__traceback__)
        cause = error.__cause__ or error
        first = str(cause).strip().partition("\n")[0]
        text = f"{error}: {type(cause).__name__}: {first}"
    else:
        text = error
    faulthandler.dump_traceback()
    say(failed=number, what=text)
    sys.stderr.flush()
    os._exit(1)


def run(seed: int, threads: int, seconds: float, period: float) -> None:
    """Call for some seconds, with an event every `period` seconds."""
    happened: Counter[str] = Counter()
    rest = memory()
    callers = Callers(seed, threads)
    begin = time.monotonic()
    number, told, rested = 0, begin, begin
    while (now := time.monotonic()) < begin + seconds:
        if callers.failure:
            fail(*callers.failure)
        if (stuck := callers.stuck()) is not None:
            fail(str(stuck), f"a case takes more than {STUCK:g} s")
        if now >= begin + (number + 1) * period:
            try:
                happened[events.run_event(seed, number)] += 1
            except BaseException as error:
                fail(*callers.failure or (f"e{number}", error))
            number += 1
        if now >= rested + REST:
            with callers.at_rest():
                rest = memory()
            rested = time.monotonic()
        if now >= told + 1:
            told = now
            say(calls=callers.calls, elements=callers.elements, events=happened, rest=rest)
        time.sleep(0.05)
    callers.stop()
    if callers.failure:
        fail(*callers.failure)
    say(calls=callers.calls, elements=callers.elements, events=happened, rest=rest, done=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--period", type=float, default=2.0)
    parser.add_argument("--case")
    args = parser.parse_args()
    faulthandler.enable()
    if args.case is None:
        run(args.seed, args.threads, args.seconds, args.period)
        return
    try:
        if args.case.startswith("e"):
            name = events.run_event(args.seed, int(args.case[1:]))
        else:
            name = run_case(args.seed, int(args.case))[0]
    except BaseException as error:
        fail(args.case, error)
    say(done=True, name=name)


if __name__ == "__main__":
    main()
