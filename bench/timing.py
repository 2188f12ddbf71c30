"""Timing side by side: interleaved rounds in one process, and the statistics over them."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .common import Array
from .contenders import ROOF, Contender

# A batch lasts at least this long, so that the clock and the loop cost below 1%.
BATCH_SECONDS = 1e-3
# Below this a batch follows one untimed call: its data are in cache again and its threads awake.
WARM_SECONDS = 10e-3
# OpenMP threads spin for some milliseconds after their last loop and would slow the next contender.
SETTLE_SECONDS = 20e-3
MIN_ROUNDS, MAX_ROUNDS = 5, 200


@dataclass(frozen=True)
class Entry:
    """One contender made ready at one size."""

    contender: Contender
    call: Callable[[], object]
    calls: int
    warm: bool


@dataclass(frozen=True)
class Summary:
    """Statistics over rounds: seconds a call, and the ratio to the base in the same round."""

    seconds: float
    q1: float
    q3: float
    ratio: float


def _batch(call: Callable[[], object], calls: int) -> float:
    """Seconds a call, over `calls` calls in a row."""
    repeat = itertools.repeat(None, calls)
    start = time.perf_counter()
    for _ in repeat:
        call()
    return (time.perf_counter() - start) / calls


@contextlib.contextmanager
def _no_gc() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def prepare(contender: Contender, x: Array, p: float, out: Array) -> Entry:
    """Set a contender up, warm it, and choose how many calls make a batch."""
    contender.set_threads()
    call = contender.setup(x, p, out)
    call()
    seconds = _batch(call, 1)
    if seconds < BATCH_SECONDS:  # one short call says little: take the best of three longer tries
        calls = min(100, math.ceil(BATCH_SECONDS / seconds))
        seconds = min(_batch(call, calls) for _ in range(3))
    return Entry(contender, call, math.ceil(BATCH_SECONDS / seconds), seconds < WARM_SECONDS)


def measure(
    entries: Sequence[Entry], seconds: float, on_round: Callable[[float], object]
) -> dict[str, list[float]]:
    """Time every entry once a round, each round starting with the next, until time is up.

    Parameters
    ----------
    entries : sequence of Entry
        All at one size.
    seconds : float
        Budget; at least `MIN_ROUNDS` rounds are made whatever they cost.
    on_round : callable
        Called untimed after each round with the part of the work that is done, 0 to 1.

    Returns
    -------
    dict
        Contender name to seconds a call, one per round.
    """
    samples: dict[str, list[float]] = {entry.contender.name: [] for entry in entries}
    start = time.perf_counter()
    with _no_gc():
        for turn in range(MAX_ROUNDS):
            shift = turn % len(entries)
            for entry in (*entries[shift:], *entries[:shift]):
                entry.contender.set_threads()
                if entry.warm:
                    entry.call()
                samples[entry.contender.name].append(_batch(entry.call, entry.calls))
                if entry.contender.threads == "all":
                    time.sleep(SETTLE_SECONDS)
            used = (time.perf_counter() - start) / seconds
            on_round(min(1.0, max(min(used, (turn + 1) / MIN_ROUNDS), (turn + 1) / MAX_ROUNDS)))
            if used >= 1 and turn + 1 >= MIN_ROUNDS:
                break
    return samples


def summarise(samples: Mapping[str, Sequence[float]], base: str = ROOF.name) -> dict[str, Summary]:
    """Medians and quartiles over rounds; ratios are taken within each round, then their median.

    What slows a whole round (a busy neighbour, a lower clock) cancels in the ratio.
    """
    reference = np.asarray(samples[base])
    summaries = {}
    for name, values in samples.items():
        q1, median, q3 = np.percentile(values, (25, 50, 75))
        ratio = float(np.median(np.asarray(values) / reference))
        summaries[name] = Summary(float(median), float(q1), float(q3), ratio)
    return summaries
