"""Masks as the arrays that they stand for: in other operators, functions and libraries."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import Mask
from tests.support.oracle import assert_same
from tests.support.stored_masks import stored

KEY = fd.Key(2**40 + 3, 2**63 + 11)


BINARY: list[Callable[[Any, Any], Any]] = [
    operator.add, operator.sub, operator.truediv, operator.floordiv, operator.mod, operator.pow,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, divmod,
]  # fmt: skip


def test_other_operators_and_functions_read_the_stored_mask() -> None:
    mask = Mask((3, 4), 0.5, rng=3)
    kept, x = np.asarray(mask), np.arange(1.0, 13.0).reshape(3, 4)
    with np.errstate(all="ignore"):
        for compute in BINARY:
            for other in (x, x.tolist(), 2.0 if compute is not operator.truediv else x):
                np.testing.assert_array_equal(compute(mask, other), compute(kept, other))
            for other in (x, x.tolist()):
                np.testing.assert_array_equal(compute(other, mask), compute(other, kept))
        np.testing.assert_array_equal(1 / mask, 1 / kept)
    np.testing.assert_array_equal(mask @ x.T, kept @ x.T)
    np.testing.assert_array_equal(x.T @ mask, x.T @ kept)
    another = Mask((3, 4), 0.3, rng=4)
    np.testing.assert_array_equal(mask * another, kept * np.asarray(another))
    np.testing.assert_array_equal(mask + another, kept + np.asarray(another))
    for unary in (operator.neg, operator.pos, abs, np.sqrt, np.isnan):
        np.testing.assert_array_equal(unary(mask), unary(kept))
    changed: Any = mask
    changed += 1
    np.testing.assert_array_equal(changed, kept + 1)
    assert np.mean(mask) == kept.mean()
    assert np.sum(mask, axis=0).tolist() == kept.sum(axis=0).tolist()
    assert np.add.reduce(mask, axis=1).tolist() == kept.sum(axis=1).tolist()
    np.testing.assert_array_equal(np.multiply.outer(x[0], mask), np.multiply.outer(x[0], kept))
    np.testing.assert_array_equal(np.where(mask, 1, 0), kept != 0)
    np.testing.assert_array_equal(np.concatenate([mask, mask]), np.concatenate([kept, kept]))
    assert np.count_nonzero(mask) == np.count_nonzero(kept)
    assert (np.shape(mask), np.ndim(mask), np.size(mask)) == ((3, 4), 2, 12)
    assert 0.0 in mask
    assert 3.0 not in mask


def test_keywords_of_multiply_go_by_the_stored_mask() -> None:
    mask, x = Mask((3, 4), 0.5, rng=3), np.arange(12.0).reshape(3, 4)
    kept, even = np.asarray(mask), x % 2 == 0
    y, expected = np.full((2, 3, 4), 7.0)
    np.multiply(x, mask, out=y, where=even)
    np.testing.assert_array_equal(y, np.multiply(x, kept, out=expected, where=even))
    assert np.multiply(x, mask, dtype=np.float32).dtype == np.float32
    with pytest.raises(TypeError, match="Cannot cast"):
        np.multiply(x, mask, out=np.empty((3, 4), np.float32), casting="safe")


def test_as_an_array() -> None:
    mask = Mask((5, 7), 0.3, rng=KEY, scale=1.0)
    expected = stored((5, 7), 0.3, KEY, 1.0)
    assert_same(np.asarray(mask), expected)
    assert_same(np.array(mask, np.float32), expected.astype(np.float32))
    assert_same(mask.astype(bool), expected != 0)
    assert_same(mask.astype(np.int64), expected.astype(np.int64))
    assert np.asarray(mask, order="F").flags.f_contiguous
    assert mask.astype(np.float32, order="F").flags.f_contiguous
    assert (mask.shape, mask.ndim, mask.size, mask.dtype) == ((5, 7), 2, 35, np.dtype("f8"))
    assert (mask.p, mask.key, mask.scale, mask.nbytes) == (0.3, KEY, 1.0, 16)
    assert len(pickle.dumps(Mask((4096, 4096), 0.3, rng=KEY))) < 300
    with pytest.raises(ValueError, match="no memory to share"):
        np.asarray(mask, copy=False)
    changed = np.asarray(mask)
    changed[:] = 9.0
    assert_same(np.asarray(mask), expected)
    assert Mask((0, 3), 0.5).astype(bool).shape == (0, 3)
    assert_same(np.asarray(Mask((), 0.0, rng=1)), np.ones(()))


def test_other_libraries_multiply_by_it() -> None:
    pandas = pytest.importorskip("pandas")
    mask = Mask((3, 4), 0.5, rng=3)
    x = np.arange(12.0).reshape(3, 4)
    frame = pandas.DataFrame(x, columns=list("abcd"))
    for made in (frame * mask, mask * frame):
        pandas.testing.assert_frame_equal(made, frame * np.asarray(mask))
    row = frame.loc[1]
    for made in (row * mask[1], mask[1] * row):
        pandas.testing.assert_series_equal(made, row * np.asarray(mask[1]))
    xarray = pytest.importorskip("xarray")
    labelled = xarray.DataArray(x, dims=("sample", "unit"))
    for made in (labelled * mask, mask * labelled):
        xarray.testing.assert_equal(made, labelled * np.asarray(mask))


def test_tensors_are_refused_with_a_way_out() -> None:
    torch = pytest.importorskip("torch")
    mask = Mask(3, 0.5, rng=3)
    tensor = torch.ones(3)
    for one, other in ((tensor, mask), (mask, tensor)):
        with pytest.raises(TypeError, match=r"give x\.detach\(\)\.cpu\(\)\.numpy\(\)"):
            one * other
