"""Reference implementation of the mask with NumPy: slow and simple.

Tests and the self-check compare every kernel with it, bit for bit. It calls `contract`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import contract


def mask_index(
    shape: tuple[int, ...],
    noise_shape: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    global_shape: tuple[int, ...] | None = None,
) -> npt.NDArray[np.uint64]:
    """Return the mask index of every element of an array.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array, or of the shard where `global_shape` is given.
    noise_shape : tuple of int, optional
        Shape of the mask, with as many axes as `shape`. Each length is 1, which shares the decision
        along the axis, or that of `global_shape` if given, else of `shape`.
    offset : int or tuple of int
        Added to the index; with `global_shape`, the shard's start along each axis.
    global_shape : tuple of int, optional
        Shape of the array that the shard is a part of.

    Returns
    -------
    ndarray of uint64, of shape `shape`
    """
    start, full = ((0,) * len(shape), shape) if global_shape is None else (offset, global_shape)
    assert isinstance(start, tuple)
    noise = full if noise_shape is None else noise_shape
    index: Any = np.zeros(shape, np.uint64)
    stride = 1
    for axis in reversed(range(len(shape))):
        if noise[axis] != 1:
            along: Any = np.arange(start[axis], start[axis] + shape[axis], dtype=np.uint64)
            along = along.reshape((-1,) + (1,) * (len(shape) - axis - 1))
            index = index + along * np.uint64(stride)
            stride *= noise[axis]
    if global_shape is None:
        assert isinstance(offset, int)
        index = index + np.uint64(offset)
    return np.asarray(index)


def keep_mask(
    index: npt.NDArray[np.uint64], p: float, seed: int, stream: int
) -> npt.NDArray[np.bool_]:
    """Return the decision for every mask index, True = kept."""
    kept = contract.keep(
        np.uint64(seed), np.uint64(stream), index, np.uint64(contract.threshold(p))
    )
    return np.asarray(kept)
