"""Compile CUDA kernels ahead of their first launch, in parallel processes, into CuPy's cache.

`fastdrop.warmup` calls it. The processes are fresh Pythons that run `compile_worker`. The calling
process imports no CuPy, starts no thread, and does not initialise CUDA, after which it could not
fork any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple

from .. import threads
from .modules import Module

_MOST_PROCESSES = 32  # each takes 150 MiB


class Kernel(NamedTuple):
    """A kernel of a module."""

    module: Module
    name: str
    settings: tuple[tuple[str, int], ...] = ()  # other than usual, see `modules.header`


class CompileError(RuntimeError):
    """A kernel could not be compiled, there is no GPU, or a process that compiles failed."""


class _Worker:
    """A process that compiles, and what it was asked last."""

    def __init__(self) -> None:
        self.stderr = tempfile.TemporaryFile()
        self.asked = "its start"
        here = [path or os.getcwd() for path in sys.path]  # it imports what this process does
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastdrop_kernels.cuda.compile_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(here), "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C interrupts the parent, which ends its processes
        )

    def ask(self, what: str, request: list[Any]) -> None:
        """Send a request; `answer` returns what came of it."""
        assert self.process.stdin
        self.asked = what
        with contextlib.suppress(BrokenPipeError):  # the process is dead: `answer` says why
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer; a CompileError says what went wrong."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.stderr.seek(0)
            last = self.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            ended = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
            raise CompileError(f"{self.asked}: a process {ended}{': '.join(['', *last])}")
        answer = json.loads(line)
        if isinstance(answer, str):
            raise CompileError(f"{self.asked}: {answer}")
        return answer

    def end(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.communicate()
        self.stderr.close()


def _answering(selector: selectors.BaseSelector, busy: Iterable[_Worker]) -> list[_Worker]:
    """Return workers that have answered; on Windows, the one that was asked first."""
    if sys.platform == "win32":  # where pipes cannot be selected, and the rest waits
        return [next(iter(busy))]
    else:
        return [key.data for key, _ in selector.select()]


def architectures() -> list[str]:
    """Return the compute capabilities of the GPUs here; a CompileError says why there is none."""
    worker = _Worker()
    try:
        worker.ask("looking for a GPU", [])
        found: list[str] = worker.answer()
    finally:
        worker.end()
    return found


def compile_ahead(
    kernels: Sequence[Kernel],
    architectures: Sequence[str],
    *,
    processes: int | None = None,
) -> Generator[Kernel, None, None]:
    """Compile kernels for compute capabilities, and yield each when CuPy's cache has it.

    Close the iterator to end the processes, as `contextlib.closing` does.

    Parameters
    ----------
    kernels : sequence of Kernel
        What to compile, in this order.
    architectures : sequence of str
        Such as "90". No GPU needs to be there.
    processes : int, optional
        Their number; by default that of threads that a call may use, at most 32.
    """
    left = [(kernel, arch) for arch in architectures for kernel in kernels]
    left.reverse()
    workers: list[_Worker] = []
    count = min(len(left), processes or threads.thread_count(), _MOST_PROCESSES)
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())

        def give(worker: _Worker) -> Kernel:
            kernel, arch = left.pop()
            request = [kernel.module, kernel.name, arch, dict(kernel.settings)]
            worker.ask(f"compiling {kernel.name} for sm_{arch}", request)
            return kernel

        def start() -> None:
            worker = _Worker()
            stack.callback(worker.end)
            workers.append(worker)
            assert worker.process.stdout
            if sys.platform != "win32":
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)

        for _ in range(count):
            start()
        busy = {worker: give(worker) for worker in workers}
        while busy:
            for worker in _answering(selector, busy):
                worker.answer()
                done = busy.pop(worker)
                if left:
                    busy[worker] = give(worker)
                yield done
