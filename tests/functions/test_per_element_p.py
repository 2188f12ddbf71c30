"""p as an array: each element has its own threshold and factor, exactly as with a scalar p."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array, assert_same, poisoned
from tests.support.per_element import KEY, expected, kept_by, probabilities
from tests.support.slow import slow_unless

DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1000,), (1000,)),
    ((300, 70), (70,)),
    ((300, 70), (300, 1)),
    ((4, 6, 11, 11), (6, 1, 1)),
    ((4, 6, 11, 11), (4, 1, 1, 11)),
    ((9, 4000), (9, 1)),
    ((2, 3, 100_000), (3, 1)),  # computed block by block
    ((2, 70_000), ()),  # one block
]


@pytest.mark.parametrize(
    ("shapes", "dtype"),
    slow_unless(lambda shapes, dtype: dtype in DTYPES[1:], SHAPES[1:3], DTYPES)
    + [pytest.param(shapes, DTYPES[2]) for shapes in (SHAPES[0], *SHAPES[3:])],
    ids=str,
)
def test_every_element_has_its_own_threshold_and_factor(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: np.dtype[Any],
    rng: np.random.Generator,
) -> None:
    shape, of_p = shapes
    x, p = (3 * rng.standard_normal(shape)).astype(dtype), probabilities(of_p, rng)
    assert_same(fd.dropout(x, p, rng=KEY), expected(x, p))
    assert_same(fd.dropout(x, p, rng=KEY, scale=-1.5), expected(x, p, -1.5))
    odd = np.asfortranarray(x)[::-1]
    assert_same(
        np.ascontiguousarray(fd.dropout(odd, p, rng=KEY, offset=99)),
        expected(np.ascontiguousarray(odd), p, offset=99),
    )
    assert_same(fd.dropout_mask(shape, p, rng=KEY), kept_by(p, shape))


@pytest.mark.parametrize(
    "dtype",
    slow_unless(
        lambda dtype: dtype == np.int32,
        [np.int8, np.float16, np.int32, np.int64, np.complex128],
    ),
    ids=str,
)
def test_masked_fill(dtype: Any, rng: np.random.Generator) -> None:
    for shape, of_p in SHAPES[:4]:
        x, p = rng.integers(0, 99, shape).astype(dtype), probabilities(of_p, rng)
        got = fd.masked_fill(x, p, 7, rng=KEY)
        assert_same(got, np.where(kept_by(p, shape), x, np.asarray(7, dtype)))


def test_a_constant_array_equals_the_scalar(rng: np.random.Generator) -> None:
    x = rng.standard_normal((70, 90)).astype(np.float32)
    for p in (0.0, 0.3, 1.0, 0.999):
        assert_same(fd.dropout(x, np.full(90, p), rng=KEY), fd.dropout(x, p, rng=KEY))
        assert_same(fd.dropout(x, [p] * 90, rng=KEY), fd.dropout(x, p, rng=KEY))
        small = np.full((70, 1), p, np.float16)
        assert_same(fd.dropout(x, small, rng=KEY), fd.dropout(x, float(np.float16(p)), rng=KEY))


def test_elements_that_share_a_decision_share_its_p(rng: np.random.Generator) -> None:
    x, p = rng.standard_normal((8, 30, 50)), probabilities((30, 1), rng)
    noise: Any = (None, None, 1)
    kept = kept_by(p, x.shape, noise_shape=(8, 30, 1))
    got = fd.dropout(x, p, rng=KEY, noise_shape=noise, scale=1.0)
    assert_same(got, np.where(kept, x, 0.0))
    with pytest.raises(ValueError, match=r"p has shape \(50,\).*mask, \(8, 30, 1\)"):
        fd.dropout(x, rng.random(50), rng=KEY, noise_shape=noise)


def test_shards_take_their_part_of_p(rng: np.random.Generator) -> None:
    x, p = rng.standard_normal((60, 80)), probabilities((80,), rng)
    whole = fd.dropout(x, p, rng=KEY)
    part = slice(11, 50), slice(20, 77)
    got = fd.dropout(
        np.ascontiguousarray(x[part]), p[part[1]], rng=KEY, offset=(11, 20), global_shape=(60, 80)
    )
    assert_same(got, np.ascontiguousarray(whole[part]))


def test_any_number_of_threads_gives_the_same_bits(
    rng: np.random.Generator, set_threads: Callable[[int], None]
) -> None:
    x = rng.standard_normal((40, 50000)).astype(np.float32)
    for p in (rng.random((40, 1)), rng.random(50000)):
        results = []
        for threads in (1, 3):
            set_threads(threads)
            results.append(fd.dropout(x, p, rng=KEY).tobytes())
        assert results[0] == results[1]


def test_dropped_specials_vanish_and_out_may_be_anything(rng: np.random.Generator) -> None:
    x: Array = np.full((40, 50), np.nan, np.float32)
    assert not fd.dropout(x, np.ones(50), rng=1).tobytes().strip(b"\0")
    x = rng.standard_normal((40, 50))
    true, p = fd.dropout(x, np.abs(np.tanh(x)), rng=KEY), np.abs(np.tanh(x))
    assert fd.dropout(x, p, rng=KEY, out=p) is p
    assert_same(p, true)
    assert fd.dropout(x, [0.5], training=False) is x


@pytest.mark.parametrize(
    ("p", "error", "match"),
    [
        ([0.1, 1.5, -1.0], ValueError, r"p\[1\]=1.5 is not in \[0, 1\]"),
        ([[0.1, 0.2, np.nan]], ValueError, r"p\[0, 2\]=nan"),
        (np.array(-1.0), ValueError, "p=-1.0"),
        ([True, False, True], TypeError, "p has dtype bool"),
        (["a", "b", "c"], TypeError, "p has dtype <U1"),
        ([0.5, 0.5], ValueError, r"p has shape \(2,\)"),
    ],
    ids=str,
)
def test_a_bad_p_is_named_before_anything_is_written(
    p: Any, error: type[Exception], match: str
) -> None:
    x, out = np.zeros((4, 3), np.float32), poisoned((4, 3), np.float32)
    before = out.tobytes()
    with pytest.raises(error, match=match):
        fd.dropout(x, p, rng=1, out=out)
    with pytest.raises(error, match=match):
        fd.masked_fill(x, p, 1, rng=1, out=out)
    with pytest.raises(error, match=match):
        fd.dropout_mask((4, 3), p, rng=1)
    assert out.tobytes() == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("of_p", [(40, 30), (40, 1), (30,)], ids=str)
def test_repeated_calls_look_at_p_again(
    of_p: tuple[int, ...], dtype: Any, rng: np.random.Generator
) -> None:
    x, p = rng.standard_normal((40, 30)).astype(np.float32), probabilities(of_p, rng).astype(dtype)
    out = poisoned(x.shape, np.float32)
    for _ in range(4):
        p.flat[int(rng.integers(p.size))] = rng.random()
        for given in (p, p.copy()):
            want = expected(x, given.astype(np.float64))
            assert_same(fd.dropout(x, given, rng=KEY), want)
            assert fd.dropout(x, given, rng=KEY, out=out) is out
            assert_same(out, want)
            filled = fd.masked_fill(x, given, -2.0, rng=KEY)
            assert_same(filled, np.where(kept_by(given, x.shape), x, np.float32(-2.0)))
        drawn = fd.dropout(x, p, rng=np.random.default_rng(5))
        key = fd.as_key(np.random.default_rng(5))
        assert_same(drawn, fd.dropout(x, p, rng=key))
    p.flat[3] = -0.0
    assert_same(fd.dropout(x, p, rng=KEY), expected(x, p.astype(np.float64)))


def test_a_bad_p_is_refused_in_repeated_calls(rng: np.random.Generator) -> None:
    x, p = rng.standard_normal((40, 30)), rng.random((40, 30))
    out = poisoned(x.shape, np.float64)
    for _ in range(3):
        fd.dropout(x, p, rng=KEY, out=out)
    before, state = out.tobytes(), rng.bit_generator.state
    for bad in (1.5, -0.1, np.nan, -np.nan, np.inf):
        p[7, 8] = bad
        with pytest.raises(ValueError, match=r"p\[7, 8\]"):
            fd.dropout(x, p, rng=rng, out=out)
    assert out.tobytes() == before
    assert rng.bit_generator.state == state


def test_out_may_meet_p_in_repeated_calls(rng: np.random.Generator) -> None:
    x, p = rng.standard_normal((40, 30)), rng.random((40, 30))
    apart = np.empty_like(x)
    for _ in range(3):
        fd.dropout(x, p, rng=KEY, out=apart)
    assert_same(fd.dropout(x, p, rng=KEY, out=p), apart)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_empty_shards(length: int) -> None:
    where: dict[str, Any] = {"offset": (31, 0), "global_shape": (38, length), "rng": 1}
    for p in (np.full(0, 0.3), np.full((4, 0), 0.3), np.full((4, 1), 0.3), np.full(1, 0.3)):
        assert fd.dropout_mask((4, 0), p, **where).shape == (4, 0)
        assert fd.dropout(np.ones((4, 0)), p, **where).shape == (4, 0)
