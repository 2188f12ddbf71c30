"""Calls that differ in their offset alone: prepared once, right for each, bad ones refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._call import plan_cache
from tests.support.oracle import assert_same, dropped, mask

KEY = fd.Key(3, 2**40)
P = 0.4
SHAPE, FULL = (6, 10), (40, 33)
X = np.random.default_rng(0).standard_normal(SHAPE)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    plan_cache.forget()


def prepared() -> int:
    return len(plan_cache.plans)


@pytest.mark.parametrize("x", [X, np.asfortranarray(X)], ids=["C", "F"])
@pytest.mark.parametrize("noise_shape", [None, (None, 1), (1, None)])
def test_each_block_of_an_array_has_its_own_mask(x: Any, noise_shape: Any) -> None:
    offsets = [(0, 0), (3, 5), (34, 23), (0, 23), (34, 0), (17, 11)]
    for offset in offsets:
        where = {"offset": offset, "global_shape": FULL, "noise_shape": noise_shape}
        y = fd.dropout(x, P, rng=KEY, **where)
        assert_same(np.ascontiguousarray(y), dropped(x, P, KEY, **where))
        assert_same(fd.dropout_mask(SHAPE, P, rng=KEY, **where), mask(SHAPE, P, KEY, **where))
    assert prepared() == 2  # one of each function


@pytest.mark.parametrize("offsets", [(5, 0, 3, 0, 56, 5), (0, 5, 0, 7)])
@pytest.mark.parametrize("noise_shape", [None, (1,)])
def test_one_axis_and_offsets_that_are_integers(offsets: Any, noise_shape: Any) -> None:
    x = np.random.default_rng(0).standard_normal(8)
    for offset in offsets:
        for _ in range(3):
            where = {"offset": offset, "global_shape": 64, "noise_shape": noise_shape}
            expected = dropped(x, P, KEY, **{**where, "offset": (offset,), "global_shape": (64,)})
            assert_same(fd.dropout(x, P, rng=KEY, **where), expected)
            assert_same(fd.dropout_mask(8, P, rng=KEY, **where), expected != 0)
    with pytest.raises(ValueError, match="does not fit"):
        fd.dropout(x, P, rng=KEY, offset=57, global_shape=64, noise_shape=noise_shape)


def test_three_axes_and_none_that_are_1() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    for offset in [(0, 0, 0), (5, 1, 0), (8, 0, 7), (1, 1, 1)]:
        where: dict[str, Any] = {"offset": offset, "global_shape": (10, 4, 11)}
        assert_same(fd.dropout(x, P, rng=KEY, **where), dropped(x, P, KEY, **where))
    one = x[:, :1]
    for offset in [(0, 0, 0), (5, 3, 0), (8, 0, 7)]:
        where = {"offset": offset, "global_shape": (10, 4, 11)}
        assert_same(fd.dropout(one.copy(), P, rng=KEY, **where), dropped(one, P, KEY, **where))


@pytest.mark.parametrize("shape", [SHAPE, (60,), (1, 1, 7)])
def test_offsets_that_are_added_to_the_index(shape: tuple[int, ...]) -> None:
    x = np.asfortranarray(np.random.default_rng(0).standard_normal(shape))
    x = x.T.copy().T  # not in C order, where there are two axes
    for offset in [0, 5, 2**32 - 3, 2**35 + 1, 2**60 + 7, 2**63 - x.size]:
        y = fd.dropout(x, P, rng=KEY, offset=offset)
        assert_same(np.ascontiguousarray(y), dropped(x, P, KEY, offset=offset))
        assert_same(
            fd.dropout_mask(shape, P, rng=KEY, offset=offset), mask(shape, P, KEY, offset=offset)
        )


BAD: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"offset": (35, 0), "global_shape": FULL}, ValueError),
    ({"offset": (0, 24), "global_shape": FULL}, ValueError),
    ({"offset": (-1, 0), "global_shape": FULL}, ValueError),
    ({"offset": (0, 0, 0), "global_shape": FULL}, ValueError),
    ({"offset": (0,), "global_shape": FULL}, ValueError),
    ({"offset": (None, 0), "global_shape": FULL}, TypeError),
    ({"offset": (True, 0), "global_shape": FULL}, TypeError),
    ({"offset": (1.0, 0), "global_shape": FULL}, TypeError),
    ({"offset": 1, "global_shape": FULL}, ValueError),
    ({"offset": -1}, ValueError),
    ({"offset": 2**63 - 59}, ValueError),
    ({"offset": True}, TypeError),
    ({"offset": (1, 2)}, TypeError),
]


@pytest.mark.parametrize(("where", "error"), BAD)
def test_a_bad_offset_is_refused_after_right_ones_too(
    where: dict[str, Any], error: type[Exception]
) -> None:
    x = np.asfortranarray(X)
    generator = np.random.default_rng(1)
    state = generator.bit_generator.state
    for _ in range(3):
        for begin in [(0, 0), (3, 5), (1, 1)]:
            fd.dropout(x, P, rng=KEY, offset=begin, global_shape=FULL)
        for index in (0, 5, 7):
            fd.dropout(x, P, rng=KEY, offset=index)
        fd.dropout(x, P, rng=KEY, offset=0, global_shape=FULL)
        with pytest.raises(error):
            fd.dropout(x, P, rng=generator, **where)
    assert generator.bit_generator.state == state


def same_numbers(numbers: Sequence[Any]) -> list[Any]:
    return [list(numbers), np.array(numbers), tuple(np.int64(n) for n in numbers)]


def test_lists_and_arrays_of_numbers_are_the_same_as_tuples() -> None:
    want = fd.dropout(X, P, rng=KEY, offset=(3, 5), global_shape=FULL, noise_shape=(40, 1))
    for offset in same_numbers((3, 5)):
        for noise_shape in same_numbers((40, 1)):
            for _ in range(2):
                where = {"offset": offset, "global_shape": FULL, "noise_shape": noise_shape}
                assert_same(fd.dropout(X, P, rng=KEY, **where), want)
                assert_same(fd.dropout_mask(SHAPE, P, rng=KEY, **where), want != 0)
    assert prepared() == 2


@pytest.mark.parametrize("noise_shape", [[1.0, None], np.array([1.0, 6.0]), [True, None], ["1", 1]])
def test_noise_shapes_of_no_integers_are_refused(noise_shape: Any) -> None:
    with pytest.raises(TypeError, match="noise_shape"):
        fd.dropout(X, P, rng=KEY, noise_shape=noise_shape)


def test_packed_masks_that_move() -> None:
    for offset in [0, 8, 3, 16, 5, 2**35 + 1]:
        for _ in range(2):
            bits = fd.dropout_mask(77, P, rng=KEY, packed=True, offset=offset)
            want = np.packbits(mask((77,), P, KEY, offset=offset), bitorder="little")
            assert_same(bits, want)


@pytest.mark.parametrize("order", ["C", "F"])
def test_threads_share_a_shard_that_moves(order: Any) -> None:
    before = fd.get_num_threads()
    x = np.asarray(np.ones((1100, 1000), np.float32), order=order)
    try:
        fd.set_num_threads(3)
        for offset in [(0, 0), (7, 9), (2000, 30)]:
            where: dict[str, Any] = {"offset": offset, "global_shape": (4000, 1040)}
            y = fd.dropout(x, P, rng=KEY, **where)
            assert_same(np.ascontiguousarray(y), dropped(x, P, KEY, **where))
    finally:
        fd.set_num_threads(before)
