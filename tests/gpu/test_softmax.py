"""On a GPU: softmax and dropout in one pass, as close to the truth as on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.devices import Device, need_a_gpu
from tests.support.gpu_cases import FLOATS
from tests.support.softmaxes import KEY, assert_close, check, forward, numbers

need_a_gpu()
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(np.dtype(dtype)))
def test_every_call(gpu: Device, dtype: Any, rng: np.random.Generator) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"this CuPy takes no {np.dtype(dtype)}")
    for p in (0.0, 0.3, 0.9):
        check(gpu, dtype, p, rng)


@pytest.mark.parametrize("n", [1, 2, 7, 31, 32, 33, 128, 511, 512, 4096, 4097, 100_003])
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: str(np.dtype(dtype)))
def test_rows_of_any_length(gpu: Device, dtype: Any, n: int, rng: np.random.Generator) -> None:
    if not gpu.takes(dtype):
        pytest.skip(f"this CuPy takes no {np.dtype(dtype)}")
    for rows in (1, 9):
        x = numbers((rows, n), np.dtype(dtype), rng)
        true = forward(x, 0.3)
        y = gpu.get(fd.softmax_dropout(gpu.put(x), 0.3, rng=KEY))
        assert_close(y, true, x, -1)
        np.testing.assert_array_equal(y != 0, true.astype(dtype) != 0)
