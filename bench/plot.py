"""``python -m bench plot``: draw rates by size, each section an SVG beside the results."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .common import MI, RESULTS, size_label
from .quality_plot import draw_pvalues
from .report import gigabytes
from .results import Results, Row, load, rows

# Okabe and Ito's colours, which colour-blind readers can tell apart, and a marker for each: warm,
# wide for fastdrop, cold, thin for peers, black and grey for what no dropout can pass.
STYLES = {
    **{"multiply": ("#000000", ""), "copy": ("#000000", ""), "copy-kernel": ("#888888", "")},
    **{"fastdrop": ("#D55E00", "o"), "fastdrop-1": ("#E69F00", "o")},
    **{"numpy-best": ("#0072B2", "s"), "randomgen": ("#56B4E9", "v"), "cs231n": ("#009E73", "D")},
    **{"binomial": ("#117733", "P"), "torch": ("#CC79A7", "^"), "jax": ("#332288", "X")},
    **{"tensorflow": ("#882255", "*"), "cupy": ("#009E73", "D")},
    **{"torch-compiled": ("#AA4499", "<"), "triton": ("#999933", ">")},
    **{"fastdrop-compiled": ("#E69F00", "D")},
}
PLOTS = {"forward": "a forward call", "step": "forward and backward"}
PLOTS["steps"] = "its part of training steps in torch, and calls"
PLOTS["endure"] = "memory, threads and files during random calls"
PLOTS["pvalues"] = "the p-values of tests of masks"


def _lines(axes: Axes, results: Results, found: list[Row]) -> None:
    """Draw gigabytes a second over elements, both logarithmic, a line a contender."""
    for name in dict.fromkeys(row["contender"] for row in found if row["contender"] in STYLES):
        mine = [row for row in found if row["contender"] == name]
        colour, marker = STYLES[name]
        axes.plot(
            [row["elements"] for row in mine],
            [gigabytes(row) for row in mine],
            "-" if marker else "--",
            color=colour,
            marker=marker,
            linewidth=2.4 if name.startswith("fastdrop") else 1.2,
            label=results["contenders"][name]["label"].replace("$", r"\$"),
        )
    columns = sorted({row["elements"] for row in found})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(columns, [size_label(n) for n in columns], rotation=45)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel(f"GB/s, {found[0]['dtype']}")
    axes.grid(True, alpha=0.3)


def draw(results: Results, section: str, sheet: Figure) -> None:
    """Draw a section, a panel a dtype."""
    found, about = rows(results, section), results["hardware"]
    dtypes = list(dict.fromkeys(row["dtype"] for row in found))
    sheet.set_size_inches(8.5, 2.4 + 3.2 * len(dtypes))
    for axes, dtype in zip(sheet.subplots(len(dtypes), 1, squeeze=False).flat, dtypes, strict=True):
        _lines(axes, results, [row for row in found if row["dtype"] == dtype])
    handles = sheet.axes[0].get_legend_handles_labels()
    sheet.legend(*handles, loc="outside lower center", ncols=2, fontsize=8)
    title = f"Dropout, {PLOTS[section]}: higher is faster\n{about.get('gpu') or about['cpu']}"
    sheet.suptitle(title, fontsize=10)


def draw_steps(results: Results, sheet: Figure) -> None:
    """Draw bars of training steps, dropout's part coloured, beside lines of calls in torch."""
    sheet.set_size_inches(8.5, 4.2)
    bars, lines = sheet.subplots(1, 2, width_ratios=(1.1, 1))
    colours = {"torch": STYLES["torch"][0], "fastdrop.torch": STYLES["fastdrop"][0]}
    names: list[str] = []
    for row in reversed([r for r in rows(results, "steps") if r["variant"] != "none"]):
        # The same step without dropout is 1.
        colour, part = colours[row["variant"].split(",")[0]], row["share"] / (1 - row["share"])
        bars.barh(len(names), 1.0, color="#BBBBBB")
        bars.barh(len(names), part, left=1.0, color=colour)
        place = max(1.0, 1.0 + part) + 0.02
        bars.text(place, len(names), f"{row['share']:.1%}", va="center", fontsize=8)
        names.append(f"{row['loop']}: {row['variant']}")
    bars.set_yticks(range(len(names)), names)
    bars.margins(x=0.16)
    bars.set_title("training steps, and dropout's part of them", fontsize=9)
    bars.set_xlabel("time; without dropout it is 1")
    found = [r for r in rows(results, "torch-step", dtype="float32", variant="")]
    for name in dict.fromkeys(r["contender"] for r in found if r["contender"] != "floor"):
        mine, (colour, marker) = [r for r in found if r["contender"] == name], STYLES[name]
        at, faster = [r["elements"] for r in mine], [1 / r["ratio"] for r in mine]
        label = results["contenders"][name]["label"]
        lines.plot(at, faster, "-", color=colour, marker=marker, label=label)
    columns = sorted({r["elements"] for r in found})
    lines.set_xscale("log", base=2)
    lines.set_yscale("log")
    lines.set_xticks(columns, [size_label(n) for n in columns], rotation=45)
    lines.yaxis.set_major_formatter("{x:g}")
    lines.set_title("calls, forward and backward", fontsize=9)
    lines.set_ylabel("times as fast as F.dropout")
    lines.set_xlabel("float32 elements")
    lines.grid(True, alpha=0.3)
    handles = lines.get_legend_handles_labels()
    sheet.legend(*handles, loc="outside lower right", ncols=2, fontsize=8)
    where = f"{results['hardware']['cpu']}, {results['settings']['threads']} threads"
    sheet.suptitle(
        f"Dropout in torch: less is better on the left, more on the right\n{where}", fontsize=10
    )


