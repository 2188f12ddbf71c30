"""Results as tables and sentences, for the terminal and for the pages alike.

`report.toml` lists the tables; each is made of the results that have its rows. `finish` is the end
of every command that measures: it prints them, with what is lost and the goals, and writes a file.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .cases import CASES
from .common import MI, RESULTS, BenchError, dtype_of, figure, identity, size_label, toml
from .dask_model import error, tebibyte, useful_workers
from .goals import judge
from .hopper import bound, budget, busiest
from .results import Results, Row, rows, save, sizes

SPECS = toml("report")["table"]
STYLES = {"held": "green", "acceptable": "yellow", "MISSED": "bold red"}
NOISE = 1.05  # smaller differences are noise on a shared machine, not a loss
# What a row is of; its other keys are figures.
_PLACE = (
    *("contender", "variant", "dtype", "elements", "loop", "first", "busy", "threads", "layout"),
    *("function", "p", "way", "cached", "family"),
)
_STANDARD = (256**2, 1024**2, 4096**2)  # the sizes that goals of layouts are of


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text, and a sentence on how to read them."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str
    folded: bool = False


def gigabytes(row: Row) -> float:
    """Gigabytes a second, by the bytes that any dropout has to read and write."""
    moved = {"forward": 2, "step": 4}[row["section"]] * dtype_of(row["dtype"]).itemsize
    return float(moved * row["elements"] / row["seconds"] / 1e9)


def bytes_label(value: float) -> str:
    """Write bytes an element; slightly below zero is the grain of the kernel's page counts."""
    return f"{abs(value) if -0.005 < value < 0 else value:.2f}"


def met(row: Row) -> str:
    """Say whether a layout meets its goal at a size."""
    goals = next(form.get("goals", ()) for form in CASES["form"] if form["name"] == row["layout"])
    goal = dict(zip(_STANDARD, goals, strict=False)).get(row["elements"])
    if goal is None:
        return ""
    return f"{goal:g} {'met' if row['rate'][0] >= goal else 'MISSED'}"


def reached(row: Row, one: float, all_threads: float) -> str:
    """Say whether ours is as many times as fast as is meant: on one thread, or at least on all."""
    if not row["goal"]:
        return ""
    held = next(
        (h for h, n in (("held", one), ("all threads", all_threads)) if n >= row["goal"]), ""
    )
    return f"{row['goal']:g} {held or 'MISSED'}"


_NAMES: dict[str, Any] = {
    **{f.__name__: f for f in (gigabytes, bytes_label, met, reached, figure, size_label)},
    **{f.__name__: f for f in (bound, budget, busiest)},
    **{f.__name__: f for f in (tebibyte, useful_workers, error)},
    "mib": lambda size: f"{size / MI:,.0f}",
    "statistics": statistics,
    "big": lambda value: f"{value:,}",
    "spread": lambda values: (values[0], statistics.median(values), values[-1]),
    "threads": {"fastdrop-1": "1 thread", "fastdrop": "all threads"},
    "measures": {
        **{"forward": "forward, peak", "kept": "kept for backward"},
        "step": "forward and backward, peak",
    },
}


def _text(results: Results, expression: str, row: Row) -> Any:
    """Evaluate an expression of `report.toml`; what it needs and is not there makes it empty."""

    def at(section: str = row["section"], **other: Any) -> Row:
        wanted = {key: row[key] for key in _PLACE if key in row} | other
        given = [found for found in results["rows"] if found["section"] == section]
        return next(r for r in given if all(r.get(k, v) == v for k, v in wanted.items()))

    labels = {name: about["label"] for name, about in results["contenders"].items()}
    label = labels.get(str(row.get("contender", row.get("loop"))))
    try:
        return eval(expression, {"row": row, "at": at, "label": label, **_NAMES})
    except (LookupError, StopIteration):
        return ""


