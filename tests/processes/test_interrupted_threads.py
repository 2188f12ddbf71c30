"""No exception that interrupts a call leaves threads of the pool behind that still write."""

from __future__ import annotations

import dis
import itertools
import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest

from fastdrop_kernels import threads

OLD = sys.version_info < (3, 11)  # which jumps forward and backward by the same instructions


class Interrupt(BaseException):
    """What a signal handler raises."""


class JumpTracer:
    """Raises at the n-th jump back of the functions that wait for workers, as a handler might.

    Python looks for signals where a loop jumps back. A real signal hits such a place once in many
    thousand times; a trace function is called before every instruction.
    """

    def __init__(self, n: int) -> None:
        self.left, self.struck = n, False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != threads.__file__ or frame.f_code.co_name not in (
            "_run_on_pool",
            "_finish",
        ):
            return None
        frame.f_trace_opcodes = True
        return self.opcode

    def opcode(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and not self.struck:
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if "BACKWARD" in name or (OLD and name.startswith(("JUMP_ABSOLUTE", "POP_JUMP"))):
                self.left -= 1
                if self.left < 0:
                    self.struck = True
                    raise Interrupt
        return self.opcode


def shared(n: int) -> bool:
    """Let three threads share work, and interrupt the caller; say whether it was."""
    me, begun = threading.get_ident(), threading.Semaphore(0)
    running: list[int] = []

    def work() -> None:
        if threading.get_ident() == me:
            for _ in range(2):
                assert begun.acquire(timeout=30)
            return
        running.append(1)
        begun.release()
        time.sleep(0.01)
        running.pop()

    tracer = JumpTracer(n)
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        threads.run_together(work, 3)
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
    assert not running, f"interrupted at jump {n}, the caller left while a worker was running"
    return tracer.struck


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="only CPython traces instructions like this"
)
def test_an_exception_at_any_jump_waits_for_the_workers() -> None:
    struck = sum(1 for _ in itertools.takewhile(shared, itertools.count()))
    assert struck > 3
