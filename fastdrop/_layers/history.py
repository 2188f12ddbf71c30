"""What a layer remembers of its forwards, by thread, until they have gone back.

`_layer_base` writes it in a forward and reads it in the backward. Threads that share a layer share
its settings and its count of forwards, and nothing that is here.
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
    """The key of one forward: the number is taken from the count when the key is asked for.

    `key` is the layer's key. Where `fixed` is given, it is the key of all forwards, and none of
    them takes a number.
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
    """Consecutive forwards that are alike, from start to stop - 1: what their backwards need.

    The n-th of them drew from ``key.advanced(n * step)``; without a key, they are forwards in
    evaluation. `kept` are arrays of the caller's, by reference, and `more` is what else a backward
    must know, and can be compared.
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
        """Say whether another begins where this one stops, and is like it."""
        mine = self.shape, self.key, self.more, self.step
        return (
            (self.stop == other.start or not self.step)
            and mine == (other.shape, other.key, other.more, other.step)
            and self.settings.alike(other.settings)
            and all(one is its for one, its in zip(self.kept, other.kept, strict=True))
        )

    def key_of_last(self) -> Key | None:
        """Return what the last of them drew from."""
        return None if self.key is None else self.key.advanced((self.stop - 1) * self.step)

    def check(self, dy: ArrayLike) -> None:
        """Refuse a gradient of another shape than the result had."""
        check_gradient(dy, self.shape, "the last forward that has not gone back")


class ThreadHistory:
    """What one thread has to remember of one layer."""

    __slots__ = ("begun", "epoch", "fixed", "last", "runs", "spare")

    def __init__(self, epoch: object = None) -> None:
        # Training forwards that have not gone back: runs of consecutive ones that are alike, so
        # that a layer does not grow when its forwards never go back (Monte Carlo dropout, say).
        self.runs: list[ForwardRun] = []
        # The run that went back last, to be used again: making one takes 0.3 us.
        self.spare: ForwardRun | None = None
        self.last: ForwardRun | None = (
            None  # a forward in evaluation mode, of a layer that keeps one
        )
        self.fixed: Key | None = None  # what all forwards draw from, see `Layer.fixed`
        self.begun: Any = None  # the pass of an RNNDropout
        self.epoch = epoch  # see `History.forget`

    def clear(self, epoch: object) -> None:
        """Forget everything but the context that the thread is in."""
        self.runs, self.spare, self.last, self.begun, self.epoch = [], None, None, None, epoch

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what has to go back; a copy is not in a context of the other."""
        return _restored, (self.runs, self.last, self.begun)

    def copy_from(self, other: ThreadHistory) -> None:
        """Remember what another one does."""
        # A run is counted down where it goes back, so that no two can share it.
        self.runs = [copy.copy(run) for run in other.runs]
        self.last, self.begun = other.last, other.begun

    def record(self, run: ForwardRun) -> None:
        """Add a forward."""
        last = self.runs[-1] if self.runs else None
        if last is not None and last.continues_with(run):
            last.stop += 1
        else:
            self.runs.append(run)

    def record_plain(
        self, number: int, shape: tuple[int, ...], key: Key, settings: Settings
    ) -> None:
        """Do as `remember` for a call that has nothing to keep, 0.5 us faster."""
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
        """Forget the last forward."""
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
    """The memory of each thread that has used a layer; it ends with the thread."""

    __slots__ = ("_epoch", "_made")

    def __init__(self) -> None:
        self._epoch: object = None
        # Empty or of one. Made at the first forward, because it takes 0.5 us, as long as all else
        # of a new layer. Threads that make it at once all take the first.
        self._made: list[_Local] = []

    def of_this_thread(self) -> ThreadHistory:
        """Return the memory of the calling thread."""
        made = self._made
        if not made:
            made.append(_Local(self._epoch))
        history = made[0].thread_history
        if history.epoch is not self._epoch:
            history.clear(self._epoch)
        return history

    def forget(self) -> None:
        """Forget what all threads remember: the others find out when they come here again."""
        self._epoch = object()
        self.of_this_thread()


class _Local(threading.local):
    def __init__(self, epoch: object) -> None:  # called in each thread that asks for what is here
        self.thread_history = ThreadHistory(epoch)
