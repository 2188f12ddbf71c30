"""The figure of the quality report: whether p-values are uniform, as a whole and near 0 and 1.

`plot` calls `draw_pvalues`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from .results import Results, rows

_OURS, _BAND = "#D55E00", "#BBBBBB"
_POINTS = 600  # of a line: more would not be seen


def drawn_ranks(number: int) -> Any:
    """Return which of so many p-values, in rising order from 0 on, are drawn."""
    if not number:
        return np.zeros(0, int)
    tails = np.concatenate([np.arange(min(50, number)), _end_ranks(number) - 1])
    between = np.linspace(0, number - 1, min(number, _POINTS)).astype(int)
    return np.unique(np.concatenate([tails, between, number - 1 - tails]))


def _end_ranks(number: int) -> Any:
    """Return which are drawn near an end, the outermost one as 1."""
    return np.unique(np.geomspace(1, max(1, number / 2), 60).astype(int))


def _whole(axes: Axes, number: int, at: Any, values: Any) -> None:
    expected = (at + 1) / (number + 1)
    bound = float(stats.kstwo.ppf(0.99, number))
    axes.axhspan(-bound, bound, color=_BAND, alpha=0.5, label="99 of 100 lie in here, all along")
    axes.plot(expected, values - expected, color=_OURS, linewidth=1.4)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("expected p-value, in rising order")
    axes.set_ylabel("found - expected")
    axes.set_xlim(0, 1)
    axes.set_ylim(-1.6 * bound, 1.6 * bound)
    axes.set_title("all of them", fontsize=9)
    axes.legend(loc="upper right", fontsize=8)


def _ends(axes: Axes, number: int, at: Any, values: Any, above: Any) -> None:
    rank = _end_ranks(number)
    near_0, near_1 = (
        values[np.searchsorted(at, rank - 1)],
        above[np.searchsorted(at, number - rank)],
    )
    styles = ("near 0", near_0, _OURS, "o"), ("near 1", near_1, "#0072B2", "s")
    expected = rank / (number + 1)
    low, high = (stats.beta.ppf(q, rank, number + 1 - rank) for q in (0.005, 0.995))
    axes.fill_between(expected, low, high, color=_BAND, alpha=0.5, label="99 of 100, at each place")
    for text, found, colour, marker in styles:
        label = f"p-values {text}"
        axes.plot(expected, found, marker, color=colour, markersize=3, label=label)
    axes.plot(expected, expected, color="black", linewidth=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("expected distance from 0 or 1")
    axes.set_ylabel("found")
    axes.set_title("the two ends", fontsize=9)
    axes.legend(loc="lower right", fontsize=8)


def draw_pvalues(results: Results, sheet: Figure) -> None:
    """Draw sorted p-values against what is expected, with bands, and the same of both ends."""
    (every,) = rows(results, "all-pvalues")
    number, at, kept = every["number"], np.array(every["ranks"]), np.array(every["pvalues"])
    below, above = np.where(kept >= 0, kept, 1 + kept), np.where(kept >= 0, 1 - kept, -kept)
    sheet.set_size_inches(8.5, 3.8)
    whole, ends = sheet.subplots(1, 2)
    _whole(whole, number, at, below)
    _ends(ends, number, at, below, above)
    sheet.suptitle(f"{number:,} p-values of {every['tests']} tests of masks", fontsize=10)
