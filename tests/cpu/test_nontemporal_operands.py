"""Operations that read further arrays, written by nontemporal stores, are what NumPy computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.elements.operations import Operation
from fastdrop_kernels.cpu.elements.sampler import GROUP
from fastdrop_kernels.cpu.host import catalogue
from fastdrop_kernels.cpu.loops.contiguous import NONTEMPORAL, has_nontemporal
from fastdrop_kernels.cpu.loops.kernels import contiguous_operands_kernel
from tests.support.internals import call_plan, set_cpu_limits
from tests.support.oracle import POISON, Array, mask, misaligned

pytestmark = pytest.mark.skipif(
    not has_nontemporal(catalogue.operation("drop", np.dtype(np.float32))),
    reason="nontemporal stores are for AVX-512BW on x86-64, which this processor lacks",
)

P, KEY = 0.5, fd.Key(2**63 + 5, 2**40 + 1)  # with p = 0.5 a product is exact
DTYPES: list[Any] = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex128]


def filled(kept: Array, x: Array, other: Array) -> Array:
    return np.where(kept, x, other)


def added(kept: Array, x: Array, other: Array) -> Array:
    return (np.where(kept, x.astype(np.float64) * 2, 0) + other.astype(np.float64)).astype(x.dtype)


def call_fill(x: Array, other: Array, **rest: Any) -> Array:
    return fd.masked_fill(x, P, other, rng=KEY, **rest)


def call_zoneout(x: Array, other: Array, **rest: Any) -> Array:
    return fd.zoneout(x, other, P, rng=KEY, **rest)


def call_add(x: Array, other: Array, **rest: Any) -> Array:
    return fd.bias_act_dropout_add(x, p=P, residual=other, rng=KEY, **rest)


CALLS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "masked_fill": (call_fill, filled),
    "zoneout": (call_zoneout, filled),
    "dropout_add": (call_add, added),
}


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The policies of the kernels that calls ask for; nontemporal stores begin at 1,024 bytes."""
    asked: list[str] = []

    def noted(operation: Operation, policy: str) -> Any:
        asked.append(policy)
        return contiguous_operands_kernel(operation, policy)

    monkeypatch.setattr(call_plan, "contiguous_operands_kernel", noted)
    set_cpu_limits(
        monkeypatch, parallel_from=5000, chunk=1500, cached_bytes=256, nontemporal_from=1 << 10
    )
    return asked


def check(name: str, dtype: Any, n: int, at: tuple[int, int, int], offset: int) -> None:
    """Compare a call with NumPy; x, the other array and y begin `at` bytes behind a cache line."""
    call, expected = CALLS[name]
    numbers = np.arange(2 * n) % 251 + 1
    x, other = (misaligned(numbers[k::2].astype(dtype), by) for k, by in enumerate(at[:2]))
    memory = np.full(x.nbytes + 512, POISON, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64 + 192 + at[2]
    y = memory[start : start + x.nbytes].view(dtype)
    kept = mask(x.shape, P, KEY, offset=offset)
    call(x, other, offset=offset, out=y)
    assert y.tobytes() == expected(kept, x, other).tobytes(), (name, dtype, n, at, offset)
    memory[start : start + x.nbytes] = POISON
    assert (memory == POISON).all()  # nothing else is written


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_alignments_lengths_and_offsets(name: str, dtype: Any, policies: list[str]) -> None:
    if name != "masked_fill" and np.dtype(dtype).kind == "c":
        pytest.skip("complex numbers are moved, not computed")
    step = min(16, np.dtype(dtype).itemsize)
    for by in range(0, 64, step):
        check(name, dtype, 4 * GROUP + 37, (16, 63 // step * step - by, by), 7 * by)
    for offset in (0, 1, 100, 255, 2**32 - 300, 2**35 - 513):
        for groups in (1, 2, 3, 5):
            for more in (-33, 0, 1, 32):
                n = -offset % GROUP + groups * GROUP + more
                check(name, dtype, n, (0, 48, 16), offset)
    assert NONTEMPORAL in policies


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_outputs_that_are_inputs(
    name: str, threads: int, policies: list[str], set_threads: Callable[[int], None]
) -> None:
    """Those are written by ordinary stores."""
    set_threads(threads)
    call, expected = CALLS[name]
    for n in (4999, 50_001):
        x, other = (np.arange(first, n + first, dtype=np.float32) % 251 for first in (1, 8))
        want = expected(mask(x.shape, P, KEY, offset=77), x, other)
        for given in (x, other, None):
            mine = [array.copy() for array in (x, other)]
            out = misaligned(np.empty_like(x), 16)
            if given is not None:
                out = mine[0] if given is x else mine[1]
            policies.clear()
            call(*mine, offset=77, out=out)
            assert out.tobytes() == want.tobytes()
            assert (NONTEMPORAL in policies) == (given is None)
