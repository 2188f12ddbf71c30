"""BERT's 80/10/10 split by three nested masks of one key.

Of the 15% of tokens that are to be predicted, 80% become [MASK], 10% another token, and 10% stay.
With the same key, p = 0.135 drops what p = 0.12 drops, and more, and p = 0.15 still more: the first
are masked, those added by the second are replaced, and those added by the third stay.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Array = npt.NDArray[Any]
MASK, IGNORE = 103, -100  # the token [MASK], and the label that a loss ignores
P = 0.15


class Task(NamedTuple):
    """The inputs of a model, and the labels that it should predict."""

    inputs: Array
    labels: Array


def masked_language_task(tokens: Array, vocabulary: int, key: fd.Key) -> Task:
    """Return inputs and labels of a batch, determined by the key."""

    def chosen(part: float) -> Array:
        return ~fd.dropout_mask(tokens.shape, part * P, rng=key)

    others = np.random.default_rng(key.fold_in(1)).integers(vocabulary, size=tokens.shape)
    inputs = np.where(chosen(0.9), others, tokens)
    inputs[chosen(0.8)] = MASK
    return Task(inputs, np.where(chosen(1.0), tokens, IGNORE))


def run() -> None:
    """Check the fractions, and that other tokens are unchanged."""
    tokens = np.random.default_rng(0).integers(1000, 30_000, (64, 512))
    task = masked_language_task(tokens, 30_000, fd.Key(11))
    chosen, masked = task.labels != IGNORE, task.inputs == MASK
    assert np.array_equal(task.labels[chosen], tokens[chosen])
    assert np.array_equal(task.inputs[~chosen], tokens[~chosen])
    parts = {
        "chosen": (chosen.mean(), 0.15),
        "masked": (masked[chosen].mean(), 0.8),
        "the same": ((task.inputs == tokens)[chosen].mean(), 0.1),
    }
    for name, (found, expected) in parts.items():
        assert abs(found - expected) < 0.02, (name, found)
    again = masked_language_task(tokens, 30_000, fd.Key(11))
    assert np.array_equal(again.inputs, task.inputs)
