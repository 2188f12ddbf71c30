"""Collect results: validate, time and measure what was chosen."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from . import machine, memory, path, timing
from .check import Wrong, check
from .common import Array, BenchError, P, fresh_input, fresh_output, listing, size_label
from .contender import Contender, default_threads
from .contenders import CONTENDERS, EVERYONE, available
from .results import SCHEMA, MemoryRow, ProfileRow, Results, Row
from .sections import MEMORY, NAMES, PROFILE, SECTIONS, Section
from .small_calls import other_work

# A contender whose call would take longer than this is left out at that size. What it would take is
# what it took at the last size, per element.
LIMIT_SECONDS = 6.0
# Shorter calls say little about larger sizes: much of their time is the same at any size.
TELLING_SECONDS = 50e-3

# ``(what is being done, groups done)``, the last one in part
Show = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes
    ----------
    mode : {"full", "quick", "check"}
        "check" makes every call once, at tiny sizes.
    seconds : float
        Time for timing, shared out between sections and sizes.
    sections : tuple of str
        Which.
    only : frozenset of str, optional
        Names of the contenders beside the roof; None for all.
    sizes : tuple of int, optional
        Element counts, instead of each section's own.
    """

    mode: str = "full"
    seconds: float = 200.0
    sections: tuple[str, ...] = NAMES
    only: frozenset[str] | None = None
    sizes: tuple[int, ...] | None = None

    @property
    def effort(self) -> timing.Effort:
        """How much is done for a figure."""
        return timing.ONCE if self.mode == "check" else timing.FULL

    def sizes_of(self, section: Section) -> tuple[int, ...]:
        """Return the sizes that a section is run at."""
        own = {"full": section.sizes, "quick": section.quick, "check": section.tiny}[self.mode]
        return tuple(n for n in self.sizes or own if n % section.multiple == 0)

    def wants(self, contender: Contender) -> bool:
        """Say whether a contender takes part."""
        return self.only is None or contender.name in self.only or contender.role == "roof"

    def groups(self) -> int:
        """Count what a progress bar counts: a section at a size, and memory and profile once."""
        timed = sum(len(self.sizes_of(SECTIONS[s])) for s in self.sections if s in SECTIONS)
        return timed + sum(name in self.sections for name in (MEMORY, PROFILE))


