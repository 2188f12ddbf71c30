"""On a GPU: arrays of more elements than 32 bits count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import oracle
from tests.support.devices import Device, need_a_gpu
from tests.support.gpu_cases import KEY

need_a_gpu()
pytestmark = pytest.mark.gpu

N = 2**32 + 4099  # past both counts, signed and not


@pytest.fixture
def roomy(gpu: Device) -> Iterator[Device]:
    """A GPU with room for three arrays of N bytes, which are given back afterwards."""
    pool = gpu.cupy.get_default_memory_pool()
    pool.free_all_blocks()
    free, _ = gpu.cupy.cuda.runtime.memGetInfo()
    if free < 2.5 * N:
        pytest.skip(
            f"the GPU has {free / 2**30:.1f} GiB free, and this takes {2.5 * N / 2**30:.1f}"
        )
    yield gpu
    pool.free_all_blocks()


def pieces() -> Iterator[slice]:
    """What is compared: both ends, and around where counters could turn over."""
    for middle in (0, 2**31, 2**32, N):
        yield slice(max(0, middle - 3001), min(N, middle + 3002))


def test_filling_more_elements_than_32_bits_count(roomy: Device) -> None:
    x = roomy.cupy.zeros(N, np.int8)
    x[::7], x[5::11] = 3, -2
    y = fd.masked_fill(x, 0.3, -7, rng=KEY)
    for piece in pieces():
        part = roomy.get(x[piece])
        expected = fd.masked_fill(part, 0.3, -7, rng=KEY, offset=piece.start)
        oracle.assert_same(roomy.get(y[piece]), expected)
    fd.masked_fill(x, 0.3, -7, rng=KEY, out=x)
    assert bool((x == y).all())


def test_filling_in_another_layout(roomy: Device) -> None:
    rows = 2**16
    columns = N // rows + 1
    x = roomy.cupy.zeros((columns, rows), np.int8).T
    y = fd.masked_fill(x, 0.3, 1, rng=KEY, noise_shape=(None, None))
    assert y.strides == x.strides
    for row in (0, 1, rows // 2 - 1, rows // 2, rows - 1):
        kept = fd.dropout_mask(columns, 0.3, rng=KEY, offset=row * columns)
        oracle.assert_same(roomy.get(y[row]), (~kept).astype(np.int8))


@pytest.mark.parametrize("packed", [False, True])
def test_masks_of_more_elements_than_32_bits_count(roomy: Device, packed: bool) -> None:
    like: Any = roomy.cupy.zeros(1)
    made = fd.dropout_mask(N, 0.3, rng=KEY, packed=packed, like=like)
    for piece in pieces():
        first = piece.start // 8 * 8
        expected = fd.dropout_mask(piece.stop - first, 0.3, rng=KEY, offset=first)
        if packed:
            whole = expected.size // 8
            bits = np.packbits(expected[: 8 * whole], bitorder="little")
            oracle.assert_same(roomy.get(made[first // 8 : first // 8 + whole]), bits)
        else:
            oracle.assert_same(roomy.get(made[first : piece.stop]), expected)
