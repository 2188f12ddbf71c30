"""Arrays in which the high word of the block numbers changes, in the middle of whole groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.loops.contiguous import CACHED_BYTES
from tests.support import normals
from tests.support.oracle import assert_same, dropped, filled, mask, poison, poisoned

KEY = fd.Key(2**63 + 5, 2**40 + 9)
P = 0.37
FEW, MANY = 7001, CACHED_BYTES + 12345  # elements of at least one byte: of both contiguous loops
# Multiples of 2**32 blocks: one where only the lowest bit of the high word changes, one where many
# bits do, and the last ones.
EDGES = [2**35, 2**36 * 12345, 2**62, 2**63 - 2**35]


@pytest.fixture(params=[-3, 0, 8, 1024], ids="aligned{:+d}".format)
def skew(request: pytest.FixtureRequest) -> int:
    """Elements between the middle of the array and the edge."""
    return int(request.param)


@pytest.mark.parametrize("edge", EDGES, ids=str)
@pytest.mark.parametrize("n", [FEW, MANY], ids=["few", "many"])
class TestTheHighWordChanges:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_in_dropout(self, n: int, edge: int, skew: int, dtype: Any) -> None:
        offset = edge - n // 2 + skew
        x = np.arange(1, n + 1, dtype=dtype)
        out = poison(np.empty_like(x))
        fd.dropout(x, P, rng=KEY, offset=offset, out=out)
        assert_same(out, dropped(x, P, KEY, offset=offset))

    def test_in_masks(self, n: int, edge: int, skew: int) -> None:
        offset = edge - n // 2 + skew
        expected = mask((n,), P, KEY, offset=offset)
        out = poisoned((n,), np.uint8).view(np.bool_)
        fd.dropout_mask((n,), P, rng=KEY, offset=offset, out=out)
        assert_same(out, expected)
        packed = poisoned(((n + 7) // 8,), np.uint8)
        fd.dropout_mask((n,), P, rng=KEY, offset=offset, packed=True, out=packed)
        assert_same(packed, np.packbits(expected, bitorder="little"))

    def test_in_fills_of_bytes(self, n: int, edge: int, skew: int) -> None:
        offset = edge - n // 2 + skew
        x = np.arange(n).astype(np.uint8)
        out = poison(np.empty_like(x))
        fd.masked_fill(x, P, 7, rng=KEY, offset=offset, out=out)
        assert_same(out, filled(x, P, 7, KEY, offset=offset))

    def test_in_normals(self, n: int, edge: int, skew: int) -> None:
        offset = edge - n // 2 + skew
        x = np.ones(n, np.float32)
        out = poison(np.empty_like(x))
        fd.gaussian_noise(x, P, rng=KEY, offset=offset, out=out)
        assert_same(out, normals.expected("plus", x, P, KEY, offset=offset))