class _Collector:
    def __init__(self, plan: Plan, show: Show) -> None:
        self.plan, self.show, self.done = plan, show, 0
        self.notes: list[str] = []
        shares = [SECTIONS[name].share for name in plan.sections if name in SECTIONS]
        self.seconds_per_share = plan.seconds / sum(shares) if shares else 0.0

    def progress(self, doing: str, part: float = 0.0) -> None:
        self.show(doing, self.done + part)

    def able(self, contenders: Iterable[Contender]) -> tuple[Contender, ...]:
        able, notes = available(filter(self.plan.wants, contenders))
        self.notes += [note for note in notes if note not in self.notes]
        return able

    def section(self, name: str) -> list[Row]:
        section = SECTIONS[name]
        members, sizes = self.able(section.contenders()), self.plan.sizes_of(section)
        rows: list[Row] = []
        if not sizes:
            self.notes.append(f"{name}: sizes have to be multiples of {section.multiple}")
        per_element: dict[str, float] = {}
        for elements in sizes:
            late = [
                c
                for c in members
                if per_element.get(c.id, 0.0) * elements > LIMIT_SECONDS and c.role != "roof"
            ]
            here = [c for c in members if c not in late]
            self.leave_out(name, elements, late, "left out, for a call would take")
            seconds = self.seconds_per_share * section.share / len(sizes)
            work = other_work() if section.between else None
            with timing.one_blas_thread() if work else contextlib.nullcontext():
                rows += self.group(name, here, elements, seconds, per_element, work)
            self.done += 1
        return rows

    @contextlib.contextmanager
    def peers_may_fail(self, where: str, contender: Contender) -> Iterator[None]:
        """Note what a peer's library raises, and go on: ten minutes of figures are worth more.

        A wrong result still ends the run.
        """
        try:
            yield
        except Wrong:
            raise
        except Exception as error:
            if contender.role != "peer":
                raise
            first = str(error).partition("\n")[0]
            self.notes.append(
                f"{where} left out, it fails: {contender.label} ({type(error).__name__}: {first})"
            )

    def leave_out(
        self, section: str, elements: int, contenders: list[Contender], text: str
    ) -> None:
        if contenders:
            labels = listing([c.label for c in contenders])
            limit = LIMIT_SECONDS if text.startswith("left") else timing.SLOW_SECONDS
            self.notes.append(
                f"{section}, {size_label(elements)}: {text} over {limit:g} s: {labels}"
            )

    def group(
        self,
        section: str,
        contenders: list[Contender],
        elements: int,
        seconds: float,
        per_element: dict[str, float],
        work: Callable[[], object] | None = None,
    ) -> list[Row]:
        """Validate, then time side by side, at one size; notes what calls cost an element."""
        operands: dict[str, tuple[Array, Array]] = {}
        valid: list[Contender] = []
        entries: list[timing.Entry] = []
        where = f"{section}, {size_label(elements)}:"
        for contender in contenders:
            if contender.dtype not in operands:
                x = fresh_input(elements, contender.dtype)
                operands[contender.dtype] = x, fresh_output(x)
            self.progress(f"{where} validating {contender.id}")
            with self.peers_may_fail(where, contender):
                check(contender, *operands[contender.dtype])
                valid.append(contender)
        self.progress(f"{where} timing")
        effort = self.plan.effort
        for c in valid:
            x, out = operands[c.dtype]
            # Threads of ours sleep where there is nothing to do.
            spins = c.needs if c.needs and c.parallel and c.role == "peer" else ""
            call = c.setup(x, c.p, out)
            entries.append(timing.prepare(c.id, call, c.set_threads, spins, effort))
            if entries[-1].seconds >= TELLING_SECONDS:
                per_element[c.id] = entries[-1].seconds / elements
        slow = [
            c for c, e in zip(valid, entries, strict=True) if effort.rounds(e.seconds) < effort.most
        ]
        self.leave_out(section, elements, slow, f"{effort.least_slow} rounds, for calls take")
        samples = timing.measure(
            entries, seconds, lambda part: self.progress(f"{where} timing", part), effort, work
        )
        summaries = timing.summarise(samples, {c.id: c.base for c in valid})
        return [
            _row(c, elements, summaries[c.id], entry)
            for c, entry in zip(valid, entries, strict=True)
        ]

    def memory(self) -> list[MemoryRow]:
        # One thread takes no other memory than all do.
        members = self.able(c for c in CONTENDERS if c.threads != "one")
        rows: list[MemoryRow] = []
        for position, contender in enumerate(members):
            self.progress(f"memory: {contender.id}", position / len(members))
            with self.peers_may_fail("memory:", contender):
                rows += self.memory_of(contender)
        self.done += 1
        return rows

    def memory_of(self, contender: Contender) -> list[MemoryRow]:
        if self.plan.mode != "check":
            return memory.measure(contender)
        tiny = SECTIONS["forward"].tiny[0]
        with timing.quiet_gc():
            found = [memory.measure_here(contender, tiny, what) for what in memory.kinds(contender)]
        return list(itertools.chain.from_iterable(found))

    def profile(self) -> list[ProfileRow]:
        self.progress("profile of a small call")
        sizes = SECTIONS["small"].tiny if self.plan.mode == "check" else path.SIZES
        share = SECTIONS["small"].share
        per_share = self.seconds_per_share or self.plan.seconds
        seconds = 0.0 if self.plan.mode == "check" else per_share * share
        rows: list[ProfileRow] = []
        for elements in sizes:
            found, notes = path.profile(elements, seconds / len(sizes), self.plan.effort)
            rows += found
            self.notes += [note for note in notes if note not in self.notes]
        self.done += 1
        return rows


def _row(contender: Contender, elements: int, summary: timing.Summary, entry: timing.Entry) -> Row:
    return {
        "contender": contender.name,
        "dtype": contender.dtype,
        "variant": contender.variant,
        "elements": elements,
        "seconds": summary.seconds,
        "q1": summary.q1,
        "q3": summary.q3,
        "base": contender.base,
        "ratio": summary.ratio,
        "ratio_q1": summary.ratio_q1,
        "ratio_q3": summary.ratio_q3,
        "rounds": summary.rounds,
        "calls": entry.calls,
    }


def collect(plan: Plan, show: Show = lambda doing, done: None) -> Results:
    """Validate, time and measure; returns what the results file holds."""
    if plan.only is not None and not any(c.name in plan.only for c in EVERYONE):
        raise BenchError("no contender is left")
    collector = _Collector(plan, show)
    timings = {name: collector.section(name) for name in plan.sections if name in SECTIONS}
    memory_rows = collector.memory() if MEMORY in plan.sections else []
    profile_rows = collector.profile() if PROFILE in plan.sections else []
    present = {row["contender"] for rows in timings.values() for row in rows}
    present |= {row["contender"] for row in memory_rows}
    entrants = [contender for contender in EVERYONE if contender.name in present]
    threads = {
        c.needs: "own" if c.threads == "own" else default_threads(c.needs)
        for c in entrants
        if c.needs and c.threads
    }
    settings = {"mode": plan.mode, "p": P, "seconds": plan.seconds, "threads": threads}
    return {
        "schema": SCHEMA,
        **machine.conditions(settings),
        "notes": collector.notes,
        "contenders": {c.name: {"label": c.label, "role": c.role} for c in entrants},
        "timings": timings,
        "memory": memory_rows,
        "profile": profile_rows,
    }
