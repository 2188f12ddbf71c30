"""Packed masks whose long rows begin inside bytes, and inside groups of bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import assert_same, data, mask, poison


@pytest.mark.parametrize("columns", [1_535, 1_537, 4_097, 16_384, 16_641, 40_003])
@pytest.mark.parametrize("before", [0, 3, 253, 256])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_rows_of_a_wider_array(columns: int, before: int, p: float) -> None:
    rows, key = 5, fd.Key(*np.random.default_rng().integers(0, 2**64, 2, np.uint64).tolist())
    place: dict[str, Any] = {
        "offset": (2, before),
        "global_shape": (rows + 3, columns + before + 7),
    }
    expected = np.packbits(mask((rows, columns), p, key, **place).ravel(), bitorder="little")
    # Nothing may be written behind the result.
    memory = poison(np.empty(expected.size + 40, np.uint8))
    behind = memory[expected.size :].copy()
    out = memory[: expected.size]
    fd.dropout_mask((rows, columns), p, rng=key, packed=True, out=out, **place)
    assert_same(out, expected)
    assert data(memory[expected.size :]) == data(behind)


@pytest.mark.parametrize("offset", [*range(9), 255, 256, 257, 2**40 + 11])
def test_any_place_in_a_byte_and_a_group(offset: int) -> None:
    key, n = fd.Key(1, offset), 50_001
    bits = fd.dropout_mask(n, 0.3, rng=key, packed=True, offset=offset)
    kept = mask((n,), 0.3, key, offset=offset)
    assert_same(bits, np.packbits(kept, bitorder="little"))
