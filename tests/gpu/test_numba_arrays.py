"""On a GPU: Numba's kernels, and users' kernels made of the device functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="this Numba has no CUDA: pip install numba-cuda")

from numba import cuda

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.numba_cuda import driver
from tests.support.devices import library, numba_cuda_complaint
from tests.support.numba_arrays import PROMISES
from tests.support.oracle import assert_same, dropped, poisoned

library("numba.cuda")  # or skip all of it
if complaint := numba_cuda_complaint():
    pytest.skip(complaint, allow_module_level=True)
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("promise", PROMISES)
def test_the_gpu_keeps_the_promise(promise: str) -> None:
    PROMISES[promise]()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_gpu_equals_the_cpu_over_millions(dtype: str, rng: np.random.Generator) -> None:
    key, p = fd.as_key(rng), 0.3
    x = rng.standard_normal(3_000_017).astype(dtype)
    source, target = cuda.to_device(x), cuda.to_device(poisoned(x.shape, dtype))
    factor = np.array(contract.scale(p), np.float64 if dtype == "float64" else np.float32)
    threshold = contract.threshold(p)
    driver.apply(
        driver.operation("drop", x.dtype), source, target, 5, None, *key, threshold, factor
    )
    assert_same(target.copy_to_host(), fd.dropout(x, p, rng=key, offset=5))


def test_a_kernel_runs_on_the_stream_that_it_is_given() -> None:
    """Behind a copy on that stream that it has to wait for."""
    key, p = fd.Key(3), 0.5
    x = np.ones(1 << 20, np.float32)
    stream = cuda.stream()
    source = cuda.to_device(x, stream=stream)
    target = cuda.to_device(poisoned(x.shape, x.dtype), stream=stream)
    factor = np.array(2, np.float32)
    handle = int(source.__cuda_array_interface__["stream"])
    where = 0, None, *key, contract.threshold(p)
    driver.apply(driver.operation("drop", x.dtype), source, target, *where, factor, handle)
    result = target.copy_to_host(stream=stream)
    stream.synchronize()
    assert_same(result, dropped(x, p, key))
