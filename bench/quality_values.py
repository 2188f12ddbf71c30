"""Tests of what is made of the bits: normal numbers, tokens, counts, subsets and permutations.

`quality` runs them. Each takes a source, a key, and how many chunks to look at, and returns
p-values. The functions on batches are fastdrop's whatever the source is.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

import fastdrop as fd

from .quality_source import Array, Key, Source
from .quality_statistics import of_cells, of_chi_square, of_count, of_normal

CHUNK = 1 << 21
TAILS = (3.0, 4.0, 5.0)
DTYPES = ("float32", "float64")
_CELLS = 256
# Variances of the Hermite polynomials 1 to 4 of a standard normal number, which are uncorrelated.
_VARIANCES = (1, 2, 6, 24)


def moments(dtype: str, source: Source, key: Key, chunks: int) -> list[float]:
    """Mean, variance, skewness and kurtosis of normal numbers, and products of neighbours."""
    sums, serial = np.zeros(4), np.zeros(2)
    for at in range(chunks):
        x = source.normals(key.fold_in(at), CHUNK, np.dtype(dtype)).astype(np.float64)
        square = x * x
        first, second, third, fourth = x.sum(), x @ x, square @ x, square @ square
        sums += [first, second - CHUNK, third - 3 * first, fourth - 6 * second + 3 * CHUNK]
        squared = square - 1
        serial += [x[1:] @ x[:-1], squared[1:] @ squared[:-1] / 2]
    n = chunks * CHUNK
    found = [of_count(s, 0, n * variance) for s, variance in zip(sums, _VARIANCES, strict=True)]
    return [*found, *(of_normal(s / math.sqrt(n - chunks)) for s in serial)]


def cells(dtype: str, source: Source, key: Key, chunks: int) -> list[float]:
    """Count normal numbers in 256 cells of the same probability."""
    edges = special.ndtri(np.arange(1, _CELLS) / _CELLS)
    seen = np.zeros(_CELLS)
    for at in range(chunks):
        x = source.normals(key.fold_in(at), CHUNK, np.dtype(dtype))
        seen += np.bincount(np.searchsorted(edges, x), minlength=_CELLS)
    return [of_cells(seen, np.ones(_CELLS))]


def tails(source: Source, key: Key, chunks: int) -> list[float]:
    """How many normal numbers are beyond 3, 4 and 5 on each side, by the error function."""
    seen = np.zeros((2, len(TAILS)))
    for at in range(chunks):
        x = source.normals(key.fold_in(at), CHUNK)
        few = x[np.abs(x) > TAILS[0]]
        seen += [[(s * few > tail).sum() for tail in TAILS] for s in (-1, 1)]
    n, found, chance = chunks * CHUNK, list[float](), np.random.default_rng(list(key))
    for side in seen:
        # Between two bounds, so that the counts are independent of each other.
        inside = -np.diff(side, append=0)
        chances = [math.erfc(tail / math.sqrt(2)) / 2 for tail in TAILS]
        chances = (-np.diff(chances, append=0)).tolist()
        # Counts may be small: the p-value is somewhere in the step, by chance.
        for count, p in zip(inside, chances, strict=True):
            high, low = special.pdtr(count, n * p), special.pdtr(count - 1, n * p) if count else 0
            found.append(float(low + (high - low) * chance.random()))
    return found


def tokens(vocabulary: int, source: Source, key: Key, chunks: int) -> list[float]:
    """Random tokens of a vocabulary: those of `mask_tokens` where every token is replaced."""
    ids = np.zeros(CHUNK, np.int64)
    few = vocabulary <= 1 << 16
    seen = np.zeros(vocabulary if few else 3 * 64)
    for at in range(chunks):
        drawn, _ = fd.mask_tokens(
            ids, 1.0, mask_id=0, vocab_size=vocabulary, replace=(0, 1, 0), rng=key.fold_in(at)
        )
        # Of large ones, where in the range, and the remainder, which shows products that are
        # rounded.
        where = drawn if few else drawn * 64 // vocabulary * 3 + drawn % 3
        seen += np.bincount(where, minlength=len(seen))
    return [of_cells(seen, np.ones(len(seen)))]


VOCABULARIES = (1000, 30522, 3 << 30)


def poisson(mean: float, source: Source, key: Key, chunks: int) -> list[float]:
    """Compare the counts of `poisson_weights` with their distribution."""
    seen = np.zeros(128)
    for at in range(chunks):
        seen += np.bincount(fd.poisson_weights(CHUNK, mean, rng=key.fold_in(at)), minlength=128)
    k = np.arange(128)
    return [of_cells(seen, np.exp(special.xlogy(k, mean) - mean - special.gammaln(k + 1)))]


MEANS = (1.0, 4.0)


def _all_alike(codes: Array, number: int) -> float:
    """Return the p-value of codes of which there are so many, each as likely."""
    _, seen = np.unique(codes, return_counts=True)
    return of_cells(np.append(seen, np.zeros(number - len(seen))), np.ones(number))


def subsets(source: Source, key: Key, chunks: int) -> list[float]:
    """Subsets of 3 of 8 elements by `keep_k`, and how often each of 1,024 is among 256."""
    codes, kept, rows = list[Array](), np.zeros(1024), chunks * 512
    for at in range(chunks):
        codes += [np.packbits(fd.keep_k((CHUNK // 8, 8), 3, rng=key.fold_in(2 * at)), axis=1)]
        kept += fd.keep_k((512, 1024), 256, rng=key.fold_in(2 * at + 1)).sum(0)
    p = 256 / 1024
    # Sums of 1,024 counts are fixed, so each is negatively correlated with the others.
    value = float(((kept - rows * p) ** 2).sum()) / (rows * p * (1 - p)) * 1023 / 1024
    return [_all_alike(np.concatenate(codes), 56), of_chi_square(value, 1023)]


def permutations(source: Source, key: Key, chunks: int) -> list[float]:
    """Permutations of 5 rows by `swap_rows`, a column each, and rows drawn with replacement."""
    columns = CHUNK // 8
    table = np.repeat(np.arange(5, dtype=np.uint8)[:, None], columns, axis=1)
    codes, seen = list[Array](), np.zeros(5)
    for at in range(chunks):
        mixed = fd.swap_rows(table, 1.0, rng=key.fold_in(2 * at), replace=False)
        codes.append(5 ** np.arange(5) @ mixed.astype(np.int64))
        drawn = fd.swap_rows(table, 1.0, rng=key.fold_in(2 * at + 1))
        seen += np.bincount(drawn.ravel(), minlength=5)
    return [_all_alike(np.concatenate(codes), 120), of_cells(seen, np.ones(5))]
