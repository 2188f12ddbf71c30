"""Samples of tokens, as data sets give them: checked, padded, and as tensors.

`TokenCollator` makes its batches with these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._check.arguments import Array

# Entries of samples and batches that have a meaning here.
OURS = ("input_ids", "attention_mask", "special_tokens_mask", "labels")


def checked_sample(k: int, feature: Any) -> dict[str, Any]:
    """Return a sample as a dict whose tokens are an array."""
    if isinstance(feature, Mapping):
        if "input_ids" not in feature:
            raise ValueError(f"features[{k}] has no 'input_ids': its entries are {sorted(feature)}")
        sample = dict(feature)
    else:
        sample = {"input_ids": feature}
    tokens = np.asarray(sample["input_ids"])
    if tokens.ndim != 1:
        raise ValueError(f"features[{k}] has tokens with {tokens.ndim} axes: give sequences of ids")
    if tokens.size and tokens.dtype.kind not in "iu":
        raise TypeError(f"features[{k}] has tokens of dtype {tokens.dtype}: give integers")
    sample["input_ids"] = tokens
    return sample


def padded(rows: list[Array], width: int, value: int) -> Array:
    """Return rows of several lengths as one array, filled up with a value."""
    made: Array = np.full((len(rows), width), value, np.int64)
    for k, row in enumerate(rows):
        made[k, : len(row)] = row
    return made


def entry(name: str, samples: list[dict[str, Any]], lengths: Array, width: int) -> Array:
    """Return an entry of all samples: numbers, or sequences as long as the tokens, padded by 0."""
    if missing := [k for k, sample in enumerate(samples) if name not in sample]:
        raise ValueError(f"features[{missing[0]}] has no {name!r}, which others have")
    values = [np.asarray(sample[name]) for sample in samples]
    if all(value.ndim == 0 for value in values):
        return np.stack(values)
    for k, value in enumerate(values):
        if value.shape != (lengths[k],):
            raise ValueError(
                f"features[{k}] has {lengths[k]} tokens, and {name!r} of shape {value.shape}: give "
                "a number, or as many as there are tokens"
            )
    return padded(values, width, 0)


def special_places(
    samples: list[dict[str, Any]], ids: Array, attention: Array, width: int, special: list[int]
) -> Array | None:
    """Return where tokens are special, of dtype bool; None if the special ids say it alone."""
    lengths = np.array([len(sample["input_ids"]) for sample in samples])
    padding = np.arange(width) >= lengths[:, None]
    if any("special_tokens_mask" in sample for sample in samples):
        marks = entry("special_tokens_mask", samples, lengths, width) != 0
    elif ((attention == 0) == padding).all():
        return None
    else:
        marks = np.isin(ids, special)
    places: Array = marks | (attention == 0) | padding
    return places


def moved_right(array: Array, lengths: Array) -> Array:
    """Move the padding of rows to the left.

    Tokens are masked before: with keys of samples, what is masked must not depend on the padding.
    """
    width = array.shape[1]
    place = (np.arange(width) + lengths[:, None]) % width if width else np.zeros_like(array)
    return np.take_along_axis(array, place, 1)


def as_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch as tensors of PyTorch, over the same memory."""
    import torch  # not before a user asks for its tensors

    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}
