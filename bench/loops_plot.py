"""Draw training steps: what dropout adds to them, by how its mask is kept."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .loop_sites import LAYER, MASK, NONE, STORED
from .loops_report import LoopResults, cases, label
from .plot import save_figure

# Okabe and Ito's, warm for fastdrop, as in the other plots.
COLOURS = {STORED: "#009E73", MASK: "#D55E00", LAYER: "#E69F00"}
REST = "#DDDDDD"


def draw(results: LoopResults, sheet: Figure) -> None:
    """Draw a bar a step, dropout's part coloured, relative to the step without dropout."""
    found = {case: rows for case, rows in cases(results).items() if NONE in rows}
    sheet.set_size_inches(8.5, 1.2 + 1.05 * len(found))
    axes = sheet.subplots()
    ticks, names = [], []
    longest = 1.0
    for number, (case, rows) in enumerate(found.items()):
        base = rows[NONE]["step"]
        for place, (variant, colour) in enumerate(COLOURS.items()):
            if variant not in rows:
                continue
            row = rows[variant]
            y = number * 4 + place
            whole, dropout = row["step"] / base, row["dropout"] / base
            axes.barh(y, whole - dropout, color=REST, height=0.9)
            axes.barh(y, dropout, left=whole - dropout, color=colour, height=0.9)
            kept = "" if row["activations"] == row["dtype"] else f", all in {row['activations']}"
            text = f" {row['step'] * 1e3:.3g} ms{kept}"
            axes.text(whole, y, text, va="center", fontsize=8)
            longest = max(longest, whole)
        ticks.append(number * 4 + 1)
        names.append(label(*case).replace(", batches", ",\nbatches"))
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.3)
    axes.set_xlabel("time of a training step; 1 (dashed): the same step without dropout")
    axes.set_title(
        f"Dropout's part of a training step: shorter is faster\n{results['hardware']['cpu']}",
        fontsize=10,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    shown = {f"dropout: {variant}": colour for variant, colour in COLOURS.items()}
    shown["the rest of the step"] = REST
    handles = [Patch(color=colour, label=text) for text, colour in shown.items()]
    sheet.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)


def draw_file(results: LoopResults, results_file: Path, folder: Path | None = None) -> Path:
    """Draw results beside their file, or in a folder; returns the file written."""
    path = (folder or results_file.parent) / f"{results_file.stem}.svg"
    save_figure(path, lambda sheet: draw(results, sheet))
    return path
