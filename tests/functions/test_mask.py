"""Mask: products, changes of scale, what it is beside arrays, and errors."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop import Key, Mask
from fastdrop._mask import mask as _mask
from tests.support.oracle import Array, assert_same, data, poisoned
from tests.support.stored_masks import multiplied, stored

KEY = fd.Key(2**40 + 3, 2**63 + 11)
SHAPE = 37, 53
FLOATS: list[Any] = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def numbers(dtype: Any, shape: tuple[int, ...] = SHAPE) -> Array:
    x = np.random.default_rng(5).standard_normal(shape).astype(dtype)
    x.flat[:6] = [math.nan, math.inf, -math.inf, -0.0, 0.0, -1.0]
    return x


def in_place(x: Array, mask: Any) -> Any:
    x = x.copy(order="K")
    same = x
    x *= mask
    assert x is same
    return x


def to_out(x: Array, mask: Any) -> Any:
    out = poisoned(np.broadcast_shapes(x.shape, mask.shape), x.dtype)
    assert np.multiply(x, mask, out=out) is out
    return out


PRODUCTS: dict[str, Callable[[Array, Any], Any]] = {
    "x * mask": lambda x, mask: x * mask,
    "mask * x": lambda x, mask: mask * x,
    "x *= mask": in_place,
    "multiply": np.multiply,
    "multiply mask first": lambda x, mask: np.multiply(mask, x),
    "multiply to out": to_out,
    "multiply to a third": lambda x, mask: np.multiply(x, mask, poisoned(x.shape, x.dtype)),
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
def test_products_are_dropout(product: Callable[[Array, Any], Array], dtype: Any) -> None:
    x = numbers(dtype)
    for p, scale in ((0.3, None), (0.5, 1.0), (0.0, None), (1.0, None), (0.5, -0.0)):
        mask = Mask(SHAPE, p, rng=KEY, scale=scale)
        expected = fd.dropout(x, p, rng=KEY, scale=scale)
        for _ in range(3):  # the second call makes a plan, and the third runs it
            assert_same(product(x, mask), expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
def test_dropped_elements_are_plus_zero_whatever_they_were(dtype: Any) -> None:
    x = numbers(dtype)
    mask = stored(SHAPE, 0.5, KEY)
    assert_same(x * Mask(SHAPE, 0.5, rng=KEY), multiplied(x, mask))
    lost = (x * Mask(SHAPE, 0.5, rng=KEY))[mask == 0]
    assert np.isnan(x[mask == 0].astype(float)).any() or np.isinf(x[mask == 0].astype(float)).any()
    assert not data(lost).strip(b"\0")


def test_products_with_the_stored_mask_are_the_same_in_float64(rng: np.random.Generator) -> None:
    x = rng.standard_normal(SHAPE)
    mask = Mask(SHAPE, 1 - 0.8, rng=KEY)
    kept = np.asarray(mask)
    np.testing.assert_array_equal(kept, (kept != 0) / 0.8)
    np.testing.assert_array_equal(x * mask, x * kept)
    np.testing.assert_array_equal(mask * x, kept * x)


@pytest.mark.parametrize("layout", ["F", "stepped", "backwards", "turned"])
def test_any_layout(layout: str, rng: np.random.Generator) -> None:
    cube = rng.standard_normal((18, 10, 22)).astype(np.float32)
    x = {
        "F": np.asfortranarray(cube),
        "stepped": cube[::2, :, ::2],
        "backwards": cube[:, ::-1, ::-1],
        "turned": cube.transpose(1, 2, 0),
    }[layout]
    mask = Mask.like(x, 0.4, rng=KEY)
    expected = multiplied(x, stored(x.shape, 0.4, KEY))
    for _ in range(3):
        y = x * mask
        assert_same(y, expected)
        assert y.strides == np.multiply(x, np.float32(2)).strides
        assert_same(in_place(x, mask), expected)


def test_large_arrays_on_all_threads(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    x = np.arange(3.0 * 2**20, dtype=np.float32).reshape(3, -1)
    mask = Mask(x.shape, 0.1, rng=KEY)
    assert_same(x * mask, fd.dropout(x, 0.1, rng=KEY))
    assert_same(x * mask[0], multiplied(x, np.asarray(mask[0])))


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "u8"])
def test_integers_behave_as_beside_the_stored_mask(dtype: str) -> None:
    x = np.arange(-40, 60).astype(dtype).reshape(10, 10)
    mask = Mask((10, 10), 0.4, rng=KEY)
    for y in (x * mask, mask * x, np.multiply(x, mask)):
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y, x * np.asarray(mask))
    out = np.ones((10, 10), np.float32)
    np.multiply(x, mask, out=out)
    np.testing.assert_array_equal(out, np.multiply(x, np.asarray(mask), out=np.ones_like(out)))
    for given in (mask, np.asarray(mask)):
        before = x.copy()
        with pytest.raises(TypeError, match="Cannot cast ufunc 'multiply' output from dtype"):
            x *= given
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_kept_or_dropped_whole(dtype: Any) -> None:
    rows, columns = SHAPE
    part = np.float32 if dtype is np.complex64 else np.float64
    x = numbers(part, (rows, 2 * columns)).view(dtype)
    kept = stored(SHAPE, 0.3, KEY)
    for name, product in PRODUCTS.items():
        for values in (x, x.T.copy().T, x[:, ::-1]):
            for _ in range(2):
                y = product(values, Mask(SHAPE, 0.3, rng=KEY))
                assert y.dtype == dtype, name
                np.testing.assert_array_equal(y, multiplied(values, kept))
                assert not np.signbit(y.real[kept == 0]).any()
    finite = x[1:]
    expected = finite * stored(SHAPE, 0.3, KEY)[1:].astype(dtype)
    np.testing.assert_allclose(finite * Mask(SHAPE, 0.3, rng=KEY)[1:], expected, rtol=1e-6)


def test_other_dtypes_multiply_by_the_stored_mask() -> None:
    mask = Mask((3, 4), 0.5, rng=3)
    kept = np.asarray(mask)
    longer = np.arange(1, 13).reshape(3, 4).astype(np.longdouble)
    longer[kept == 0] = math.nan
    y = longer * mask
    assert y.dtype == np.longdouble
    np.testing.assert_array_equal(y, np.where(kept != 0, longer * 2, 0))
    objects = np.arange(12).reshape(3, 4).astype(object)
    np.testing.assert_array_equal(objects * mask, objects * kept)
    spans = np.arange(12).reshape(3, 4).astype("m8[s]")
    np.testing.assert_array_equal(mask * spans, kept * spans)
    swapped = np.arange(12.0).reshape(3, 4).astype(">f4")
    assert_same(swapped * mask, multiplied(swapped.astype(np.float32), kept))
    with pytest.raises(TypeError, match="did not contain a loop"):
        np.full((3, 4), "a") * mask


def test_lists_numbers_and_scalars() -> None:
    mask = Mask((2, 3), 0.5, rng=3)
    kept = np.asarray(mask)
    items = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    for y in (items * mask, mask * items, np.multiply(items, mask), mask * tuple(items)):
        np.testing.assert_array_equal(y, np.array(items) * kept)
    assert isinstance(np.array(2.0) * mask, np.ndarray)
    np.testing.assert_array_equal(np.array(2.0) * mask, 2.0 * kept)
    single: Any = Mask((), 0.0, rng=3)
    assert type(np.array(2.0) * single) is np.float64
    assert type(np.array(2.0, np.float32) * single) is np.float32


def test_numbers_change_the_scale() -> None:
    mask = Mask((3, 4), 0.5, rng=3)
    kept = np.asarray(mask)
    two = np.float64(2)
    for made in (mask * 2, 2 * mask, 2.0 * mask, two * mask, mask * two, np.multiply(mask, 2)):
        assert isinstance(made, Mask)
        assert (made.scale, made.key, made.p, made.shape) == (4.0, mask.key, 0.5, (3, 4))
        np.testing.assert_array_equal(made, kept * 2)
    for number in (3, 0.8, np.float32(0.8), np.int8(3), np.float16(3), True, -1.5):
        made = mask / number
        assert isinstance(made, Mask)
        np.testing.assert_array_equal(made, kept / np.float64(number))
        assert isinstance(number * mask, Mask)
        np.testing.assert_array_equal(number * mask, np.float64(number) * kept)
    changed = Mask((3, 4), 0.2, rng=3, scale=1.0)
    changed /= 0.8
    assert changed == Mask((3, 4), 0.2, rng=3, scale=1 / 0.8)
    assert changed[1:] * 0.8 == Mask((3, 4), 0.2, rng=3, scale=1.0)[1:]
    x = np.ones((3, 4), np.float32)
    assert_same(x * (mask / 4), x * mask / np.float32(4))


def test_numbers_that_leave_no_scale_give_what_the_stored_mask_gives() -> None:
    mask = Mask((3, 4), 0.5, rng=3)
    kept = np.asarray(mask)
    with np.errstate(all="ignore"):
        for compute, number in (
            (operator.truediv, 0), (operator.mul, math.inf), (operator.mul, math.nan),
            (operator.mul, 1e308), (operator.mul, 2j), (operator.truediv, np.longdouble(3)),
            (operator.truediv, math.nan),
        ):  # fmt: skip
            made, expected = compute(mask, number), compute(kept, number)
            assert type(made) is np.ndarray, (compute, number)
            assert made.dtype == expected.dtype
            np.testing.assert_array_equal(made, expected)
    assert isinstance(mask / math.inf, Mask)


def test_rng_is_asked_once() -> None:
    for given in (np.random.default_rng(7), 7, None, np.random.SeedSequence(7)):
        mask = Mask((20, 30), 0.5, rng=given)
        assert isinstance(mask.key, Key)
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(mask))
    one, same = np.random.default_rng(7), np.random.default_rng(7)
    assert Mask(5, rng=one).key == fd.as_key(same)
    assert Mask(5, rng=one).key == fd.as_key(same)
    assert Mask(5).key != Mask(5).key
    state = one.bit_generator.state
    mistakes: list[dict[str, Any]] = [{"p": 2.0}, {"scale": math.inf}, {"shape": -1}, {"p": [0.1]}]
    for wrong in mistakes:
        with pytest.raises((TypeError, ValueError)):
            Mask(**{"shape": 5, "rng": one, **wrong})
    assert one.bit_generator.state == state


def test_like_takes_the_shape() -> None:
    assert Mask.like(np.ones((3, 4)), 0.25, rng=KEY) == Mask((3, 4), 0.25, rng=KEY)
    assert Mask.like([[1, 2]], scale=1.0, rng=KEY) == Mask((1, 2), rng=KEY, scale=1.0)
    assert Mask.like(2.0).shape == ()
    assert Mask(5).shape == (5,)


def test_equality_and_hashes() -> None:
    mask = Mask((3, 4), 0.5, rng=3)
    same = Mask([3, 4], np.float32(0.5), rng=Key(3), scale=2)
    assert mask == same
    assert hash(mask) == hash(same)
    assert not mask != same
    others = [
        Mask((4, 3), 0.5, rng=3), Mask((3, 4), 0.25, rng=3), Mask((3, 4), 0.5, rng=4),
        Mask((3, 4), 0.5, rng=3, scale=1), mask[1:], mask * 2, mask.reshape(12),
    ]  # fmt: skip
    for other in others:
        assert mask != other
        assert not mask == other
    assert len({mask, same, *others}) == 1 + len(others)
    assert (mask == None) is False  # noqa: E711
    assert (mask != "mask") is True
    kept = np.asarray(mask)
    np.testing.assert_array_equal(mask == 0, kept == 0)
    np.testing.assert_array_equal(kept == mask, np.ones((3, 4), bool))
    with pytest.raises(ValueError, match="ambiguous: write `mask is not None`"):
        bool(mask)
    assert bool(Mask((1, 1), 0.0)) is True


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_and_copies(protocol: int) -> None:
    mask = Mask((3, 4), 0.5, rng=KEY)
    for given in (mask, mask * 3, mask[1], mask[::-2, None].T, mask[0:0], mask[1:].reshape(2, 4)):
        for made in (pickle.loads(pickle.dumps(given, protocol)), copy.deepcopy(given)):
            assert made == given
            assert repr(made) == repr(given)
            assert_same(np.asarray(made), np.asarray(given))
    assert copy.copy(mask) is mask


def test_plain_products_are_one_compiled_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else is looked at in Python, which takes longer than a small product."""
    x, y = np.ones(SHAPE, np.float32), np.empty(SHAPE, np.float32)
    whole = Mask((3 * SHAPE[0], SHAPE[1]), 0.5, rng=KEY)
    masks = [Mask(SHAPE, 0.5, rng=KEY), whole[SHAPE[0] : 2 * SHAPE[0]]]
    expected = [np.multiply(x, mask) for mask in masks]

    def slow(*given: Any) -> Any:
        raise AssertionError("not the fast path")

    monkeypatch.setattr(_mask, "product", slow)
    for mask, values in zip(masks, expected, strict=True):
        for made in (x * mask, mask * x, np.multiply(x, mask), np.multiply(x, mask, out=y)):
            assert_same(made, values)
        assert_same(in_place(x, mask), values)


def test_no_product_draws_the_stored_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    def stored(mask: Mask) -> Any:
        raise AssertionError("the stored mask was drawn")

    monkeypatch.setattr(Mask, "_stored", stored)
    mask = Mask((6, 8), 0.5, rng=KEY)
    for dtype in ("f2", "f4", "f8", "i4", "?", "c8", ">f4"):
        for view in (mask, mask[:, :1], mask[::-1, ::-2], mask[3], mask.T):
            x = np.ones(view.shape, dtype)
            y = x * view
            np.multiply(view, x, out=y)
            assert ((y == 2) | (y == 0)).all()
        assert (np.ones((2, 6, 8), dtype) * mask).shape == (2, 6, 8)
