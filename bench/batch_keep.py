"""`keep_k` beside the usual ways of keeping exactly k of each row.

The benchmark of functions on batches calls `rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import fastdrop as fd

FAMILY = "keep_k"
KEY = fd.Key(42)
Calls: TypeAlias = dict[str, Callable[[], object]]

# Rows, elements of a row, kept ones: images of 196 patches, as masked autoencoders have them;
# features for random trees; tokens; and long rows.
SHAPES = (
    (1024, 196, 49),
    (1 << 16, 16, 4),
    (4096, 256, 64),
    (64, 1 << 14, 1 << 12),
    (1, 1 << 20, 1 << 18),
)


def _argpartition(rows: int, n: int, k: int) -> Callable[[], npt.NDArray[np.bool_]]:
    """Good NumPy: float32 noise, of which the k least are marked."""
    rng = np.random.default_rng(0)

    def call() -> npt.NDArray[np.bool_]:
        noise = rng.random((rows, n), np.float32)
        mask = np.zeros((rows, n), bool)
        np.put_along_axis(mask, np.argpartition(noise, k, axis=1)[:, :k], True, axis=1)
        return mask

    return call


def _argsort(rows: int, n: int, k: int) -> Callable[[], tuple[Any, ...]]:
    """Sort noise, and the order: the idiom of masked autoencoders (K. He et al., 2022)."""
    rng = np.random.default_rng(0)

    def call() -> tuple[Any, ...]:
        shuffle = np.argsort(rng.random((rows, n)), axis=1)
        restore = np.argsort(shuffle, axis=1)
        mask = np.zeros((rows, n), bool)
        mask[:, :k] = True
        return np.take_along_axis(mask, restore, axis=1), shuffle[:, :k], restore

    return call


def rows(seconds: float) -> Iterator[tuple[str, Calls, str, str, float]]:
    """Yield what is drawn, the calls of the contenders, which is ours, whom to beat, how much."""
    for count, n, k in SHAPES:
        _validate(count, n, k)
        shape, what = (count, n), f"{count:,} x {n:,}, {k:,} kept"
        mask = np.empty(shape, np.bool_)
        partition = _argpartition(count, n, k)
        calls: Calls = {
            "fastdrop": lambda shape=shape, k=k: fd.keep_k(shape, k, rng=KEY),  # type: ignore[misc]
            "fastdrop, out=": lambda shape=shape, k=k, mask=mask: fd.keep_k(  # type: ignore[misc]
                shape, k, rng=KEY, out=mask
            ),
            "NumPy, argpartition": partition,
        }
        yield f"mask, {what}", calls, "fastdrop", "NumPy, argpartition", 10.0
        orders = (mask, *(np.empty((count, m), np.int64) for m in (k, n - k, n)))
        calls = {
            "fastdrop": lambda shape=shape, k=k: fd.keep_k(  # type: ignore[misc]
                shape, k, rng=KEY, indices=True
            ),
            "fastdrop, out=": lambda shape=shape, k=k, orders=orders: fd.keep_k(  # type: ignore[misc]
                shape, k, rng=KEY, indices=True, out=orders
            ),
            "NumPy, argsort": _argsort(count, n, k),
        }
        yield f"mask and order, {what}", calls, "fastdrop", "NumPy, argsort", 10.0


def _validate(count: int, n: int, k: int) -> None:
    """Refuse to measure what is wrong: k a row, and their positions in order."""
    mask, kept, dropped, restore = fd.keep_k((count, n), k, rng=KEY, indices=True)
    by_mask = np.nonzero(mask)[1].reshape(count, k), np.nonzero(~mask)[1].reshape(count, n - k)
    both = np.concatenate([kept, dropped], axis=1)
    in_order = np.take_along_axis(both, restore, axis=1) == np.arange(n)
    if not (np.array_equal(kept, by_mask[0]) and np.array_equal(dropped, by_mask[1])):
        raise AssertionError("positions are not those of the mask")
    if not in_order.all():
        raise AssertionError("the order does not restore")
