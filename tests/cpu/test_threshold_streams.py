"""p as an array: streams of thresholds and factors, made of a p that varies along some axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import reference
from tests.functions.test_per_element_p import KEY, chances, expected, kept_by
from tests.support.limits import set_limits
from tests.support.normals import uniforms
from tests.support.oracle import POISON, Array, assert_same, misaligned, poisoned
from tests.support.thinning import thinned

# Certain, next to certain, subnormal, and where the threshold is rounded.
SPECIAL = [0.0, 1.0, 5e-324, 1e-310, 2.0**-33, 1.5 * 2.0**-32, 2.0**-16, 1 - 2.0**-53, 1 - 2.0**-33,
           1 - 2.0**-32, 1 - 2.0**-16, 0.5]  # fmt: skip
DTYPES = [np.dtype(d) for d in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
every_dtype = pytest.mark.parametrize(
    "dtype", thinned(lambda dtype: dtype == np.float32, DTYPES), ids=str
)
# Shapes, and those of p: short, long, of many axes; of columns, of rows, and of every element.
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((9000, 3), (3,)),
    ((300, 70), (70,)),
    ((70, 256), (256,)),
    ((50, 1001), (1001,)),
    ((7, 5000), (5000,)),
    ((20, 6, 7, 11), (7, 11)),
    ((6, 9, 300), (6, 1, 300)),
    ((6, 4, 300), (4, 300)),
    ((5, 3, 4, 257), (3, 1, 257)),
    ((3, 9001), (9001,)),
    ((2500, 9), (2500, 9)),
    ((2500, 9), (2500, 1)),
    ((12, 300), (12, 1)),
    ((3, 2, 2100), (3, 2, 1)),
    ((4, 2, 512), (2, 1)),
    ((7, 5, 40), (7, 1, 40)),
    ((7, 5, 40), (7, 5, 1)),
    ((3, 40, 64), (40, 1)),
]
OFFSETS = (0, 77, 2**32 - 999, 2**35 - 5, 2**60 - 1234)


def special_chances(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    p = rng.random(shape)
    places = rng.permutation(p.size)[: len(SPECIAL)]
    p.flat[places] = rng.permutation(SPECIAL)[: len(places)]
    return p


@every_dtype
def test_every_element_has_its_own(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for shape, of_p in SHAPES:
        x, p = (3 * rng.standard_normal(shape)).astype(dtype), special_chances(of_p, rng)
        x.flat[::97] = np.nan
        x.flat[5::97] = np.inf
        for offset in (0, *rng.permutation(OFFSETS)[:2].tolist()):
            out = poisoned(shape, dtype)
            fd.dropout(x, p, rng=KEY, offset=offset, out=out)
            assert_same(out, expected(x, p, offset=offset))
        assert_same(fd.dropout(x, p, rng=KEY, scale=-1.5), expected(x, p, -1.5))
        own = x.copy()
        assert_same(fd.dropout(own, p, rng=KEY, out=own), expected(x, p))


@pytest.mark.parametrize(
    "dtype",
    thinned(lambda dtype: dtype == "i2", ["u1", "i2", "f4", "i8", "c16"]),
)
def test_fills(dtype: str, rng: np.random.Generator) -> None:
    for shape, of_p in SHAPES:
        x, p = rng.integers(0, 99, shape).astype(dtype), special_chances(of_p, rng)
        got = fd.masked_fill(x, p, 7, rng=KEY, offset=2**33 + 5)
        kept = kept_by(p, shape, offset=2**33 + 5)
        assert_same(got, np.where(kept, x, np.asarray(7, dtype)))


def test_masks(rng: np.random.Generator) -> None:
    for shape, of_p in SHAPES:
        p = special_chances(of_p, rng)
        for offset in OFFSETS:
            kept = kept_by(p, shape, offset=offset)
            assert_same(fd.dropout_mask(shape, p, rng=KEY, offset=offset), kept)
            bits = fd.dropout_mask(shape, p, rng=KEY, offset=offset, packed=True)
            assert_same(bits, np.packbits(kept, axis=None, bitorder="little"))


@pytest.mark.parametrize("offset", OFFSETS)
def test_ties_are_settled_by_every_element_s_own_threshold(
    offset: int, rng: np.random.Generator
) -> None:
    """Every p is tied with an element: it is the uniform of one, or near it."""
    for shape in ((400, 7), (64, 300), (5, 2000)):
        u = uniforms(reference.mask_index(shape, offset=offset), KEY).astype(np.int64)
        columns = np.arange(shape[1])
        chosen = u[rng.integers(0, shape[0], shape[1]), columns]
        any_half = (chosen & ~0xFFFF) + rng.integers(0, 1 << 16, shape[1])
        for threshold in (chosen, chosen + 1, chosen & ~0xFFFF, chosen | 0xFFFF, any_half):
            kept = u >= threshold
            p = threshold / 2.0**32
            assert_same(fd.dropout_mask(shape, p, rng=KEY, offset=offset), kept)
            y = fd.dropout(np.ones(shape, np.float32), p, rng=KEY, offset=offset, scale=1.0)
            assert_same(y, kept.astype(np.float32))


@pytest.mark.parametrize("level_0", [0, 0xFFFF])
def test_ties_in_the_outermost_halves(level_0: int) -> None:
    """Next to p of 0 and 1, and of these, whose upper halves are the same."""
    index = np.arange(2**19, dtype=np.uint64)
    u = uniforms(index, KEY).astype(np.int64)
    (tied,) = np.nonzero(u >> 16 == level_0)
    assert tied.size >= 4
    for place in tied:
        first = int(place) // 512 * 512
        its = u[first : first + 512].reshape(2, 256)
        for threshold in (level_0 << 16, int(u[place]), int(u[place]) + 1, (level_0 + 1) << 16):
            p = np.full(256, threshold / 2.0**32)
            p[::3] = float(level_0 > 0)  # drops all, or nothing
            kept = its >= np.where(p == 1.0, 2**32, np.minimum(np.rint(p * 2.0**32), 2**32 - 1))
            assert_same(fd.dropout_mask((2, 256), p, rng=KEY, offset=first), kept)


def test_parts_and_alignments(rng: np.random.Generator) -> None:
    full, p = (40, 700), special_chances((700,), rng)
    x = rng.standard_normal(full).astype(np.float32)
    want = expected(x, p)
    for rows, across in ((slice(3, 30), slice(0, 300)), (slice(0, 40), slice(131, 699))):
        where: dict[str, Any] = {"offset": (rows.start, across.start), "global_shape": full}
        part, its = np.ascontiguousarray(want[rows, across]), p[across]
        for laid in (
            x[rows, across],
            np.ascontiguousarray(x[rows, across]),
            misaligned(np.ascontiguousarray(x[rows, across]), 12),
        ):
            got = fd.dropout(laid, its, rng=KEY, **where)
            assert_same(np.ascontiguousarray(got), part)


def test_a_last_axis_of_one_and_shared_decisions(rng: np.random.Generator) -> None:
    x, p = rng.standard_normal((90, 40, 1)).astype(np.float32), special_chances((40, 1), rng)
    assert_same(fd.dropout(x, p, rng=KEY), expected(x, p))
    where: dict[str, Any] = {"offset": (5, 1, 7), "global_shape": (99, 50, 9)}
    assert_same(fd.dropout(x, p, rng=KEY, **where), expected(x, p, **where))
    many, p = rng.standard_normal((6, 30, 300)), special_chances((300,), rng)
    cases: tuple[tuple[Any, tuple[int, ...]], ...] = (
        ((1, None, None), (1, 30, 300)),
        ((None, 1, None), (6, 1, 300)),
        ((1, 1, None), (1, 1, 300)),
    )
    for noise, index in cases:
        kept = kept_by(p, many.shape, noise_shape=index)
        got = fd.dropout(many, p, rng=KEY, noise_shape=noise, scale=1.0)
        assert_same(got, np.where(kept, many, 0.0))


def test_threads_and_large_arrays_change_no_bit(
    set_threads: Callable[[int], None], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(monkeypatch, PARALLEL_FROM=1 << 12)
    for shape, of_p in (((300, 1000), (1000,)), ((40000, 9), (9,)), ((40, 9, 300), (40, 1, 300))):
        x, p = rng.standard_normal(shape).astype(np.float32), special_chances(of_p, rng)
        want = expected(x, p)
        for threads in (1, 2, 5):
            set_threads(threads)
            out = poisoned(shape, np.float32)
            fd.dropout(x, p, rng=KEY, out=out)
            assert_same(out, want)


def test_nothing_around_the_result_is_written(rng: np.random.Generator) -> None:
    for n, rows in ((257, 3), (1000, 3), (5, 999)):
        memory = np.full(4 * n * rows + 256, POISON, np.uint8)
        out = memory[128:-128].view(np.float32).reshape(rows, n)
        x, p = rng.standard_normal((rows, n)).astype(np.float32), chances((n,), rng)
        fd.dropout(x, p, rng=KEY, offset=3, out=out)
        assert_same(out, expected(x, p, offset=3))
        assert (memory[:128] == POISON).all()
        assert (memory[-128:] == POISON).all()


def test_a_p_that_changed_is_seen(rng: np.random.Generator) -> None:
    x, p = rng.standard_normal((30, 300)), chances((300,), rng)
    for change in range(3):
        p[change + 10] = rng.random()
        assert_same(fd.dropout(x, p, rng=KEY), expected(x, p))
        assert_same(fd.dropout(x, p, rng=KEY, scale=change + 1.5), expected(x, p, change + 1.5))
        fill = fd.masked_fill(x, p, float(change), rng=KEY)
        assert_same(fill, np.where(kept_by(p, x.shape), x, float(change)))


def test_out_may_be_the_memory_of_p(rng: np.random.Generator) -> None:
    x, memory = rng.standard_normal((30, 300)), np.zeros((30, 300))
    p = memory[4]
    p[:] = rng.random(300)
    true = expected(x, p.copy())
    assert_same(fd.dropout(x, p, rng=KEY, out=memory), true)
