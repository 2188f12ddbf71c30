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


def spans() -> Iterator[Case]:
    """Masks of spans."""
    rules: dict[str, dict[str, Any]] = {
        "wav2vec2": {},
        "wav2vec2, spaced": {"p": 0.4, "length": 7, "min_spacing": 2, "min_spans": 3},
        "spanbert": {"kind": "spanbert"},
        "spanbert, whole": {"kind": "spanbert", "p": 0.97, "length": 30.5, "max_length": 90},
        "t5": {"kind": "t5"},
        "t5, dense": {"kind": "t5", "p": 0.6, "length": 2.2},
    }
    for name, rule in rules.items():
        yield f"mask_spans, {name}", fd.mask_spans((13, 333), rng=KEY, **rule)
        lengths = np.arange(13) * 27
        made = fd.mask_spans((13, 333), rng=KEY, row_lengths=lengths, **rule)
        yield f"mask_spans, {name}, row lengths", made
    start, full = (3, 2**40, 0), (9, 2**41, 333)
    part = fd.mask_spans((4, 3, 333), rng=KEY, offset=start, global_shape=full)
    yield "mask_spans, shard", part
    own = fd.mask_spans((4, 3, 333), rng=KEY, sample_index=SAMPLES)
    yield "mask_spans, samples", own


def bands() -> Iterator[Case]:
    """SpecAugment."""
    for name in ("float16", "bfloat16", "float32", "float64"):
        x = fd.poisson_weights((4, 120, 80), 9.0, dtype=name, rng=KEY)
        yield f"spec_augment, {name}", fd.spec_augment(x, rng=KEY, value=-1.5)
    lengths = [120, 31, 1, 0]
    made = fd.spec_augment(x, p_max=0.3, row_lengths=lengths, rng=KEY, freq_width=40)
    yield "spec_augment, row lengths", made
    turned = x.reshape(4, 2, 80, 60)
    made = fd.spec_augment(turned, time_axis=-1, freq_axis=-2, rng=KEY, time_width=33)
    yield "spec_augment, channels", made
    yield "spec_augment, samples", fd.spec_augment(x, rng=KEY, sample_index=SAMPLES)


def erasing() -> Iterator[Case]:
    """Random erasing of images of several forms and dtypes."""
    x = (np.arange(7 * 3 * 20 * 27) % 127).reshape(7, 3, 20, 27)
    for name in ("u1", "f2", "f4", "f8", "c16"):
        for form in ("channels_first", "channels_last"):
            images = x.astype(name)
            where: dict[str, Any] = {"rng": KEY, "data_format": form}
            what = f"random_erasing, {name}, {form}"
            yield what, fd.random_erasing(images, 0.7, count=2, **where)
            yield f"{what}, images", fd.random_erasing(images, 0.7, value=images[::-1], **where)
            if name.startswith("f"):
                yield f"{what}, noise", fd.random_erasing(images, value="noise", **where)
    grey = x[:, 0].astype("u1")
    settings: dict[str, Any] = {"scale": (0.0, 1.0), "ratio": (0.01, 50.0), "count": 5}
    yield "random_erasing, extreme", fd.random_erasing(grey, 1.0, value=255, rng=KEY, **settings)
    yield "random_erasing, shard", fd.random_erasing(grey, rng=KEY, offset=2**35 - 77)
    own = fd.random_erasing(grey[:4], 0.9, rng=KEY, sample_index=SAMPLES)
    yield "random_erasing, samples", own


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


FAMILIES: tuple[Callable[[], Iterator[Case]], ...] = (
    weights,
    spans,
    bands,
    erasing,
    swapped,
    keep,
    tokens,
)


def batches() -> Iterator[Case]:
    """Return the cases of all families."""
    for family in FAMILIES:
        yield from family()
