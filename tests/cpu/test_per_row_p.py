"""p as an array that is the same along lines: each line has one threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.functions.test_per_element_p import KEY, chances, expected, kept_by
from tests.support.limits import set_limits
from tests.support.oracle import assert_same

PLACES: list[dict[str, Any]] = [{"offset": o} for o in (0, 5, 2**35 - 999, 2**62 + 1)]


@pytest.mark.parametrize("n", [128, 255, 256, 257, 1025])
def test_every_line_has_its_own(n: int, rng: np.random.Generator) -> None:
    for shape, of_p in (((3, 4, n), (4, 1)), ((9, n), (9, 1)), ((2, 5, 2, n), (5, 1, 1))):
        x, p = rng.standard_normal(shape).astype(np.float32), chances(of_p, rng)
        wide = np.concatenate([x, x], axis=-1)[..., :n]
        apart = np.repeat(x, 2, axis=-1)[..., ::2]
        for where in PLACES:
            for given in (x, wide, apart):
                got = np.ascontiguousarray(fd.dropout(given, p, rng=KEY, **where))
                assert_same(got, expected(x, p, **where))
            assert_same(fd.dropout(x, p, rng=KEY, scale=2.0, **where), expected(x, p, 2.0, **where))


def test_ties_are_settled_by_each_line_s_own_threshold() -> None:
    """So near to each other that 16 bits say the same of nearly all."""
    x = np.ones((64, 5000), np.float32)
    p = 0.3 + np.arange(64.0)[:, None] * 2.0**-20
    assert_same(fd.dropout(x, p, rng=KEY), expected(x, p))


def test_fortran_order(rng: np.random.Generator) -> None:
    x = rng.standard_normal((150, 6, 7, 9)).astype(np.float32)
    for of_p in ((6, 1, 1), (7, 1), (9,), (6, 1, 9)):
        p = rng.random(of_p)
        p.flat[0] = 0.0
        for where in PLACES:
            got = fd.dropout(np.asfortranarray(x), p, rng=KEY, **where)
            assert got.flags.f_contiguous
            assert_same(np.ascontiguousarray(got), expected(x, p, **where))
        p.flat[1] = 1.0
        assert_same(
            np.ascontiguousarray(fd.dropout(np.asfortranarray(x), p, rng=KEY)), expected(x, p)
        )


def test_lines_that_share_decisions(rng: np.random.Generator) -> None:
    x, p = rng.standard_normal((4, 30, 200)), chances((30, 1), rng)
    for noise, index in (((None, None, 1), (4, 30, 1)), ((1, None, None), (1, 30, 200))):
        kept = kept_by(p, x.shape, noise_shape=index)
        for laid in (x, np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)):
            got = fd.dropout(laid, p, rng=KEY, noise_shape=noise, scale=1.0)
            assert_same(np.ascontiguousarray(got), np.where(kept, x, 0.0))


@pytest.mark.slow
def test_fills_and_marks(rng: np.random.Generator) -> None:
    p = chances((7, 1), rng)
    for dtype in (np.uint8, np.complex128):
        x = rng.integers(0, 99, (3, 7, 300)).astype(dtype)
        want = np.where(kept_by(p, x.shape), x, np.asarray(7, dtype))
        assert_same(fd.masked_fill(x, p, 7, rng=KEY), want)
    assert_same(fd.dropout_mask((3, 7, 300), p, rng=KEY), kept_by(p, (3, 7, 300)))


def test_threads_and_shards_change_no_bit(
    set_threads: Callable[[int], None], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(monkeypatch, PARALLEL_FROM=1 << 12)
    x, p = rng.standard_normal((40, 8, 300)).astype(np.float32), chances((8, 1), rng)
    want = expected(x, p)
    for threads in (1, 2, 5):
        set_threads(threads)
        assert_same(fd.dropout(x, p, rng=KEY), want)
        got = fd.dropout(np.asfortranarray(x), p, rng=KEY)
        assert_same(np.ascontiguousarray(got), want)
    part = np.ascontiguousarray(x[5:30, 2:, 9:])
    where: dict[str, Any] = {"offset": (5, 2, 9), "global_shape": x.shape}
    assert_same(fd.dropout(part, p[2:], rng=KEY, **where), np.ascontiguousarray(want[5:30, 2:, 9:]))
