"""Every way through memory writes what the plain one writes, and no more."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.elements import operations, storage
from fastdrop_kernels.cpu.loops.contiguous import FAR, NEAR
from tests.support.direct import treat
from tests.support.oracle import POISON, Array, applied, assert_same, data, mask, misaligned
from tests.support.thinning import thinned

KINDS: dict[str, tuple[Any, Any]] = {
    "float16": (operations.drop("float16", storage.FLOAT16), np.float16),
    "bfloat16": (operations.drop("bfloat16", storage.BFLOAT16), ml_dtypes.bfloat16),
    "float32": (operations.drop("float32", storage.FLOAT32), np.float32),
    "float64": (operations.drop("float64", storage.FLOAT64), np.float64),
    "fill-1": (operations.fill(storage.MOVED[1]), np.uint8),
    "fill-2": (operations.fill(storage.MOVED[2]), np.uint16),
    "fill-4": (operations.fill(storage.MOVED[4]), np.uint32),
    "fill-8": (operations.fill(storage.MOVED[8]), np.uint64),
    "fill-16": (operations.fill(storage.MOVED[16]), np.complex128),
    "mark": (operations.mark(), np.bool_),
}
# Storages of 1 to 8 bytes; the others' kernels are for the longer tests.
QUICK = ("bfloat16", "float32", "float64", "mark")
every_kind = pytest.mark.parametrize("kind", thinned(lambda kind: kind in QUICK, KINDS))
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
    operation, dtype = KINDS[kind]
    x = misaligned(np.arange(1, n + 1).astype(dtype), x_by)
    value = np.array(3, np.float32 if kind in ("float16", "bfloat16") else dtype)
    memories = []
    for way in (NEAR, FAR):
        y, memory = target(n, dtype, y_by)
        treat(operation, x[start:], y[start:], value, T, KEY, index, way)
        around = memory.copy()
        begin = y.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        around[begin + start * y.itemsize : begin + y.nbytes] = POISON
        assert (around == POISON).all()  # nothing else is written
        memories.append(data(y))
    assert memories[0] == memories[1], (kind, n, x_by, y_by, index, start)


@every_kind
@pytest.mark.parametrize("n", SIZES)
def test_every_size_is_written_as_by_the_plain_kernel(n: int, kind: str) -> None:
    for y_by in (0, 1, 8, 60, 63):
        for index in (0, 3, 2040):
            compare(kind, n, 4, y_by, index)


@every_kind
def test_every_misalignment_is_written_as_by_the_plain_kernel(kind: str) -> None:
    for y_by in range(64):
        for x_by in (0, y_by, 63 - y_by):
            compare(kind, 700, x_by, y_by, 5 * y_by)
            compare(kind, 3, x_by, y_by, y_by)


@every_kind
def test_a_part_leaves_the_rest_of_the_array_alone(kind: str) -> None:
    for start in (1, 15, 16, 100, 2047, 2048, 2999):
        for index in (0, 1, 2**32 - 1000):
            compare(kind, 3000, 0, 24, index, start)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_it_gives_what_the_reference_gives(kind: str, rng: np.random.Generator) -> None:
    for way in (NEAR, FAR):
        check_reference(kind, way, rng)


def check_reference(kind: str, way: str, rng: np.random.Generator) -> None:
    operation, dtype = KINDS[kind]
    x = rng.standard_normal(20_001).astype(dtype)
    factor = np.array(1 / (1 - P), dtype)
    y, _ = target(x.size, dtype, 36)
    treat(operation, x, y, factor, T, KEY, 77, way)
    kept = mask(x.shape, P, KEY, offset=77)
    assert_same(y, applied(kept, x, float(factor)))
