"""Threads that flush subnormal numbers to zero: results are what they are without that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.codegen.target import IS_X86_64
from tests.support.oracle import Array, assert_same, poison
from tests.support.thinning import thinned

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not IS_X86_64, reason="only on x86-64 threads are set back")

KEY = fd.Key(3, 5)
SMALL = 1.2 * float(np.finfo(np.float32).smallest_subnormal) * 4096  # a subnormal float32


@pytest.fixture
def flushing() -> Iterator[Callable[[bool], None]]:
    """What lets this thread flush, or not: so that what is expected is computed as usual."""

    def flush(on: bool) -> None:
        assert torch.set_flush_denormal(on)
        assert (torch.tensor([SMALL]) * 1.0).item() == (0.0 if on else SMALL_AS_FLOAT32)

    yield flush
    torch.set_flush_denormal(False)


SMALL_AS_FLOAT32 = float(np.float32(SMALL))

CALLS: dict[str, Callable[[Array, Any], Array]] = {
    "plain": lambda x, out: fd.dropout(x, 0.25, rng=KEY, out=out),
    "shard": lambda x, out: fd.dropout(
        x, 0.25, rng=KEY, out=out, offset=(0, 3), global_shape=(x.shape[0], x.shape[1] + 4)
    ),
    "Fortran": lambda x, out: fd.dropout(x.T, 0.25, rng=KEY, out=out.T).T,
    "p array": lambda x, out: fd.dropout(x, np.full(x.shape[1], 0.25), rng=KEY, out=out),
    "epilogue": lambda x, out: fd.bias_act_dropout_add(
        x, np.zeros(x.shape[1], x.dtype), "relu", 0.25, rng=KEY, out=out
    ),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "dtype", thinned(lambda dtype: dtype is np.float32, [np.float32, np.float64])
)
@pytest.mark.parametrize("name", thinned(lambda name: name in ("plain", "shard"), CALLS))
def test_results_are_the_same_and_the_thread_is_left_as_it_was(
    name: str, dtype: Any, threads: int, flushing: Callable[[bool], None], set_threads: Any
) -> None:
    set_threads(threads)
    small = SMALL if dtype == np.float32 else float(np.finfo(np.float64).smallest_subnormal) * 99
    for shape in ((7, 33), (1100, 1024)):
        x = np.full(shape, small, dtype)
        expected = CALLS[name](x, poison(np.empty_like(x)))
        assert np.count_nonzero(expected) > 0.5 * x.size
        out = poison(np.empty_like(x))
        flushing(True)
        CALLS[name](x, out)
        assert (torch.tensor([SMALL]) * 1.0).item() == 0.0  # still
        flushing(False)
        assert_same(out, expected)
