"""Outputs that are or overlap the input, or themselves: the result is as if they did not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastdrop as fd
from tests.support.oracle import Array, data, dropped, key_from, mask


@pytest.fixture(params=[np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_out_may_be_x(dtype: Any, rng: np.random.Generator) -> None:
    key = key_from(rng)
    a = rng.standard_normal((70, 60)).astype(dtype)
    for x in (a.copy(), a.copy().T, a.copy()[::-1, ::2], a.copy()[:, 3:]):
        expected = dropped(x, 0.3, key)
        assert fd.dropout(x, 0.3, rng=key, out=x) is x
        assert data(x) == data(expected)


def overlapping(kind: str, base: Array) -> tuple[Array, Array]:
    """Two views of `base` (80 by 80) that overlap in part: input and output."""
    line = base.reshape(-1)
    views = {
        "forward": (line[:-5], line[5:]),
        "backward": (line[5:], line[:-5]),
        "far forward": (line[:-3000], line[3000:]),
        "reversed": (line, line[::-1]),
        "transposed": (base, base.T),
        "rows down": (base[:-1], base[1:]),
        "rows up": (base[1:], base[:-1]),
        "other steps": (line[: line.size // 2], line[::2]),
        "columns": (base[:, :-2], base[:, 2:]),
        "interleaved": (line[::2], line[1::2]),
    }
    return views[kind]


OVERLAPS = [
    "forward", "backward", "far forward", "reversed", "transposed", "rows down", "rows up",
    "other steps", "columns", "interleaved",
]  # fmt: skip


@pytest.mark.parametrize("kind", OVERLAPS)
def test_overlap_of_x_and_out_cannot_be_seen(
    kind: str, dtype: Any, rng: np.random.Generator
) -> None:
    base = rng.standard_normal((80, 80)).astype(dtype)
    x, out = overlapping(kind, base)
    assert np.may_share_memory(x, out)
    key = key_from(rng)
    expected = dropped(x.copy(), 0.25, key)
    assert fd.dropout(x, 0.25, rng=key, out=out) is out
    assert data(out) == data(expected)


@pytest.mark.parametrize("kind", OVERLAPS)
def test_overlap_in_masked_fill_and_evaluation_cannot_be_seen(
    kind: str, rng: np.random.Generator
) -> None:
    key = key_from(rng)
    x, out = overlapping(kind, rng.integers(0, 2**15, (80, 80), np.int32))
    expected = np.where(mask(x.shape, 0.25, key), x, np.int32(-1))
    fd.masked_fill(x, 0.25, -1, rng=key, out=out)
    np.testing.assert_array_equal(out, expected)
    x, out = overlapping(kind, rng.standard_normal((80, 80)))
    expected = x.copy()
    fd.dropout(x, 0.25, training=False, out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("shape", "strides"), [((50, 40), (0, 8)), ((50, 40), (8, 0)), ((100,), (0,)), ((9, 9), (8, 8))]
)
def test_an_out_that_overlaps_itself_takes_what_numpy_would_write(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    x = np.arange(1.0, math.prod(shape) + 1).reshape(shape)
    results = []
    for _ in range(3):
        memory = np.full(200, -1.0)
        out = as_strided(memory, shape, strides)
        assert fd.dropout(x, 0.5, rng=2, out=out) is out
        results.append(data(memory))
    assert len(set(results)) == 1
    memory = np.full(200, -1.0)
    np.copyto(as_strided(memory, shape, strides), dropped(x, 0.5, fd.Key(2)))
    assert results[0] == data(memory)


def test_a_mask_out_that_overlaps_itself_takes_what_numpy_would_write() -> None:
    memory, same = np.zeros(50, np.bool_), np.zeros(50, np.bool_)
    fd.dropout_mask((30, 50), 0.5, rng=2, out=as_strided(memory, (30, 50), (0, 1)))
    np.copyto(as_strided(same, (30, 50), (0, 1)), mask((30, 50), 0.5, fd.Key(2)))
    np.testing.assert_array_equal(memory, same)
    assert memory.any()
