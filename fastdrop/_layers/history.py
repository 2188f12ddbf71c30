"""The history of a layer's forwards in each thread, which their backwards need.

A layer's forward adds a record here, and its backward removes the last one. Threads that share a
layer share its settings and its count of forwards, but not their histories.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from typing import Any

from .._check.arguments import ArrayLike
from .._check.key import Key, LazyKey
from .._functions.backward import check_gradient
from .settings import Settings


class ForwardKey(LazyKey):
    """The key of one forward, which takes its number from the layer's count when it is made.

    `key` is the layer's key. If `fixed` is given, it is the key of all forwards, and they take no
    numbers.
    """

    __slots__ = ("base", "number", "step")

    def __init__(self, key: Key, numbers: Iterator[int], fixed: Key | None = None) -> None:
        self.base, self.step, self.number = (key, 1, -1) if fixed is None else (fixed, 0, 0)

        def make() -> Key:
            if not self.step:
                return self.base
            self.number = next(numbers)
            return self.base.advanced(self.number)

        super().__init__(make)


class ForwardRun:
    """A run of equal consecutive forwards, numbered from start to stop - 1.

    Forward n used the key ``key.advanced(n * step)``; without a key, they are forwards in
    evaluation. `kept` are the caller's arrays that the backward reads, by reference; `more` is
    anything else that it needs, comparable by ``==``.
    """

    __slots__ = ("kept", "key", "more", "settings", "shape", "start", "step", "stop")

    def __init__(
        self,
        start: int,
        shape: Any,
        key: Key | None,
        settings: Settings,
        kept: tuple[Any, ...] = (),
        more: Any = None,
        step: int = 1,
    ) -> None:
        self.start, self.stop = start, start + 1
        self.shape, self.key, self.settings = shape, key, settings
        self.kept, self.more, self.step = kept, more, step

    def continues_with(self, other: ForwardRun) -> bool:
        """Return whether `other`, a run of one forward, extends this run."""
        mine = self.shape, self.key, self.more, self.step
        return (
            (self.stop == other.start or not self.step)
            and mine == (other.shape, other.key, other.more, other.step)
            and self.settings.alike(other.settings)
            and all(one is its for one, its in zip(self.kept, other.kept, strict=True))
        )

    def key_of_last(self) -> Key | None:
        """Return the key of the last forward; None in evaluation."""
        return None if self.key is None else self.key.advanced((self.stop - 1) * self.step)

    def check(self, dy: ArrayLike) -> None:
        """Raise ValueError for a gradient of another shape than the result."""
        check_gradient(dy, self.shape, "the last forward that has not gone back")


class ThreadHistory:
    """The history of one layer in one thread."""

    __slots__ = ("begun", "epoch", "fixed", "last", "runs", "spare")

    def __init__(self, epoch: object = None) -> None:
        # Training forwards whose backward has not run yet. Equal consecutive ones share an entry,
        # so the list does not grow when there are no backwards, as in Monte Carlo dropout.
        self.runs: list[ForwardRun] = []
        # The run removed last, for reuse: making one takes 0.3 us.
        self.spare: ForwardRun | None = None
        self.last: ForwardRun | None = (
            None  # a forward in evaluation mode, of a layer that keeps one
        )
        self.fixed: Key | None = None  # the key of all forwards in a context of `Layer.fixed`
        self.begun: Any = None  # the current pass of an RNNDropout
        self.epoch = epoch  # see `History.forget`

    def clear(self, epoch: object) -> None:
        """Remove everything except the fixed key of a context that the thread is in."""
        self.runs, self.spare, self.last, self.begun, self.epoch = [], None, None, None, epoch

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the recorded forwards; a copy is not in a context of `Layer.fixed`."""
        return _restored, (self.runs, self.last, self.begun)

    def copy_from(self, other: ThreadHistory) -> None:
        """Copy the recorded forwards of another history."""
        # Runs are mutable (`pop_last` counts them down), so they cannot be shared.
        self.runs = [copy.copy(run) for run in other.runs]
        self.last, self.begun = other.last, other.begun

    def record(self, run: ForwardRun) -> None:
        """Record a forward."""
        last = self.runs[-1] if self.runs else None
        if last is not None and last.continues_with(run):
            last.stop += 1
        else:
            self.runs.append(run)

    def record_plain(
        self, number: int, shape: tuple[int, ...], key: Key, settings: Settings
    ) -> None:
        """Record a forward without `kept` and `more`; 0.5 us faster than `record`."""
        if self.runs:
            run = self.runs[-1]
            if (
                run.stop == number
                and run.settings is settings
                and run.key is key
                and run.shape == shape
                and run.step
            ):
                run.stop = number + 1
                return
        elif (spare := self.spare) is not None:
            self.spare = None
            if spare.settings is settings and spare.key is key and spare.shape == shape:
                spare.start = number
                spare.stop = number + 1
                self.runs.append(spare)
                return
        self.record(ForwardRun(number, shape, key, settings))

    def pop_last(self) -> None:
        """Remove the last forward."""
        run = self.runs[-1]
        run.stop -= 1
        if run.start == run.stop:
            self.runs.pop()
            if run.step and not run.kept and run.more is None:
                self.spare = run


def _restored(runs: list[ForwardRun], last: ForwardRun | None, begun: Any) -> ThreadHistory:
    history = ThreadHistory()
    history.runs, history.last, history.begun = runs, last, begun
    return history


class History:
    """The histories of all threads that have used a layer; each ends with its thread."""

    __slots__ = ("_epoch", "_local")

    def __init__(self) -> None:
        self._epoch: object = None
        # Empty, or one threading.local, which is made at the first forward: it takes 0.5 us, as
        # long as the rest of a new layer. If several threads append one, all use the first.
        self._local: list[_Local] = []

    def of_this_thread(self) -> ThreadHistory:
        """Return the history of the calling thread."""
        local = self._local
        if not local:
            local.append(_Local(self._epoch))
        history = local[0].thread_history
        if history.epoch is not self._epoch:
            history.clear(self._epoch)
        return history

    def forget(self) -> None:
        """Clear the histories of all threads; those of other threads at their next access."""
        self._epoch = object()
        self.of_this_thread()


class _Local(threading.local):
    def __init__(self, epoch: object) -> None:  # called in each thread at its first access
        self.thread_history = ThreadHistory(epoch)
