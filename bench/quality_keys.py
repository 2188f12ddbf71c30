"""Tests of keys: masks of neighbours in seed, stream and `fold_in`, and keys that differ in a bit.

`quality` runs them. Each takes a source, a key, and how many chunks to look at, and returns
p-values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from .quality_source import Array, Key, Source, ones
from .quality_statistics import of_normal, of_normals

LENGTH = 1 << 18  # elements of a mask
SHORT = 8  # elements whose output bits are followed one by one
BASES = 128  # keys of a chunk of `avalanche`
_KEY_BITS, _FOLD_BITS = 128, 62
_INDEX_BITS = range(18, 62)  # those above a mask's own


def _shifted(key: Key, seed: int, stream: int) -> Key:
    return Key((key.seed + seed) % 2**64, (key.stream + stream) % 2**64)


def _another(key: Key, at: int) -> Key:
    """Return one of many keys that are no neighbours of each other."""
    return _shifted(key, at * 0x9E3779B97F4A7C15, at * 0xBF58476D1CE4E5B9)


def _flipped(key: Key, bit: int) -> Key:
    """Return the key that differs in a bit: 0 to 63 of the seed, 64 to 127 of the stream."""
    return Key(key.seed ^ (1 << bit if bit < 64 else 0), key.stream ^ (1 << bit >> 64))


def _folded(source: Source, key: Key, n: int) -> Key:
    seed, stream = source.fold_in(key, np.array([n]))[0].tolist()
    return Key(seed, stream)


# Two keys of one, whose masks must have nothing in common.
_PAIRS: dict[str, Callable[[Source, Key], tuple[Key, Key]]] = {
    "seed and seed + 1": lambda source, key: (key, _shifted(key, 1, 0)),
    "stream and stream + 1": lambda source, key: (key, _shifted(key, 0, 1)),
    "seed + 1 and stream + 1": lambda source, key: (_shifted(key, 1, 0), _shifted(key, 0, 1)),
    "seed + 1, stream - 1": lambda source, key: (key, _shifted(key, 1, -1)),
    "seed and stream exchanged": lambda source, key: (key, Key(key.stream, key.seed)),
    "seed + 2^32": lambda source, key: (key, _shifted(key, 1 << 32, 0)),
    "stream + 2^32": lambda source, key: (key, _shifted(key, 0, 1 << 32)),
    "fold_in(n) and fold_in(n + 1)": lambda source, key: (
        _folded(source, key, key.seed % 1000),
        _folded(source, key, key.seed % 1000 + 1),
    ),
    "a key and its fold_in(0)": lambda source, key: (key, _folded(source, key, 0)),
    "fold_in(n) of seed and seed + 1": lambda source, key: (
        _folded(source, key, 7),
        _folded(source, _shifted(key, 1, 0), 7),
    ),
    "fold_in(1) and stream + 1": lambda source, key: (
        _folded(source, key, 1),
        _shifted(key, 0, 1),
    ),
}
PAIRS = tuple(_PAIRS)


def _z(differing: int, elements: int) -> float:
    """Return how far a number of differing fair bits is from half, in standard deviations."""
    return (2 * differing - elements) / math.sqrt(elements)


def neighbours(pair: str, source: Source, key: Key, chunks: int) -> list[float]:
    """How many elements differ in the masks of two keys, for small keys and for large ones."""
    found = []
    for large in (True, False):
        differing = 0
        for at in range(chunks):
            base = _another(key, at)
            if not large:  # what people write: Key(7, 2)
                base = Key(base.seed % 2**16, base.stream % 2**16)
            if base.seed == base.stream:  # nothing to be exchanged
                base = _shifted(base, 0, 1)
            one, other = (source.packed(k, 0.5, LENGTH) for k in _PAIRS[pair](source, base))
            differing += ones(one ^ other)
        found.append(of_normal(_z(differing, LENGTH * chunks)))
    return found


def flips(what: str, source: Source, key: Key, chunks: int) -> list[float]:
    """How many elements differ if one bit of the key, or of the first index, is another one."""
    found = []
    for at in range(chunks):
        base = _another(key, at)
        mask, offset = source.packed(base, 0.5, LENGTH), 0
        others: list[tuple[Key, int]] = [(_flipped(base, bit), offset) for bit in range(_KEY_BITS)]
        if what == "index":
            others = [(base, 1 << bit) for bit in _INDEX_BITS]
        for other, start in others:
            different = mask ^ source.packed(other, 0.5, LENGTH, start)
            found.append(_z(ones(different), LENGTH))
    return of_normals(np.array(found))


FLIPS = ("key", "index")
FLIPPED_ELEMENTS = ((1 + _KEY_BITS) * LENGTH, (1 + len(_INDEX_BITS)) * LENGTH)  # of a chunk


def _bits(words: Array) -> Array:
    """Return the bits of each row of words."""
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1)


def avalanche(what: str, source: Source, key: Key, chunks: int) -> list[float]:
    """How often each output bit changes with each input bit: half of the times, if all is well.

    Input bits are those of the key, and output bits those of the uniforms of 8 elements; or those
    of n, and of the key that `fold_in` makes of it.
    """
    inputs = _KEY_BITS if what == "key" else _FOLD_BITS
    changed: Array = np.zeros(())
    for at in range(BASES * chunks):
        base = _another(key, at)
        if what == "key":
            keys = [base, *(_flipped(base, bit) for bit in range(inputs))]
            out = np.stack([source.uniforms(k, SHORT) for k in keys])
        else:
            n = (key.seed >> 2) ^ at
            out = source.fold_in(base, np.array([n, *(n ^ 1 << bit for bit in range(inputs))]))
        bits = _bits(out)
        changed = changed + (bits[1:] ^ bits[0])
    times = BASES * chunks
    # Without the largest: a number of few changes is too coarse for it.
    return of_normals((2 * changed.astype(np.float64) - times) / math.sqrt(times))[:2]


AVALANCHES = ("key", "fold_in")
AVALANCHE_ELEMENTS = (BASES * (1 + _KEY_BITS) * SHORT, BASES * (1 + _FOLD_BITS))  # of a chunk


def related(source: Source, key: Key, chunks: int) -> list[float]:
    """All pairs of masks of a square of 4 x 4 keys: neighbours in seed and in stream."""
    z = []
    for at in range(chunks):
        square = itertools.product(range(4), range(4))
        masks = [source.packed(_shifted(key, 4 * at + i, j), 0.5, LENGTH) for i, j in square]
        z += [_z(ones(a ^ b), LENGTH) for a, b in itertools.combinations(masks, 2)]
    return of_normals(np.array(z))
