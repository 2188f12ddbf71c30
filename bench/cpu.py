"""``python -m bench``: validate every contender, time them side by side, and measure memory.

The sections of `cases.toml` say who is timed with whom and at which sizes. `timed` is what all
commands validate and time by: the family of functions uses it too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from . import cases, common, processes, report, results, timing
from .cases import BY_NAME, CASES, CONTENDERS, ROOF, Contender, as_step, available, in_dtype
from .check import Wrong
from .common import KI, Array, BenchError, P, Tell, chosen, failure

SECONDS, QUICK_SECONDS = 180.0, 4.0
LIMIT_SECONDS = 6.0  # a contender whose call would take longer is left out at that size
TELLING_SECONDS = 50e-3  # shorter calls say little about larger sizes
SECTIONS: dict[str, dict[str, Any]] = {row["name"]: row for row in CASES["section"]}
MEMORY = "memory"


def thread_counts(cpus: int) -> list[int]:
    """Return the thread counts to try: all up to 8, then doublings, and the most there are."""
    return sorted({*range(1, min(cpus, 8) + 1), *(n for n in (16, 32, 64, 128) if n < cpus), cpus})


def contenders(name: str) -> Iterator[Contender]:
    """Yield who takes part in a section, the roof first."""
    section = SECTIONS[name]
    rows = [row["name"] for group in section.get("groups", ()) for row in CASES[group]]
    for who in (*section.get("contenders", ()), *rows):
        contender = BY_NAME[who]
        if section.get("step") and contender.back:
            yield as_step(contender)
        elif not section.get("step") and "dtypes" not in section:
            yield contender
        if name == "variants" and contender is not ROOF:
            yield from (cases.form(form, contender) for form in cases.FORMS)
    for dtype in section.get("dtypes", ()):
        more = section["more"].get(dtype, ())
        yield from (in_dtype(BY_NAME[who], dtype) for who in (*section["contenders"], *more))
    if name == "threads":
        for n in thread_counts(common.usable_cpus()):
            variant = f"{n} thread{'s' if n > 1 else ''}"
            yield replace(BY_NAME["fastdrop"], threads=n, variant=variant)


def timed(
    section: str,
    members: Iterable[Contender],
    operands: Callable[[str], tuple[Array, Array]],
    seconds: float,
    notes: list[str],
    effort: timing.Effort = timing.FULL,
    tell: Callable[[float], object] = lambda part: None,
) -> list[results.Row]:
    """Validate contenders, then time them side by side, at one size.

    `operands` makes x and out of a dtype. What a peer's library raises is noted, and the others
    are timed all the same; a wrong result ends the run.
    """
    able, missing = available(members)
    notes += missing
    made: dict[str, tuple[Array, Array]] = {}
    valid, entries = [], []
    for contender in able:
        if contender.dtype not in made:
            made[contender.dtype] = operands(contender.dtype)
        x, out = made[contender.dtype]
        try:
            contender.validate(x, out)
            call, ready = contender.make(x, out), contender.set_threads
            entries.append(timing.prepare(contender.id, call, ready, contender.spins, effort))
            valid.append(contender)
        except Exception as error:
            if contender.role != "peer" or isinstance(error, Wrong) or not contender.needs:
                raise
            notes.append(failure(section, contender.label, error))
    samples = timing.measure(entries, seconds, tell, effort)
    found = timing.summarise(samples, {c.id: c.base for c in valid})
    return [
        {
            **{"section": section, "contender": c.name, "dtype": c.dtype, "variant": c.variant},
            **{"elements": made[c.dtype][0].size, "base": c.base, **found[c.id]},
        }
        for c in valid
    ]


def _section(
    name: str, args: argparse.Namespace, seconds: float, notes: list[str], tell: Tell
) -> list[results.Row]:
    section, rows = SECTIONS[name], list[results.Row]()
    only = {*(args.only or BY_NAME), ROOF.name}
    members = [contender for contender in contenders(name) if contender.name in only]
    usual = [section.get("quick", 64 * KI)] if args.quick or args.check else section["sizes"]
    multiple = section.get("multiple", 1)
    sizes = [n for n in args.sizes or usual if n % multiple == 0]
    if not sizes:
        notes.append(f"{name}: sizes have to be multiples of {multiple}")
    for done, elements in enumerate(sizes):
        # What a call would take is what it took at the last size, for each element.
        slow = {results.place(r): r for r in rows if r["seconds"] > TELLING_SECONDS}
        limit = LIMIT_SECONDS / elements
        late = [i for i, r in slow.items() if r["seconds"] / r["elements"] > limit and i != ROOF.id]
        if late:
            where = f"{name}, {common.size_label(elements)}: left out, for a call would take over"
            notes.append(f"{where} {LIMIT_SECONDS:g} s: {', '.join(late)}")

        def doing(part: float, done: int = done, elements: int = elements) -> None:
            tell(f"{name}, {common.size_label(elements)}", (done + part) / len(sizes))

        def operands(dtype: str, elements: int = elements) -> tuple[Array, Array]:
            x = common.fresh_input(elements, dtype)
            return x, common.fresh_output(x)

        doing(0.0)
        here = [c for c in members if c.id not in late]
        effort = timing.ONCE if args.check else timing.FULL
        rows += timed(name, here, operands, seconds / len(sizes), notes, effort, doing)
    return rows


def collect(args: argparse.Namespace, names: Sequence[str]) -> results.Results:
    """Run sections under a progress bar."""
    chosen(args.only, list(BY_NAME), "contender")
    seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
    shares = {name: SECTIONS[name]["share"] for name in names if name != MEMORY}
    rows, notes = list[results.Row](), list[str]()
    with common.progress() as tell:
        for done, name in enumerate(names):

            def doing(what: str, part: float, done: int = done) -> None:
                tell(what, (done + part) / len(names))

            if name != MEMORY:
                part = seconds * shares[name] / sum(shares.values())
                part = 1e-9 if args.check else part
                rows += _section(name, args, part, notes, doing)
                continue
            able, missing = available(c for c in CONTENDERS if c.name in (args.only or BY_NAME))
            notes += missing
            # One thread takes no other memory than all do.
            for contender in [c for c in able if c.threads != "one"]:
                doing(f"memory: {contender.label}", 0.0)
                rows += processes.memory(contender, KI if args.check else processes.ELEMENTS)
    if not any(row["contender"] != ROOF.name for row in rows):
        raise BenchError("no contender is left")
    present = {row["contender"] for row in rows}
    entrants = [c for c in cases.EVERYONE if c.name in present]
    libraries = {c.needs[0]: c.threads for c in entrants if c.needs and c.threads}
    threads = {n: t if t == "own" else common.default_threads(n) for n, t in libraries.items()}
    settings = {"p": P, "seconds": seconds, "threads": threads, "check": args.check}
    labels = {c.name: {"label": c.label, "role": c.role} for c in entrants}
    return results.made(rows, settings, labels, notes)


def main(args: argparse.Namespace) -> int:
    """Run; the exit status is 0 whatever the goals say: benchmarks inform, tests decide."""
    small = args.command == "small"
    wanted = [name for name in SECTIONS if name.startswith("small")] if small else args.sections
    names = chosen(wanted, (*SECTIONS, MEMORY), "section")
    if args.quick and not wanted:
        names = tuple(SECTIONS)
    report.finish(collect(args, names), args, None if wanted else "cpu")
    return 0
