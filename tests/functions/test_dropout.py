"""dropout and dropout_mask: values, memory, and what is left untouched."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop as fd
from tests.support.oracle import (
    Array,
    applied,
    assert_same,
    data,
    dropped,
    key_from,
    mask,
    poisoned,
)

DTYPES = [np.float32, np.float64]
SPECIAL = [math.nan, -math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-42, -1.5, 3e38]


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def special(n: int, dtype: Any) -> Array:
    return np.resize(np.array(SPECIAL, np.float64).astype(dtype), n)


def test_dropped_specials_become_plus_zero(dtype: Any) -> None:
    with np.errstate(all="ignore"):
        x = special(900, dtype)
    out = poisoned(x.shape, dtype)
    fd.dropout(x, 0.5, rng=8, out=out)
    lost = ~mask(x.shape, 0.5, fd.Key(8))
    assert lost[:9].any()  # NaN among them
    assert not data(out[lost]).strip(b"\0")


def test_kept_specials_are_multiplied_by_the_scale(dtype: Any) -> None:
    x = special(900, dtype)
    y = fd.dropout(x, 0.3, rng=8)
    kept = mask(x.shape, 0.3, fd.Key(8))
    with np.errstate(over="ignore"):
        expected = x[kept] * dtype(1 / (1 - 0.3))
    np.testing.assert_array_equal(y[kept], expected)
    np.testing.assert_array_equal(np.signbit(y[kept]), np.signbit(expected))
    assert np.isnan(expected).any()
    assert np.isinf(expected).any()


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_certain_p_keeps_or_drops_everything(p: float, dtype: Any) -> None:
    x = special(2100, dtype)
    out = poisoned(x.shape, dtype)
    fd.dropout(x, p, rng=1, out=out)
    if p == 0:
        assert_same(out, x)
    else:
        assert not data(out).strip(b"\0")


def test_p_1_gives_plus_zero_for_any_scale(dtype: Any) -> None:
    y = fd.dropout(special(100, dtype), 1.0, rng=1, scale=-2.0)
    assert not data(y).strip(b"\0")


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.5, 0.9, 0.999, np.float32(0.1), np.float16(0.3), 0])
def test_kept_elements_are_scaled_by_the_float64_factor_rounded_once(
    p: Any, dtype: Any, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(3000).astype(dtype)
    key = key_from(rng)
    y = fd.dropout(x, p, rng=key)
    kept = mask(x.shape, float(p), key)
    np.testing.assert_array_equal(y, np.where(kept, x * dtype(1.0 / (1.0 - float(p))), dtype(0)))


@pytest.mark.parametrize("scale", [1.0, 0.0, -2.5, 0.1, 1, np.float32(0.1), np.int8(3), 1e-30])
def test_a_given_scale_is_the_factor(scale: Any, dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal(1000).astype(dtype)
    key = key_from(rng)
    y = fd.dropout(x, 0.4, rng=key, scale=scale)
    assert_same(y, applied(mask(x.shape, 0.4, key), x, float(scale)))


def test_evaluation_returns_the_very_object() -> None:
    x = np.ones(5, np.float32)
    assert fd.dropout(x, 0.5, training=False) is x
    assert fd.masked_fill(x, 0.5, 0, training=False) is x
    items: Any = [1.0, 2.0]
    assert fd.dropout(items, 0.5, training=False) is items
    assert items == [1.0, 2.0]
    assert fd.dropout(x, 0.5, training=bool(0)) is x
    mode: Any = np.False_
    assert fd.dropout(x, 0.5, training=mode) is x


def test_evaluation_with_out_copies(dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, 5)).astype(dtype)
    functions: list[Callable[[Array], Any]] = [
        lambda out: fd.dropout(x, 0.5, training=False, out=out),
        lambda out: fd.masked_fill(x, 0.5, 9.0, training=False, out=out),
    ]
    for function in functions:
        out = poisoned(x.shape, dtype)
        assert function(out) is out
        assert data(out) == data(x)


def test_evaluation_draws_nothing_from_a_generator() -> None:
    generator, same = np.random.default_rng(1), np.random.default_rng(1)
    fd.dropout(np.ones(3), 0.5, rng=generator, training=False)
    assert generator.integers(2**40) == same.integers(2**40)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_training_never_writes_to_x_and_returns_a_new_array(p: float, dtype: Any) -> None:
    x = special(3000, dtype)
    before = data(x)
    x.flags.writeable = False
    y = fd.dropout(x, p, rng=4)
    z = fd.masked_fill(x, p, 1.0, rng=4)
    assert data(x) == before
    for result in (y, z):
        assert not np.shares_memory(x, result)
        assert result.flags.writeable
        assert result.flags.owndata


def test_the_same_call_twice_gives_the_same_bits(dtype: Any) -> None:
    x = np.linspace(-1, 1, 999).astype(dtype)
    assert data(fd.dropout(x, 0.2, rng=6)) == data(fd.dropout(x, 0.2, rng=6))
    assert data(fd.dropout(x, 0.2, rng=6)) != data(fd.dropout(x, 0.2, rng=7))
    assert data(fd.dropout(x, 0.2, rng=6)) != data(fd.dropout(x, 0.2, rng=fd.Key(6, 1)))


def test_both_dtypes_and_the_mask_agree() -> None:
    x = np.ones((50, 40))
    single = fd.dropout(x.astype(np.float32), 0.35, rng=3)
    np.testing.assert_array_equal(single != 0, fd.dropout(x, 0.35, rng=3) != 0)
    np.testing.assert_array_equal(single != 0, fd.dropout_mask((50, 40), 0.35, rng=3))


def test_p_is_one_half_unless_given() -> None:
    x = np.ones(100)
    np.testing.assert_array_equal(fd.dropout(x, rng=3), fd.dropout(x, 0.5, rng=3))
    np.testing.assert_array_equal(fd.dropout_mask(100, rng=3), fd.dropout_mask(100, 0.5, rng=3))


def test_the_backward_pass_is_the_same_call(rng: np.random.Generator) -> None:
    x, dy = rng.integers(-8, 9, (2, 40, 30)).astype(np.float64)
    key = key_from(rng)
    y, dx = fd.dropout(x, 0.5, rng=key), fd.dropout(dy, 0.5, rng=key)
    # Small integers and a scale of 2: exact, so the adjoint identity holds without rounding.
    assert np.sum(y * dy) == np.sum(x * dx)
    assert np.sum(y * dy) != 0


def test_dropout_is_linear_for_one_key(rng: np.random.Generator) -> None:
    a, b = rng.integers(-8, 9, (2, 1000)).astype(np.float32)

    def drop(x: Array) -> Array:
        return fd.dropout(x, 0.75, rng=12)

    np.testing.assert_array_equal(drop(a + 2 * b), drop(a) + 2 * drop(b))


def test_lists_numbers_and_scalars_go_through_asarray() -> None:
    key = fd.Key(5)
    expected = dropped(np.array([[1.0, 2.0], [3.0, 4.0]]), 0.5, key)
    assert_same(fd.dropout([[1.0, 2.0], [3.0, 4.0]], 0.5, rng=key), expected)
    for scalar in (2.0, np.float32(2), np.array(2.0, np.float32)):
        for p in (0.0, 0.5, 1.0):
            x = np.asarray(scalar)
            y = fd.dropout(scalar, p, rng=key)
            assert_same(y, dropped(x, p, key))
            assert y.shape == ()


def test_a_subclass_gives_a_plain_array(tmp_path: Any) -> None:
    class Tagged(np.ndarray[Any, Any]):
        pass

    x = np.arange(1.0, 401.0)
    expected = dropped(x, 0.5, fd.Key(5))
    assert_same(fd.dropout(x.view(Tagged), 0.5, rng=5), expected)
    assert_same(fd.masked_fill(x.view(Tagged), 0.5, 0.0, rng=5), filled_with_zero(x))
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=400)
    mapped[:] = x
    assert_same(fd.dropout(mapped, 0.5, rng=5), expected)


def filled_with_zero(x: Array) -> Array:
    return np.where(mask(x.shape, 0.5, fd.Key(5)), x, 0.0)


def test_an_out_of_a_subclass_is_returned_as_it_is(tmp_path: Any) -> None:
    out = np.memmap(tmp_path / "out", np.float64, "w+", shape=400)
    x = np.arange(1.0, 401.0)
    assert fd.dropout(x, 0.5, rng=5, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), dropped(x, 0.5, fd.Key(5)))


@given(
    full=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    cuts=st.data(),
    p=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)
def test_shards_tile_the_whole_array_exactly(
    full: list[int], cuts: st.DataObject, p: float, seed: int
) -> None:
    shape = tuple(full)
    noise = tuple(cuts.draw(st.sampled_from([None, 1])) for _ in shape)
    x = np.arange(1.0, math.prod(shape) + 1).reshape(shape)
    whole = fd.dropout(x, p, rng=seed, noise_shape=noise)
    packed = np.zeros(shape, np.bool_)
    tiled = poisoned(shape, np.float64)
    at = [cuts.draw(st.integers(0, n)) for n in shape]
    for corner in np.ndindex(*(2,) * len(shape)):
        bounds = [(0, a) if c == 0 else (a, n) for c, a, n in zip(corner, at, shape, strict=True)]
        block = tuple(slice(a, b) for a, b in bounds)
        where: dict[str, Any] = {
            "noise_shape": noise,
            "offset": tuple(a for a, _ in bounds),
            "global_shape": shape,
        }
        fd.dropout(x[block], p, rng=seed, out=tiled[block], **where)
        bits = fd.dropout_mask(x[block].shape, p, rng=seed, packed=True, **where)
        unpacked = np.unpackbits(bits, count=x[block].size, bitorder="little")
        packed[block] = unpacked.reshape(x[block].shape)
    assert data(tiled) == data(whole)
    np.testing.assert_array_equal(packed, whole != 0)


@given(n=st.integers(0, 3000), cut=st.floats(0, 1), offset=st.integers(0, 2**40))
def test_flat_shards_by_offset_alone_tile_the_whole(n: int, cut: float, offset: int) -> None:
    x = np.arange(1.0, n + 1, dtype=np.float32)
    k = int(cut * n)
    whole = fd.dropout(x, 0.3, rng=1, offset=offset)
    parts = [
        fd.dropout(x[:k], 0.3, rng=1, offset=offset),
        fd.dropout(x[k:], 0.3, rng=1, offset=offset + k),
    ]
    assert data(np.concatenate(parts)) == data(whole)


def test_offset_0_means_the_origin_of_the_global_shape() -> None:
    x = np.ones((4, 5))
    block = fd.dropout(x, 0.5, rng=1, global_shape=(10, 10))
    np.testing.assert_array_equal(block, fd.dropout(np.ones((10, 10)), 0.5, rng=1)[:4, :5])


def test_a_global_shape_of_one_axis_may_be_an_int() -> None:
    y = fd.dropout(np.ones(10), 0.5, rng=1, offset=20, global_shape=100)
    np.testing.assert_array_equal(y, fd.dropout(np.ones(100), 0.5, rng=1)[20:30])


def test_a_short_noise_shape_broadcasts_from_the_right() -> None:
    x = np.ones((6, 7, 8))
    short = fd.dropout(x, 0.5, rng=1, noise_shape=(7, 1))
    np.testing.assert_array_equal(short, fd.dropout(x, 0.5, rng=1, noise_shape=(1, 7, 1)))
    np.testing.assert_array_equal(short[0, :, 0] != 0, fd.dropout_mask(7, 0.5, rng=1))


def test_an_empty_noise_shape_makes_one_decision() -> None:
    values = {float(fd.dropout(np.ones(()), 0.5, rng=n)) for n in range(20)}
    assert values == {0.0, 2.0}
    for n in range(20):
        y = fd.dropout(np.ones((30, 30)), 0.5, rng=n, noise_shape=())
        assert set(y.ravel()) == {float(fd.dropout(np.ones(()), 0.5, rng=n))}
