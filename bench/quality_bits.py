"""Tests of the bits of one mask: counts, autocorrelation, gaps, tuples, spectra, nestedness.

`quality` runs them. Each takes a source, a key, and how many chunks of elements to look at, and
returns p-values.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import fft, special

from .quality_source import Array, Key, Source, ones
from .quality_statistics import (
    of_cells,
    of_chi_square,
    of_count,
    of_largest,
    of_normal,
    of_normals,
)

PROBABILITIES = (0.5, 0.1, 0.01, 1e-4, 1e-6)
COUNT_CHUNK = 1 << 27
CHUNK = 1 << 22
SIDE = 1 << 10  # of matrices
LAGS = 4096
_CELLS = 64  # of gaps


def exact(p: float) -> float:
    """Return the probability of the threshold of p."""
    return round(p * 2**32) / 2**32


def counts(p: float, source: Source, key: Key, chunks: int) -> tuple[list[float], int]:
    """How many elements are dropped; returns their number, too."""
    each = range(0, chunks * COUNT_CHUNK, COUNT_CHUNK)
    kept = sum(ones(source.packed(key, p, COUNT_CHUNK, at)) for at in each)
    n, q = chunks * COUNT_CHUNK, exact(p)
    return [of_count(n - kept, n * q, n * q * (1 - q))], n - kept


def _centred(source: Source, key: Key, p: float, n: int, offset: int) -> Array:
    """Return elements with mean 0 and variance 1, as float32."""
    q = exact(p)
    low, high = (np.float32(v / math.sqrt(q * (1 - q))) for v in (-q, 1 - q))
    return np.asarray(np.where(source.kept(key, p, n, offset), low, high))


def autocorrelation(p: float, source: Source, key: Key, chunks: int) -> list[float]:
    """Correlation of drops at lags 1 to 4,096."""
    power = np.zeros(CHUNK // 2 + 1)
    for at in range(chunks):
        spectrum = fft.rfft(_centred(source, key, p, CHUNK, at * CHUNK))
        power += spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    sums, q = fft.irfft(power), exact(p)
    # By the variance that was found: the numbers of drops, which are another test, would disturb
    # all lags alike.
    z = sums[1 : LAGS + 1] / sums[0] * math.sqrt(chunks * CHUNK)
    # Products of rare drops are skewed. Cornish and Fisher's expansion makes them normal.
    skewness = (1 - 2 * q) ** 2 / (q * (1 - q)) / math.sqrt(chunks * CHUNK)
    return of_normals(z - skewness / 6 * (z * z - 1))


def gaps(p: float, source: Source, key: Key, chunks: int) -> list[float]:
    """Distances between drops: geometrically distributed, and independent of the one before."""
    places = [np.flatnonzero(~source.kept(key, p, CHUNK, at * CHUNK)) for at in range(chunks)]
    dropped = np.concatenate([at * CHUNK + found for at, found in enumerate(places)])
    n, q = chunks * CHUNK, exact(p)
    # The first of them, whose number does not depend on where they are.
    fixed = int(n * q - 8 * math.sqrt(n * q))
    if len(dropped) < fixed:
        return [0.0, 0.0]
    distances = np.diff(dropped[:fixed], prepend=-1)
    quantiles = np.log1p(-np.arange(1, _CELLS) / _CELLS) / math.log1p(-q)
    edges = np.unique(np.maximum(np.ceil(quantiles), 1)).astype(np.int64)  # cells end there
    cumulated = -np.expm1(edges * math.log1p(-q))
    probability = np.diff(cumulated, prepend=0.0, append=1.0)
    seen = np.bincount(np.searchsorted(edges, distances), minlength=len(edges) + 1)
    # The mean of a product of two is exact; most of them are independent of each other.
    centred = (distances - 1 / q) / (math.sqrt(1 - q) / q)
    serial = float(centred[1:] @ centred[:-1]) / math.sqrt(fixed - 1)
    return [of_cells(seen, probability), of_normal(serial)]


_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.int64)


def octets(p: float, source: Source, key: Key, chunks: int) -> list[float]:
    """Patterns of 8 elements, which one call of the generator serves."""
    seen = np.zeros(256)
    for at in range(chunks):
        seen += np.bincount(source.packed(key, p, CHUNK, at * CHUNK), minlength=256)
    q = exact(p)
    return [of_cells(seen, (1 - q) ** _ONES * q ** (8 - _ONES))]


def pairs_of_octets(source: Source, key: Key, chunks: int) -> list[float]:
    """Patterns of 16 elements at p = 0.5."""
    seen = np.zeros(1 << 16)
    for at in range(chunks):
        words = source.packed(key, 0.5, 4 * CHUNK, at * 4 * CHUNK).view(np.uint16)
        seen += np.bincount(words, minlength=1 << 16)
    return [of_cells(seen, np.ones(1 << 16))]


# Cells of uniforms u: each an integer below 65,536 for each element, or each few elements.
_CELLS_OF: dict[str, Callable[[Array], Array]] = {
    "high 16 bits": lambda u: u >> 16,
    "low 16 bits": lambda u: u & 0xFFFF,
    "8 bits of each half": lambda u: (u >> 24) << 8 | (u & 0xFF00) >> 8,
    "pairs of neighbours, 8 bits": lambda u: (u[::2] >> 24) << 8 | u[1::2] >> 24,
    "pairs of blocks, 8 bits": lambda u: (u[:-8] >> 24 << 8 | u[8:] >> 24).reshape(-1, 8)[::2],
    "pairs of neighbours, lowest 8 bits": lambda u: (u[::2] & 0xFF) << 8 | u[1::2] & 0xFF,
    "4 neighbours, 4 bits": lambda u: functools.reduce(
        lambda cells, k: cells << 4 | u[k::4] >> 28, range(4), np.zeros(len(u) // 4, np.uint32)
    ),
}
UNIFORMS = tuple(_CELLS_OF)


def uniforms(cells: str, source: Source, key: Key, chunks: int) -> list[float]:
    """Uniforms and neighbours of them in 65,536 cells."""
    seen = np.zeros(1 << 16)
    for at in range(chunks):
        u = source.uniforms(key, CHUNK, at * CHUNK)
        seen += np.bincount(_CELLS_OF[cells](u).ravel(), minlength=1 << 16)
    return [of_cells(seen, np.ones(1 << 16))]


def _matrix(rows: str, p: float, source: Source, key: Key, number: int) -> Array:
    """Return a matrix of drops, with mean 0 and variance 1."""
    if rows == "one mask":
        flat = _centred(source, key, p, SIDE * SIDE, number * SIDE * SIDE)
        return flat.reshape(SIDE, SIDE)
    first = number * SIDE
    seed, stream = key.seed, key.stream
    if rows == "seeds":
        keys = [Key((seed + first + r) % 2**64, stream) for r in range(SIDE)]
    elif rows == "streams":
        keys = [Key(seed, (stream + first + r) % 2**64) for r in range(SIDE)]
    else:
        numbers = np.arange(first, first + SIDE)
        keys = [Key(int(s), int(t)) for s, t in source.fold_in(key, numbers)]
    return np.stack([_centred(source, of_row, p, SIDE, 0) for of_row in keys])


ROWS = ("one mask", "seeds", "streams", "fold_in")


def spectra(rows: str, p: float, source: Source, key: Key, chunks: int) -> list[float]:
    """Two-dimensional spectra of masks as matrices; rows are samples.

    An ordinate of the periodogram is exponentially distributed, and the sum of several gamma. The
    constant column is left out, and the one that is real.
    """
    power = np.zeros((SIDE, SIDE // 2 + 1))
    for at in range(chunks):
        spectrum = fft.rfft2(_matrix(rows, p, source, key, at)) / SIDE
        power += spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    power = power[:, 1:-1]
    largest = math.log(max(float(special.gammainc(chunks, power.max())), 1e-300))
    q = exact(p)
    # Bits are not normal: their ordinates are correlated by the fourth cumulant.
    cumulant = (1 - 6 * q * (1 - q)) / (q * (1 - q))
    found = [of_largest(largest, power.size)]
    for axis in (0, 1):
        lines = power.mean(axis) / chunks - 1
        variance = (1 + cumulant * power.shape[axis] / SIDE**2) / (chunks * power.shape[axis])
        found.append(of_chi_square(float(lines @ lines) / variance, len(lines)))
    return found


def nested(source: Source, key: Key, chunks: int) -> list[float]:
    """Nestedness: what p drops, a larger p drops too. It is exact: the p-value is 1 or 0."""
    draws = np.random.default_rng(list(key)).random(6)
    chosen = sorted([*PROBABILITIES, *draws.tolist(), 0.1 + 2**-32])
    for at in range(chunks):
        masks = [source.packed(key, p, CHUNK, at * CHUNK) for p in chosen]
        # Kept by the larger of two neighbours, and dropped by the smaller.
        if any((more & ~less).any() for less, more in itertools.pairwise(masks)):
            return [0.0]
    return [1.0]
