"""Masks of spans and SpecAugment beside the usual loops, for ``python -m bench batch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastdrop as fd

from .common import Array, BenchError

FAMILY = "spans"
SHAPE = (1024, 1000)  # rows, elements
SPECTROGRAMS = (64, 1000, 80)  # samples, time, frequency

Call = Callable[[], object]
Row = tuple[str, dict[str, Call], str, str, float]

_rng = np.random.default_rng(5)


def wav2vec2_loop(shape: tuple[int, int], p: float, length: int) -> Array:
    """Return True where masked, row by row, as fairseq's and transformers' mask functions do."""
    # https://github.com/facebookresearch/fairseq/blob/main/fairseq/data/data_utils.py
    n = shape[1]
    masked = np.zeros(shape, np.bool_)
    for row in masked:
        count = int(p * n / length + _rng.random())
        starts = _rng.choice(n - length + 1, count, replace=False)
        row[(starts[:, None] + np.arange(length)).ravel()] = True
    return masked


def spanbert_loop(shape: tuple[int, int], p: float) -> Array:
    """Return True where masked, span by span, as SpanBERT's masking scheme does."""
    # https://github.com/facebookresearch/SpanBERT/blob/main/pretraining/fairseq/data/masking.py
    rows, n = shape
    lengths = np.arange(1, 11)
    chances = 0.2 * 0.8 ** (lengths - 1)
    chances /= chances.sum()
    masked = np.zeros(shape, np.bool_)
    for row in masked:
        budget, found = int(np.ceil(p * n)), 0
        while found < budget:
            length, start = _rng.choice(lengths, p=chances), _rng.integers(n)
            if row[start]:
                continue
            for at in range(start, min(start + length, n)):
                if found < budget and not row[at]:
                    row[at] = True
                    found += 1
    return masked


def t5_loop(shape: tuple[int, int], p: float, mean: float) -> Array:
    """Return True where masked, row by row, as the T5 collator of transformers' examples does."""
    # transformers: examples/flax/language-modeling/run_t5_mlm_flax.py
    rows, n = shape
    noise = round(p * n)
    spans = max(round(noise / mean), 1)

    def segments(items: int) -> Array:
        is_first = np.arange(items - 1) < spans - 1
        _rng.shuffle(is_first)
        return np.bincount(np.cumsum(np.pad(is_first, (1, 0))))

    masked = np.zeros(shape, np.bool_)
    for row in masked:
        pairs = np.stack([segments(n - noise), segments(noise)], axis=1).ravel()
        row[:] = np.repeat(np.arange(2 * spans) % 2 == 1, pairs)
    return masked


def spec_augment_loop(x: Array, y: Array) -> Array:
    """Fill two bands of each axis with 0, sample by sample, as NumPy ports of SpecAugment do."""
    if y is not x:
        np.copyto(y, x)
    samples, times, frequencies = x.shape
    for k in range(samples):
        for _ in range(2):
            width = int(_rng.integers(101))
            start = int(_rng.integers(times - width + 1))
            y[k, start : start + width] = 0
            width = int(_rng.integers(28))
            start = int(_rng.integers(frequencies - width + 1))
            y[k, :, start : start + width] = 0
    return y


def rows(seconds: float) -> Iterator[Row]:
    """Yield what is compared, the calls, which is ours, the contender of the goal, and the goal."""
    key, out = fd.Key(3), np.empty(SHAPE, np.bool_)
    kinds: tuple[tuple[str, dict[str, Any], str, Callable[[], Array]], ...] = (
        ("wav2vec 2.0", {}, "wav2vec2", lambda: wav2vec2_loop(SHAPE, 0.65, 10)),
        ("SpanBERT", {"kind": "spanbert"}, "spanbert", lambda: spanbert_loop(SHAPE, 0.15)),
        ("T5", {"kind": "t5"}, "t5", lambda: t5_loop(SHAPE, 0.15, 3.0)),
    )
    for title, options, kind, loop in kinds:
        ours, theirs = ~fd.mask_spans(SHAPE, rng=key, **options), loop()
        if abs(ours.mean() - theirs.mean()) > 0.01:
            raise BenchError(f"mask_spans, {kind}: {ours.mean()} masked, and {theirs.mean()}")

        def call(options: dict[str, Any] = options) -> object:
            return fd.mask_spans(SHAPE, rng=key, out=out, **options)

        calls: dict[str, Call] = {"fastdrop": call, "NumPy, row by row": loop}
        calls["NumPy, a fill alone"] = lambda: out.fill(True)
        yield f"mask_spans, {title}, 1,024 x 1,000", calls, "fastdrop", "NumPy, row by row", 20.0
    for name in ("float32", "float16"):
        x = _rng.standard_normal(SPECTROGRAMS).astype(name)
        y = np.empty_like(x)
        masked, looped = fd.spec_augment(x, rng=key), spec_augment_loop(x, np.empty_like(x))
        if not np.isin(masked, [0]).any() or not ((masked == x) | (masked == 0)).all():
            raise BenchError("spec_augment wrote other values than x and 0")
        if abs((masked == 0).mean() - (looped == 0).mean()) > 0.05:
            raise BenchError("spec_augment masks another share than the loop")
        scratch = x.copy()
        calls = {
            "fastdrop": lambda x=x, y=y: fd.spec_augment(x, rng=key, out=y),  # type: ignore[misc]
            "NumPy, a copy alone": lambda x=x, y=y: np.copyto(y, x),  # type: ignore[misc]
            "NumPy, sample by sample": lambda x=x, y=y: spec_augment_loop(x, y),  # type: ignore[misc]
        }
        what = f"spec_augment, {name}, 64 x 1,000 x 80"
        yield what, calls, "fastdrop", "NumPy, sample by sample", 1.5
        calls = {
            "fastdrop": lambda x=scratch: fd.spec_augment(x, rng=key, out=x),  # type: ignore[misc]
            "NumPy, sample by sample": lambda x=scratch: spec_augment_loop(x, x),  # type: ignore[misc]
        }
        yield f"{what}, in place", calls, "fastdrop", "NumPy, sample by sample", 1.5
