"""Calls take no memory that grows with the array: no mask is stored, and nothing in between."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

SHAPE = (2048, 1024)
SMALL = 1 << 20  # bytes, an eighth of an array; sums of a bias's gradient may take half of it
X, DY = (np.random.default_rng().standard_normal(SHAPE, np.float32) for _ in range(2))
BIAS = np.ones(SHAPE[1:], np.float32)

CALLS: dict[str, Callable[[Any], Any]] = {
    "dropout": lambda out: fd.dropout(X, 0.3, rng=1, out=out),
    "rows of their own p": lambda out: fd.dropout(X, np.full((2048, 1), 0.3), rng=1, out=out),
    "masked_fill": lambda out: fd.masked_fill(X, 0.3, 0.0, rng=1, out=out),
    "alpha_dropout": lambda out: fd.alpha_dropout(X, 0.3, rng=1, out=out),
    "gaussian_dropout": lambda out: fd.gaussian_dropout(X, 0.3, rng=1, out=out),
    "epilogue": lambda out: fd.bias_act_dropout_add(
        X, BIAS, "relu", 0.3, rng=1, residual=DY, out=out
    ),
    "epilogue, backward": lambda out: fd.bias_act_dropout_add_backward(
        DY, X, BIAS, "relu", 0.3, rng=1, out=out
    ),
    "softmax": lambda out: fd.softmax_dropout(X, 0.3, rng=1, out=out),
    "softmax, backward": lambda out: fd.softmax_dropout_backward(DY, X, 0.3, rng=1, out=out),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_memory_beyond_the_result(name: str, set_threads: Callable[[int], None]) -> None:
    call, out = CALLS[name], np.empty_like(X)
    for threads in (1, 3):
        set_threads(threads)
        call(out)  # which may compile
        tracemalloc.start()
        try:
            call(out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < SMALL
