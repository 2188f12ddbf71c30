"""Rows of batches: where each row begins in the mask, and by which key, and keys of samples."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._batch.keys import checked_keys
from fastdrop._check.placement import placement_of
from fastdrop_kernels import reference
from fastdrop_kernels.rows import Rows, pieces, whole_rows

KEY = fd.Key(42, 7)


def starts(rows: Rows) -> list[int]:
    if rows.table is not None:
        return [int(n) for n in rows.table[:, 2]]
    return [(rows.first + r * rows.step) % 2**64 for r in range(rows.number)]


@pytest.mark.parametrize(
    ("shape", "offset", "full"),
    [
        ((5,), 0, None),
        ((4, 6), 3, None),
        ((2, 3, 4), 2**40, None),
        ((2, 3, 4), (1, 2, 3), (7, 8, 9)),
        ((2, 1, 4), (1, 2, 0), (7, 8, 4)),
        ((1, 1, 1, 4), (1, 0, 0, 0), (3, 1, 2, 4)),
        ((3, 2, 4), (0, 0, 2**30), (3, 2, 2**31)),
        ((0, 4), 0, None),
    ],
    ids=str,
)
def test_rows_begin_where_the_reference_says(
    shape: tuple[int, ...], offset: Any, full: tuple[int, ...] | None
) -> None:
    place = placement_of(shape, None, offset, full)
    strides = None if place.strides is None else place.strides[:-1]
    rows = whole_rows(shape[:-1], shape[-1], place.first, strides)
    index = reference.mask_index(shape, None, offset, full)
    assert (rows.number, rows.length, rows.elements) == (index[..., 0].size, shape[-1], index.size)
    assert starts(rows) == ([int(n) for n in index[..., 0].ravel()] if index.size else [])
    assert not rows.has_keys


def test_rows_of_samples_begin_at_0_with_the_samples_keys() -> None:
    keys = fd.sample_keys(KEY, [3, 0, 9])
    rows = whole_rows((3, 2), 5, keys=keys)
    assert rows.has_keys and starts(rows) == [0, 5] * 3
    assert rows.table is not None
    np.testing.assert_array_equal(rows.table[::2, :2], keys)
    np.testing.assert_array_equal(rows.table[1::2, :2], keys)
    assert tuple(map(int, keys[2])) == KEY.fold_in(9)


def test_pieces_cover_every_element_once() -> None:
    for elements in (0, 1, 99, 100, 101, 1000):
        rows = pieces(elements, 17, 100)
        assert rows.elements == elements
        lengths = [rows.length] * (rows.number - 1) + [rows.last] * (rows.number > 0)
        assert starts(rows) == [17 + sum(lengths[:k]) for k in range(rows.number)]


def test_sample_keys_are_folds_in_any_form() -> None:
    index = np.array([0, 1, 2**32, 2**62 - 1], np.int64)
    expected = np.array([KEY.fold_in(int(n)) for n in index], np.uint64)
    for given in (index, index.tolist(), index.astype(np.uint64)):
        np.testing.assert_array_equal(fd.sample_keys(KEY, given), expected)
    assert fd.sample_keys(KEY, []).shape == (0, 2)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(expected)), expected)


@pytest.mark.parametrize(
    ("rng", "index", "kind", "match"),
    [
        (KEY, [1, 2], ValueError, "sample_index has 2 numbers, and x has 3 samples"),
        (KEY, [[1, 2, 3]], ValueError, "sample_index has 2 axes"),
        (KEY, [1.0, 2.0, 3.0], TypeError, "sample_index has dtype float64"),
        (KEY, [1, -2, 3], ValueError, r"sample_index has -2: .*2\*\*62"),
        (KEY, [1, 2**62, 3], ValueError, rf"sample_index has {2**62}"),
        (np.zeros((3, 2), np.int64), None, TypeError, "dtype int64: give keys of samples"),
        (np.zeros((3, 3), np.uint64), None, TypeError, r"shape \(3, 3\)"),
        (np.zeros((2, 2), np.uint64), None, ValueError, "keys for 2 samples, and x has 3"),
        (np.zeros((3, 2), np.uint64), [1, 2, 3], ValueError, "give that, or"),
    ],
    ids=str,
)
def test_wrong_keys_of_samples_are_refused(
    rng: Any, index: Any, kind: type[Exception], match: str
) -> None:
    with pytest.raises(kind, match=match):
        checked_keys(rng, index, 3, "x")


def test_arrays_without_axes_have_no_samples() -> None:
    with pytest.raises(ValueError, match="x has no axes"):
        checked_keys(KEY, [1], None, "x")
