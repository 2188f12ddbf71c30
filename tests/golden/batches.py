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


def tokens() -> Iterator[Case]:
    """Masking of tokens."""
    ids = np.arange(13 * 77).reshape(13, 77) * 7919 % 120
    rule: dict[str, Any] = {"mask_id": 3, "vocab_size": 120, "rng": KEY}
    for name in ("int8", "int16", "int32", "int64"):
        both = fd.mask_tokens(ids.astype(name), 0.3, special=[0, 5, 7], **rule)
        yield f"mask_tokens, {name}", np.stack(both)
    marks = ids % 3 == 0
    shares = fd.mask_tokens(ids, 0.3, special=marks, replace=(0.2, 0.7, 0.1), **rule)
    yield "mask_tokens, shares and places", np.stack(shares)
    start, full = (3, 2**40), (19, 2**41)
    part = fd.mask_tokens(ids, 0.3, **rule, offset=start, global_shape=full)
    yield "mask_tokens, shard", np.stack(part)
    own = fd.mask_tokens(ids[:4], 0.3, **rule, sample_index=SAMPLES)
    yield "mask_tokens, samples", np.stack(own)
    few = {**rule, "mask_id": 0, "vocab_size": 2**31 + 1, "replace": (0, 1, 0)}
    yield "mask_tokens, rejected draws", np.stack(fd.mask_tokens(ids, 0.9, **few))
    numbers: dict[str, Any] = {"mask_id": 3, "pad_id": 0, "vocab_size": 120, "special": [5, 7]}
    rows = [{"input_ids": row[:n], "number": 9 * n} for n, row in enumerate(ids, 20)]
    for by in (None, "number"):
        batch = fd.TokenCollator(**numbers, rng=KEY, sample_index=by)(rows)
        wanted = ("input_ids", "attention_mask", "labels")
        yield f"TokenCollator, {by}", np.stack([batch[entry] for entry in wanted])


FAMILIES: tuple[Callable[[], Iterator[Case]], ...] = (weights, tokens)


def batches() -> Iterator[Case]:
    """Return the cases of all families."""
    for family in FAMILIES:
        yield from family()
