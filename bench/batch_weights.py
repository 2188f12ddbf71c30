"""Weights of a streaming bootstrap for `bench.batch`, beside NumPy's generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .common import BenchError, load

FAMILY = "Weights for the bootstrap"
ELEMENTS = 10_000_000
P = 0.5

Rows = Iterator[tuple[str, dict[str, Callable[[], object]], str, str, float]]


def check(n: int) -> None:
    """Check our weights: counts by their distribution, and Bernoulli weights by the mask."""
    fd = load("fastdrop")
    counts = fd.poisson_weights(n, rng=7)
    spread = 5 / np.sqrt(n)
    fine = abs(counts.mean() - 1) < spread and abs(counts.var() - 1) < 2 * spread
    weights = fd.bernoulli_weights(n, P, rng=7)
    fine &= np.array_equal(weights, fd.dropout(np.ones(n, np.float32), P, rng=7))
    if not fine:
        raise BenchError("the weights are wrong")


def rows(seconds: float) -> Rows:
    """Yield the comparisons."""
    fd, rng = load("fastdrop"), np.random.default_rng(0)
    n = ELEMENTS if seconds else 10_000
    counts, weights = np.empty(n, np.int8), np.empty(n, np.float32)
    check(n)
    calls: dict[str, Any] = {
        "fastdrop": lambda: fd.poisson_weights(n, rng=7, out=counts),
        "NumPy, Generator.poisson": lambda: rng.poisson(1.0, n),
        "NumPy, np.random.poisson": lambda: np.random.poisson(1.0, n),  # noqa: NPY002
    }
    what = f"poisson_weights, int8, {n:,}"
    yield what, calls, "fastdrop", "NumPy, Generator.poisson", 20.0
    name = "NumPy, rng.random(n, float32) < p"
    calls = {
        "fastdrop": lambda: fd.bernoulli_weights(n, P, rng=7, out=weights),
        name: lambda: (rng.random(n, np.float32) < P) * np.float32(1 / P),
        "NumPy, Generator.binomial": lambda: rng.binomial(1, P, n) / P,
    }
    yield f"bernoulli_weights, float32, {n:,}", calls, "fastdrop", name, 5.0
