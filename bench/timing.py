"""Timing side by side: interleaved rounds in one process, and the statistics over them."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# A batch of calls shorter than this follows untimed ones that fill it: data are in cache again,
# threads awake and the clock up. After a pause, 1 Mi took 1.5 times as long, np.multiply's too.
WARM_SECONDS = 4e-3

Call = Callable[[], object]


class Effort(NamedTuple):
    """How much is done to get a figure.

    A batch lasts so many seconds at least, so that the clock and the loop cost below 1%. Between
    libraries it waits `settle` seconds: OpenMP threads spin for some milliseconds after a loop.
    """

    batch: float = 1e-3
    settle: float = 20e-3
    least: int = 5  # rounds, whatever they cost
    most: int = 200


FULL = Effort()
# Every call is made, and no figure is worth anything.
ONCE = Effort(batch=0.0, settle=0.0, least=1, most=1)


class Entry(NamedTuple):
    """A call made ready to be timed, `calls` in a batch; one took `seconds`.

    `ready` is called untimed before each batch, and `spins` names the library whose threads may be
    spinning after one.
    """

    id: str
    call: Call
    calls: int
    seconds: float
    ready: Call = lambda: None
    spins: str = ""


def batch(call: Call, calls: int) -> float:
    """Seconds a call, over `calls` calls in a row."""
    repeat = itertools.repeat(None, calls)
    start = time.perf_counter()
    for _ in repeat:
        call()
    return (time.perf_counter() - start) / calls


@contextlib.contextmanager
def quiet_gc() -> Iterator[None]:
    """Turn automatic collection off; collecting by hand is quick, for it skips what is old."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def prepare(
    name: str, call: Call, ready: Call = lambda: None, spins: str = "", effort: Effort = FULL
) -> Entry:
    """Warm a call, and choose how many of them make a batch."""
    ready()
    seconds = batch(call, 1)
    if effort.batch:  # the first call may have compiled something
        seconds = batch(call, 1)
    if seconds < effort.batch:  # one short call says little: take the best of three longer tries
        calls = min(100, math.ceil(effort.batch / seconds))
        seconds = min(batch(call, calls) for _ in range(3))
    return Entry(name, call, max(1, math.ceil(effort.batch / seconds)), seconds, ready, spins)


def _sample(entry: Entry, following: Entry | None, effort: Effort) -> float:
    entry.ready()
    if effort.batch and entry.seconds < WARM_SECONDS:
        warm = time.perf_counter() + WARM_SECONDS
        while time.perf_counter() < warm:
            entry.call()
    taken = batch(entry.call, entry.calls)
    # Threads of one library may run on into its next call, which wants them too.
    if entry.spins and (following is None or following.spins != entry.spins):
        time.sleep(effort.settle)
    return taken


def measure(
    entries: Sequence[Entry],
    seconds: float,
    tell: Callable[[float], object] = lambda part: None,
    effort: Effort = FULL,
) -> dict[str, list[float]]:
    """Time every entry once a round, each round starting with the next, until time is up.

    `seconds` is the budget; some rounds are made whatever they cost. `tell` is called untimed after
    each round with the part of the work that is done. Returns seconds a call of each round by id.
    """
    samples: dict[str, list[float]] = {entry.id: [] for entry in entries}
    start = time.perf_counter()
    # What is timed for no figure leaves out what would take longer than the calls.
    with quiet_gc() if effort.batch else contextlib.nullcontext():
        for turn in range(effort.most):
            order = [entries[(turn + step) % len(entries)] for step in range(len(entries))]
            for entry, following in itertools.zip_longest(order, order[1:]):
                samples[entry.id].append(_sample(entry, following, effort))
            if effort.batch:
                gc.collect()  # graphs and tapes may be cycles that hold arrays
            used = (time.perf_counter() - start) / seconds
            tell(min(1.0, max(min(used, (turn + 1) / effort.least), (turn + 1) / effort.most)))
            if used >= 1 and turn + 1 >= effort.least:
                break
    return samples


def summarise(
    samples: Mapping[str, Sequence[float]], bases: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Medians and quartiles over rounds, of seconds and of ratios to another entry.

    Ratios are taken within each round: what slows a whole round (a busy neighbour, a lower clock)
    cancels in them. `bases` maps an id to the id that its ratios are to.
    """
    summaries: dict[str, dict[str, float]] = {}
    for name, values in samples.items():
        ratios = np.asarray(values) / np.asarray(samples[bases[name]])
        summaries[name] = {"rounds": len(values)}
        for names, given in (("q1 seconds q3", values), ("ratio_q1 ratio ratio_q3", ratios)):
            quartiles = np.percentile(given, (25, 50, 75)).tolist()
            summaries[name] |= dict(zip(names.split(), quartiles, strict=True))
    return summaries