def _table(results: Results, spec: dict[str, Any], here: list[Row], **words: Any) -> Table | None:
    here = [row for row in here if _text(results, spec.get("where", "True"), row)]
    if not here:
        return None
    ends, lines = spec.get("ends", {}), dict[str, dict[str, str]]()
    heads: dict[str, None] = {}
    for row in here:
        column = _text(results, spec.get("column", "''"), row)
        line = lines.setdefault(_text(results, spec.get("line", "label"), row), {})
        for cell, expression in spec["cells"].items():
            head = ", ".join(filter(None, (column, cell)))
            line[head] = _text(results, expression, row)
            heads[head] = None
        line |= {head: _text(results, expression, row) for head, expression in ends.items()}
    shown = [head for head in (*heads, *ends) if any(line.get(head) for line in lines.values())]
    cells = [[name, *(line.get(head, "") for head in shown)] for name, line in lines.items()]
    title, note = (spec[key].format(**words) for key in ("title", "note"))
    return Table(title, [spec.get("corner", ""), *shown], cells, note, spec.get("folded", False))


def tables(results: Results) -> Iterator[Table]:
    """Yield the tables that there are rows for, split as they say."""
    gpu = "gpu" in results["hardware"]
    widest = int(results["settings"].get("vector_bytes", 0))
    vectors = {64: ", with AVX-512", 32: ", with AVX2"}.get(widest, "")
    for spec in SPECS:
        if "headline" in spec or (gpu != spec.get("gpu", False) and spec["section"] != "memory"):
            continue
        for section in spec.get("each", [spec["section"]]):
            found, split = rows(results, section), spec.get("split")
            for part in dict.fromkeys(row[split] for row in found) if split else [None]:
                here = [row for row in found if part is None or row[split] == part]
                of = size_label(part) if isinstance(part, int) else part
                if table := _table(results, spec, here, section=section, of=of, vectors=vectors):
                    unusual = split and part not in (found[0][split], "float32")
                    yield replace(table, folded=True) if unusual else table


def fastest_peer(results: Results) -> list[str]:
    """Say how far the fastest peer is behind, at each size."""
    found = []
    for n in sizes(results):
        here = {row["contender"]: row["ratio"] for row in rows(results, "forward", elements=n)}
        peers = [r for name, r in here.items() if results["contenders"][name]["role"] == "peer"]
        if peers and "fastdrop" in here:
            found.append(f"{figure(min(peers) / here['fastdrop'])} at {size_label(n)}")
    text = "The fastest peer takes so many times as long as fastdrop with all threads: "
    return [f"{text}{', '.join(found)}."] if found and "gpu" not in results["hardware"] else []


def headline(results: Results) -> Table:
    """Return the few figures that the README shows: of forward plus backward, and what is kept."""
    spec = next(spec for spec in SPECS if "headline" in spec)
    words = {**results["hardware"], "date": results["date"][:10]}
    if table := _table(results, spec, rows(results, "step"), **words):
        return table
    raise BenchError("the results have no section step, which the README shows")


# Sections in which peers are compared with every way of ours, and what is added to a loss.
COMPARED = {"forward": "", "small": ", of small calls", "step": ", forward plus backward"}
COMPARED |= {"family": "", "dask": ", of Dask arrays"}
COMPARED |= {f"torch-{part}": f", {part}" for part in ("forward", "backward", "step")}
ASIDES = {
    ("fastdrop", "fastdrop-1"): "All threads: slower than 1 thread",
    ("fastdrop-new", "fastdrop"): "New array: slower than out=y",
    ("fastdrop-1", "multiply"): "1 thread: slower than multiplying by a constant",
    ("fastdrop", "multiply"): "All threads: slower than multiplying by a constant",
}


def _slower(results: Results, section: str, mine: str, other: str, text: str) -> list[str]:
    """Say at which sizes a contender is slower than another, by dtype and variant."""
    keys, where = ("dtype", "variant", "elements"), dict[str, list[str]]()
    theirs = {tuple(r[k] for k in keys): r for r in rows(results, section, contender=other)}
    for row in rows(results, section, contender=mine):
        peer = theirs.get(tuple(row[key] for key in keys))
        if peer and row["ratio"] > NOISE * peer["ratio"]:
            of = identity("", row["dtype"], row["variant"])
            factor = figure(row["ratio"] / peer["ratio"])
            where.setdefault(of, []).append(f"{size_label(row['elements'])} ({factor} times)")
    return [f"{of}{': ' * bool(of)}{text} at {', '.join(at)}." for of, at in where.items()]


