"""The frozen cases of the functions on batches, a function for each family."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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


FAMILIES: tuple[Callable[[], Iterator[Case]], ...] = (weights,)


def batches() -> Iterator[Case]:
    """Return the cases of all families."""
    for family in FAMILIES:
        yield from family()
