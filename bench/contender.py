"""What a contender is: one way to compute dropout, made ready by a setup function."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .common import Array, P, identity

Call = Callable[[], Any]
Setup = Callable[[Array, float, Array], Call]
Expected = Iterator[tuple[str, Array]]
Threads = Literal["one", "all", "own"]


@dataclass(frozen=True)
class Step:
    """The dropout of one training step.

    Attributes
    ----------
    forward : callable
        Returns the output and what has to be kept for the backward pass.
    backward : callable
        Takes what was kept, returns the gradient of the input.
    """

    forward: Callable[[], tuple[Any, Any]]
    backward: Callable[[Any], Any]

    def __call__(self) -> tuple[Any, Any]:
        """Do both passes; returns output and gradient."""
        y, kept = self.forward()
        return y, self.backward(kept)


# ``(x, dy, p, y, dx)``: input and gradient, and where to write, for those that can.
Steps = Callable[[Array, Array, float, Array, Array], Step]


@dataclass(frozen=True)
class Contender:
    """One way to compute dropout, or the roof no dropout can pass.

    Attributes
    ----------
    name : str
        Stable name: in JSON, in test ids, on the command line.
    label : str
        What tables print.
    role : {"roof", "ours", "peer"}
        The roof multiplies by a constant and draws nothing; ratios are to it.
    setup : callable
        ``setup(x, p, out)`` returns a callable without arguments that does one forward call and
        returns the result: `out` itself where the contender can write in place, else a new array.
    needs : str, optional
        Module that must be importable, else the contender is left out with a note.
    threads : {"one", "all", "own"} or int, optional
        Which thread count to set before timing. "own": the library uses threads, and how many
        cannot be changed in a running process. None: it only ever uses one.
    kind : {"dropout", "scaled", "exact", "step", "made"}
        How its result is checked, see `bench.check`: as dropout of x, as x times a constant, by
        `exact` alone, or as output and gradient of a training step. "made": not at all, for it
        may be no array; its setup checks.
    exact : callable, optional
        ``exact(x, p)`` yields (what is compared with, expected output), to be met bit for bit.
    steps : callable, optional
        Forward and backward, for contenders that have both.
    traceable : bool
        Whether tracemalloc sees its allocations.
    dtype, variant : str
        What sets rows of one name apart: the dtype, and the way fastdrop is called.
    p : float
        The drop probability.
    base : str
        `id` of the contender that ratios are to.
    """

    name: str
    label: str
    role: Literal["roof", "ours", "peer"]
    setup: Setup
    needs: str | None = None
    threads: Threads | int | None = None
    kind: Literal["dropout", "scaled", "exact", "step", "made"] = "dropout"
    exact: Callable[[Array, float], Expected] | None = None
    steps: Steps | None = None
    traceable: bool = True
    dtype: str = "float32"
    variant: str = ""
    p: float = P
    base: str = "multiply"

    @property
    def id(self) -> str:
        """Name, and dtype and variant where they are not the usual ones."""
        return identity(self.name, self.dtype, self.variant)

    @property
    def parallel(self) -> bool:
        """Whether a call may leave threads behind that are still spinning."""
        return self.threads not in (None, "one", 1)

    def set_threads(self) -> None:
        """Set the thread count of the contender's library; called untimed before each batch."""
        if self.needs is None or self.threads in (None, "own"):
            return
        chosen = {"one": 1, "all": default_threads(self.needs)}
        count = self.threads if isinstance(self.threads, int) else chosen[str(self.threads)]
        load(self.needs).set_num_threads(count)


def load(module: str) -> Any:
    """Import a library quietly: what it says or warns about while it starts is not our subject."""
    if module == "tensorflow":  # it talks through logs instead, and about retracing at every size
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger(module).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


@functools.cache
def default_threads(module: str) -> int:
    """Thread count that a library chose by itself: read once, before anything sets it."""
    return int(load(module).get_num_threads())