def losses(results: Results) -> list[str]:
    """Say where fastdrop is slower than a peer, than another way to call it, or than the roof."""
    about, found = results["contenders"], list[str]()
    for (section, aside), mine, peer in itertools.product(COMPARED.items(), about, about):
        # Of the family those with as many threads.
        alike = section != "family" or mine.endswith("-1") == peer.endswith("-1")
        if (about[mine]["role"], about[peer]["role"]) == ("ours", "peer") and alike:
            text = f"{about[mine]['label']}{aside}: slower than {about[peer]['label']}"
            found += _slower(results, section, mine, peer, text)
    if not found and any(rows(results, section) for section in COMPARED):
        found = ["No peer is faster than fastdrop at any size measured."]
    if "gpu" not in results["hardware"]:
        found += [
            t for names, text in ASIDES.items() for t in _slower(results, "forward", *names, text)
        ]
    return found


def machine(results: Results) -> str:
    """Describe hardware, versions and date in a line."""
    if architecture := results["hardware"].get("architecture"):
        compiler = f"NVRTC {results['versions']['NVRTC']}"
        return (
            f"Counted {results['date'][:10]} in {architecture} code of {compiler}, without a GPU."
        )
    about, versions = results["hardware"], results["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    caches = [(name, about.get(f"{name.lower()}_kib")) for name in ("L1d", "L2", "L3")]
    parts = [about.get("gpu") or about["cpu"], about.get("simd")]
    parts += [f"{name} {size} KiB" for name, size in caches if size]
    parts += [f"{about['usable_cpus']} usable CPUs"] if "usable_cpus" in about else []
    parts += [f"{about['memory_gib']} GiB", about["os"]]
    text = ", ".join(str(part) for part in parts if part)
    return f"Measured {results['date'][:10]} on {text}; {packages}."


def console() -> Console:
    """Return a console that cuts nothing off in a file or a pipe."""
    return Console() if Console().is_terminal else Console(width=240)


def show(results: Results, out: Console) -> None:
    """Print tables, losses, notes, goals and the machine."""
    for table in tables(results):
        out.print(Text(table.title, style="bold"))  # a table's own title wraps at its width
        rich = RichTable()
        for column, head in enumerate(table.head):
            rich.add_column(head, justify="right" if column else "left", no_wrap=True)
        for line in table.rows:
            rich.add_row(*map(Text, line))  # Text: brackets in labels are not markup
        out.print(rich, Text(table.note + "\n"), sep="\n")
    for sentence in (*results["notes"], *fastest_peer(results), *losses(results)):
        out.print(Text(sentence))
    for verdict in judge(results):
        if verdict.value is not None:
            out.print(Text(f"  {verdict}", style=STYLES[verdict.state]))
    out.print(Text("\n" + machine(results)))


def finish(results: Results, args: argparse.Namespace, name: str | None) -> None:
    """Show results, and write them: to ``--output``, or to the file of that name if all was run.

    A part of a benchmark is written only where ``--output`` says so: it must not silently replace
    the file that tables are made from.
    """
    out, check = console(), getattr(args, "check", False)
    if check:
        # Everything that shows results works too.
        show(results, Console(file=io.StringIO(), width=240))
        for note in (*results["notes"], f"All works: {len(results['rows'])} rows."):
            out.print(Text(note))
        out.print("Nothing was judged.")
    else:
        show(results, out)
    parts = ("only", "sizes", "sections", "quick", "gib", "family", "short")
    part = check or any(getattr(args, key, None) for key in parts)
    output = args.output or (RESULTS / f"{name}.json" if name and not part else None)
    if output is not None and output.is_dir():
        raise BenchError(f"--output {output} is a folder, not a file")
    if output is not None:
        save(results, output)
    nothing = "Part of a benchmark: nothing written; --output FILE writes it."
    out.print(Text(f"Written to {output}" if output else nothing))
