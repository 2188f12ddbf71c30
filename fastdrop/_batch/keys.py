"""Keys of samples: one for each row of a batch, so that a sample's mask is its own everywhere.

The functions on batches call `checked_keys` before anything is drawn, and `key_of` when a kernel is
about to run. `sample_keys` is public.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdrop_kernels.rows import folded

from .._arrays.adapter import Backend
from .._check import arguments, detect
from .._check.arguments import Array, ArrayLike
from .._check.key import AnyRNG, KeyOnDevice, as_key

_FOLDS = 1 << 62


class SampleKeys(NamedTuple):
    """What the keys of a batch are made of, checked."""

    rng: AnyRNG  # the key of all, or what is folded
    numbers: npt.NDArray[np.uint64] | None = None  # of the samples, with which it is folded
    keys: npt.NDArray[np.uint64] | None = None  # given, by sample

    @property
    def are_own(self) -> bool:
        """Whether each sample has a key of its own."""
        return self.numbers is not None or self.keys is not None

    def table(self) -> npt.NDArray[np.uint64] | None:
        """Return the samples' keys, of shape (samples, 2); None if they share one key.

        Generators are asked here, so after all checks.
        """
        if self.numbers is None:
            return self.keys
        return folded(*as_key(self.rng), self.numbers)  # type: ignore[arg-type]


def sample_keys(rng: AnyRNG, sample_index: ArrayLike) -> npt.NDArray[np.uint64]:
    """Return a key for each sample: `Key.fold_in` of its own index.

    A sample gets the same key, and so the same mask, in every batch, order and worker.

    Parameters
    ----------
    rng : Key, int, Generator, or anything else that `as_key` takes
        The key that is folded.
    sample_index : array_like of int, 1-D
        Numbers of the samples, such as their places in the data set, in ``[0, 2**62)``.

    Returns
    -------
    ndarray of uint64, of shape (len(sample_index), 2)
        Seed and stream of each, to be given as `rng` to a function that says so.

    Raises
    ------
    TypeError
        If `sample_index` holds no integers.
    ValueError
        If it is not 1-D, or an index is out of range.

    Examples
    --------
    >>> import fastdrop as fd
    >>> keys = fd.sample_keys(42, [7, 3])
    >>> [fd.Key(*map(int, words)) == fd.Key(42).fold_in(n) for words, n in zip(keys, [7, 3])]
    [True, True]
    """
    index = _checked_index(sample_index)
    if isinstance(rng, KeyOnDevice):
        rng = rng.key()
    return folded(*as_key(rng), index)


def checked_keys(
    rng: AnyRNG, sample_index: ArrayLike | None, samples: int | None, what: str
) -> SampleKeys:
    """Check the arguments `rng` and `sample_index` of a function on a batch.

    Parameters
    ----------
    rng, sample_index
        As the user gave them.
    samples : int or None
        Length of the first axis, along which samples lie; None if there is none.
    what : str
        What has that length, for errors: "x" or "shape".
    """
    own = isinstance(rng, np.ndarray) and rng.ndim == 2
    if sample_index is None and not own:
        return SampleKeys(rng)
    if samples is None:
        raise ValueError(f"{what} has no axes, along the first of which samples with keys lie")
    if own:
        assert isinstance(rng, np.ndarray)
        if sample_index is not None:
            raise ValueError(
                f"rng is an array of shape {rng.shape}, of a key for each sample: give that, or "
                "sample_index and one key"
            )
        if rng.dtype != np.uint64 or rng.shape[1] != 2:
            raise TypeError(
                f"rng is an array of shape {rng.shape} and dtype {rng.dtype}: give keys of "
                "samples as fastdrop.sample_keys returns them, of shape (samples, 2) and uint64"
            )
        if len(rng) != samples:
            raise ValueError(
                f"rng has keys for {len(rng)} samples, and {what} has {samples}: give one for each"
            )
        return SampleKeys(None, keys=np.array(rng))
    if isinstance(rng, KeyOnDevice):
        raise TypeError(
            "rng is a DeviceKey, which is not known here, and so not folded with sample_index: "
            "give rng.key(), which waits for the device"
        )
    index = _checked_index(sample_index)
    if len(index) != samples:
        raise ValueError(
            f"sample_index has {len(index)} numbers, and {what} has {samples} samples: give one "
            "for each"
        )
    return SampleKeys(rng, numbers=index)


def key_of(
    keys: SampleKeys, backend: Backend, y: Array
) -> tuple[int, int, npt.NDArray[np.uint64] | None, dict[str, Any]]:
    """Return seed, stream, the samples' own keys if they have any, and what else a driver takes.

    Here a generator is asked.
    """
    if keys.are_own:
        return 0, 0, keys.table(), {}
    seed, stream, more = backend.key(keys.rng, y)
    return seed, stream, None, more


def _checked_index(value: Any) -> npt.NDArray[np.uint64]:
    if detect.on_gpu(value):
        raise TypeError(
            f"sample_index is {detect.a_kind_of(value)} on a GPU: give a NumPy array, or a list"
        )
    index = arguments.integers("sample_index", value)
    if index.ndim != 1:
        raise ValueError(f"sample_index has {index.ndim} axes: give a number for each sample")
    if not index.size:
        return np.empty(0, np.uint64)
    least, most = int(index.min()), int(index.max())
    if least < 0 or most >= _FOLDS:
        wrong = least if least < 0 else most
        raise ValueError(
            f"sample_index has {detect.short(wrong)}: give numbers of samples in [0, 2**62)"
        )
    return index.astype(np.uint64)
