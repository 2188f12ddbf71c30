"""``python -m bench readme``: write the tables of README.md and of pages of docs.

The README has one small table, docs/performance.md has all of them, but for what is counted of the
CUDA kernels without a GPU, which is in docs/gpu.md, what Dask arrays take (docs/dask.md), what
files take (docs/files.md), and whether masks are random (docs/quality.md). With ``--check`` it only
compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import plot, report
from .common import RESULTS, ROOT, BenchError
from .goals import judge
from .results import load, rows

# Which results each block of a page shows.
BLOCKS = {name: [name] for name in ("cpu", "loops", "family", "batch", "layouts", "gpu", "files")}
BLOCKS |= {"endure": ["endure", "endure-large"]}
BLOCKS |= {"process": ["start", "latency", "steady"], "headline": ["cpu"]}
BLOCKS |= {"instructions": ["gpu-instructions"], "torch": ["torch", "torch-avx2"], "dask": ["dask"]}
BLOCKS |= {"quality": ["quality"], "dieharder": ["dieharder"]}
PAGES = {
    ROOT / "README.md": ("headline",),
    ROOT / "docs" / "performance.md": (
        *("cpu", "loops", "family", "batch", "torch", "process", "layouts", "gpu"),
    ),
    ROOT / "docs" / "gpu.md": ("instructions",),
    ROOT / "docs" / "dask.md": ("dask",),
    ROOT / "docs" / "files.md": ("files",),
    ROOT / "docs" / "processes.md": ("endure",),
    ROOT / "docs" / "quality.md": ("quality", "dieharder"),
}


def _folded(title: str, text: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def _bullets(lines: Sequence[object]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def markdown(table: report.Table) -> str:
    """Write a table as Markdown."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    # Labels that are code go into code spans, where an asterisk is an asterisk.
    lines = [
        [f"`{row[0]}`" if "(x" in row[0] or "*" in row[0] else row[0].replace("_", r"\_"), *row[1:]]
        for row in table.rows
    ]
    rule = "|---|" + "---:|" * (len(table.head) - 1)
    body = "\n".join([line(table.head), rule, *map(line, lines), "", table.note])
    return _folded(table.title, body) if table.folded else f"**{table.title}**\n\n{body}"


def _parts(file: Path) -> Iterator[str]:
    """Yield what a block says of a results file; what most readers come for is not folded."""
    if not file.exists():
        yield f"Nothing has been measured yet: `python -m bench {file.stem}` does it."
        return
    results = load(file)
    yield from map(markdown, report.tables(results))
    for section, text in plot.PLOTS.items():
        if rows(results, section):
            yield f"![Dropout, {text}](../bench/results/{plot.name(file, section)})"
    if lost := [*report.fastest_peer(results), *report.losses(results)]:
        yield "What it wins and loses:\n\n" + _bullets(lost)
    if results["notes"]:
        yield _folded("Notes on the measurement", _bullets(results["notes"]))
    if verdicts := [verdict for verdict in judge(results) if verdict.value is not None]:
        title = "What it is meant to reach, and whether it does on this machine"
        about = "A second figure, where there is one, is acceptable.\n\n"
        yield _folded(title, about + _bullets(verdicts))
    yield report.machine(results)


def block(name: str, folder: Path = RESULTS) -> str:
    """Build the text between the markers of a block."""
    if name == "headline":
        return markdown(report.headline(load(folder / "cpu.json")))
    return "\n\n".join(part for stem in BLOCKS[name] for part in _parts(folder / f"{stem}.json"))


def replaced(text: str, name: str, new: str, where: object) -> str:
    """Return the text with the block of that name replaced; each marker must be there once."""
    start, end = (f"<!-- bench:{name}:{which} -->" for which in ("start", "end"))
    if text.count(start) != 1 or text.count(end) != 1 or text.index(end) < text.index(start):
        raise BenchError(f"{where} needs the markers {start} and {end} once, in this order")
    return f"{text.split(start)[0]}{start}\n\n{new}\n\n{end}{text.split(end)[1]}"


def main(args: argparse.Namespace) -> int:
    """Rewrite the blocks of all pages, or with --check only compare them."""
    stale = False
    for page, names in PAGES.items():
        try:
            old = new = page.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BenchError(f"no {page}") from None
        for name in names:
            new = replaced(new, name, block(name), page)
        if args.check and new != old:
            print(f"{page} does not show the results; run python -m bench readme", file=sys.stderr)
            stale = True
        elif not args.check:
            page.write_text(new, encoding="utf-8")
    return int(stale)
