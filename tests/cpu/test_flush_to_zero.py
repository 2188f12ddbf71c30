"""Threads that flush subnormal numbers to zero, or round otherwise, get the usual results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import fp_environment
from tests.support.fp_environment import SETTINGS
from tests.support.oracle import Array, assert_same, poison
from tests.support.scenarios.fp_environment import CALLS as ALL_CALLS
from tests.support.scenarios.fp_environment import DTYPES, check
from tests.support.slow import slow_unless

KEY = fd.Key(3, 5)
SMALL = 1.2 * float(np.finfo(np.float32).smallest_subnormal) * 4096  # a subnormal float32


@pytest.fixture
def flushing() -> Iterator[Callable[[bool], None]]:
    """Switches flushing of this thread on and off; expected results need it off."""
    torch = pytest.importorskip("torch")

    def flush(on: bool) -> None:
        if not torch.set_flush_denormal(on):
            pytest.skip("torch cannot set this processor to flush")
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
    "dtype", slow_unless(lambda dtype: dtype is np.float32, [np.float32, np.float64])
)
@pytest.mark.parametrize("name", slow_unless(lambda name: name in ("plain", "shard"), CALLS))
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
        assert float(np.multiply(x[0, 0], x.dtype.type(1))) == 0.0  # still
        flushing(False)
        assert_same(out, expected)


@pytest.mark.skipif(not fp_environment.IS_KNOWN, reason="what to set is not known here")
@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype == np.float32, DTYPES), ids=str)
@pytest.mark.parametrize("name", slow_unless(lambda name: name == "plain", ALL_CALLS))
def test_no_setting_changes_results(name: str, dtype: np.dtype[Any]) -> None:
    assert check(name, dtype, list(SETTINGS)) >= 5
