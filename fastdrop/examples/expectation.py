"""Show that scaled dropout preserves the expectation of activations, and unscaled does not.

Run it with ``python -m fastdrop.examples.expectation``; ``--help`` lists the options. Dropout is
applied to a million activations of a layer of random weights, with hundreds of masks and several
probabilities of keeping: once unscaled ("vanilla" dropout, whose mean is multiplied by the
probability of keeping, so that a network must be scaled at test time), and once scaled by the
inverse of that probability ("inverted" dropout, whose mean is preserved).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import fastdrop as fd
from fastdrop.examples._command_line import are_installed, figure_file, positive, seed_number

if TYPE_CHECKING:
    from rich.table import Table

KEEP = (1.0, 0.7, 0.5, 0.3)
INPUTS = 100


class Means(NamedTuple):
    """Mean activation for one probability of keeping, one for each mask."""

    keep: float
    unscaled: np.ndarray[tuple[int], np.dtype[np.float64]]
    scaled: np.ndarray[tuple[int], np.dtype[np.float64]]


class Experiment(NamedTuple):
    """The result of `experiment`."""

    plain: float  # mean activation without dropout
    means: list[Means]
    dropped_out: int  # number of elements that dropout was applied to
    seconds: float  # of dropout and averaging


def experiment(units: int, masks: int, seed: int) -> Experiment:
    """Apply dropout to the activations of a random layer with many masks; average each result."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(INPUTS, np.float32)
    weights = rng.standard_normal((INPUTS, units), np.float32)
    weights *= np.float32(np.sqrt(2 / INPUTS))  # He et al., 2015
    activations = np.maximum(x @ weights, 0)
    plain = float(activations.mean(dtype=np.float64))

    dropped = np.empty_like(activations)

    def mean(p: float, mask: int, scale: float | None) -> float:
        key = fd.Key(seed).fold_in(mask)
        fd.dropout(activations, p, rng=key, scale=scale, out=dropped)
        return float(dropped.mean())  # NumPy uses pairwise summation: float32 is accurate enough

    mean(0.5, 0, None)  # loads the kernels
    start = time.perf_counter()
    means = [
        Means(
            keep,
            np.array([mean(1 - keep, n, 1.0) for n in range(masks)]),
            np.array([mean(1 - keep, n, None) for n in range(masks)]),
        )
        for keep in KEEP
    ]
    seconds = time.perf_counter() - start
    return Experiment(plain, means, 2 * len(KEEP) * masks * units, seconds)


def summary(found: Experiment) -> Table:
    """Return the table of mean activations."""
    from rich.table import Table

    table = Table(title="Mean activation of a layer of random weights, over all masks")
    for heading in (
        "Keep",
        "Unscaled",
        "of no\ndropout",
        "Scaled",
        "of no\ndropout",
        "Scaled: spread\nover masks",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for keep, unscaled, scaled in found.means:
        table.add_row(
            f"{keep:.1f}",
            f"{unscaled.mean():.5f}",
            f"{unscaled.mean() / found.plain:.4f}",
            f"{scaled.mean():.5f}",
            f"{scaled.mean() / found.plain:.4f}",
            f"{scaled.std() / found.plain:.2%}",
        )
    return table


def plot(found: Experiment, path: Path) -> None:
    """Draw the mean activations over the probability of keeping."""
    from matplotlib.figure import Figure  # not pyplot, which may need a display

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    keep = [each.keep for each in found.means]
    for name, colour, marker in (("unscaled", "#D55E00", "o"), ("scaled", "#0072B2", "s")):
        values = [getattr(each, name).mean() / found.plain for each in found.means]
        axes.plot(keep, values, color=colour, marker=marker, clip_on=False, zorder=3)
        axes.annotate(
            name,
            (keep[-1], values[-1]),
            xytext=(0, -20),
            textcoords="offset points",
            color=colour,
            ha="center",
        )
    axes.set(
        xlabel="probability of keeping a unit",
        ylabel="mean activation, of that without dropout",
        title="Dropout and the expectation of a layer",
        xlim=(1.05, 0.2),
        ylim=(0, 1.1),
        xticks=keep,
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line; `argv` is that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.expectation",
        description="Show what dropout does to the mean activation of a layer of random weights.",
    )
    parser.add_argument(
        "--units",
        type=positive,
        default=1_000_000,
        metavar="N",
        help="units of the layer (default: %(default)s)",
    )
    parser.add_argument(
        "--masks",
        type=positive,
        default=200,
        metavar="N",
        help="masks for each probability (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=figure_file,
        metavar="FILE",
        help="also draw a figure, as .png, .pdf or .svg",
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
    needed = {"rich": "rich"} | ({"matplotlib": "matplotlib"} if args.output else {})
    if not are_installed(needed):
        return 1
    from rich.console import Console

    console = Console()
    found = experiment(args.units, args.masks, args.seed)
    console.print(summary(found))
    console.print(
        f"{args.units:,} units with a mean activation of {found.plain:.5f}, {args.masks} masks for "
        "each probability. Unscaled, the mean is that of no dropout times the probability of "
        "keeping; scaled by one over it, the mean stays. Spread: standard deviation of the mean "
        "over masks, of the mean without dropout."
    )
    console.print(
        f"{found.dropped_out:,} elements dropped out and averaged in {found.seconds:.1f} s."
    )
    if args.output:
        plot(found, args.output)
        console.print(f"Figure: {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
