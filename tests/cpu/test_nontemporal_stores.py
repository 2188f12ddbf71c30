"""Kernels with nontemporal stores write what the cached ones do, at every alignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.elements.operations import Operation
from fastdrop_kernels.cpu.elements.sampler import GROUP
from fastdrop_kernels.cpu.host import catalogue
from fastdrop_kernels.cpu.loops.contiguous import CACHED, NONTEMPORAL, has_nontemporal
from fastdrop_kernels.cpu.loops.kernels import contiguous_kernel
from tests.support.internals import call_plan, set_cpu_limits
from tests.support.oracle import POISON, affine, applied, assert_same, data, mask, misaligned
from tests.support.run_kernel import OPERATIONS, run_kernel
from tests.support.slow import slow_unless

pytestmark = pytest.mark.skipif(
    not has_nontemporal(catalogue.operation("drop", np.dtype(np.float32))),
    reason="nontemporal stores are for AVX-512BW on x86-64, which this processor lacks",
)

KINDS = [name for name, (operation, _) in OPERATIONS.items() if has_nontemporal(operation)]
QUICK = ("bfloat16", "float32", "fill-16")
every_kind = pytest.mark.parametrize("kind", slow_unless(lambda kind: kind in QUICK, KINDS))
KEY = fd.Key(2**63 + 5, 2**40 + 1)
T = contract.threshold(0.37)


def compare(
    kind: str, n: int, x_by: int, y_by: int, index: int, threshold: int = T, key: fd.Key = KEY
) -> None:
    """Compare with the plain kernel, also around the output."""
    operation, dtype = OPERATIONS[kind]
    x = misaligned((np.arange(n) % 251 + 1).astype(dtype), x_by)
    value = np.array(3, np.float32 if kind in ("float16", "bfloat16") else dtype)
    results = []
    for policy in (CACHED, NONTEMPORAL):
        memory = np.full(x.nbytes + 512, POISON, np.uint8)
        start = -memory.__array_interface__["data"][0] % 64 + 192 + y_by
        y = memory[start : start + x.nbytes].view(dtype)
        run_kernel(operation, x, y, value, threshold, key, index, policy)
        results.append(memory[start - 192 - y_by :][: 448 + x.nbytes].tobytes())
    assert results[0] == results[1], (kind, n, x_by, y_by, index, threshold)
    inside = slice(192 + y_by, 192 + y_by + x.nbytes)
    around = np.frombuffer(results[1], np.uint8).copy()
    around[inside] = POISON
    assert (around == POISON).all()  # nothing else is written


@every_kind
def test_every_alignment_of_the_output(kind: str) -> None:
    """Those too that no element of its dtype has, where stores are ordinary ones."""
    for y_by in range(64):
        for x_by in (0, 16, y_by, 63 - y_by):
            for index in (0, 5 * y_by + 1):
                compare(kind, 4 * GROUP + 37, x_by, y_by, index)


@every_kind
@pytest.mark.parametrize("index", [0, 1, 31, 100, 255, 2**32 - 300, 2**35 - 513])
def test_every_length_near_whole_groups(index: int, kind: str) -> None:
    first = -index % GROUP
    for groups in (0, 1, 2, 3, 5):
        for more in (-33, -32, -1, 0, 1, 31, 32, 100):
            for y_by in (0, 16, 48):
                compare(kind, max(0, first + groups * GROUP + more), 16, y_by, index)


@every_kind
def test_ties_at_every_place_of_a_group(kind: str) -> None:
    """Each element of the third group, and some before, is decided by its lower 16 bits."""
    places = np.arange(3 * GROUP, dtype=np.uint64)
    drawn = contract.uniform32(np.uint64(KEY.seed), np.uint64(KEY.stream), places)
    for place in [*range(GROUP - 70, GROUP + 70, 23), *range(2 * GROUP, 3 * GROUP, 7)]:
        for threshold in (int(drawn[place]), int(drawn[place]) + 1):
            compare(kind, 4 * GROUP, 16, 16, 0, threshold)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_nontemporal_results_equal_the_reference(kind: str, rng: np.random.Generator) -> None:
    operation, dtype = OPERATIONS[kind]
    x = rng.standard_normal(20_001).astype(dtype)
    y = misaligned(np.empty_like(x), 40)
    run_kernel(operation, x, y, np.array(1 / 0.63, dtype), T, KEY, 77, NONTEMPORAL)
    assert_same(y, applied(mask(x.shape, 0.37, KEY, offset=77), x, 1 / 0.63))


def test_alpha_dropout(rng: np.random.Generator) -> None:
    operation = catalogue.operation("alpha", np.dtype(np.float32))
    x = rng.standard_normal(9999).astype(np.float32)
    y = misaligned(np.empty_like(x), 16)
    numbers = np.array([0.5, 0.25, -1.5], np.float32)
    run_kernel(operation, x, y, numbers, T, KEY, 3, NONTEMPORAL)
    kept = mask(x.shape, 0.37, KEY, offset=3)
    assert_same(y, affine(kept, x, 0.5, 0.25, -1.5))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_calls_use_nontemporal_stores(
    threads: int, monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> None:
    """Also in chunks that begin inside a cache line; in-place calls use ordinary stores."""
    policies: list[str] = []

    def noted(operation: Operation, policy: str) -> Any:
        policies.append(policy)
        return contiguous_kernel(operation, policy)

    monkeypatch.setattr(call_plan, "contiguous_kernel", noted)
    set_cpu_limits(
        monkeypatch, parallel_from=500, chunk=1500, cached_bytes=256, nontemporal_from=1 << 16
    )
    set_threads(threads)
    x = misaligned(np.arange(1, 50_001, dtype=np.float32), 16)
    want = applied(mask(x.shape, 0.37, KEY, offset=77), x, 1 / 0.63)
    for _ in range(3):  # the second call may be planned, the third follows the plan
        y = misaligned(np.zeros_like(x), 16)
        for out in (y, x.copy()):
            given = x if out is y else out
            policies.clear()
            fd.dropout(given, 0.37, rng=KEY, offset=77, out=out)
            assert_same(out, want)
            assert (NONTEMPORAL in policies) == (out is y)
        small = x[:9999]
        policies.clear()
        assert_same(fd.dropout(small, 0.37, rng=KEY, offset=77), want[:9999])
        assert NONTEMPORAL not in policies
        filled = fd.masked_fill(x.view(np.int32), 0.37, -7, rng=KEY, offset=77)
        assert data(filled) == data(np.where(want != 0, x.view(np.int32), np.int32(-7)))


def test_which_operations_have_nontemporal_kernels() -> None:
    assert has_nontemporal(catalogue.operation("drop", np.dtype(np.float32)))
    assert has_nontemporal(catalogue.operation("fill", np.dtype(np.int16)))
    assert not has_nontemporal(catalogue.operation("fill", np.dtype(np.int8)))
    assert not has_nontemporal(catalogue.operation("mark"))
    assert not has_nontemporal(catalogue.operation("pack"))
    assert not has_nontemporal(catalogue.operation("gaussian_drop", np.dtype(np.float32)))
