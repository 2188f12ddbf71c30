"""The frozen cases of the functions on batches, a function for each family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastdrop as fd
from tests.support.oracle import Array

Case = tuple[str, Array]
KEY = fd.Key(2**63 + 977, 2**40 + 3)
SAMPLES = np.array([5, 0, 2**62 - 1, 2**33], np.uint64)


def weights() -> Iterator[Case]:
    """Poisson and Bernoulli weights."""
    yield "sample_keys", fd.sample_keys(KEY, SAMPLES)
    for name in ("int8", "int64", "float16", "bfloat16", "float32", "float64"):
        yield f"poisson_weights, {name}", fd.poisson_weights((13, 77), 2.5, dtype=name, rng=KEY)
        yield f"bernoulli_weights, {name}", fd.bernoulli_weights((13, 77), dtype=name, rng=KEY)
    start, full = (3, 2**40), (9, 2**41)
    part = fd.poisson_weights((4, 33), rng=KEY, offset=start, global_shape=full)
    yield "poisson_weights, shard", part
    own = fd.poisson_weights((4, 3, 33), rng=KEY, sample_index=SAMPLES)
    yield "poisson_weights, samples", own


def keep() -> Iterator[Case]:
    """Masks that keep k of a row, and positions; one with equal uniforms at the threshold."""

    def all_of(name: str, *arguments: Any, **where: Any) -> Iterator[Case]:
        for what, array in fd.keep_k(*arguments, **where, indices=True)._asdict().items():
            yield f"keep_k, {name}, {what}", array

    for n in (5, 30, 196, 3000):
        yield from all_of(f"rows of {n}", (13, n), n // 4, rng=KEY)
    yield from all_of("axis 1", (3, 50, 40), 17, axis=1, rng=KEY)
    start, full = (3, 2**40, 0), (9, 2**41, 60)
    yield from all_of("shard", (4, 5, 60), 9, rng=KEY, offset=start, global_shape=full)
    yield from all_of("samples", (4, 3, 33), 8, rng=KEY, sample_index=SAMPLES)
    yield from all_of("tie", (2, 6327), 1, axis=0, rng=fd.Key(6), offset=21593)
    yield "keep_k, k of each row", fd.keep_k((34, 33), np.arange(34), rng=KEY)


FAMILIES: tuple[Callable[[], Iterator[Case]], ...] = (weights, keep)


def batches() -> Iterator[Case]:
    """Return the cases of all families."""
    for family in FAMILIES:
        yield from family()
