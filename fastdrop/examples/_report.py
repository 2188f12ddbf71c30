"""The report of the digits example: a table, its explanation, and a figure."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, median, stdev

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from fastdrop.examples._training import BATCH_SIZE, N_TEST, N_TRAIN, WRONG, Run

# From Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#000000", "#D55E00", "#0072B2")
GREY = "#BBBBBB"
VARIANTS_COMPARED = ("no dropout", "fastdrop")

Results = dict[str, list[Run]]  # variant to runs, one a seed


def per_step_ms(runs: list[Run]) -> tuple[float, float]:
    """Return the median milliseconds of a step, and of dropout in a step, over all runs."""
    step = median(s for run in runs for s in run.step_seconds)
    dropout = median(s for run in runs for s in run.dropout_seconds)
    return step * 1e3, dropout * 1e3


def summary(results: Results) -> Table:
    """Return the table of the accuracy and the cost of each variant."""
    table = Table(title="Handwritten digits, some labels wrong, three-layer network in plain NumPy")
    table.add_column("Variant", no_wrap=True)
    for heading in (
        "Accuracy\n%",
        "Step\nms",
        "Dropout\nms/step",
        "Share\nof step",
        "Dropout\ns/run",
        "Masks\nbytes",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for variant, runs in results.items():
        final = [100 * run.accuracy[-1] for run in runs]
        spread = f" ± {stdev(final):.1f}" if len(final) > 1 else ""
        step, dropout = per_step_ms(runs)
        table.add_row(
            variant,
            f"{mean(final):.1f}{spread}",
            f"{step:.2f}",
            f"{dropout:.3f}",
            f"{dropout / step:.1%}",
            f"{mean(sum(run.dropout_seconds) for run in runs):.3f}",
            f"{max(run.bytes_kept for run in runs):,}",
        )
    return table


def explanation(results: Results) -> str:
    """Return the explanation of the table."""
    n_seeds = len(next(iter(results.values())))
    over = "for one seed"
    if n_seeds > 1:
        over = f"mean ± standard deviation of {n_seeds} seeds; smaller differences may be chance"
    return (
        f"Trained on {N_TRAIN} scans, {WRONG:.0%} of them with a wrong label. Accuracy: on "
        f"{N_TEST} others, whose labels are right, after the last epoch, {over}. "
        f"{gain(results)}Times: medians over all training steps but each run's first, which "
        "compiles, with the matrix products on one thread; s/run is the sum over one training. "
        "Masks: what the layers hold of them between forward and backward for a minibatch of "
        f"{BATCH_SIZE}; fastdrop keeps one integer a layer and draws the mask again from it."
    )


def gain(results: Results) -> str:
    """Describe the gain of dropout for each seed, with equal weights, minibatches and labels."""
    without, with_it = (
        [100 * run.accuracy[-1] for run in results[variant]] for variant in VARIANTS_COMPARED
    )
    gains = [b - a for a, b in zip(without, with_it, strict=True)]
    if len(gains) == 1:
        return f"Dropout gains {gains[0]:+.1f} points here. "
    return (
        f"Dropout gains {mean(gains):+.1f} points, between {min(gains):+.1f} and "
        f"{max(gains):+.1f} for one seed. "
    )


def plot(results: Results, path: Path) -> None:
    """Draw accuracy over epochs and time per step, and write the figure to `path`."""
    # Not pyplot, which may need a display.
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (variant, runs), colour in zip(results.items(), COLOURS, strict=True):
        accuracy = 100 * np.array([run.accuracy for run in runs])
        epochs = np.arange(1, accuracy.shape[1] + 1)
        left.plot(epochs, accuracy.mean(axis=0), color=colour, label=variant)
        left.fill_between(
            epochs, accuracy.min(axis=0), accuracy.max(axis=0), color=colour, alpha=0.15, lw=0
        )
    # The first epochs rise so steeply that the variants would be indistinguishable on their scale.
    late = [value for runs in results.values() for run in runs for value in run.accuracy[2:]]
    if late:
        left.set_ylim(bottom=100 * min(late) - 1)
    left.set(xlabel="epoch", ylabel="test accuracy (%)", title="Accuracy over epochs")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.margins(x=0.02)
    left.legend(loc="lower right", title="mean and range over seeds", frameon=False)
    left.grid(alpha=0.3)

    for row, ((variant, runs), colour) in enumerate(zip(results.items(), COLOURS, strict=True)):
        step, dropout = per_step_ms(runs)
        right.barh(row, dropout, color=colour, height=0.6)
        right.barh(row, step - dropout, left=dropout, color=GREY, height=0.6)
        text = f"{variant}: {dropout:.2f} ms of {step:.1f} ms in dropout ({dropout / step:.1%})"
        right.text(0, row - 0.36, text, color=colour, va="bottom")
    right.set_ylim(len(results) - 0.5, -0.7)
    right.set_yticks([])
    right.set(
        xlabel="milliseconds (median)", title="Time per training step (grey: all but dropout)"
    )
    right.spines["left"].set_visible(False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
