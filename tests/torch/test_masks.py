"""Masks and values are those of `fastdrop`'s functions of arrays, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fastdrop as fd
import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.support import oracle
from tests.support.slow import slow_unless
from tests.torch.cases import (
    CALLS,
    DTYPES,
    KEY,
    LAYOUTS,
    array,
    assert_equal,
    mask_of,
    numbers,
    transposed,
)

SHAPE = (3, 5, 7, 11)


@pytest.mark.parametrize(
    ("dtype", "layout"),
    slow_unless(
        lambda dtype, layout: dtype == torch.float32 or layout in ("contiguous", "channels_last"),
        DTYPES,
        LAYOUTS,
    ),
    ids=str,
)
def test_dropout_is_that_of_the_reference_in_every_dtype_and_layout(
    dtype: torch.dtype, layout: str
) -> None:
    x = LAYOUTS[layout](numbers(*SHAPE, dtype=dtype))
    before = x.clone()
    y = F.dropout(x, 0.3, key=KEY)
    assert_equal(y, oracle.dropped(array(x), 0.3, KEY))
    assert_equal(y, fd.dropout(array(x), 0.3, rng=KEY))
    assert y.stride() == torch.empty_like(x).stride()
    assert torch.equal(x, before)
    ones = LAYOUTS[layout](torch.ones(SHAPE, dtype=dtype))
    kept = mask_of(F.dropout(ones, 0.3, key=KEY))
    np.testing.assert_array_equal(kept, fd.dropout_mask(SHAPE, 0.3, rng=KEY))


@pytest.mark.parametrize(
    ("name", "dtype", "layout"),
    slow_unless(
        lambda name, dtype, layout: (
            (dtype, layout) in [(torch.float32, "contiguous"), (torch.float32, "transposed")]
            or (name == "alpha_dropout" and layout == "contiguous")
        ),
        CALLS,
        DTYPES,
        LAYOUTS,
    ),
    ids=str,
)
def test_every_function_gives_what_that_of_arrays_gives(
    name: str, dtype: torch.dtype, layout: str
) -> None:
    call = CALLS[name]
    x = LAYOUTS[layout](numbers(*SHAPE, dtype=dtype))
    y = call.torch(x, key=KEY)
    assert_equal(y, call.numpy(array(x), rng=KEY))
    assert y.stride() == torch.empty_like(x).stride()
    recorded = call.torch(x.requires_grad_(), key=KEY)
    assert recorded.requires_grad
    assert torch.equal(recorded, y)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.inplace])
def test_in_place_it_writes_to_these_elements_and_no_others(name: str, layout: str) -> None:
    call = CALLS[name]
    x = LAYOUTS[layout](numbers(*SHAPE))
    if x._base is not None:  # the memory between the elements of a view
        x._base[...] = torch.where(x._base == 7.0, torch.nan, x._base)
    memory = x.as_strided((x.untyped_storage().nbytes() // 4,), (1,), 0)
    outside = torch.ones_like(memory, dtype=torch.bool)
    outside.as_strided(x.shape, x.stride(), x.storage_offset()).fill_(False)
    before, given = memory.clone(), array(x)
    assert call.torch(x, inplace=True, key=KEY) is x
    assert_equal(x, call.numpy(given, rng=KEY))
    assert torch.equal(memory.isnan(), before.isnan())
    assert torch.equal(memory[outside].nan_to_num(5.0), before[outside].nan_to_num(5.0))


@pytest.mark.parametrize("name", CALLS)
def test_shards_are_parts_of_the_whole(name: str) -> None:
    call, whole = CALLS[name], numbers(4, 6, 10)
    where: dict[str, Any] = {"offset": (1, 2, 0), "global_shape": (4, 6, 10)}
    shard = whole[1:3, 2:5]
    y = call.torch(shard, key=KEY, **where)
    assert_equal(y, call.numpy(array(shard), rng=KEY, **where))
    assert torch.equal(y, call.torch(whole, key=KEY)[1:3, 2:5])
    recorded = call.torch(shard.clone().requires_grad_(), key=KEY, **where)
    assert torch.equal(recorded, y)


def test_an_offset_alone_counts_elements() -> None:
    x = numbers(100)
    y = torch.cat([F.dropout(x[:37], key=KEY), F.dropout(x[37:], key=KEY, offset=37)])
    assert torch.equal(y, F.dropout(x, key=KEY))
    assert torch.equal(F.dropout(x[37:], key=KEY, offset=np.int64(37)), y[37:])  # type: ignore[arg-type]
    assert torch.equal(F.dropout(x[37:], key=KEY, offset=37, global_shape=[100]), y[37:])
    far = (1 << 62) + 8
    assert_equal(F.dropout(x, key=KEY, offset=far), fd.dropout(array(x), rng=KEY, offset=far))


@pytest.mark.parametrize(
    "noise_shape",
    [(1, 6, 10), (4, 1, 10), (4, 6, 1), (4, 1, 1), (1, 1, 1), (None, 1, None), (6, 10), (1,), ()],
    ids=str,
)
@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "masked_fill"])
def test_noise_shapes_share_decisions(name: str, noise_shape: tuple[int | None, ...]) -> None:
    call, x = CALLS[name], numbers(4, 6, 10)
    expected = call.numpy(array(x), rng=KEY, noise_shape=noise_shape)
    assert_equal(call.torch(x, key=KEY, noise_shape=noise_shape), expected)
    assert_equal(call.torch(x, key=KEY, noise_shape=list(noise_shape)), expected)
    assert_equal(call.torch(transposed(x), key=KEY, noise_shape=noise_shape), expected)
    recorded = call.torch(x.clone().requires_grad_(), key=KEY, noise_shape=noise_shape)
    assert_equal(recorded, expected)


def test_noise_shapes_of_shards_are_of_the_whole() -> None:
    where: dict[str, Any] = {"offset": (1, 0), "global_shape": (4, 10), "noise_shape": (None, 1)}
    x = numbers(2, 10)
    y = F.dropout(x, key=KEY, **where)
    assert_equal(y, fd.dropout(array(x), rng=KEY, **where))
    assert_equal(F.dropout_mask((2, 10), key=KEY, **where), array(y) != 0)


SHAPES = [(), (0,), (1,), (3, 0, 2), (1, 1), (1, 9), (9, 1), (5, 1, 3), (1, 1, 1, 1, 8), (2,) * 10]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_few_elements_no_elements_and_axes_of_length_1(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = numbers(*shape, dtype=dtype)
    for given in (x, transposed(x)):
        y = F.dropout(given, key=KEY)
        assert_equal(y, oracle.dropped(array(x), 0.5, KEY))
        assert y.stride() == torch.empty_like(given).stride()
        changed = given.clone(memory_format=torch.preserve_format)
        assert F.dropout(changed, key=KEY, inplace=True) is changed
        assert torch.equal(changed, y)
        recorded = F.dropout(given.clone().requires_grad_(), key=KEY)
        assert torch.equal(recorded, y)
        gradient = torch.autograd.grad(recorded.sum(), recorded)
        assert gradient[0].shape == shape


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_expanded_tensors_have_a_decision_for_each_element(dtype: torch.dtype) -> None:
    for x in (
        numbers(6, 1, dtype=dtype).expand(6, 40),
        numbers(dtype=dtype).expand(6, 40),
        numbers(1, 40, dtype=dtype).expand(6, 40),
        numbers(40, dtype=dtype).unfold(0, 6, 1),
    ):
        y = F.dropout(x, key=KEY)
        assert_equal(y, oracle.dropped(array(x), 0.5, KEY))
        assert y.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [1e-9, 0.1, 0.999, 1.0])
def test_what_is_not_finite_or_negative_vanishes_where_it_is_dropped(
    dtype: torch.dtype, p: float
) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, -1.0, 3e-8] * 20, dtype=dtype)
    y = F.dropout(x, p, key=KEY)
    assert_equal(y, oracle.dropped(array(x), p, KEY))
    dropped = ~torch.from_numpy(fd.dropout_mask(x.shape, p, rng=KEY))
    assert dropped.any() == (p > 1e-9)
    assert not y[dropped].any()
    assert not y[dropped].signbit().any()


FILLABLE = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", [*FILLABLE, torch.complex64, torch.complex128], ids=str)
def test_fills_tensors_of_other_dtypes(dtype: torch.dtype) -> None:
    x = torch.arange(60).reshape(4, 15).to(dtype)
    number = True if dtype == torch.bool else 1
    for value in (number, torch.tensor(number), torch.ones(1, 1, dtype=dtype)):
        y = F.masked_fill(x, 0.4, value, key=KEY)
        assert_equal(y, fd.masked_fill(array(x), 0.4, number, rng=KEY))
        assert_equal(y, oracle.filled(array(x), 0.4, number, KEY))
        assert torch.equal(F.masked_fill(x.clone(), 0.4, value, inplace=True, key=KEY), y)


@pytest.mark.parametrize("shape", [(), 7, (0, 3), (4, 5), [2, 3, 4], torch.Size([6])], ids=str)
def test_masks_alone(shape: Any) -> None:
    kept = F.dropout_mask(shape, 0.3, key=KEY)
    assert kept.dtype == torch.bool
    np.testing.assert_array_equal(array(kept), fd.dropout_mask(shape, 0.3, rng=KEY))
    assert F.dropout_mask(shape, 0.0, key=KEY).all()
    assert not F.dropout_mask(shape, 1.0, key=KEY).any()
    meta = F.dropout_mask(shape, 0.3, key=KEY, device="meta")
    assert meta.is_meta
    assert meta.shape == kept.shape


ALIKE: list[tuple[Any, fd.Key]] = [
    (42, fd.Key(42)),
    (KEY, KEY),
    (torch.tensor([42, 0]), fd.Key(42)),
    (torch.tensor([-1, -(1 << 63)]), fd.Key((1 << 64) - 1, 1 << 63)),
    (torch.tensor([5, 9, -2])[::2], fd.Key(5, (1 << 64) - 2)),
    (np.uint64((1 << 64) - 1), fd.Key((1 << 64) - 1)),
    (fd.Key(7).fold_in(3), fd.Key(7).fold_in(3)),
]


@pytest.mark.parametrize(("given", "key"), ALIKE, ids=str)
def test_keys_of_all_kinds(given: Any, key: fd.Key) -> None:
    x = numbers(50)
    assert_equal(F.dropout(x, key=given), oracle.dropped(array(x), 0.5, key))
    if isinstance(given, Tensor):
        assert fdt.key_of(given) == key
        before = given.clone()
        F.dropout(x, key=given)
        assert torch.equal(given, before)


def test_masks_of_one_key_are_the_same_for_all_dtypes_and_nested() -> None:
    fewer = F.dropout_mask(1000, 0.2, key=KEY)
    more = F.dropout_mask(1000, 0.6, key=KEY)
    assert (more <= fewer).all()
    assert 0 < more.sum() < fewer.sum() < 1000
    for dtype in DTYPES:
        y = F.dropout(torch.ones(1000, dtype=dtype), 0.2, key=KEY)
        assert torch.equal(y != 0, fewer)


@pytest.mark.parametrize("threads", [1, 2])
def test_large_tensors_on_threads(threads: int) -> None:
    x = numbers(300, 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for given in (x, transposed(x)):
            assert_equal(F.dropout(given, key=KEY), oracle.dropped(array(x), 0.5, KEY))
    finally:
        torch.set_num_threads(before)
