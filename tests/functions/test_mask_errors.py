"""What masks refuse, what NumPy refuses of them, and overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import Key, Mask
from tests.support.oracle import Array, assert_same, data, poisoned

KEY = fd.Key(2**40 + 3, 2**63 + 11)


def test_it_never_changes() -> None:
    mask: Any = Mask((3, 4), 0.5, rng=3)
    before = np.asarray(mask)
    with pytest.raises(TypeError, match=r"cannot be changed: numpy\.asarray\(mask\)"):
        mask[0] = 1.0
    for name in ("p", "key", "shape", "scale", "rate"):
        with pytest.raises(AttributeError):
            setattr(mask, name, 0.5)
    with pytest.raises(AttributeError, match=r"numpy\.asarray\(mask\)\.mean is that"):
        mask.mean()
    with pytest.raises(AttributeError, match="no attribute 'rate'"):
        mask.rate  # noqa: B018
    for out in (mask, (mask,)):
        with pytest.raises(TypeError, match="out is a"):
            np.multiply(before, mask, out=out)
        with pytest.raises(TypeError, match="out is a Mask"):
            np.add(before, mask, out=out)
    assert_same(np.asarray(mask), before)


def test_wrong_arguments_are_named() -> None:
    wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (Key(1), {}, TypeError, r"shape is a Key: give rng=Key\(seed=1"),
        (3, {"p": Key(1)}, TypeError, r"p is a Key: give rng=Key\(seed=1"),
        (3, {"p": [0.1, 0.2, 0.3]}, TypeError, r"p has shape \(3,\).*fastdrop\.dropout"),
        (3, {"p": np.array(0.1)}, TypeError, r"p\.item\(\)"),
        (3, {"p": 1.5}, ValueError, "p=1.5"),
        (3, {"p": math.nan}, ValueError, "p=nan"),
        (3, {"p": True}, TypeError, "p=True"),
        (-3, {}, ValueError, "shape=-3"),
        (2.5, {}, TypeError, "shape"),
        ((2**40, 2**40), {}, ValueError, r"2\*\*63"),
        (3, {"scale": math.inf}, ValueError, "scale=inf"),
        (3, {"scale": "2"}, TypeError, "scale"),
        (3, {"rng": "seed"}, TypeError, "rng='seed'"),
    ]
    for shape, given, kind, message in wrong:
        with pytest.raises(kind, match=message):
            Mask(shape, **given)


def test_wrong_arrays_are_refused_before_anything_is_written() -> None:
    mask, x = Mask((3, 4), 0.5, rng=3), np.arange(12.0).reshape(3, 4)
    frozen = poisoned((3, 4), np.float64)
    frozen.flags.writeable = False
    outs: list[tuple[Array, type[Exception], str]] = [
        (poisoned((3, 5), np.float64), ValueError, r"out has shape \(3, 5\)"),
        (poisoned((4,), np.float64), ValueError, r"out has shape \(4,\)"),
        (poisoned((3, 4), np.int64), TypeError, "Cannot cast ufunc 'multiply' output"),
        (frozen, ValueError, "out is read-only"),
    ]
    for out, kind, message in outs:
        before = data(out)
        for given in (mask, mask[::-1], mask[:1]):
            with pytest.raises(kind, match=message):
                np.multiply(x, given, out=out)
        assert data(out) == before
    for values in (np.ones(5), np.ones((2, 4)), np.ones((3, 5), np.float32)):
        with pytest.raises(ValueError, match="x has shape .* and the mask has"):
            values * mask
    with pytest.raises(ValueError, match="scale=1e"):
        np.ones(3, np.float32) * Mask(3, scale=1e300)
    with pytest.raises(ValueError, match="read-only"):
        frozen *= mask


def test_out_of_another_dtype_is_cast_as_numpy_does() -> None:
    mask, x = Mask((3, 4), 0.5, rng=3), np.arange(12.0).reshape(3, 4)
    for dtype in (np.float32, np.float16, ">f8", np.complex64, np.longdouble):
        out = poisoned((3, 4), dtype)
        assert np.multiply(x, mask, out=out) is out
        np.testing.assert_array_equal(out, (x * mask).astype(dtype))
    larger = poisoned((2, 3, 4), np.float64)
    np.multiply(x, mask, out=larger)
    np.testing.assert_array_equal(larger, np.stack([x * mask] * 2))


def test_overlap_is_as_if_there_were_none() -> None:
    values = np.arange(1.0, 101.0)
    for mask in (Mask(90, 0.5, rng=KEY), Mask(180, 0.5, rng=KEY)[::-2]):
        for read, written in (
            (slice(0, 90), slice(10, 100)),
            (slice(10, 100), slice(0, 90)),
            (slice(89, None, -1), slice(5, 95)),
        ):
            for _ in range(3):
                memory = values.copy()
                np.multiply(memory[read], mask, out=memory[written])
                expected = values.copy()
                expected[written] = values[read] * np.asarray(mask)
                np.testing.assert_array_equal(memory, expected)
    square = np.arange(1.0, 101.0).reshape(10, 10)
    expected = square[0] * np.asarray(Mask((10, 10), 0.5, rng=KEY))
    np.multiply(square[0], Mask((10, 10), 0.5, rng=KEY), out=square)
    np.testing.assert_array_equal(square, expected)


def test_subclasses_of_arrays_stay_what_they_are(tmp_path: Any) -> None:
    mask = Mask((3, 4), 0.5, rng=3)
    kept, x = np.asarray(mask), np.arange(12.0).reshape(3, 4)
    hidden = np.ma.array(x, mask=x > 6)
    for made in (hidden * mask, mask * hidden):
        assert type(made) is np.ma.MaskedArray
        np.testing.assert_array_equal(made.mask, hidden.mask)
        np.testing.assert_array_equal(made.filled(-1), (hidden * kept).filled(-1))

    class Tagged(np.ndarray[Any, Any]):
        pass

    assert type(x.view(Tagged) * mask) is Tagged
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=(3, 4))
    mapped[:] = np.where(kept == 0, math.nan, x)
    assert_same(mapped * mask, np.where(kept == 0, 0.0, x * 2))
    mapped *= mask
    np.testing.assert_array_equal(mapped, np.where(kept == 0, 0.0, x * 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda any_mask: any_mask((3,), training=True), "multiply by the mask in training alone"),
        (lambda any_mask: any_mask((3,), inplace=True), r"x \*= mask"),
        (lambda any_mask: any_mask((3,), seed=3), "rng=3, which is the same mask each time"),
        (lambda any_mask: any_mask((3,), np.array(0.5)), r"p\.item\(\)"),
        (lambda any_mask: any_mask.like(None), "x=None is a NoneType, which has no shape"),
        (lambda any_mask: any_mask.like("abc"), "x='abc' is a str, which has no shape"),
        (lambda any_mask: any_mask.like(np.ones(3), shape=(3,)), "'shape'"),
    ],
)
def test_what_a_mask_is_told(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(Mask)


def test_a_mask_of_2_to_the_63_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="elements or more"):
        Mask((2**63,))
    assert Mask((2**63 - 1,), rng=1)[::-1].shape == (2**63 - 1,)
