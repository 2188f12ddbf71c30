"""A regression suite for pytest-benchmark: about ten calls, each validated before it is timed.

``python -m pytest bench --benchmark-autosave`` saves a run, and ``--benchmark-compare`` shows a
later one beside it. Figures to quote come from ``python -m bench``, which interleaves contenders.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.cases import BY_NAME, Contender, as_step, form
from bench.common import KI, MI, default_threads, fresh_input, fresh_output, load

CASES = {
    "plain, 1 Ki": (BY_NAME["fastdrop"], KI),
    "plain, 1 thread, 64 Ki": (BY_NAME["fastdrop-1"], 64 * KI),
    "plain, 1 thread, 1 Mi": (BY_NAME["fastdrop-1"], MI),
    "plain, all threads, 1 Mi": (BY_NAME["fastdrop"], MI),
    "new array, 1 Ki": (BY_NAME["fastdrop-new"], KI),
    "layer, forward plus backward, 1 Ki": (as_step(BY_NAME["fastdrop-layer-step"]), KI),
    "fd.Mask, 1 Ki": (BY_NAME["fastdrop-mask"], KI),
    "dropout_mask, 1 Mi": (form("dropout_mask"), MI),
    "Fortran order, 1 Mi": (form("Fortran order"), MI),
    "noise_shape, 1 Mi": (form("noise_shape (N, 1, 16) of (N, 8, 16)"), MI),
    "key.fold_in": (BY_NAME["fold_in"], 2 * KI),
}


@pytest.mark.parametrize(("contender", "elements"), CASES.values(), ids=CASES)
def test_call(benchmark: BenchmarkFixture, contender: Contender, elements: int) -> None:
    """Validate and time one call."""
    x = fresh_input(elements)
    y = fresh_output(x)
    try:
        contender.validate(x, y)
        benchmark(contender.make(x, y))
    finally:
        load("fastdrop").set_num_threads(default_threads("fastdrop"))
