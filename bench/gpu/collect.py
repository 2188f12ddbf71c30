"""Collect results on a GPU: validate, time side by side, and measure launches and memory."""

from __future__ import annotations

import datetime
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import machine
from ..check import Checked, Wrong, check_elements
from ..common import KI, MI, Array, BenchError, P, dtype_of, size_label
from ..contender import load
from ..ours import key, scaled
from ..results import SCHEMA, MemoryRow, Results, Row
from ..timing import summarise
from .contenders import CONTENDERS, DTYPES, ROOF, Contender, Ready, unavailable
from .device import SPARE, Clock, Facts, Sets, facts, load_cupy

GI = 1 << 30
SIZES = (64 * KI, 256 * KI, MI, 4 * MI, 16 * MI, 64 * MI, 256 * MI, GI)
QUICK = (64 * KI, 16 * MI, 256 * MI)
LAUNCHED = 64 * KI
LAUNCHES = 3000
KEPT = 16 * MI

BATCH_SECONDS = 3e-3
MOST_CALLS = 200  # the queue of a device holds some 1,000 kernels, and a call may be several
PIECE = MI  # elements of a result that are looked at, at its beginning, middle and end

Show = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """What a run does: `rounds` of every contender, in these dtypes at these sizes."""

    mode: str = "full"
    sizes: tuple[int, ...] = SIZES
    dtypes: tuple[str, ...] = DTYPES
    only: frozenset[str] | None = None
    rounds: int = 15

    def wants(self, contender: Contender) -> bool:
        """Say whether a contender takes part."""
        return self.only is None or contender.name in self.only or contender.role == "roof"


