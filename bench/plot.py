"""Plot throughput over size from the results file, as an SVG that depends on nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from .common import RESULTS, size_label
from .results import Results, find, load, sizes

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers differ as well.
COLOURS = ("#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#999999")
MARKERS = "osD^vPX"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: beside the results, as .svg"
    )


def draw(results: Results, path: Path) -> None:
    """Draw billions of elements a second over elements, both logarithmic."""
    with matplotlib.rc_context(
        {"svg.hashsalt": "fastdrop", "svg.fonttype": "none", "font.size": 10}
    ):
        figure = Figure(figsize=(8, 6), layout="constrained")  # not pyplot: it wants a display
        axes = figure.subplots()
        colour = 0
        for name, entrant in results["contenders"].items():
            found = [row for size in sizes(results) if (row := find(results, name, size))]
            x = [row["elements"] for row in found]
            y = [row["elements"] / row["seconds"] / 1e9 for row in found]
            if entrant["role"] == "roof":
                axes.plot(x, y, "--", color="black", label=entrant["label"])
                continue
            axes.plot(
                x,
                y,
                color=COLOURS[colour % len(COLOURS)],
                marker=MARKERS[colour % len(MARKERS)],
                markersize=5,
                linewidth=2 if entrant["role"] == "ours" else 1,
                label=entrant["label"],
            )
            colour += 1
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes(results), [size_label(size) for size in sizes(results)])
        axes.set_xlabel("float32 elements")
        axes.set_ylabel("billions of elements a second")
        axes.set_title(
            f"Dropout, p = {results['settings']['p']:g}: higher is faster\n"
            f"{results['hardware']['cpu']}",
            fontsize=10,
        )
        axes.grid(True, alpha=0.3)
        axes.yaxis.set_major_formatter("{x:g}")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        # No date: the same results give the same file.
        figure.savefig(path, format="svg", metadata={"Date": None})


def main(args: argparse.Namespace) -> int:
    """Read the results and write the plot."""
    path = args.output or args.results.with_suffix(".svg")
    draw(load(args.results), path)
    print(f"Written to {path}")
    return 0
