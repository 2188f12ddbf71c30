"""The same contenders under pytest-benchmark.

``python -m pytest bench --benchmark-only`` runs them (it overrides the project's
``--benchmark-skip``); add ``-m 'not slow'`` to leave out the large sizes, ``-k forward`` to pick a
section, ``-k fastdrop`` to pick contenders. Figures to quote come from ``python -m bench``, which
interleaves the contenders; this suite is for following one of them, with ``--benchmark-autosave``
and ``--benchmark-compare``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.check import check
from bench.common import KI, MI, fresh_input, fresh_output, size_label
from bench.contender import Contender, default_threads, load
from bench.contenders import available
from bench.sections import SECTIONS

SIZES = (KI, 64 * KI, MI, 16 * MI, 64 * MI)
SLOW = 16 * MI


def _cases() -> Iterator[Any]:
    for name, section in SECTIONS.items():
        for elements in SIZES:
            if elements not in section.sizes and name != "forward":
                continue
            for contender in section.contenders():
                yield pytest.param(
                    name,
                    contender,
                    elements,
                    id=f"{name}-{contender.id}-{size_label(elements)}".replace(" ", ""),
                    marks=pytest.mark.slow if elements >= SLOW else (),
                )


@pytest.fixture
def set_threads_back() -> Iterator[list[str]]:
    """Give the libraries named their thread counts back afterwards."""
    libraries: list[str] = []
    yield libraries
    for library in libraries:
        load(library).set_num_threads(default_threads(library))


@pytest.mark.parametrize(("section", "contender", "elements"), list(_cases()))
def test_call(
    benchmark: BenchmarkFixture,
    set_threads_back: list[str],
    section: str,
    contender: Contender,
    elements: int,
) -> None:
    """Validate, then time one call; skipped where the contender cannot run."""
    able, notes = available([contender])
    if not able:
        pytest.skip(notes[0])
    if contender.needs and contender.threads not in (None, "own"):
        set_threads_back.append(contender.needs)
    x = fresh_input(elements, contender.dtype)
    out = fresh_output(x)
    check(contender, x, out)
    benchmark.group = f"{section}, {size_label(elements)}"
    benchmark.extra_info["elements"] = elements
    benchmark(contender.setup(x, contender.p, out))
