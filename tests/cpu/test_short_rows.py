"""Short rows that are treated together, whose mask is that of a shard: decisions lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import assert_same


@pytest.mark.parametrize("shape", [(20, 5), (33, 17), (3, 100), (64, 32), (7, 513)])
@pytest.mark.parametrize("apart", [1, 2, 3])
def test_operands_of_rows_whose_last_axis_is_cut_to_one(shape: Any, apart: int) -> None:
    full = (*shape, apart)
    rng = np.random.default_rng()
    x = rng.standard_normal((*shape, 1)).astype(np.float32)
    bias = rng.standard_normal((shape[1], 1)).astype(np.float32)
    place: dict[str, Any] = {"rng": 7, "global_shape": full, "offset": (0, 0, apart - 1)}
    kept = fd.dropout_mask(full, 0.3, rng=7)[..., apart - 1 :]

    y = fd.bias_act_dropout_add(x, bias, "relu", 0.3, **place)
    expected = np.where(kept, np.maximum(x + bias, 0) * np.float32(1 / 0.7), np.float32(0))
    assert_same(y, expected)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    dx, _, _ = fd.bias_act_dropout_add_backward(dy, x, bias, "relu", 0.3, **place)
    passed = np.where(kept & (x + bias > 0), dy * np.float32(1 / 0.7), np.float32(0))
    assert_same(dx, passed)

    for p in (0.0, 0.3, 1.0):
        each = np.full((shape[1], 1), p)
        made = fd.dropout_mask(x.shape, each, **place)
        assert_same(made, fd.dropout_mask(x.shape, p, **place))
