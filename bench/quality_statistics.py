"""Statistics of the quality report: p-values of counts and sums, and the verdict on p-values.

The tests of `quality_bits`, `quality_keys` and `quality_values` turn what they count into p-values
here, and `quality` judges them. Every p-value is one-sided, and near 0 and near 1 it is as bad:
what is too regular is not random either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Array = npt.NDArray[Any]
_LEAST_EXPECTED = 5.0  # of a cell of a chi-square test; smaller ones are merged

# A sound generator is rejected with one choice of keys in 10,000. The keys are fixed, so a report
# says the same at every run.
LEVEL = 1e-4


class Verdict(NamedTuple):
    """Two second-level p-values of a sample of p-values, and whether they are acceptable."""

    smallest: float  # of the p-value nearest to 0 or 1 (Sidak's correction)
    uniform: float  # Kolmogorov and Smirnov's test of all against the uniform distribution

    @property
    def value(self) -> float:
        """One p-value of the two, by Bonferroni's correction."""
        return min(1.0, 2.0 * min(self))


def of_normal(z: float) -> float:
    """Return the p-value of a standard normal number."""
    return float(special.ndtr(z))


def of_count(count: float, expected: float, variance: float) -> float:
    """Return the p-value of a count that is nearly normal."""
    return of_normal((count - expected) / math.sqrt(variance))


def of_chi_square(value: float, freedom: float) -> float:
    """Return the p-value of a chi-square distributed number."""
    return float(special.gammainc(freedom / 2, value / 2))


def of_cells(observed: Array, probability: Array) -> float:
    """Return the p-value of counts in cells of these probabilities: Pearson's test.

    Cells of few expected counts are merged, in the order of their probabilities.
    """
    seen, expected = np.asarray(observed, np.float64).ravel(), np.ravel(probability)
    expected = expected * (seen.sum() / expected.sum())
    if expected.min() < _LEAST_EXPECTED:
        order = np.argsort(expected)
        seen, expected = seen[order], expected[order]
        few = int(np.searchsorted(np.cumsum(expected), _LEAST_EXPECTED)) + 1
        few = max(few, int(np.searchsorted(expected, _LEAST_EXPECTED)))
        seen = np.append(seen[few:], seen[:few].sum())
        expected = np.append(expected[few:], expected[:few].sum())
    return of_chi_square(float((((seen - expected) ** 2) / expected).sum()), len(seen) - 1)


def of_largest(log_cdf: float, number: int) -> float:
    """Return the p-value of the largest of independent numbers, by the logarithm of its own."""
    return math.exp(number * log_cdf)


def of_normals(z: Array) -> list[float]:
    """Return p-values of independent normal numbers: sum, sum of squares, largest and smallest."""
    flat, number = np.asarray(z, np.float64).ravel(), np.size(z)
    return [
        of_normal(float(flat.sum()) / math.sqrt(number)),
        of_chi_square(float(flat @ flat), number),
        of_largest(float(special.log_ndtr(flat.max())), number),
        of_largest(float(special.log_ndtr(-flat.min())), number),
    ]


def judge(pvalues: Sequence[float]) -> Verdict:
    """Return the second-level p-values of independent p-values."""
    values = np.asarray(pvalues, np.float64)
    nearest = min(float(np.minimum(values, 1 - values).min()) * 2, 1.0)
    smallest = -math.expm1(len(values) * math.log1p(-nearest)) if nearest < 1 else 1.0
    return Verdict(smallest, float(stats.kstest(values, "uniform", method="exact").pvalue))
