"""Read, compute and write blocks in three threads, each up to a few blocks ahead of the next.

`apply` calls `Pipeline.run`. The calling thread only waits, and shows progress. A signal handler's
exception, such as KeyboardInterrupt, is raised there; so it interrupts no read, kernel or write.
`run` returns or raises when the threads have ended. As in `fastdrop_kernels.threads` they share
atomic steps only (SimpleQueue, list.append): an exception between any two bytecodes must neither
leave a lock locked nor lose count of the threads.
"""

from __future__ import annotations

import _thread
import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from fastdrop_kernels.threads import fork_count

Read: TypeAlias = Callable[[int, Any], Any]  # (number of a block, buffer) -> what is read
Compute: TypeAlias = Callable[[int, Any, Any], Any]  # the same and what was read -> the result
Write: TypeAlias = Callable[[int, Any, Any], None]  # the same, with the result
Finish: TypeAlias = "Callable[[BaseException | None], None]"
# (the blocks as they are done, how many there will be) -> the same, shown
Shown: TypeAlias = Callable[[Iterable[Any], int], Iterable[Any]]

_FORK_CHECK_SECONDS = 0.5  # how often a waiting caller checks whether it is in a forked child


class Pipeline:
    """Reads, computes and writes the blocks from `first` to before `last`, in this order.

    Attributes
    ----------
    done : int
        The number of the first block that is not written yet.
    torn : bool
        Whether the writing of this block has begun; if it raised, a part may be written.
    """

    def __init__(self, first: int, last: int, read: Read, compute: Compute, write: Write) -> None:
        self.done, self.torn = first, False
        self._first, self._last = first, last
        self._read, self._compute, self._write = read, compute, write
        self._free: SimpleQueue[Any] = SimpleQueue()  # buffers
        self._full: SimpleQueue[Any] = SimpleQueue()  # number, buffer, what was read
        self._ready: SimpleQueue[Any] = SimpleQueue()  # number, buffer, result
        self._told: SimpleQueue[int | None] = SimpleQueue()  # numbers of blocks that are done
        self._begun: list[Any] = []
        self._ended: list[Any] = []
        self._errors: list[BaseException] = []
        self._stopped = False
        self._forks = fork_count()

    def run(self, buffers: Sequence[Any], shown: Shown, finish: Finish) -> None:
        """Do all blocks, and raise what a stage or a signal handler raised.

        `finish` gets that, or None, when the threads have ended. An exception that interrupts it is
        dropped in favour of the first, and it is called again.
        """
        raised: BaseException | None = None
        try:
            for buffer in buffers:
                self._free.put(buffer)
            for stage in (self._reading, self._computing, self._writing):
                context = contextvars.copy_context()  # has the limit of threads, and errstate
                _thread.start_new_thread(context.run, (self._guarded, stage))
            blocks = shown(self._blocks_done(), self._last - self._first)
            try:
                for _ in blocks:
                    pass
            finally:
                if hasattr(blocks, "close"):  # what shows them ends now, not when it is collected
                    blocks.close()
        except BaseException as error:
            raised = error
        while True:
            try:
                self._stop()
                self._wait()
                raised = raised or next(iter(self._errors), None)
                finish(raised)
                break
            except BaseException as error:  # keep it, and go on waiting
                raised = raised or error
        if self._forks != fork_count():
            raise RuntimeError(
                "this process was forked inside this call, by a signal handler, and the threads "
                "that did its work are not here: leave such a child by os._exit or os.exec"
            ) from raised
        if raised is not None:
            raise raised

    def _blocks_done(self) -> Iterator[int]:
        while self._forks == fork_count():
            try:
                n = self._told.get(timeout=_FORK_CHECK_SECONDS)
            except Empty:
                continue
            if n is None:
                return
            yield n

    def _wait(self) -> None:
        """Wait for the threads that have begun. One that begins later finds that it must stop."""
        while len(self._ended) < len(self._begun) and self._forks == fork_count():
            try:
                self._told.get(timeout=_FORK_CHECK_SECONDS)
            except Empty:
                continue

    def _stop(self) -> None:
        self._stopped = True
        for waiting in (self._free, self._full, self._ready, self._told):
            waiting.put(None)

    def _guarded(self, stage: Callable[[], None]) -> None:
        self._begun.append(stage)
        try:
            stage()
        except BaseException as error:
            self._errors.append(error)
            self._stop()
        finally:
            self._ended.append(stage)
            if self._stopped:
                self._told.put(None)

    def _reading(self) -> None:
        for n in range(self._first, self._last):
            buffer = self._free.get()
            if self._stopped:
                return
            self._full.put((n, buffer, self._read(n, buffer)))
        self._full.put(None)

    def _computing(self) -> None:
        while (item := self._full.get()) is not None and not self._stopped:
            n, buffer, given = item
            self._ready.put((n, buffer, self._compute(n, buffer, given)))
            del item, given
        self._ready.put(None)

    def _writing(self) -> None:
        while (item := self._ready.get()) is not None and not self._stopped:
            n, buffer, result = item
            self.torn = True
            self._write(n, buffer, result)
            self.done = n + 1
            self.torn = False
            del item, result
            self._told.put(n)
            self._free.put(buffer)
        self._told.put(None)
