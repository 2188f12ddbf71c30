"""What functions on batches must give, by the contract's draws, in plain NumPy.

Tests of each function call its reference, and so does `endurance`; `spans` and `erasing` are in
modules of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop._batch.weights import poisson_thresholds
from fastdrop_kernels import contract
from tests.support.oracle import Array, Mask, index_of

KEY = fd.Key(2**63 + 5, 11)
U64 = np.uint64


def words(key: fd.Key) -> tuple[np.uint64, np.uint64]:
    return U64(key.seed), U64(key.stream)


# swap_rows


def drawn_rows(index: Array, n: int, key: fd.Key) -> Array:
    """The row of n that each element takes, with replacement."""
    rows = np.asarray(contract.draw32(*words(key), index, U64(1))) * U64(n)
    rejected = (rows & U64(2**32 - 1)) < U64(2**32 % n)
    rows >>= U64(32)
    for place in zip(*np.nonzero(rejected), strict=True):
        rows[place] = contract.uniform_below(*words(key), index[place], U64(1), U64(n))
    return np.asarray(rows.astype(np.intp))


def permuted_rows(n: int, columns: int, key: fd.Key) -> Array:
    """The row that each element takes, if each column has a permutation."""
    index = np.arange(n * columns, dtype=U64).reshape(columns, n)
    draws = [np.asarray(contract.draw32(*words(key), index, U64(d))) for d in (3, 2, 1)]
    return np.asarray(np.lexsort(draws, axis=1).T)


def swapped(kept: Mask, x: Array, rows: Array, source: Array | None = None) -> Array:
    """What a table must become."""
    table = x if source is None else source
    columns = math.prod(x.shape[1:])
    taken = np.take_along_axis(table.reshape(len(table), columns), rows.reshape(len(x), -1), 0)
    return np.where(kept, x, taken.reshape(x.shape))


# keep_k


def chosen(index: Array, k: Any, axis: int, key: fd.Key = KEY) -> Array:
    """The mask of k a row, by the definition: U and draws 1 to 3 of each element, in order.

    Where all four are equal, which no test has, the order here is by position.
    """
    draws = [np.asarray(contract.draw32(*words(key), index, U64(d))) for d in range(4)]
    descending = np.lexsort([~draw for draw in reversed(draws)], axis=axis)
    ranks = np.argsort(descending, axis=axis)
    return np.asarray(ranks < np.expand_dims(np.asarray(k), axis) if np.ndim(k) else ranks < k)


# mask_tokens


def shares(replace: Any) -> tuple[int, int]:
    """The thresholds of draw 1, by the contract's words."""
    masked, random, kept = replace
    second = 2**32 if kept == 0 else contract.threshold(masked + random)
    return second if random == 0 else contract.threshold(masked), second


def masked_tokens(
    ids: Array,
    p: float,
    *,
    mask_id: int,
    vocab_size: int,
    key: fd.Key,
    special: Any = None,
    replace: Any = (0.8, 0.1, 0.1),
    ignore_index: int = -100,
    **where: Any,
) -> tuple[Array, Array]:
    """What a call must give, token by token where that is random; `special` are marks."""
    index = index_of(ids.shape, **where)
    seed, stream = words(key)
    with np.errstate(over="ignore"):
        u, v = (np.asarray(contract.draw32(seed, stream, index, U64(d))) for d in (0, 1))
        chosen = u < contract.threshold(p)
        if special is not None:
            chosen = chosen & ~special
        first, second = shares(replace)
        inputs: Array = np.where(chosen & (v < first), mask_id, ids).astype(ids.dtype)
        random = chosen & (v >= first) & (v < second)
        inputs[random] = [
            int(contract.uniform_below(seed, stream, i, U64(2), U64(vocab_size)))
            for i in index[random]
        ]
    labels: Array = np.where(chosen, ids, np.array(ignore_index, ids.dtype))
    return inputs, labels


# spec_augment


def _below(key: tuple[int, int], index: int, n: int) -> int:
    words = (np.array([w], np.uint64) for w in (*key, index, 0, n))
    seed, stream, element, draw, most = words
    return int(contract.uniform_below(seed, stream, element, draw, most)[0])


def bands(
    key: tuple[int, int],
    index: int,
    length: int,
    frequencies: int,
    time_masks: int = 2,
    time_width: int = 100,
    freq_masks: int = 2,
    freq_width: int = 27,
    p_max: float = 1.0,
) -> tuple[Array, Array]:
    """Which times and frequencies of a sample are in bands, as two boolean arrays."""
    found = np.zeros(length, np.bool_), np.zeros(frequencies, np.bool_)
    most = min(time_width, math.floor(p_max * length)), freq_width
    for k in range(time_masks + freq_masks):
        axis = int(k >= time_masks)
        width = _below(key, index + 2 * k, most[axis] + 1)
        start = _below(key, index + 2 * k + 1, len(found[axis]) - width + 1)
        found[axis][start : start + width] = True
    return found


def spectrogram(
    x: Array,
    time: int,
    frequency: int,
    sample: int | None,
    value: Any = 0.0,
    key: tuple[int, int] = KEY,
    offset: int = 0,
    row_lengths: Any = None,
    **options: Any,
) -> Array:
    """What spec_augment must make of x."""
    y = x.copy()
    samples = 1 if sample is None else x.shape[sample]
    for s in range(samples):
        valid = x.shape[time] if row_lengths is None else row_lengths[s]
        index = offset + s * (x.size // samples)
        times, frequencies = bands(key, index, valid, x.shape[frequency], **options)
        times = np.pad(times, (0, x.shape[time] - valid))
        inside = times[:, None] | (frequencies & (np.arange(x.shape[time]) < valid)[:, None])
        # The sample with time and frequency in front.
        part = y if sample is None else np.moveaxis(y, sample, 0)[s]
        axes = [axis - (sample is not None and axis > sample) for axis in (time, frequency)]
        values = np.asarray(value).reshape(-1)
        np.moveaxis(part, axes, (0, 1))[inside] = values[s % len(values)]
    return np.asarray(y)


# poisson_weights


def counts(u: Array, rate: float) -> Array:
    """The counts of uniforms."""
    found = np.zeros(u.shape, np.int64)
    for threshold in poisson_thresholds(rate):
        found += u >= threshold
    return found
