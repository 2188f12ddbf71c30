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


def _places(number: int) -> Any:
    """Return ranks to draw: the first and last ones, and some between."""
    tails = np.arange(min(50, number))
    between = np.linspace(0, number - 1, min(number, _POINTS)).astype(int)
    return np.unique(np.concatenate([tails, between, number - 1 - tails]))


def _whole(axes: Axes, values: Any) -> None:
    number = len(values)
    at = _places(number)
    expected = (at + 1) / (number + 1)
    bound = float(stats.kstwo.ppf(0.99, number))
    axes.axhspan(-bound, bound, color=_BAND, alpha=0.5, label="99 of 100 lie in here, all along")
    axes.plot(expected, np.sort(values)[at] - expected, color=_OURS, linewidth=1.4)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("expected p-value, in rising order")
    axes.set_ylabel("found - expected")
    axes.set_xlim(0, 1)
    axes.set_ylim(-1.6 * bound, 1.6 * bound)
    axes.set_title("all of them", fontsize=9)
    axes.legend(loc="upper right", fontsize=8)


def _ends(axes: Axes, values: Any, above: Any) -> None:
    number, styles = len(values), (("near 0", _OURS, "o"), ("near 1", "#0072B2", "s"))
    rank = np.unique(np.geomspace(1, number / 2, 60).astype(int))
    expected = rank / (number + 1)
    low, high = (stats.beta.ppf(q, rank, number + 1 - rank) for q in (0.005, 0.995))
    axes.fill_between(expected, low, high, color=_BAND, alpha=0.5, label="99 of 100, at each place")
    for (text, colour, marker), tail in zip(styles, (values, above), strict=True):
        label, found = f"p-values {text}", np.sort(tail)[rank - 1]
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
    kept = np.array([p for row in rows(results, "pvalues") for p in row["pvalues"]])
    below, above = np.where(kept >= 0, kept, 1 + kept), np.where(kept >= 0, 1 - kept, -kept)
    sheet.set_size_inches(8.5, 3.8)
    whole, ends = sheet.subplots(1, 2)
    _whole(whole, below)
    _ends(ends, below, above)
    tests = len(rows(results, "pvalues"))
    sheet.suptitle(f"{len(kept):,} p-values of {tests} tests of masks", fontsize=10)
