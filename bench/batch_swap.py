"""Corrupting tables for `bench.batch`: `swap_rows` beside VIME's and SCARF's ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .common import Array, BenchError, load

FAMILY = "Corrupting tables"
ROWS, COLUMNS, BATCH = 100_000, 64, 4096
VIME, SCARF = 0.3, 0.6  # the probabilities that their authors give

_rng = np.random.default_rng(0)

Rows = Iterator[tuple[str, dict[str, Callable[[], object]], str, str, float]]


def vime(x: Array, p: float) -> tuple[Array, Array]:
    """Corrupt by permutations, as VIME's public code does.

    That is `mask_generator` and `pretext_generator` of github.com/jsyoon0823/VIME, vime_utils.py:
    a permutation for each column in a loop, and a sum of products with the mask, in float64.
    """
    mask = np.random.binomial(1, p, x.shape)  # noqa: NPY002  # as published
    shuffled = np.zeros(x.shape)
    for column in range(x.shape[1]):
        shuffled[:, column] = x[np.random.permutation(len(x)), column]  # noqa: NPY002
    corrupted = x * (1 - mask) + shuffled * mask
    return corrupted, 1 * (x != corrupted)


def permuted(x: Array, p: float) -> Array:
    """Corrupt by permutations, as NumPy does it in the fewest calls."""
    chosen: Array = np.where(_rng.random(x.shape, np.float32) < p, _rng.permuted(x, axis=0), x)
    return chosen


def random_rows(x: Array, p: float, source: Array) -> Array:
    """Corrupt by random rows, as SCARF does, in NumPy."""
    rows = _rng.integers(0, len(source), x.shape)
    taken = np.take_along_axis(source, rows, axis=0)
    chosen: Array = np.where(_rng.random(x.shape, np.float32) < p, taken, x)
    return chosen


def torch_rows(x: Array, p: float, source: Array) -> Callable[[], object]:
    """Return the same on tensors, as public SCARF code has it: an index for each element."""
    torch: Any = load("torch")
    there, taken = torch.from_numpy(x), torch.from_numpy(source)

    def call() -> object:
        rows = torch.randint(0, len(taken), there.shape)
        return torch.where(torch.rand(there.shape) < p, taken.gather(0, rows), there)

    return call


def check(x: Array, p: float, replace: bool, source: Array | None) -> None:
    """Check a call of ours: kept elements stay, others are of their column."""
    fd = load("fastdrop")
    call = {"rng": 7, "replace": replace, "source": source, "return_mask": True}
    made, kept = fd.swap_rows(x, p, **call)
    taken = x if source is None else source
    fine = np.array_equal(kept, fd.dropout_mask(x.shape, p, rng=7))
    fine &= np.array_equal(made[kept], x[kept])
    fine &= all(np.isin(made[:, c], np.append(taken[:, c], x[:, c])).all() for c in (0, -1))
    if not replace:
        all_swapped = fd.swap_rows(x, 1.0, rng=7, replace=False)
        fine &= np.array_equal(np.sort(all_swapped, 0), np.sort(x, 0))
    if not fine:
        raise BenchError("swap_rows computes wrong values")


def rows(seconds: float) -> Rows:
    """Yield the comparisons."""
    fd = load("fastdrop")
    n = ROWS if seconds else 500
    table = np.random.default_rng(1).standard_normal((n, COLUMNS), np.float32)
    across = np.asfortranarray(table)
    few = np.ascontiguousarray(table[:: max(1, n // BATCH)][:BATCH])
    size, name = f"{n:,} x {COLUMNS} float32", "NumPy, take_along_axis"
    out, out_across = np.empty_like(table), np.empty_like(across)

    def with_torch(calls: dict[str, Any], x: Array, source: Array) -> dict[str, Any]:
        try:
            return calls | {"torch, gather": torch_rows(x, SCARF, source)}
        except ImportError:
            return calls

    check(table, VIME, False, None)
    yield (
        f"swap_rows, a permutation of each column, p = {VIME}, {size}",
        {
            "fastdrop": lambda: fd.swap_rows(table, VIME, rng=7, replace=False),
            "VIME as published": lambda: vime(table, VIME),
            "NumPy, Generator.permuted": lambda: permuted(table, VIME),
        },
        *("fastdrop", "VIME as published", 20.0),
    )
    check(table, SCARF, True, None)
    calls: dict[str, Any] = {
        "fastdrop": lambda: fd.swap_rows(table, SCARF, rng=7, out=out),
        name: lambda: random_rows(table, SCARF, table),
    }
    calls = with_torch(calls, table, table)
    yield f"swap_rows, random rows, p = {SCARF}, {size}", calls, "fastdrop", name, 20.0
    check(across, SCARF, True, None)
    calls = {
        "fastdrop": lambda: fd.swap_rows(across, SCARF, rng=7, out=out_across),
        name: lambda: random_rows(across, SCARF, across),
    }
    what = f"swap_rows, random rows, p = {SCARF}, {size}, columns contiguous"
    yield what, calls, "fastdrop", name, 20.0
    check(few, SCARF, True, table)
    calls = {
        "fastdrop": lambda: fd.swap_rows(few, SCARF, rng=7, source=table),
        name: lambda: random_rows(few, SCARF, table),
    }
    calls = with_torch(calls, few, table)
    what = f"swap_rows, {len(few):,} rows of values of {n:,}, p = {SCARF}"
    yield what, calls, "fastdrop", name, 20.0
