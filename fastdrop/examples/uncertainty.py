"""Predict the progression of diabetes with intervals: Monte Carlo dropout on real data.

Run it with ``python -m fastdrop.examples.uncertainty``; ``--help`` lists the options. The data of
scikit-learn are ten measurements of each of 442 patients, and the progression of their disease
after a year. A small network in plain NumPy is trained with dropout by five-fold cross-validation
(`_regression`), and predicts held-out patients by hundreds of passes with dropout. The spread of
the passes is the uncertainty of the network. The noise of the observations is estimated on further
held-out patients.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastdrop._functions.progress import progress_bar
from fastdrop.examples._command_line import are_installed, figure_file, positive, seed_number

if TYPE_CHECKING:
    from rich.table import Table

    from fastdrop.examples._regression import Predictions

EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}
SHOWN_LEVEL = 0.9
# From Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#BBBBBB"


def summary(found: Predictions) -> Table:
    """Return the table of the fraction of observations in their intervals."""
    from rich.table import Table

    from fastdrop.examples._regression import LEVELS, coverage, interval

    table = Table(title=f"Calibration on {len(found.observed)} patients not trained on")
    for heading in (
        "Interval",
        "Passes and noise:\nobserved inside",
        "mean\nwidth",
        "Passes alone:\nobserved inside",
        "mean\nwidth",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for level in LEVELS:
        row = [f"{level:.0%}"]
        for with_noise in (True, False):
            width = 2 * interval(found, level, with_noise).mean()
            row += [f"{coverage(found, level, with_noise):.1%}", f"{width:.0f}"]
        table.add_row(*row)
    return table


def plot(found: Predictions, path: Path) -> None:
    """Draw the intervals of all patients, and the calibration of the intervals."""
    from matplotlib.figure import Figure  # not pyplot, which may need a display

    from fastdrop.examples._regression import coverage, interval

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    order = np.argsort(found.mean)
    rank = np.arange(len(order))
    mean, observed = found.mean[order], found.observed[order]
    half, sure = (interval(found, SHOWN_LEVEL, noise)[order] for noise in (True, False))
    left.vlines(rank, mean - half, mean + half, color=GREY, lw=0.8, label="passes and noise")
    left.vlines(rank, mean - sure, mean + sure, color=BLUE, lw=1.2, alpha=0.6, label="passes alone")
    inside = abs(observed - mean) <= half
    left.plot(rank[inside], observed[inside], "k.", ms=4, label="observed, inside")
    left.plot(rank[~inside], observed[~inside], ".", color=ORANGE, ms=6, label="observed, outside")
    left.set(
        xlabel="patients, by their predicted mean",
        ylabel="progression of the disease after a year",
        title=f"{SHOWN_LEVEL:.0%} intervals",
        ylim=(-90, 460),
    )
    left.margins(x=0.01)
    left.legend(frameon=False, ncols=4, loc="upper left", fontsize=8, handletextpad=0.3)

    levels = np.linspace(0, 1, 51)[1:-1]
    right.plot([0, 1], [0, 1], color=GREY, lw=1)
    for with_noise, colour, name, at in (
        (True, "black", "passes and noise", (0.3, 0.62)),
        (False, BLUE, "passes alone", (0.55, 0.12)),
    ):
        right.plot(levels, [coverage(found, level, with_noise) for level in levels], color=colour)
        right.text(*at, name, color=colour, ha="center")
    right.set(
        xlabel="level of the interval",
        ylabel="part of the observations inside",
        title="Calibration",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line; `argv` is that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.uncertainty",
        description="Monte Carlo dropout on scikit-learn's diabetes data: predictive intervals.",
    )
    parser.add_argument(
        "--epochs",
        type=positive,
        default=60,
        metavar="N",
        help="times to go through the training set (default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=positive,
        default=500,
        metavar="N",
        help="passes for each prediction (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=figure_file,
        default="uncertainty.png",
        metavar="FILE",
        help="where to write the figure, as .png, .pdf or .svg (default: %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line without the program's name; that of the process by default.

    Returns
    -------
    int
        The exit status: 0 on success, 1 if a package is missing.
    """
    args = parse_args(argv)
    if not are_installed(EXTRAS):
        return 1
    from rich.console import Console
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from fastdrop.examples._regression import FOLDS, Predictions, cross_validate, rmse

    console = Console()
    with threadpool_limits(1, user_api="blas"):  # a second thread costs more here than it gains
        shown = progress_bar(True, "Training and predicting")
        parts = list(shown(cross_validate(args.epochs, args.samples, args.seed), FOLDS))
    found = Predictions(*map(np.concatenate, zip(*parts, strict=True)))
    console.print(summary(found))
    error = rmse(found.mean, found.observed)
    console.print(
        f"Root mean squared error: {error:.1f} by the mean of {args.samples} passes, "
        f"{rmse(found.plain, found.observed):.1f} with dropout off, {found.observed.std():.1f} by "
        "the mean of all patients. The passes' spread is how unsure the network is of its mean; "
        "the noise is how the observations scatter about it, estimated on patients held back."
    )
    plot(found, args.output)
    console.print(f"Figure: {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
