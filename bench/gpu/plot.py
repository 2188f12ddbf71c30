"""Draw the results of a GPU: gigabytes a second over elements, each section an SVG by itself."""

from __future__ import annotations

import functools
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..common import size_label
from ..plot import save_figure
from ..results import Results, rows
from .report import PASSES, TITLES, gigabytes

# Okabe and Ito's colours; ours are warm and wide, peers' cold and thin, copies black and dashed.
STYLES = {
    "copy": ("#000000", "--", "", 1.5),
    "copy-kernel": ("#888888", "--", "", 1.2),
    "fastdrop": ("#D55E00", "-", "o", 2.4),
    "fastdrop-new": ("#E69F00", "-", "o", 1.6),
    "torch": ("#CC79A7", "-", "^", 1.2),
    "triton": ("#0072B2", "-", "s", 1.2),
    "cupy": ("#009E73", "-", "D", 1.2),
    "jax": ("#332288", "-", "X", 1.2),
}


def present(results: Results) -> list[str]:
    """Return the sections that there is something of."""
    return [section for section in PASSES if rows(results, section)]


def draw(results: Results, section: str, sheet: Figure) -> None:
    """Draw a panel for each dtype."""
    found = rows(results, section)
    dtypes = list(dict.fromkeys(row["dtype"] for row in found))
    sheet.set_size_inches(8.5, 1.2 + 2.6 * -(-len(dtypes) // 2))
    panels = sheet.subplots(-(-len(dtypes) // 2), 2, sharex=True, squeeze=False).flat
    for axes, dtype in zip(panels, dtypes, strict=False):
        _panel(axes, results, section, dtype)
    for axes in list(panels)[len(dtypes) :]:
        axes.set_visible(False)
    handles, labels = sheet.axes[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    sheet.suptitle(
        f"Dropout, {TITLES[section]}, p = {results['settings']['p']:g}, "
        f"{results['hardware']['gpu']}: higher is faster",
        fontsize=10,
    )


def _panel(axes: Axes, results: Results, section: str, dtype: str) -> None:
    found = [row for row in rows(results, section) if row["dtype"] == dtype]
    columns = sorted({row["elements"] for row in found})
    for name, entrant in results["contenders"].items():
        mine = [row for row in found if row["contender"] == name]
        colour, line, marker, width = STYLES[name]
        axes.plot(
            [row["elements"] for row in mine],
            [gigabytes(section, row) for row in mine],
            line,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=width,
            label=entrant["label"].replace("$", r"\$"),
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(columns, [size_label(n) for n in columns], rotation=45)
    axes.set_title(dtype, fontsize=9)
    axes.set_ylabel("GB/s")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(True, alpha=0.3)


def file_of(section: str, results_file: Path, folder: Path | None = None) -> Path:
    """Return where the plot of a section lies: beside the results, or in a folder."""
    return (folder or results_file.parent) / f"{results_file.stem}-{section}.svg"


def draw_all(results: Results, results_file: Path, folder: Path | None = None) -> list[Path]:
    """Draw what there are results for; returns the files written."""
    written = []
    for section in present(results):
        path = file_of(section, results_file, folder)
        save_figure(path, functools.partial(draw, results, section))
        written.append(path)
    return written
