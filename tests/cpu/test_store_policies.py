"""The prefetching kernels write what the cached ones do, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.loops.contiguous import CACHED, PREFETCH
from tests.support.oracle import POISON, Array, applied, assert_same, data, mask, misaligned
from tests.support.run_kernel import OPERATIONS, run_kernel
from tests.support.slow import slow_unless

# Storages of 1 to 8 bytes; the others' kernels are for the longer tests.
QUICK = ("bfloat16", "float32", "float64", "mark")
every_kind = pytest.mark.parametrize("kind", slow_unless(lambda kind: kind in QUICK, OPERATIONS))
SIZES = [0, 1, 2, 7, 15, 16, 17, 31, 63, 64, 65, 127, 129, 511, 512, 513, 527, 1023, 1025, 2047,
         2048, 2049, 2561, 4096, 4113, 9999]  # fmt: skip
KEY = fd.Key(2**63 + 5, 2**40 + 1)
P = 0.37
T = contract.threshold(P)


def target(n: int, dtype: Any, by: int) -> tuple[Array, Array]:
    """A poisoned array `by` bytes behind a cache line, and the memory around it."""
    size = n * np.dtype(dtype).itemsize
    memory = np.full(size + 512, POISON, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + 192 + by
    return memory[start : start + size].view(dtype), memory


def compare(kind: str, n: int, x_by: int, y_by: int, index: int, start: int = 0) -> None:
    operation, dtype = OPERATIONS[kind]
    x = misaligned(np.arange(1, n + 1).astype(dtype), x_by)
    value = np.array(3, np.float32 if kind in ("float16", "bfloat16") else dtype)
    memories = []
    for policy in (CACHED, PREFETCH):
        y, memory = target(n, dtype, y_by)
        run_kernel(operation, x[start:], y[start:], value, T, KEY, index, policy)
        around = memory.copy()
        begin = y.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        around[begin + start * y.itemsize : begin + y.nbytes] = POISON
        assert (around == POISON).all()  # nothing else is written
        memories.append(data(y))
    assert memories[0] == memories[1], (kind, n, x_by, y_by, index, start)


@every_kind
@pytest.mark.parametrize("n", SIZES)
def test_every_size_is_written_as_by_the_cached_kernel(n: int, kind: str) -> None:
    for y_by in (0, 1, 8, 60, 63):
        for index in (0, 3, 2040):
            compare(kind, n, 4, y_by, index)


@every_kind
def test_every_misalignment_is_written_as_by_the_cached_kernel(kind: str) -> None:
    for y_by in range(64):
        for x_by in (0, y_by, 63 - y_by):
            compare(kind, 700, x_by, y_by, 5 * y_by)
            compare(kind, 3, x_by, y_by, y_by)


@every_kind
def test_a_chunk_leaves_the_rest_of_the_array_alone(kind: str) -> None:
    for start in (1, 15, 16, 100, 2047, 2048, 2999):
        for index in (0, 1, 2**32 - 1000):
            compare(kind, 3000, 0, 24, index, start)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_both_kernels_equal_the_reference(kind: str, rng: np.random.Generator) -> None:
    for policy in (CACHED, PREFETCH):
        check_reference(kind, policy, rng)


def check_reference(kind: str, policy: str, rng: np.random.Generator) -> None:
    operation, dtype = OPERATIONS[kind]
    x = rng.standard_normal(20_001).astype(dtype)
    factor = np.array(1 / (1 - P), dtype)
    y, _ = target(x.size, dtype, 36)
    run_kernel(operation, x, y, factor, T, KEY, 77, policy)
    kept = mask(x.shape, P, KEY, offset=77)
    assert_same(y, applied(kept, x, float(factor)))
