"""`fd.apply_blocks` on files, in a process that is interrupted or killed, or has little memory.

Run as ``interrupted FILE``, ``hammered FILE SECONDS``, ``killed SOURCE TARGET BLOCK`` or
``small FILE LIMIT``; see the functions.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastdrop as fd
from tests.support.mapped_rows import KEY, P, opened

assert sys.platform == "linux"
# Processes that a shell starts in the background ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
ROWS = 16  # of a block
BLOCK = ROWS * 4000


def strike_in_write(strike: Callable[[int], None]) -> None:
    """Call `strike(block)` where half of a block is written, in the thread that writes."""
    write = os.pwritev

    def struck(number: int, parts: Any, position: int) -> int:
        (part,) = parts
        if len(part) < BLOCK:  # the second half, or what strikes would divide again
            return write(number, parts, position)
        count = write(number, [part[: BLOCK // 2]], position)
        strike(position // BLOCK)
        return count

    os.pwritev = struck  # type: ignore[assignment]


def interrupted(file: str) -> None:
    """Work in place, interrupted twice in each of several blocks, and go on each time."""
    x = opened(file, "r+")
    before, left = np.array(x), [0, 3, 4, 60]
    right = fd.dropout(before, P, rng=KEY)

    def strike(block: int) -> None:
        if left and block == left[0]:
            left.pop(0)
            for _ in range(2):  # the caller waits meanwhile, in one place and then in another
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)

    strike_in_write(strike)
    resume: dict[str, Any] = {"rng": KEY, "block_bytes": BLOCK}
    while True:
        try:
            fd.apply_blocks(fd.dropout, x, None, P, **resume)
            break
        except KeyboardInterrupt as error:
            resume = error.resume  # type: ignore[attr-defined]
            print(resume["start"])
            done = resume["start"] * ROWS
            assert np.array_equal(x[:done], right[:done])
            assert np.array_equal(x[done:], before[done:])
            if sys.version_info >= (3, 11):
                assert f"go on with start={resume['start']}, rng={KEY}" in error.__notes__[0]
            assert resume["rng"] == KEY and resume["block_bytes"] == BLOCK
    assert np.array_equal(x, right)


def hammered(file: str, seconds: str) -> None:
    """Be interrupted at any time, up to three times in a row, and go on; print how often."""
    x, draw = opened(file, "r+"), np.random.default_rng(0)
    before, times, end = np.array(x), 0, time.monotonic() + float(seconds)
    right = fd.dropout(before, P, rng=KEY)
    while time.monotonic() < end:
        x[:] = before
        over, wait, strikes = threading.Event(), draw.random() * 0.02, int(draw.integers(1, 4))

        def strike(over: Any = over, wait: float = wait, strikes: int = strikes) -> None:
            time.sleep(wait)
            for _ in range(strikes):
                if not over.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.0002)

        thread, caught = threading.Thread(target=strike), None
        try:
            try:
                thread.start()
                fd.apply_blocks(fd.dropout, x, x, P, rng=KEY, block_bytes=BLOCK // 4)
            except KeyboardInterrupt as error:
                caught = error
            over.set()
        except KeyboardInterrupt as error:  # behind the call's end
            over.set()
            caught = caught or error
        while True:
            try:
                thread.join()
                time.sleep(0.001)
                break
            except KeyboardInterrupt:
                continue
        resume = getattr(caught, "resume", None)
        if resume is None:  # before anything was written, or after all was
            assert np.array_equal(x, right) or (caught and np.array_equal(x, before))
            continue
        done = resume["start"] * ROWS // 4
        assert np.array_equal(x[:done], right[:done]) and np.array_equal(x[done:], before[done:])
        fd.apply_blocks(fd.dropout, x, x, P, **resume)
        assert np.array_equal(x, right)
        times += 1
    print(times)


def killed(source: str, target: str, block: str) -> None:
    """Print how many blocks are done, and be killed while that one is written."""

    def strike(now: int) -> None:
        if now == int(block):
            time.sleep(0.1)  # until the blocks before have been told
            os.kill(os.getpid(), signal.SIGKILL)

    strike_in_write(strike)
    x, y = opened(source, "r"), opened(target, "r+")
    tell: Any = lambda done, count: print(done, flush=True)  # noqa: E731
    fd.apply_blocks(fd.dropout, x, y, P, rng=KEY, block_bytes=BLOCK, progress=tell)


def small(file: str, limit: str) -> None:
    """Work in place on a file, with so many bytes of private memory; print the most that was used.

    The kernel does not give this process more: RLIMIT_DATA counts all its private writable memory,
    used or not.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
    most = [0]

    def sampled(done: int, count: int) -> None:
        if done % 8 == 0:
            most[0] = max(most[0], anonymous())

    x = opened(file, "r+")
    fd.dropout(x[:1000].copy(), P, rng=KEY)
    before = anonymous()
    fd.apply_blocks(fd.dropout, x, None, P, rng=KEY, progress=sampled)
    print(most[0] - before)


def anonymous() -> int:
    """Bytes of this process's own memory that are resident: of no file."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
