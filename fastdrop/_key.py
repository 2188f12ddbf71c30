"""Keys: the two 64-bit integers that a mask is drawn from."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastdrop_kernels import contract

_WORD = 1 << 64
_FOLDS = 1 << 62


class _Words(NamedTuple):
    seed: int
    stream: int


class Key(_Words):
    """What a mask is drawn from: a seed and a stream.

    A key is an immutable pair of integers: it can be compared, hashed, pickled, and written to and
    read from JSON (``Key(*json.loads(json.dumps(key)))``). The same key always gives the same mask.

    Parameters
    ----------
    seed, stream : int
        Integers in ``[0, 2**64)``. Different pairs give independent masks.

    Raises
    ------
    TypeError
        If one is not an integer.
    ValueError
        If one is out of range.

    Examples
    --------
    >>> key = Key(42)
    >>> key
    Key(seed=42, stream=0)
    >>> key.fold_in(1) == Key(42).fold_in(1)
    True
    """

    __slots__ = ()

    def __new__(cls, seed: int, stream: int = 0) -> Key:
        """Check both words and make the key."""
        return super().__new__(cls, _word("seed", seed), _word("stream", stream))

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Key:  # type: ignore[override]
        # `_replace` comes here too, and is checked so.
        return cls(*iterable)

    def fold_in(self, n: int) -> Key:
        """Return the n-th key derived from this one, unrelated to it and to the others.

        Parameters
        ----------
        n : int
            Which one, in ``[0, 2**62)``: a layer, a step, a worker, a sample.

        Returns
        -------
        Key

        Raises
        ------
        TypeError
            If `n` is not an integer.
        ValueError
            If it is out of range.
        """
        count = _integer("n", n)
        if not 0 <= count < _FOLDS:
            raise ValueError(f"n={count} is out of range: fold_in takes 0 <= n < 2**62")
        words = contract.fold_in(np.uint64(self.seed), np.uint64(self.stream), np.uint64(count))
        return Key(*map(int, words))

    def advanced(self, n: int) -> Key:
        """Return the key `n` streams further on, modulo ``2**64``: that of a layer's n-th forward.

        Much cheaper than `fold_in`. Keys so made collide with those of a key whose stream is near.

        Raises
        ------
        TypeError
            If `n` is not an integer.
        """
        if type(n) is not int:
            n = _integer("n", n)
        return _made(self.seed, (self.stream + n) % _WORD)


def _made(seed: int, stream: int) -> Key:
    """Make a key of what is known to be two words: 4 times quicker than with the checks."""
    return tuple.__new__(Key, (seed, stream))


# A string, because NumPy imports numpy.random, 30 ms, when it is first named.
RNG: TypeAlias = (
    "Key | int | np.random.Generator | np.random.BitGenerator | np.random.SeedSequence | None"
)


def as_key(rng: RNG = None) -> Key:
    """Turn anything that `rng` arguments take into a key.

    Parameters
    ----------
    rng : Key, int, Generator, BitGenerator, SeedSequence or None
        A key is returned as it is. An integer in ``[0, 2**64)`` is the seed of ``Key(seed)``. A
        NumPy generator is asked for two uint64, seed and stream, and so gives another key each
        time. A `numpy.random.SeedSequence` gives the two uint64 of its state, always the same.
        None takes fresh entropy from the operating system.

    Returns
    -------
    Key

    Raises
    ------
    TypeError
        If it is nothing of these.
    ValueError
        If an integer is out of range.
    """
    if isinstance(rng, Key):
        return rng
    if type(rng) is int or isinstance(rng, np.integer):  # without importing numpy.random
        if not 0 <= rng < _WORD:
            raise ValueError(f"rng={rng} is out of range: as an integer it is a seed in [0, 2**64)")
        return _made(int(rng), 0)
    if rng is None:
        words = int.from_bytes(os.urandom(16), "little")
        return _made(words % _WORD, words >> 64)
    bits: Any = rng.bit_generator if isinstance(rng, np.random.Generator) else rng
    if type(bits) in _of_whole_words():
        # What `_two_words` would draw, in 0.6 us and not 10; as an array of two 0.9.
        return _made(bits.random_raw(), bits.random_raw())
    if bits is not rng or isinstance(bits, np.random.BitGenerator):
        return _made(*_two_words(bits))
    if isinstance(rng, np.random.SeedSequence):
        return Key(*map(int, rng.generate_state(2, np.uint64)))
    if isinstance(rng, np.random.RandomState):
        raise TypeError(
            "rng does not take a RandomState, which is legacy: give "
            "numpy.random.default_rng(seed), a fastdrop.Key or an int"
        )
    try:
        return Key(rng)
    except TypeError:
        from .cuda import DeviceKey

        if isinstance(rng, DeviceKey):
            raise TypeError(
                "rng is a DeviceKey, which only kernels on its device can read, for arrays there: "
                "give rng.key(), which waits for the device"
            ) from None
        raise TypeError(
            f"rng={rng!r} is a {type(rng).__name__}: give a fastdrop.Key, an int, a NumPy "
            "Generator, BitGenerator or SeedSequence, or None for fresh entropy"
        ) from None


def _two_words(bits: Any) -> list[int]:
    """Return what ``Generator.integers`` draws of all uint64, and leave the same state."""
    generator = np.random.Generator(bits)
    words: list[int] = generator.integers(0, _WORD - 1, 2, np.uint64, endpoint=True).tolist()
    return words


@functools.cache
def _of_whole_words() -> frozenset[type]:
    """Return NumPy's generators whose raw words have 64 bits."""
    random = np.random
    return frozenset((random.PCG64, random.PCG64DXSM, random.SFC64, random.Philox))


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is a bool: give an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}: give an integer") from None


def _word(name: str, value: Any) -> int:
    word = value if type(value) is int else _integer(name, value)
    if not 0 <= word < _WORD:
        raise ValueError(f"{name}={word} is out of range: give an integer in [0, 2**64)")
    return word
