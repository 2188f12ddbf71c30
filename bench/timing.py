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

# A batch lasts at least this long, so that the clock and the loop cost below 1%.
BATCH_SECONDS = 1e-3
# A batch of calls shorter than this follows untimed ones that fill it: data are in cache again,
# threads awake and the clock up. After the pause below, 1 Mi took 1.5 times as long, np.multiply's
# too.
WARM_SECONDS = 4e-3
# Single calls after other work, of a contender in a round.
SINGLE_CALLS = 20
# OpenMP threads spin for some milliseconds after their last loop and would slow the next contender.
SETTLE_SECONDS = 20e-3
# Calls longer than this are timed in fewer rounds than the others.
SLOW_SECONDS = 1.0


def _nothing() -> None:
    """Make nothing ready."""


@dataclass(frozen=True)
class Entry:
    """A call made ready to be timed.

    Attributes
    ----------
    id : str
        Key of its samples.
    call : callable
        What is timed, `calls` times in a row.
    calls : int
        Calls a batch.
    seconds : float
        What a call took while it was made ready.
    ready : callable
        Called untimed before each batch: sets thread counts.
    spins : str
        Library whose threads may be spinning after a batch; empty for none.
    """

    id: str
    call: Callable[[], object]
    calls: int
    seconds: float
    ready: Callable[[], object] = _nothing
    spins: str = ""


@dataclass(frozen=True)
class Effort:
    """How much is done to get a figure."""

    batch: float = BATCH_SECONDS
    settle: float = SETTLE_SECONDS
    least: int = 5  # rounds, whatever they cost
    least_slow: int = 3  # and of calls over SLOW_SECONDS
    most: int = 200

    def rounds(self, seconds: float) -> int:
        """Return the rounds that a call of so many seconds may take part in."""
        return self.least_slow if seconds > SLOW_SECONDS else self.most


FULL = Effort()
# Every call is made, and no figure is worth anything.
ONCE = Effort(batch=0.0, settle=0.0, least=1, least_slow=1, most=1)


@dataclass(frozen=True)
class Summary:
    """Over rounds: seconds a call, and ratio to the base in the same round; medians, quartiles."""

    seconds: float
    q1: float
    q3: float
    ratio: float
    ratio_q1: float
    ratio_q3: float
    rounds: int


def _alone(call: Callable[[], object], work: Callable[[], object], calls: int) -> float:
    """Median seconds of single calls, each after other work, without what reading the clock takes.

    The middle half of them, so that it moves in steps smaller than the clock's.
    """
    clock = time.perf_counter
    taken, empty = [], []
    for _ in itertools.repeat(None, calls):
        work()
        start = clock()
        call()
        taken.append(clock() - start)
        start = clock()
        empty.append(clock() - start)
    middle = slice(calls // 4, calls - calls // 4)
    means = [float(np.mean(sorted(each)[middle])) for each in (taken, empty)]
    return max(means[0] - means[1], 1e-9)


def _batch(call: Callable[[], object], calls: int) -> float:
    """Seconds a call, over `calls` calls in a row."""
    repeat = itertools.repeat(None, calls)
    start = time.perf_counter()
    for _ in repeat:
        call()
    return (time.perf_counter() - start) / calls


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Give NumPy's products one thread, where threadpoolctl is installed.

    A second gains little at the sizes here, spins when it has nothing to do, and where another
    process takes its core the two wait for each other.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        yield
    else:
        with threadpool_limits(1, user_api="blas"):
            yield


@contextlib.contextmanager
def quiet_gc() -> Iterator[None]:
    """Turn automatic collection off; collecting by hand is quick, for it skips what is old."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def prepare(
    name: str,
    call: Callable[[], object],
    ready: Callable[[], object] = _nothing,
    spins: str = "",
    effort: Effort = FULL,
) -> Entry:
    """Warm a call, and choose how many of them make a batch."""
    ready()
    seconds = _batch(call, 1)
    if effort.batch:  # the first call may have compiled something
        seconds = _batch(call, 1)
    if seconds < effort.batch:  # one short call says little: take the best of three longer tries
        calls = min(100, math.ceil(effort.batch / seconds))
        seconds = min(_batch(call, calls) for _ in range(3))
    return Entry(name, call, max(1, math.ceil(effort.batch / seconds)), seconds, ready, spins)


def measure(
    entries: Sequence[Entry],
    seconds: float,
    on_round: Callable[[float], object] = lambda part: None,
    effort: Effort = FULL,
    work: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Time every entry once a round, each round starting with the next, until time is up.

    Parameters
    ----------
    entries : sequence of Entry
        All at one size.
    seconds : float
        Budget; some rounds are made whatever they cost.
    on_round : callable
        Called untimed after each round with the part of the work that is done, 0 to 1.
    effort : Effort
        How many rounds at least and at most.
    work : callable, optional
        Called untimed before each single call. Without it the calls of a batch are made in a row.

    Returns
    -------
    dict
        Id to seconds a call, one for each round; NaN for a round that a slow call sat out.
    """
    samples: dict[str, list[float]] = {entry.id: [] for entry in entries}
    start = time.perf_counter()
    # What is timed for no figure leaves out what would take longer than the calls.
    with quiet_gc() if effort.batch else contextlib.nullcontext():
        for turn in range(effort.most):
            shift = turn % len(entries)
            order = [*entries[shift:], *entries[:shift]]
            for entry, following in itertools.zip_longest(order, order[1:]):
                if turn >= effort.rounds(entry.seconds):
                    samples[entry.id].append(math.nan)
                    continue
                entry.ready()
                if work is not None:
                    calls = SINGLE_CALLS if effort.batch else 1
                    samples[entry.id].append(_alone(entry.call, work, calls))
                    continue
                if effort.batch and entry.seconds < WARM_SECONDS:
                    warm = time.perf_counter() + WARM_SECONDS
                    while time.perf_counter() < warm:
                        entry.call()
                samples[entry.id].append(_batch(entry.call, entry.calls))
                # Threads of one library may run on into its next call, which wants them too.
                if entry.spins and (following is None or following.spins != entry.spins):
                    time.sleep(effort.settle)
            if effort.batch:
                gc.collect()  # graphs and tapes may be cycles that hold arrays
            used = (time.perf_counter() - start) / seconds
            part = max(min(used, (turn + 1) / effort.least), (turn + 1) / effort.most)
            on_round(min(1.0, part))
            if used >= 1 and turn + 1 >= effort.least:
                break
    return samples


def summarise(
    samples: Mapping[str, Sequence[float]], bases: Mapping[str, str]
) -> dict[str, Summary]:
    """Medians and quartiles over rounds; ratios are taken within each round.

    What slows a whole round (a busy neighbour, a lower clock) cancels in the ratio.

    Parameters
    ----------
    samples : mapping
        Id to seconds a call for each round, NaN where there is none.
    bases : mapping
        Id to the id that its ratios are to.
    """
    summaries = {}
    for name, values in samples.items():
        taken = np.asarray(values)
        ratios = taken / np.asarray(samples[bases[name]])
        made = ~np.isnan(ratios)
        q1, median, q3 = np.percentile(taken[made], (25, 50, 75)).tolist()
        ratio_q1, ratio, ratio_q3 = np.percentile(ratios[made], (25, 50, 75)).tolist()
        rounds = int(made.sum())
        summaries[name] = Summary(median, q1, q3, ratio, ratio_q1, ratio_q3, rounds)
    return summaries
