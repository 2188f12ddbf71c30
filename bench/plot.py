"""Draw the results file: throughput, memory, training steps and threads, each an SVG by itself."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import loops_report
from .common import RESULTS, figure, size_label
from .contenders import ROOF
from .readme import PLOTS
from .report import bytes_label, seen_bytes
from .results import Results, find, load, rows, sizes

# Okabe and Ito's colours, which colour-blind readers can tell apart; the fastdrop ones are warm and
# wide, the peers' cold and thin, and every line has its label at its end and a marker of its own.
OURS = {"fastdrop": "#D55E00", "fastdrop-1": "#E69F00"}
PEERS = {
    "numpy-best": ("#0072B2", "s"),
    "randomgen": ("#56B4E9", "v"),
    "cs231n": ("#009E73", "D"),
    "binomial": ("#117733", "P"),
    "torch": ("#CC79A7", "^"),
    "jax": ("#332288", "X"),
    "tensorflow": ("#882255", "*"),
}
OTHERS = {"fastdrop-new": "#F4A582", "torch-1": "#E7B8D3"}  # those seen in bars only
GREY = "#888888"
FEW_THREADS = 8  # up to here, axes are linear
SHORT = {
    "multiply": "np.multiply by a constant",
    "fastdrop": "fastdrop, all threads",
    "fastdrop-1": "fastdrop, 1 thread",
    "fastdrop-new": "fastdrop, new array",
    "numpy-best": "best NumPy",
    "randomgen": "randomgen",
    "cs231n": "cs231n idiom",
    "binomial": "binomial idiom",
    "torch": "torch",
    "torch-1": "torch, 1 thread",
    "jax": "jax",
    "tensorflow": "TensorFlow",
}


def _short(results: Results, name: str) -> str:
    return SHORT.get(name, results["contenders"][name]["label"])


def _title(results: Results, text: str) -> str:
    return f"{text}\nfloat32, p = {results['settings']['p']:g}, {results['hardware']['cpu']}"


def _colour(name: str) -> str:
    return OURS.get(name) or OTHERS.get(name) or PEERS.get(name, (GREY, ""))[0]


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move positions apart to at least `gap`, as little as that takes, keeping their order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[list[float]] = []  # sum of the wanted positions less their places, and how many
    for i in order:
        groups.append([wanted[i], 1.0])
        while len(groups) > 1 and _top(groups[-2], gap) + gap > _bottom(groups[-1], gap):
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    placed = [0.0] * len(wanted)
    places = iter(order)
    for group in groups:
        for number in range(int(group[1])):
            placed[next(places)] = _bottom(group, gap) + number * gap
    return placed


def _bottom(group: list[float], gap: float) -> float:
    total, count = group
    return total / count - gap * (count - 1) / 2


def _top(group: list[float], gap: float) -> float:
    return _bottom(group, gap) + gap * (group[1] - 1)


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Write each line's label beside its end, moved apart where lines end close together."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    places = spread([math.log10(y) for _, _, y, _ in ends], (high - low) / 24)
    right = axes.get_xlim()[1]
    for (label, x, y, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            label,
            (x, y),
            (1.03, (place - low) / (high - low)),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.5,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 4,
            },
        )
    axes.set_xlim(right=right)


def draw_throughput(results: Results, sheet: Figure) -> None:
    """Draw billions of elements a second over elements, both logarithmic."""
    sheet.set_size_inches(8.5, 5.2)
    axes = sheet.subplots()
    columns = sizes(results)
    ends = []
    for name in (ROOF.name, *OURS, *PEERS):
        found = [row for n in columns if (row := find(results, "forward", name, n))]
        if not found:
            continue
        x = [row["elements"] for row in found]
        y = [row["elements"] / row["seconds"] / 1e9 for row in found]
        if name == ROOF.name:
            colour = "black"
            axes.plot(x, y, "--", color=colour, linewidth=1.5)
        else:
            colour = _colour(name)
            marker, width = ("o", 2.4) if name in OURS else (PEERS[name][1], 1.2)
            axes.plot(x, y, color=colour, marker=marker, markersize=4.5, linewidth=width)
        ends.append((_short(results, name), x[-1], y[-1], colour))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(columns, [size_label(n) for n in columns])
    axes.set_xlabel("elements")
    axes.set_ylabel("billions of elements a second")
    axes.set_title(_title(results, "Dropout, one forward call: higher is faster"), fontsize=10)
    axes.grid(True, alpha=0.3)
    axes.yaxis.set_major_formatter("{x:g}")
    if len(columns) > 1:
        _label_ends(axes, ends)
    else:
        sheet.legend([end[0] for end in ends], loc="outside right upper", fontsize=8)


def _bars(
    axes: Axes,
    results: Results,
    values: dict[str, float],
    unit: str,
    text: Callable[[float], str] = figure,
) -> None:
    """Draw horizontal bars, one a contender, each with its figure at its end."""
    names = list(values)
    places = range(len(names))
    bars = axes.barh(places, list(values.values()), color=[_colour(name) for name in names])
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # of lines behind
    labels = [text(value) for value in values.values()]
    axes.bar_label(bars, labels, padding=3, fontsize=8, bbox=clear)
    axes.set_yticks(places, [_short(results, name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first on top
    axes.margins(x=0.12)  # room for the figures
    axes.set_xlabel(unit)
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_memory(results: Results, sheet: Figure) -> None:
    """Draw bytes an element: kept for the backward pass, and the peak of a call."""
    found = [row for row in results["memory"] if row["contender"] != ROOF.name]
    texts = {"kept": "kept from forward to backward", "forward": "peak of a forward call"}
    panels = {
        text: {
            row["contender"]: max(0.0, seen_bytes(row["traced"], row["resident"]) or 0.0)
            for row in found
            if row["measure"] == measure
        }
        for measure, text in texts.items()
    }
    panels = {text: values for text, values in panels.items() if values}
    # Those that are in every panel, so that a row is one contender's.
    names = [
        name for name in next(iter(panels.values())) if all(name in v for v in panels.values())
    ]
    sheet.set_size_inches(8.5, 1.4 + 0.3 * len(names))
    places = sheet.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (text, values) in zip(places, panels.items(), strict=True):
        shown = {name: values[name] for name in names}
        _bars(axes, results, shown, "bytes an element", bytes_label)
        axes.set_title(text, fontsize=10)
    elements = size_label(found[0]["elements"])
    sheet.suptitle(
        f"Memory beyond the results, {elements} float32 elements: less is better", fontsize=10
    )


def draw_steps(results: Results, sheet: Figure) -> None:
    """Draw the time of forward plus backward at the largest size, over that of multiplying."""
    elements = sizes(results, "step")[-1]
    values = {
        row["contender"]: row["ratio"]
        for row in rows(results, "step")
        if row["elements"] == elements and row["contender"] != ROOF.name
    }
    sheet.set_size_inches(8.5, 1.5 + 0.28 * len(values))
    axes = sheet.subplots()
    _bars(axes, results, values, "time, relative to multiplying twice by a constant (dashed)")
    axes.axvline(1, color="black", linestyle="--", linewidth=1, zorder=1)
    axes.set_title(
        _title(results, f"Forward plus backward, {size_label(elements)}: shorter is faster"),
        fontsize=10,
    )


def draw_threads(results: Results, sheet: Figure) -> None:
    """Draw rates over threads, each size relative to its roof."""
    sheet.set_size_inches(8.5, 4)
    axes = sheet.subplots()
    # Sizes are an order, and so shades of one colour.
    shades = ("#FDB863", "#E69F00", "#D55E00", "#7F3B08")
    counts: set[int] = set()
    for position, elements in enumerate(sizes(results, "threads")):
        found = {
            int(row["variant"].split()[0]): 1 / row["ratio"]
            for row in rows(results, "threads")
            if row["elements"] == elements and row["variant"]
        }
        x, y = list(found), list(found.values())
        colour = shades[position % len(shades)]
        label = f"{size_label(elements)} elements"
        axes.plot(x, y, color=colour, marker="osD^"[position % 4], label=label)
        axes.plot(x, [y[0] * count / x[0] for count in x], ":", color=colour, linewidth=1)
        counts |= set(found)
    axes.axhline(1, color="black", linestyle="--", linewidth=1.5, label="np.multiply, 1 thread")
    axes.plot([], [], ":", color=GREY, label="if threads shared the work evenly")
    if max(counts) > FEW_THREADS:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(sorted(counts), [str(count) for count in sorted(counts)])
    axes.set_xlabel("threads")
    axes.set_ylabel("rate, relative to np.multiply on 1 thread")
    text = "fastdrop by the number of threads: higher is faster"
    axes.set_title(_title(results, text), fontsize=10)
    axes.grid(True, alpha=0.3)
    sheet.legend(loc="outside right upper", fontsize=8)


DRAW: dict[str, Callable[[Results, Figure], None]] = {
    "throughput": draw_throughput,
    "step": draw_steps,
    "memory": draw_memory,
    "threads": draw_threads,
}


def file_of(name: str, results_file: Path, folder: Path | None = None) -> Path:
    """Return where a plot of a results file lies: beside it, or in a folder."""
    return (folder or results_file.parent) / f"{results_file.stem}-{name}.svg"


def save_figure(path: Path, draw: Callable[[Figure], object]) -> None:
    """Draw a figure and save it as an SVG; the same results give the same file."""
    settings: Any = {"svg.hashsalt": "fastdrop", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(settings):
        sheet = Figure(layout="constrained")  # not pyplot: it wants a display
        draw(sheet)
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.savefig(path, format="svg", metadata={"Date": None})


def draw_all(results: Results, results_file: Path, folder: Path | None = None) -> list[Path]:
    """Draw what there are results for; returns the files written."""
    written = []
    for name, (_, present) in PLOTS.items():
        if present(results):
            path = file_of(name, results_file, folder)
            save_figure(path, functools.partial(DRAW[name], results))
            written.append(path)
    return written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument(
        "--loop-results",
        type=Path,
        metavar="FILE",
        help="of training loops (default: bench/results/loops.json, unless --results is given)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: that of the results file"
    )


def main(args: argparse.Namespace) -> int:
    """Read the results and write the plots; those of a GPU have other figures."""
    results = load(args.results)
    if "gpu" in results["hardware"]:
        from .gpu.plot import draw_all as draw
    else:
        draw = draw_all
    for path in draw(results, args.results, args.output):
        print(f"Written to {path}")
    loops = args.loop_results
    if loops is None and args.results == RESULTS and loops_report.RESULTS.exists():
        loops = loops_report.RESULTS
    if loops is not None:
        from .loops_plot import draw_file

        print(f"Written to {draw_file(loops_report.load(loops), loops, args.output)}")
    return 0
