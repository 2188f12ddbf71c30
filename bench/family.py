"""Time the family beside the usual NumPy way and PyTorch's; all of it is validated before that."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from . import machine, timing
from .check import Wrong
from .common import (
    MI,
    Array,
    BenchError,
    P,
    fresh_input,
    fresh_output,
    parse_names,
    parse_seconds,
    parse_sizes,
    size_label,
)
from .contender import Call, default_threads, load
from .family_report import (
    MEMBERS,
    RESULTS,
    SCHEMA,
    FamilyResults,
    FamilyRow,
    losses,
    tables,
    verdicts,
)
from .members import ALL, MULTIPLE, NORMALS, ONE, USUAL, Member, normals_alone
from .results import save
from .show import console, progress, show_tables

SECONDS = 90.0
SIZES = (MI, 16 * MI)
TINY = (MULTIPLE,)


@dataclass(frozen=True)
class Runner:
    """A way to call a member: its name, its call, and what makes it ready."""

    name: str
    call: Call
    ready: Callable[[], object] = lambda: None
    spins: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    names = ", ".join(member.name for member in MEMBERS)
    parser.add_argument(
        "--only", type=parse_names, metavar="NAMES", help=f"members (default: all): {names}"
    )
    parser.add_argument(
        "--sizes",
        type=parse_sizes,
        help=f"multiples of {MULTIPLE} elements (default: 1Mi,16Mi, and those of goals)",
    )
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        default=SECONDS,
        help=f"time for timing, shared between members and sizes (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--check", action="store_true", help="make every call once, at a tiny size; no times"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/family.json for a full run, none for a part)",
    )


def chosen(names: Sequence[str] | None) -> tuple[Member, ...]:
    """Return the members of these names, or all."""
    known = {member.name: member for member in MEMBERS}
    if unknown := [name for name in names or () if name not in known]:
        raise BenchError(f"no member {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(member for member in MEMBERS if names is None or member.name in names)


def _threads(module: str, count: int | None) -> Callable[[], object]:
    number = default_threads(module) if count is None else count
    return lambda: load(module).set_num_threads(number)


def runners(member: Member, x: Array, out: Array, torch: Any) -> Iterator[Runner]:
    """Yield the ways to call a member: the usual one first, which ratios are to."""
    yield Runner(USUAL, member.usual(x, P, out))
    if member.goal is not None and member.goal.base == NORMALS:
        yield Runner(NORMALS, normals_alone(x, P, out))
    for name, count in ((ONE, 1), (ALL, None)):
        yield Runner(name, member.ours(x, P, out), _threads("fastdrop", count))
    if torch is not None and member.torch is not None:
        tensor = torch.from_numpy(x)
        for name, count in (("1 thread", 1), ("all threads", None)):
            call, ready = member.torch(tensor, P, out), _threads("torch", count)
            yield Runner(f"torch, {name}", call, ready, "torch" if count is None else "")


def validate(member: Member, ways: Sequence[Runner], x: Array, out: Array) -> None:
    """Check what every way computes; ours must be the same for any number of threads."""
    ours = b""
    for way in ways:
        if way.name == NORMALS:
            continue
        out.fill(np.nan)
        way.ready()
        made = way.call()
        y, *sums = map(np.asarray, made if isinstance(made, tuple) else (made,))
        where = f"{member.name}, {way.name}, {size_label(x.size)} elements"
        if (y.shape, y.dtype) != (x.shape, x.dtype):
            raise Wrong(f"{where}: {y.dtype} of shape {y.shape}")
        if wrong := member.check(x, y, P):
            raise Wrong(f"{where}: {wrong}")
        for given in sums:  # what comes with a gradient is its sum over rows, a bias's
            right = y.sum(axis=0, dtype=np.float64)
            if given.shape != right.shape or not np.allclose(given, right, 1e-4, 1e-5 * len(y)):
                raise Wrong(f"{where}: sums over rows are wrong")
        if way.name in (ONE, ALL):
            if ours and y.tobytes() != ours:
                raise Wrong(f"{where}: differs from one thread's")
            ours = y.tobytes()


def timed(
    member: Member,
    elements: int,
    seconds: float,
    effort: timing.Effort,
    torch: Any,
    tell: Callable[[float], object],
) -> list[FamilyRow]:
    """Validate a member, and time its ways side by side."""
    x = fresh_input(elements).reshape(member.shape(elements))
    out = fresh_output(x)
    ways = list(runners(member, x, out, torch))
    validate(member, ways, x, out)
    entries = [timing.prepare(w.name, w.call, w.ready, w.spins, effort) for w in ways]
    samples = timing.measure(entries, seconds, tell, effort)
    made = timing.summarise(samples, dict.fromkeys(samples, USUAL))
    return [
        {
            "member": member.name,
            "way": name,
            "elements": elements,
            "seconds": summary.seconds,
            "q1": summary.q1,
            "q3": summary.q3,
            "faster": 1 / summary.ratio,
            "rounds": summary.rounds,
        }
        for name, summary in made.items()
    ]


def groups_of(members: Sequence[Member], sizes: Sequence[int] | None) -> list[tuple[Member, int]]:
    """Return what is timed: members at sizes, in rising order of these."""
    groups = {
        (member, elements)
        for member in members
        for elements in sizes or (*SIZES, *(member.goal.sizes if member.goal else ()))
    }
    return sorted(groups, key=lambda group: (group[1], members.index(group[0])))


def collect(
    groups: Sequence[tuple[Member, int]], seconds: float, effort: timing.Effort
) -> list[FamilyRow]:
    """Time all, under a progress bar."""
    try:
        torch = load("torch")
    except ImportError:
        torch = None
    rows: list[FamilyRow] = []
    with progress() as bar:
        task = bar.add_task("", total=len(groups))
        for done, (member, elements) in enumerate(groups):
            name = f"{member.name}, {size_label(elements)}"

            def tell(part: float, done: int = done, name: str = name) -> None:
                bar.update(task, completed=done + part, description=name)
                bar.refresh()

            tell(0.0)
            rows += timed(member, elements, seconds / len(groups), effort, torch, tell)
    return rows


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say."""
    sizes = args.sizes or (TINY if args.check else None)
    if wrong := [n for n in sizes or () if n % MULTIPLE]:
        raise BenchError(f"{wrong[0]} elements are no multiple of {MULTIPLE}")
    effort = timing.ONCE if args.check else timing.FULL
    groups = groups_of(chosen(args.only), sizes)
    rows = collect(groups, 1e-9 if args.check else args.seconds, effort)
    out = console()
    if args.check:
        out.print(f"All works: {len(rows)} calls validated and made. Nothing was judged.")
    else:
        show_tables(tables(rows), out)
        for line in (*losses(rows), *verdicts(rows)):
            out.print(Text(line))
    part = args.check or args.sizes or args.only
    output = args.output or (None if part else RESULTS)
    if output is not None:
        results: FamilyResults = {
            "schema": SCHEMA,
            **machine.conditions({"p": P, "seconds": args.seconds, "check": args.check}),
            "rows": rows,
        }
        save(results, output)
        out.print(Text(f"Written to {output}"))
    return 0
