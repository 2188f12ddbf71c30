"""Gaussian dropout and noise: every element has its own normal number, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import reference

from .normals import noisy, standard_normal
from .oracle import Array, assert_same, misaligned

KEY = fd.Key(2**40 + 9, 2**63 + 5)
DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
SHAPE = 37, 83
WHERE: list[tuple[dict[str, Any], dict[str, Any]]] = [  # ours, and the reference's
    ({}, {}),
    ({"offset": 2**35 - 700}, {"offset": 2**35 - 700}),
    ({"noise_shape": (None, 1)}, {"noise_shape": (37, 1)}),
    ({"noise_shape": (1, None)}, {"noise_shape": (1, 83)}),
    ({"noise_shape": (1, 1)}, {"noise_shape": (1, 1)}),
    *[({"offset": (3, 5), "global_shape": (40, 100)},) * 2],
]
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.copy,
    "F": lambda x: np.array(x, order="F"),
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "misaligned": lambda x: misaligned(x, x.itemsize),
}


def expected(what: str, x: Array, number: float, **where: Any) -> Array:
    deviation = number if what == "plus" else math.sqrt(number / (1 - number))
    return noisy(what, reference.mask_index(x.shape, **where), KEY, x, deviation)


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "times": fd.gaussian_dropout,
    "plus": fd.gaussian_noise,
}


@pytest.mark.parametrize("what", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_element_is_what_it_must_be(
    what: str, dtype: np.dtype[Any], layout: str, rng: np.random.Generator
) -> None:
    x = (3 * rng.standard_normal(SHAPE)).astype(dtype)
    given = LAYOUTS[layout](x)
    for ours, theirs in WHERE:
        got = FUNCTIONS[what](given, 0.3, rng=KEY, **ours)
        assert_same(np.ascontiguousarray(got), expected(what, x, 0.3, **theirs))
    assert_same(np.ascontiguousarray(given), x)
    FUNCTIONS[what](given, 0.3, rng=KEY, out=given)
    assert_same(np.ascontiguousarray(given), expected(what, x, 0.3))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_size_and_number_of_threads(
    dtype: np.dtype[Any], set_threads: Callable[[int], None], rng: np.random.Generator
) -> None:
    for n in (1, 7, 255, 256, 257, 5001, 1 << 21):
        x = rng.standard_normal(n).astype(dtype)
        for threads in (1, 2):
            set_threads(threads)
            got = fd.gaussian_noise(x, 0.3, rng=KEY, offset=n % 19)
            assert_same(got, expected("plus", x, 0.3, offset=n % 19))


def test_numbers_are_quantiles_to_within_four_units_in_the_last_place(
    rng: np.random.Generator,
) -> None:
    special = pytest.importorskip("scipy.special", reason="the oracle is scipy")
    edges = [np.arange(k - 70_000, k + 70_000) for k in (2**29, 2**30, 2**31 - 70_000)]
    tails = np.exp2(rng.uniform(0, 31, 1_000_000)).astype(np.int64)
    lower = np.concatenate([np.arange(200_000), *edges, tails, rng.integers(0, 2**31, 1_000_000)])
    u = lower.clip(0, 2**31 - 1).astype(np.uint32)
    z, true = standard_normal(u), special.ndtri((u + 0.5) / 2.0**32)
    assert (np.abs(z - true) < 4 * np.spacing(np.abs(true).astype(np.float32))).all()
    assert (standard_normal(~u) == -z).all()
    assert standard_normal(np.zeros(1, np.uint32))[0] == np.float32(special.ndtri(2.0**-33))


def test_numbers_have_the_moments_of_a_normal() -> None:
    n = 1 << 20
    z = fd.gaussian_noise(np.zeros(n), 1.0, rng=KEY)
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs(float(np.mean(z**power)) - moment) < 5 * deviation / math.sqrt(n)


@pytest.mark.slow
def test_a_hundred_million_numbers_pass_kolmogorov_and_smirnov() -> None:
    special = pytest.importorskip("scipy.special", reason="the oracle is scipy")
    n = 100_000_000
    z = fd.gaussian_noise(np.zeros(n, np.float32), 1.0, rng=KEY)
    z.sort()
    distance = 0.0
    for start in range(0, n, 1 << 22):
        part = special.ndtr(z[start : start + (1 << 22)].astype(np.float64))
        steps = np.arange(start, start + part.size)
        distance = max(distance, np.max(part - steps / n), np.max((steps + 1) / n - part))
    assert special.kolmogorov(distance * math.sqrt(n)) > 1e-3


def test_no_noise_changes_nothing_and_evaluation_returns_x_itself() -> None:
    x = np.array([1.5, -2.0, np.inf], np.float32)
    assert_same(fd.gaussian_dropout(x, 0.0, rng=KEY), x)
    assert_same(fd.gaussian_noise(x, 0.0, rng=KEY), x)
    for function in FUNCTIONS.values():
        assert function(x, 0.5, rng=KEY, training=False) is x


def test_bad_input_is_refused_before_anything_is_written() -> None:
    x, out = np.ones(3), np.zeros(3)
    for function, number, says in (
        (fd.gaussian_dropout, 1.0, "p=1.0"),
        (fd.gaussian_dropout, -0.1, "p=-0.1"),
        (fd.gaussian_noise, -1.0, "stddev=-1.0"),
        (fd.gaussian_noise, math.nan, "stddev=nan"),
        (fd.gaussian_noise, math.inf, "stddev=inf"),
    ):
        with pytest.raises(ValueError, match=says):
            function(x, number, rng=1, out=out)
    with pytest.raises(ValueError, match="does not fit float32"):
        fd.gaussian_noise(x.astype(np.float32), 1e39, rng=1)
    with pytest.raises(TypeError, match="int64"):
        fd.gaussian_noise([1, 2, 3], 1.0, rng=1)
    assert not out.any()
