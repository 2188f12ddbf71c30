"""Keys: the two 64-bit integers, seed and stream, that a mask is drawn from.

`as_key` converts every kind of `rng` argument to a `Key`; the backends call it when a kernel is
about to run. Derived keys come from `fold_in`.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import fold_in as folding
from .detect import described, short
from .integers import as_integer

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
        # `_replace` calls this method; so its arguments are checked too.
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
        if type(n) is not int:
            n = as_integer("n", n)
        if not 0 <= n < _FOLDS:
            raise ValueError(f"n={short(n)} is out of range: fold_in takes 0 <= n < 2**62")
        return _new(Key, folding.fold_in(*self, n))

    def advanced(self, n: int) -> Key:
        """Return the key with ``stream + n``, modulo ``2**64``, as a layer's n-th forward uses it.

        Much cheaper than `fold_in`. The result may equal one derived from a key of a near stream.

        Raises
        ------
        TypeError
            If `n` is not an integer.
        """
        if type(n) is not int:
            n = as_integer("n", n)
        return made_key(self.seed, (self.stream + n) % _WORD)


_new = tuple.__new__


def made_key(seed: int, stream: int) -> Key:
    """Make a key of two valid words, without the checks; 4 times faster."""
    return _new(Key, (seed, stream))


# A string, because evaluating `np.random` would import numpy.random, which takes 30 ms.
RNG: TypeAlias = (
    "Key | int | np.integer[Any] | Sequence[int] | np.ndarray[Any, Any] | np.random.Generator | "
    "np.random.BitGenerator | np.random.SeedSequence | np.random.RandomState | ModuleType | "
    "LazyKey | None"
)


class LazyKey:
    """A key that is made when a kernel needs it, and then cached.

    Functions ask for the key after all checks. So a call that raises takes no number from a layer's
    count and draws nothing from a generator.

    Attributes
    ----------
    contiguous_plan, plan : callable or None
        The cached plan that served the call, if one did: for contiguous arrays of any shape, or of
        one layout. A layer keeps it for its next forward.
    """

    __slots__ = ("_key", "_make", "contiguous_plan", "plan")

    def __init__(self, make: Callable[[], Key]) -> None:
        self._make = make
        self.contiguous_plan: Any = None
        self.plan: Any = None
        self._key: Key | None = None

    def key(self) -> Key:
        """Return the key; the first call makes it."""
        if self._key is None:
            self._key = self._make()
        return self._key


class KeyOnDevice:
    """Base class of keys in GPU memory, which kernels read there (`fastdrop.cuda.DeviceKey`)."""

    @property
    def pointer(self) -> int:
        """Device address of seed and stream."""
        raise NotImplementedError

    @property
    def device(self) -> int:
        """Number of the device."""
        raise NotImplementedError

    def key(self) -> Key:
        """Return the key as a `Key`; waits for the device."""
        raise NotImplementedError


AnyRNG: TypeAlias = "RNG | KeyOnDevice"


def as_key(rng: RNG = None) -> Key:
    """Turn anything that `rng` arguments take into a key.

    Parameters
    ----------
    rng : see below
        - A `Key` is returned as it is.
        - An integer in ``[0, 2**64)`` is the seed of ``Key(seed)``. A larger one, and a list of
          integers, are what `numpy.random.SeedSequence` makes of them, as in
          `numpy.random.default_rng`. So a key that JSON has made a list of is given as
          ``Key(*words)``.
        - A `numpy.random.Generator`, a `numpy.random.BitGenerator`, a `numpy.random.RandomState`,
          and `numpy.random` itself, which stands for its global state, are asked for two uint64,
          seed and stream: another key each time. So after ``np.random.seed(0)``,
          ``rng=np.random`` gives the same keys again.
        - A `numpy.random.SeedSequence` gives the two uint64 of its state, always the same.
        - None takes fresh entropy from the operating system. ``np.random.seed`` does not change
          it.

    Returns
    -------
    Key

    Raises
    ------
    TypeError
        If it is nothing of these.
    ValueError
        If an integer is negative.
    """
    if isinstance(rng, Key):
        return rng
    if rng is None:
        try:
            return _fresh.pop()
        except IndexError:
            return _fresh_key()
    if isinstance(rng, LazyKey):
        return rng.key()
    if type(rng) is int or isinstance(rng, np.integer):  # without importing numpy.random
        return _seeded(int(rng))
    bits = _bit_generator(rng)
    if bits is not None:
        # The same values as from `_two_words`, in 0.4 us instead of 10.
        raw_bits = _raw_bits().get(type(bits))
        if raw_bits == 64:
            return _new(Key, (bits.random_raw(), bits.random_raw()))
        if raw_bits == 32:
            a, b, c, d = bits.random_raw(4).tolist()
            return _new(Key, (a << 32 | b, c << 32 | d))
        return made_key(*_two_words(bits))
    if isinstance(rng, np.random.SeedSequence):
        return Key(*map(int, rng.generate_state(2, np.uint64)))
    if _are_integers(rng):
        return _of_sequence(rng)
    try:
        return Key(rng)  # type: ignore[arg-type]
    except TypeError:
        raise _refusal(rng) from None


def _seeded(number: int) -> Key:
    if 0 <= number < _WORD:
        return made_key(number, 0)
    if number < 0:
        raise ValueError(f"rng={short(number)} is negative: give a seed of 0 or more")
    return _of_sequence(number)


def _bit_generator(rng: Any) -> Any:
    """Return the bit generator of a NumPy generator; None if `rng` is not one."""
    random = np.random
    if rng is random:
        return random.get_bit_generator()
    if isinstance(rng, random.Generator):
        return rng.bit_generator
    if isinstance(rng, random.BitGenerator):
        return rng
    return rng._bit_generator if isinstance(rng, random.RandomState) else None


def _are_integers(rng: Any) -> bool:
    """Return whether `rng` is a sequence or an array of integers."""
    if isinstance(rng, np.ndarray):
        return rng.dtype.kind in "iu" and rng.ndim == 1
    return isinstance(rng, list | tuple) and all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) for n in rng
    )


def _of_sequence(entropy: Any) -> Key:
    """Return the key that `numpy.random.SeedSequence` derives from one integer or several."""
    try:
        sequence = np.random.SeedSequence(entropy)
    except ValueError:
        raise ValueError(
            f"rng={short(entropy)} has a negative entry: give integers of 0 or more"
        ) from None
    return Key(*map(int, sequence.generate_state(2, np.uint64)))


def _refusal(rng: Any) -> TypeError:
    if isinstance(rng, KeyOnDevice):
        return TypeError(
            "rng is a DeviceKey, which only kernels on its device can read, for arrays there: "
            "give rng.key(), which waits for the device"
        )
    if isinstance(rng, dict) and set(rng) == set(Key._fields):
        return TypeError(f"{described('rng', rng)}: give fastdrop.Key(**rng)")
    return TypeError(
        f"{described('rng', rng)}: give a fastdrop.Key, an int, a list of ints, a "
        "NumPy Generator, BitGenerator, SeedSequence or RandomState, numpy.random itself, or None "
        "for fresh entropy"
    )


# Unused keys of fresh entropy. One system call per key took 0.7 us of the 0.9 us of `as_key(None)`.
# list.pop is atomic, so no two threads get the same key.
_fresh: list[Key] = []
_MAX_FRESH = 64


def _fresh_key() -> Key:
    words = struct.unpack(f"={2 * _MAX_FRESH}Q", os.urandom(16 * _MAX_FRESH))
    key, *others = map(made_key, words[::2], words[1::2])
    _fresh.extend(others)
    return key


if hasattr(os, "register_at_fork"):  # a child must not use the same keys as its parent
    os.register_at_fork(after_in_child=_fresh.clear)


def _two_words(bits: Any) -> list[int]:
    """Return two uint64 drawn by ``Generator.integers``."""
    generator = np.random.Generator(bits)
    words: list[int] = generator.integers(0, _WORD - 1, 2, np.uint64, endpoint=True).tolist()
    return words


@functools.cache
def _raw_bits() -> dict[type, int]:
    """Return the width in bits of the raw output of NumPy's bit generators."""
    random = np.random
    whole = random.PCG64, random.PCG64DXSM, random.SFC64, random.Philox
    return {**dict.fromkeys(whole, 64), random.MT19937: 32}


def _word(name: str, value: Any) -> int:
    word = value if type(value) is int else as_integer(name, value)
    if not 0 <= word < _WORD:
        raise ValueError(f"{name}={short(word)} is out of range: give an integer in [0, 2**64)")
    return word
