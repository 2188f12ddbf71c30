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


def swapped() -> Iterator[Case]:
    """Swapped rows."""
    numbers = np.arange(13 * 77).reshape(13, 77)
    for name in ("int8", "float16", "float32", "float64", "complex128"):
        x = numbers.astype(name)
        yield f"swap_rows, {name}", fd.swap_rows(x, 0.4, rng=KEY)
        yield f"swap_rows, {name}, permuted", fd.swap_rows(x.T, 0.4, rng=KEY, replace=False)
    made, kept = fd.swap_rows(numbers, 1 / 3, rng=KEY, return_mask=True)
    yield "swap_rows, with mask", made
    yield "swap_rows, mask", kept
    long = np.arange(200_000, dtype=np.int32)
    yield "swap_rows, equal draws", fd.swap_rows(long, 1.0, rng=KEY, replace=False)
    own = fd.swap_rows(numbers[:4], rng=KEY, source=numbers, sample_index=SAMPLES)
    yield "swap_rows, source and samples", own
    place: dict[str, Any] = {"offset": (3, 2**40), "global_shape": (9, 2**41)}
    yield "swap_rows, shard", fd.swap_rows(numbers[:4], rng=KEY, source=numbers, **place)


FAMILIES: tuple[Callable[[], Iterator[Case]], ...] = (weights, swapped)


def batches() -> Iterator[Case]:
    """Return the cases of all families."""
    for family in FAMILIES:
        yield from family()
