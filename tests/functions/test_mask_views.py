"""Masks against arrays of other shapes, and views of masks, compared with the stored mask."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fastdrop as fd
from fastdrop import (
    Key,  # noqa: F401  # which reprs name
    Mask,
)
from tests.support.oracle import Array, assert_same, poisoned
from tests.support.stored_masks import multiplied, stored

KEY = fd.Key(2**40 + 3, 2**63 + 11)
DTYPES = ["float64", "float32", "float16", "complex64"]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)


def numbers(shape: tuple[int, ...], dtype: str) -> Array:
    x = np.arange(1.0, 1.0 + np.prod(shape, dtype=int)).reshape(shape)
    return np.asarray(x * (1 + 2j) if dtype == "complex64" else x, dtype)


def check(mask: Any, kept: Array) -> None:
    """Compare a view with what the stored mask has there, in every way that there is."""
    assert isinstance(mask, Mask)
    assert_same(np.asarray(mask), kept)
    assert (mask.shape, mask.nbytes) == (kept.shape, 16)
    again = eval(repr(mask))
    assert again == mask, repr(mask)
    assert hash(again) == hash(mask)
    assert_same(np.asarray(again), kept)
    assert pickle.loads(pickle.dumps(mask)) == mask


def check_product(x: Array, mask: Any, kept: Array) -> None:
    expected = multiplied(x, kept)
    for _ in range(3):  # the second call makes a plan, and the third runs it
        for y in (x * mask, mask * x):
            assert np.shape(y) == expected.shape
            assert y.dtype == expected.dtype
            assert_same(np.asarray(y), expected)
        out = poisoned(expected.shape, expected.dtype)
        assert np.multiply(x, mask, out=out) is out
        assert_same(out, expected)
    if x.shape == expected.shape:
        same = x.copy()
        same *= mask
        assert_same(same, expected)


@given(
    arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=5, min_side=0),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from([None, 1.0, -0.25]),
    st.sampled_from(["C", "F", "turned"]),
)
def test_masks_broadcast_as_arrays_do(
    shapes: Any, dtype: str, p: float, scale: float | None, layout: str
) -> None:
    shape, other = shapes.input_shapes
    x = numbers(shape, dtype)
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "turned":
        x = x[..., ::-1] if x.ndim else x
    check_product(x, Mask(other, p, rng=KEY, scale=scale), stored(other, p, KEY, scale))


@pytest.mark.parametrize(
    ("shape", "of_mask"),
    [((5, 7, 8, 9), (7, 1, 1)), ((33, 64), (64,)), ((33, 64), (33, 1)), ((64,), (33, 64)),
     ((33, 1), (33, 64)), ((1, 64), (33, 1)), ((), (33, 64)), ((33, 64), ()), ((0, 4), (4,))],
)  # fmt: skip
def test_usual_broadcasts(shape: tuple[int, ...], of_mask: tuple[int, ...]) -> None:
    for dtype in DTYPES:
        check_product(numbers(shape, dtype), Mask(of_mask, 0.4, rng=KEY), stored(of_mask, 0.4, KEY))


def test_a_mask_of_channels_is_a_noise_shape(rng: np.random.Generator) -> None:
    maps = rng.standard_normal((4, 6, 5, 5)).astype(np.float32)
    expected = fd.dropout(maps, 0.5, rng=KEY, noise_shape=(1, 6, 1, 1))
    assert_same(maps * Mask((6, 1, 1), 0.5, rng=KEY), expected)


@given(st.data(), SHAPES, st.sampled_from(DTYPES))
def test_views_are_those_of_the_stored_mask(
    draw: st.DataObject, shape: tuple[int, ...], dtype: str
) -> None:
    mask: Any = Mask(shape, 0.4, rng=KEY)
    kept = stored(shape, 0.4, KEY)
    for _ in range(draw.draw(st.integers(1, 4))):
        kind = draw.draw(st.sampled_from(["index", "index", "transpose", "reshape"]))
        if kind == "index":
            index = draw.draw(arrays.basic_indices(kept.shape, allow_newaxis=True, max_dims=6))
            if not isinstance(kept[index], np.ndarray):
                number = mask[index]
                assert type(number) is np.float64
                assert number == kept[index]
                return
            mask, kept = mask[index], kept[index]
        elif kind == "transpose":
            order = draw.draw(st.permutations(range(kept.ndim)))
            mask, kept = mask.transpose(*order), kept.transpose(*order)
        else:
            flat = draw.draw(st.sampled_from([(-1,), (kept.size,), (1, kept.size, 1)]))
            flat = flat if kept.size or -1 not in flat else (0,)
            changed = mask.reshape(flat)
            kept = kept.reshape(flat)
            if not isinstance(changed, Mask):
                assert_same(changed, kept)
                return
            mask = changed
        check(mask, kept)
    x = numbers(kept.shape, dtype)
    check_product(x, mask, kept)
    check_product(np.asfortranarray(x), mask, kept)
    wide = np.broadcast_to(x, (2, *x.shape)) if x.ndim < 4 else x
    check_product(wide, mask, kept)


def test_every_slice_of_an_axis() -> None:
    n = 7
    mask, kept = Mask((n, 3), 0.5, rng=KEY), stored((n, 3), 0.5, KEY)
    ends = [None, *range(-n - 1, n + 2)]
    steps = (None, 1, 2, 3, 9, -1, -2, -9)
    for cut in itertools.starmap(slice, itertools.product(ends, ends, steps)):
        check(mask[cut], kept[cut])
        check(mask[cut, 1], kept[cut, 1])


@pytest.mark.parametrize(
    "text",
    ["[2]", "[1:3]", "[::-1]", "[..., ::2]", "[:, None, 4]", "[2, 3, ...]", ".T", "[1:, 2:5].T",
     ".reshape((3, 10))", "[2:].reshape(15)", "[2:].reshape((3, 5))[1, ::-2]", "[1:2, :, None]",
     "[3:3]"],
)  # fmt: skip
def test_reprs_are_what_one_would_write(text: str) -> None:
    whole = "Mask((5, 5), 0.25, rng=Key(seed=3, stream=0), scale=1.5)"
    if text.startswith(".reshape"):
        whole = whole.replace("(5, 5)", "(5, 6)")
    mask = eval(whole + text)
    shown = {
        "[..., ::2]": "[:, ::2]",
        "[:, None, 4]": "[:, 4:5]",
        "[1:, 2:5].T": "[1:, 2:].T",
        ".reshape((3, 10))": "",
        "[2:].reshape(15)": "[10:]",
        "[2:].reshape((3, 5))[1, ::-2]": "[10:].reshape((3, 5))[1, ::-2]",
        "[3:3]": "",
    }.get(text, text)
    assert repr(mask).endswith(shown)
    assert eval(repr(mask)) == mask


def test_a_slice_is_the_shard(rng: np.random.Generator) -> None:
    x = rng.standard_normal((16, 20)).astype(np.float32)
    mask = Mask((64, 100), 0.5, rng=KEY)
    shard = fd.dropout(x, 0.5, rng=KEY, offset=(32, 7), global_shape=(64, 100))
    assert_same(x * mask[32:48, 7:27], shard)
    flat = fd.dropout(x[0], 0.5, rng=KEY, offset=4321)
    assert_same(x[0] * mask.reshape(-1)[4321:4341], flat)
    assert mask[32:48] == Mask((64, 100), 0.5, rng=KEY)[32:48]
    assert mask[:4] == Mask((4, 100), 0.5, rng=KEY)  # indices count in C order


def test_iteration_is_along_the_first_axis() -> None:
    mask, kept = Mask((3, 4), 0.5, rng=KEY), stored((3, 4), 0.5, KEY)
    assert len(mask) == 3
    for row, expected in zip(mask, kept, strict=True):
        check(row, expected)
    assert list(mask[1]) == kept[1].tolist()
    assert list(reversed(mask))[0] == mask[2]
    single = Mask((), 0.5, rng=KEY)
    with pytest.raises(TypeError, match="without axes"):
        len(single)
    with pytest.raises(TypeError, match="without axes"):
        iter(single)


def test_other_indices_give_arrays() -> None:
    mask, kept = Mask((5, 6), 0.5, rng=KEY), stored((5, 6), 0.5, KEY)
    indices: list[Any] = [
        [0, 2], np.array([1, -1]), ([0, 1], [2, 3]), kept > 0, True, np.False_,
        (slice(1, 3), [0, 5]), np.array(2), (np.array(2), 1),
    ]  # fmt: skip
    for index in indices:
        made = mask[index]
        assert type(made) is type(kept[index])
        np.testing.assert_array_equal(made, kept[index])
    assert type(mask[np.int8(2), np.uint64(1)]) is np.float64
    assert mask[np.int8(2)] == mask[2]


def test_wrong_indices_and_shapes_are_those_of_an_array() -> None:
    mask, kept = Mask((5, 6), 0.5, rng=KEY), stored((5, 6), 0.5, KEY)
    indices: list[Any] = [5, -6, (0, 6), (0, 0, 0), 1.5, "a", (..., ...), [7]]
    for index in indices:
        for indexed in (mask, kept):
            with pytest.raises(IndexError):
                indexed[index]
    with pytest.raises(ValueError, match="slice step cannot be zero"):
        mask[::0]
    for shape in ((4, 4), (-1, 7), (-1, -1), 29):
        for given_ in (mask, kept):
            with pytest.raises(ValueError, match="cannot reshape|can only specify|reshape"):
                given_.reshape(shape)
    for axes in ((0,), (0, 0), (0, 2)):
        for turned in (mask, kept):
            with pytest.raises(ValueError, match="ax"):
                turned.transpose(axes)


def test_numpy_functions_that_make_views() -> None:
    mask, kept = Mask((5, 6), 0.5, rng=KEY), stored((5, 6), 0.5, KEY)
    check(np.transpose(mask), kept.T)
    check(np.reshape(mask, (3, 10)), kept.reshape(3, 10))
    check(mask.transpose(None), kept.T)
    check(mask.transpose((1, 0)), kept.T)
    assert_same(mask.T.reshape(30), kept.T.reshape(30))
    assert_same(mask.reshape(30, order="F"), kept.reshape(30, order="F"))


def test_masks_larger_than_any_memory() -> None:
    mask = Mask((2**40, 2**20), 0.5, rng=KEY)
    x = np.ones((3, 50), np.float32)
    where: dict[str, Any] = {"offset": (2**40 - 3, 2**20 - 50), "global_shape": (2**40, 2**20)}
    assert_same(x * mask[-3:, -50:], fd.dropout(x, 0.5, rng=KEY, **where))
    check(mask[-3:, -50:], stored((3, 50), 0.5, KEY, **where))


def test_masks_whose_shape_and_steps_are_the_same_numbers_are_not_taken_for_each_other() -> None:
    row, turned = Mask((1, 4), 0.5, rng=3), Mask((4, 4), 0.5, rng=3).T
    x, out = np.ones((4, 4)), np.empty((4, 4))
    for _ in range(3):
        np.multiply(x, row, out=out)
        assert_same(out, x * np.asarray(row))
        assert_same(np.ones((4, 4), int) * turned, x * np.asarray(turned))
        assert_same(np.multiply(x, turned, out=np.empty((4, 4))), x * np.asarray(turned))
