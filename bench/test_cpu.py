"""The same contenders under pytest-benchmark.

``python -m pytest bench --benchmark-only`` runs them (it overrides the project's
``--benchmark-skip``); add ``-m 'not slow'`` to leave out the large sizes, ``-k fastdrop`` to pick
contenders. Figures to quote come from ``python -m bench``, which interleaves the contenders; this
suite is for following one of them, with ``--benchmark-autosave`` and ``--benchmark-compare``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.check import check
from bench.common import KI, MI, P, fresh_input, size_label
from bench.contenders import CONTENDERS, Contender, default_threads

SIZES = [
    pytest.param(size, id=size_label(size).replace(" ", ""), marks=marks)
    for size, marks in (
        (KI, ()),
        (64 * KI, ()),
        (MI, ()),
        (16 * MI, pytest.mark.slow),
        (64 * MI, pytest.mark.slow),
    )
]


@pytest.fixture
def contender(request: pytest.FixtureRequest) -> Iterator[Contender]:
    """Skip where the contender's module is missing; give its thread count back afterwards."""
    chosen: Contender = request.param
    if chosen.needs:
        pytest.importorskip(chosen.needs, reason=f"{chosen.label} needs {chosen.needs}")
    chosen.set_threads()
    yield chosen
    if chosen.needs and chosen.threads:
        importlib.import_module(chosen.needs).set_num_threads(default_threads(chosen.needs))


@pytest.mark.parametrize("elements", SIZES)
@pytest.mark.parametrize(
    "contender", [pytest.param(c, id=c.name) for c in CONTENDERS], indirect=True
)
def test_forward(benchmark: BenchmarkFixture, contender: Contender, elements: int) -> None:
    """Validate, then time one forward call."""
    x = fresh_input(elements)
    out = np.ones_like(x)
    check(contender, x, P, out)
    benchmark.group = f"{size_label(elements)} float32, p = {P:g}"
    benchmark.extra_info["elements"] = elements
    benchmark(contender.setup(x, P, out))
