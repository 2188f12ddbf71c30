"""`dropout_mask` as a Dask array, and products with a `Mask`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.dask_cases import (
    CHUNKS,
    KEY,
    SHAPE,
    SHARD,
    assert_same,
    dask_array,
    each,
    fd,
    normal,
)
from tests.support.slow import slow_unless

da = dask_array()


@pytest.mark.parametrize("chunks", [CHUNKS, -1, 3, "auto", {0: 2, 1: -1, 2: 4}])
def test_masks_of_chunks(chunks: Any) -> None:
    for keywords in ({}, SHARD, {"noise_shape": (None, 1, None)}, {"offset": 11}):
        lazy = fd.dropout_mask(SHAPE, 0.3, rng=KEY, chunks=chunks, **keywords)
        assert_same(lazy, fd.dropout_mask(SHAPE, 0.3, rng=KEY, **keywords))
    if chunks is CHUNKS:
        assert lazy.chunks == CHUNKS
    p = each((24, 1))
    expected = fd.dropout_mask(SHAPE, p, rng=KEY)
    assert_same(fd.dropout_mask(SHAPE, p, rng=KEY, chunks=chunks), expected)
    assert_same(fd.dropout_mask(SHAPE, da.from_array(p), rng=KEY, chunks=chunks), expected)


def test_masks_like_a_dask_array() -> None:
    x = da.from_array(normal(), chunks=CHUNKS)
    lazy = fd.dropout_mask(SHAPE, 0.3, rng=KEY, like=x)
    assert lazy.chunks == CHUNKS
    assert_same(lazy, fd.dropout_mask(SHAPE, 0.3, rng=KEY))
    other = fd.dropout_mask((90, 3), 0.3, rng=KEY, like=x)
    assert_same(other, fd.dropout_mask((90, 3), 0.3, rng=KEY))
    assert fd.dropout_mask(SHAPE, rng=KEY, like=x, chunks=-1).numblocks == (1, 1, 1)
    assert_same(fd.dropout(x, 0.3, rng=KEY, scale=1.0), da.where(lazy, x, np.float32(0)).compute())


@pytest.mark.parametrize("shape", [(1000,), (77, 4), (30, 2, 12), (13, 5), (), (0,), (0, 3)])
@pytest.mark.parametrize("keywords", [{}, {"offset": 3}])
def test_packed_masks_are_cut_where_bytes_end(shape: Any, keywords: Any) -> None:
    call: Any = {"rng": KEY, "packed": True, **keywords}
    expected = fd.dropout_mask(shape, 0.3, **call)
    for rows in (8, 16, 64, -1):
        chunks = (rows, *[-1] * (len(shape) - 1))[: len(shape)]
        lazy = fd.dropout_mask(shape, 0.3, chunks=chunks, **call)
        assert_same(lazy, expected)
        assert sum(lazy.chunks[0]) == expected.size
    assert_same(fd.dropout_mask(shape, 0.3, chunks="auto", **call), expected)
    p = each(shape[-1:])
    of_p = fd.dropout_mask(shape, p, chunks=chunks, **call)
    assert_same(of_p, fd.dropout_mask(shape, p, **call))
    full = each(shape)
    if shape:
        chunks = (8, *shape[1:])
        of_full = fd.dropout_mask(shape, da.from_array(full, chunks=-1), chunks=chunks, **call)
        assert_same(of_full, fd.dropout_mask(shape, full, **call))


def test_packed_masks_of_shards_and_shared_decisions() -> None:
    for keywords in (SHARD, {"noise_shape": (None, 1, None)}):
        call: Any = {"rng": KEY, "packed": True, **keywords}
        lazy = fd.dropout_mask(SHAPE, 0.3, chunks=((2, 1, 4), -1, -1), **call)
        assert_same(lazy, fd.dropout_mask(SHAPE, 0.3, **call))
        assert lazy.chunks == ((30, 15, 60),)


def test_packed_masks_cut_elsewhere_are_refused() -> None:
    with pytest.raises(ValueError, match="cut it along the first axis alone"):
        fd.dropout_mask((16, 16), rng=1, chunks=8, packed=True)
    with pytest.raises(ValueError, match="a multiple of 8 along the first axis"):
        fd.dropout_mask((16, 3), rng=1, chunks=(4, 3), packed=True)
    with pytest.raises(ValueError, match="a multiple of 2 along the first axis"):
        fd.dropout_mask((16, 4), rng=1, chunks=(3, 4), packed=True)
    small = fd.dropout_mask((10_000, 3), rng=1, chunks="auto", packed=True)
    assert_same(small, fd.dropout_mask((10_000, 3), rng=1, packed=True))


def test_chunks_that_do_not_fit_are_dasks_error() -> None:
    with pytest.raises(ValueError, match="[Cc]hunks"):
        fd.dropout_mask((4, 4), rng=1, chunks=((1, 1), (4,)))


def test_a_mask_multiplies_from_both_sides() -> None:
    x = normal()
    lazy, mask = da.from_array(x, chunks=CHUNKS), fd.Mask(SHAPE, 0.3, rng=KEY)
    expected = x * mask
    for product in (lazy * mask, mask * lazy, np.multiply(lazy, mask), np.multiply(mask, lazy)):
        assert_same(product, expected)
        assert product.chunks == CHUNKS
    part = np.s_[2:6, 3:9]
    assert_same(lazy[part] * mask[part], expected[part])
    lazy *= mask
    assert_same(lazy, expected)


@pytest.mark.parametrize(
    "dtype",
    slow_unless(
        lambda dtype: dtype in ("int8", "longdouble"),
        ("int8", "longdouble", "bool", "float16", "complex128", "m8[s]"),
    ),
)
def test_products_of_other_dtypes(dtype: str) -> None:
    mask = fd.Mask((6, 4), 0.5, rng=KEY)
    x = np.arange(24).reshape(6, 4).astype(dtype)
    lazy, expected = da.from_array(x, chunks=(4, 3)) * mask, x * mask
    if dtype != "longdouble":  # which has bytes that mean nothing
        assert_same(lazy, expected)
    else:
        assert lazy.dtype == expected.dtype
        np.testing.assert_array_equal(lazy.compute(), expected)


def test_a_mask_that_does_not_broadcast_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="do not broadcast"):
        da.ones((3, 4)) * fd.Mask((5,), rng=1)