def pieces(elements: int) -> Iterator[slice]:
    """Yield the parts of a result that are validated: all of it, if it is small."""
    starts = {0, max(0, elements // 2 - PIECE // 2), max(0, elements - PIECE)}
    for start in sorted(starts):
        yield slice(start, min(elements, start + PIECE))


def check(contender: Contender, sets: Sets, ready: Ready, step: bool) -> None:
    """Validate what a contender computes, on memory that was poisoned.

    Raises
    ------
    Wrong
        Naming contender, dtype, size and what is wrong.
    """
    where = f"{contender.label}, {sets.dtype_name}, {size_label(sets.elements)} elements"
    names = (("output", "x", "y"), ("gradient", "dy", "dx"))[: 1 + step]
    for _, _, target in names:
        sets.whole[target].view(np.uint8).fill(0xAB)
    both = ready.both()
    made = both(0) if step and both else (ready.forward(0),)
    if ready.done:
        ready.done()
    zeros: list[list[Array]] = []
    for (name, source, _), result in zip(names, made, strict=True):
        given = ready.view(result)
        zeros.append([])
        for piece in pieces(sets.elements):
            x, y = sets.part(source, 0)[piece].get(), given[piece].get()
            _check_piece(contender, x, y, piece.start, f"{where}, {name}")
            zeros[-1].append(y == 0)
    if step and contender.role != "roof":
        for forward, backward in zip(*zeros, strict=True):
            if not np.array_equal(forward, backward):
                raise Wrong(f"{where}: forward and backward drop different elements")


def _check_piece(contender: Contender, x: Array, y: Array, first: int, where: str) -> None:
    if contender.role == "roof":
        if x.tobytes() != y.tobytes():
            raise Wrong(f"{where}: is no copy")
        return
    if contender.role == "ours":
        kept = load("fastdrop").dropout_mask(x.shape, contender.p, rng=key(), offset=first)
        expected = np.where(kept, scaled(x, contender.p), x.dtype.type(0))
        if y.tobytes() != expected.tobytes():
            raise Wrong(f"{where}: differs from the CPU's from element {first} on")
        return
    check_elements(Checked(contender.name, contender.role, contender.p), x, y, where)


class _Collector:
    def __init__(self, plan: Plan, show: Show) -> None:
        self.plan, self.show = plan, show
        self.cupy = load_cupy()
        self.facts: Facts = facts(self.cupy)
        self.clock = Clock(self.cupy)
        self.notes: list[str] = []
        self.members = []
        for contender in filter(plan.wants, CONTENDERS):
            if reason := unavailable(contender):
                self.note(reason)
            else:
                self.members.append(contender)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def free(self) -> int:
        gc.collect()
        self.cupy.get_default_memory_pool().free_all_blocks()
        if any("torch" in c.needs for c in self.members):
            load("torch").cuda.empty_cache()
        return int(self.cupy.cuda.runtime.memGetInfo()[0])

    def sets(self, section: str, elements: int, dtype: str) -> Sets | None:
        """Return the arrays of a size, or None where there is no room for them and results."""
        try:
            itemsize = dtype_of(dtype).itemsize
            self.cupy.empty(1, dtype_of(dtype))
        except (ImportError, TypeError, ValueError) as error:
            self.note(f"left out: {dtype} ({error})")
            return None
        step = section == "step"
        needed = Sets.bytes_needed(elements, itemsize, self.facts.l2_bytes, step)
        # New outputs are kept as long as inputs are, a mask or uniforms beside them.
        if needed * 2 + elements * 16 > SPARE * self.free():
            self.note(f"{section}, {size_label(elements)} {dtype}: left out, for lack of memory")
            return None
        return Sets(self.cupy, elements, dtype, self.facts.l2_bytes, step)

    def validated(
        self, section: str, sets: Sets, members: Sequence[Contender]
    ) -> list[tuple[Contender, Ready]]:
        step, able = section == "step", []
        for contender in members:
            if sets.dtype_name not in contender.dtypes:
                continue
            where = f"{section}, {size_label(sets.elements)} {sets.dtype_name}"
            try:
                ready = contender.setup(sets, contender.p)
                if step and ready.both() is None:
                    continue
                check(contender, sets, ready, step)
            except Exception as error:  # of a peer's library: the others are timed all the same
                if contender.role != "peer":
                    raise
                first = str(error).partition("\n")[0]
                self.note(
                    f"{where}: left out, it fails: {contender.label} "
                    f"({type(error).__name__}: {first})"
                )
                continue
            able.append((contender, ready))
        return able

    def group(self, section: str, elements: int, dtype: str) -> list[Row]:
        """Validate, then time in rounds, each beginning with the next contender."""
        self.show(f"{section}, {size_label(elements)} {dtype}")
        sets = self.sets(section, elements, dtype)
        if sets is None:
            return []
        able = self.validated(section, sets, self.members)
        runs = [_Run(c, r, section, sets, self.clock) for c, r in able]
        samples: dict[str, list[float]] = {run.contender.name: [] for run in runs}
        for turn in range(self.plan.rounds):
            shift = turn % len(runs)
            for run in (*runs[shift:], *runs[:shift]):
                samples[run.contender.name].append(run.time())
        summaries = summarise(samples, dict.fromkeys(samples, ROOF.name))
        return [_row(run, summaries[run.contender.name], dtype, elements) for run in runs]

    def launches(self) -> list[Row]:
        """Time calls on the host, over many in a row at a size that the device soon has done."""
        self.show("launches")
        sets = self.sets("launch", LAUNCHED, "float32")
        if sets is None:
            return []
        synchronize = self.cupy.cuda.Device().synchronize
        able = self.validated("launch", sets, self.members)
        samples: dict[str, list[float]] = {c.name: [] for c, _ in able}
        for _ in range(5):
            for contender, ready in able:
                done = ready.done or synchronize
                seconds = self.clock.wall(ready.forward, LAUNCHES, 0, done)
                samples[contender.name].append(seconds)
        summaries = summarise(samples, dict.fromkeys(samples, ROOF.name))
        return [
            _row(_Run(c, r, "launch", sets, self.clock, calls=LAUNCHES), summaries[c.name],
                 "float32", LAUNCHED)
            for c, r in able
        ]  # fmt: skip

    def memory(self) -> list[MemoryRow]:
        """Measure what is kept between forward and backward beyond the output."""
        self.show("memory")
        rows: list[MemoryRow] = []
        sets = self.sets("step", KEPT, "float32")
        if sets is None:
            return []
        for contender, ready in self.validated("step", sets, self.members):
            if ready.begin is None or ready.finish is None or ready.allocated is None:
                continue
            if contender.role == "roof":
                continue
            ready.finish(0, ready.begin(0)[1])
            gc.collect()
            before = ready.allocated()
            y, kept = ready.begin(0)
            held = ready.allocated() - before
            beyond = held - (KEPT * sets.dtype.itemsize if contender.fresh else 0)
            ready.finish(0, kept)
            del y, kept
            rows.append(
                {
                    "contender": contender.name,
                    "dtype": "float32",
                    "elements": KEPT,
                    "measure": "kept",
                    "traced": beyond / KEPT,
                    "resident": None,
                }
            )
        return rows


class _Run:
    """A contender that is timed: how many calls a batch has, and which set is next."""

    def __init__(
        self,
        contender: Contender,
        ready: Ready,
        section: str,
        sets: Sets,
        clock: Clock,
        calls: int = 0,
    ) -> None:
        self.contender, self.ready, self.clock = contender, ready, clock
        call = ready.both() if section == "step" else ready.forward
        assert call is not None
        # New outputs are kept for as long as inputs are, so that they are as cold.
        ring: list[Any] = [None] * sets.count

        def kept(i: int) -> None:
            ring[i % sets.count] = None
            ring[i % sets.count] = call(i)

        self.call = kept if contender.fresh else call
        self.next, self.calls, self.count = 0, calls, sets.count
        if not calls:
            self._choose(sets.cupy.cuda.Device().synchronize)

    def _choose(self, synchronize: Callable[[], object]) -> None:
        done = self.ready.done or synchronize
        for i in range(max(3, self.contender.fresh * self.count)):
            self.call(i)  # so that all memory has been asked for
        done()
        start = time.perf_counter()
        self.call(3)
        self.launch = time.perf_counter() - start
        done()
        seconds = time.perf_counter() - start
        self.calls = max(3, min(MOST_CALLS, math.ceil(BATCH_SECONDS / seconds)))

    def time(self) -> float:
        """Return seconds a call, over a batch."""
        first, self.next = self.next, self.next + self.calls
        if self.ready.done:
            return self.clock.wall(self.call, self.calls, first, self.ready.done)
        return self.clock.events(self.call, self.calls, first, self.launch)


def _row(run: _Run, summary: Any, dtype: str, elements: int) -> Row:
    return {
        "contender": run.contender.name,
        "dtype": dtype,
        "variant": "",
        "elements": elements,
        "seconds": summary.seconds,
        "q1": summary.q1,
        "q3": summary.q3,
        "base": ROOF.name,
        "ratio": summary.ratio,
        "ratio_q1": summary.ratio_q1,
        "ratio_q3": summary.ratio_q3,
        "rounds": summary.rounds,
        "calls": run.calls,
    }


def versions(cupy: Any) -> dict[str, str | None]:
    """Versions of what matters on a GPU."""
    found = machine.versions()
    found["cupy"] = cupy.__version__
    for name in ("triton", "numba-cuda"):
        found[name] = machine.version(name)
    return found


def collect(plan: Plan, show: Show = lambda doing: None) -> Results:
    """Validate, time and measure; returns what the results file holds."""
    if not plan.sizes or not plan.dtypes:
        raise BenchError("no sizes, or no dtypes")
    collector = _Collector(plan, show)
    timings: dict[str, list[Row]] = {}
    for section in ("forward", "step"):
        timings[section] = []
        for dtype in plan.dtypes:
            for elements in plan.sizes:
                timings[section] += collector.group(section, elements, dtype)
    timings["launch"] = collector.launches()
    memory = collector.memory()
    present = {row["contender"] for found in timings.values() for row in found}
    present |= {row["contender"] for row in memory}
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(collector.cupy),
        "hardware": collector.facts.hardware() | {"os": machine.hardware()["os"]},
        "settings": {"mode": plan.mode, "p": P, "rounds": plan.rounds},
        "notes": collector.notes,
        "contenders": {
            c.name: {"label": c.label, "role": c.role} for c in CONTENDERS if c.name in present
        },
        "timings": timings,
        "memory": memory,
        "profile": [],
    }