def draw_endurance(results: Results, sheet: Figure) -> None:
    """Draw what a process held over time, while it made random calls."""
    found, about = rows(results, "endure"), results["hardware"]
    sheet.set_size_inches(8.5, 4.6)
    at = [row["seconds"] / 60 for row in found]
    memory, counts = sheet.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for key, label in (("resident", "in calls"), ("at_rest", "at rest")):
        memory.plot(
            at,
            [row[key] / MI for row in found],
            label=label,
            alpha=1.0 if key == "at_rest" else 0.5,
        )
    memory.set_ylabel("resident memory, MiB")
    memory.set_ylim(bottom=0)
    memory.legend(loc="lower left", ncols=2, fontsize=8)
    kernels = memory.twinx()
    kernels.plot(at, [row["kernels"] for row in found], color="0.5", ls=":")
    kernels.set_ylabel("kernels, dotted")
    kernels.set_ylim(bottom=0)
    for key, colour in (("threads", "#0072B2"), ("files", "#009E73")):
        label = {"threads": "threads", "files": "open files"}[key]
        counts.plot(at, [row[key] for row in found], color=colour, label=label)
    counts.set_ylim(bottom=0)
    counts.set_xlabel("minutes")
    counts.legend(loc="lower right", ncols=2, fontsize=8)
    for axes in (memory, counts):
        axes.grid(True, alpha=0.3)
    total = rows(results, "endure-total")[0]
    what = f"{total['calls']:,} random calls, all compared, beside {total['events']:,} forks, "
    sheet.suptitle(f"{what}exits and interruptions\n{about['cpu']}", fontsize=10)


def name(file: Path, section: str) -> str:
    """Name the drawing of a section."""
    return f"{file.stem}.svg" if file.stem == section else f"{file.stem}-{section}.svg"


def draw_all(results: Results, file: Path, folder: Path | None = None) -> Iterator[Path]:
    """Draw the sections that there are, each to a file; the same results give the same SVGs."""
    settings = {"svg.hashsalt": "fastdrop", "svg.fonttype": "none", "font.size": 9}
    for section in PLOTS:
        # A few tests of masks alone have no row of all p-values, which is what is drawn.
        if rows(results, "all-pvalues" if section == "pvalues" else section):
            path = (folder or file.parent) / name(file, section)
            with matplotlib.rc_context(settings):  # type: ignore[arg-type]
                sheet = Figure(layout="constrained")  # not pyplot: it wants a display
                if section == "steps":
                    draw_steps(results, sheet)
                elif section == "endure":
                    draw_endurance(results, sheet)
                elif section == "pvalues":
                    draw_pvalues(results, sheet)
                else:
                    draw(results, section, sheet)
                sheet.savefig(path, format="svg", metadata={"Date": None})
            yield path


def main(args: argparse.Namespace) -> int:
    """Draw the results file given, or all that are committed."""
    for file in [args.results] if args.results else sorted(RESULTS.glob("*.json")):
        for path in draw_all(load(file), file, args.output):
            print(f"Written to {path}")
    return 0
