"""What `mask_spans` must give: the rules of docs/contract.md in plain Python, row by row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop._batch.spans import geometric_thresholds
from fastdrop_kernels import contract, reference
from tests.support.oracle import Array

KEY = fd.Key(2**63 + 5, 11)


class Draws:
    """The draws of a row's elements."""

    def __init__(self, key: tuple[int, int], index: int, length: int) -> None:
        self.key, self.index, self.length = key, index, length
        self._first: list[list[int]] = []

    # Not a cached_property: Python 3.11's has a lock, which a fork may leave locked in the child.
    @property
    def first(self) -> list[list[int]]:
        self._first = self._first or [self._drawn(self.key, d) for d in (0, 1)]
        return self._first

    def _drawn(self, key: tuple[int, int], draw: int) -> list[int]:
        elements = np.arange(self.length, dtype=np.uint64) + np.uint64(self.index)
        seed, stream = (np.uint64(word) for word in key)
        drawn = contract.draw32(seed, stream, elements, np.uint64(draw))
        return [int(u) for u in drawn]

    def uniform(self, element: int) -> int:
        return self.first[0][element]

    def below(self, element: int, n: int) -> int:
        """By draw 1, and those after it."""
        product = self.first[1][element] * n
        if product % 2**32 >= 2**32 % n:
            return product >> 32
        words = (np.array([w], np.uint64) for w in (*self.key, self.index + element, 1, n))
        seed, stream, index, draw, below = words
        return int(contract.uniform_below(seed, stream, index, draw, below)[0])

    def under(self, n: int) -> Draws:
        """The same elements' draws under a derived key."""
        words = (np.array([w], np.uint64) for w in (*self.key, n))
        seed, stream = contract.derive(*words)
        return Draws((int(seed[0]), int(stream[0])), self.index, self.length)


def chosen(draws: Draws, n: int, total: int, first: int = 0) -> list[int]:
    found: set[int] = set()
    for k in range(n):
        highest = total - n + k
        place = draws.below(first + k, highest + 1)
        found.add(highest if place in found else place)
    return sorted(found)


def wav2vec2(
    draws: Draws,
    valid: int,
    p: float = 0.65,
    n: int | None = None,
    length: int = 10,
    min_spacing: int | None = None,
    min_spans: int = 0,
) -> set[int]:
    if n is None:
        expected = p * valid / length
        n = math.floor(expected)
        n += draws.uniform(0) < round((expected - n) * 2**32)
        n = max(n, min_spans)
    if min_spacing is None:
        n = min(n, max(valid - length + 1, 0))
        starts = chosen(draws, n, valid - length + 1)
    else:
        n = min(n, (valid + min_spacing) // (length + min_spacing) if valid >= length else 0)
        apart = length + min_spacing - 1
        free = chosen(draws, n, valid - length + 1 - (n - 1) * apart) if n else []
        starts = [at + k * apart for k, at in enumerate(free)]
    return {start + k for start in starts for k in range(length)}


def spanbert(
    draws: Draws, valid: int, p: float = 0.15, length: float = 5.0, max_length: int = 10
) -> set[int]:
    masked: set[int] = set()
    budget, thresholds = math.ceil(p * valid), geometric_thresholds(length, max_length).tolist()
    for attempt in itertools.count():
        if len(masked) == budget:
            return masked
        element, turn = attempt % valid, attempt // valid
        if element == 0:
            here = draws.under(2**32 + turn) if turn else draws
        at = here.below(element, valid)
        if at in masked:
            continue
        long = 1 + sum(here.uniform(element) >= t for t in thresholds)
        for position in range(at, min(at + long, valid)):
            if len(masked) < budget:
                masked.add(position)
    raise AssertionError


def t5(draws: Draws, valid: int, p: float = 0.15, length: float = 3.0) -> set[int]:
    masked = min(max(round(p * valid), 1), valid - 1)
    if masked < 1:
        return set()
    kept = valid - masked
    spans = min(max(round(masked / length), 1), masked, kept)
    of_spans = [0, *(c + 1 for c in chosen(draws, spans - 1, masked - 1)), masked]
    of_gaps = [0, *(c + 1 for c in chosen(draws, spans - 1, kept - 1, spans - 1)), kept]
    found = set()
    for k in range(spans):
        start = of_gaps[k + 1] + of_spans[k]
        found |= {start + e for e in range(of_spans[k + 1] - of_spans[k])}
    return found


def row(key: tuple[int, int], index: int, length: int, valid: int, rule: dict[str, Any]) -> Array:
    """The mask of a row."""
    rules: dict[str, Any] = {"wav2vec2": wav2vec2, "spanbert": spanbert, "t5": t5}
    draw = rules[rule.get("kind", "wav2vec2")]
    options = {name: value for name, value in rule.items() if name != "kind"}
    kept = np.ones(length, np.bool_)
    kept[sorted(draw(Draws(key, index, length), valid, **options))] = False
    return kept


def expected(
    shape: tuple[int, ...],
    rule: dict[str, Any],
    key: tuple[int, int] = KEY,
    row_lengths: Sequence[int] | None = None,
    **where: Any,
) -> Array:
    rows = math.prod(shape[:-1])
    starts = reference.mask_index(shape, None, **where)[..., 0].reshape(rows).tolist()
    lengths = row_lengths or [shape[-1]] * rows
    made = [row(key, i, shape[-1], n, rule) for i, n in zip(starts, lengths, strict=True)]
    return np.array(made, np.bool_).reshape(shape)
