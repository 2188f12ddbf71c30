"""The normal numbers are normal: quantiles to within 4 ulp, tails and all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.normals import standard_normal
from tests.support.oracle import Array, assert_same

KEY = fd.Key(2**40 + 9, 2**63 + 5)
N = 100_000_000


@pytest.fixture(scope="module")
def special() -> Any:
    return pytest.importorskip("scipy.special", reason="the oracle is scipy, as in the test extra")


def test_numbers_are_quantiles_to_within_four_units_in_the_last_place(
    special: Any, rng: np.random.Generator
) -> None:
    # Both ends, where a significand begins again, where the other polynomial does (w = 5.5), and
    # any of all magnitudes.
    joint = int(2**32 * (1 - math.sqrt(1 - math.exp(-5.5))) / 2)
    edges = [np.arange(k - 70_000, k + 70_000) for k in (joint, 2**29, 2**30, 2**31 - 70_000)]
    tails = np.exp2(rng.uniform(0, 31, 1_000_000)).astype(np.int64)
    lower = np.concatenate([np.arange(200_000), *edges, tails, rng.integers(0, 2**31, 1_000_000)])
    u = lower.clip(0, 2**31 - 1).astype(np.uint32)
    z, true = standard_normal(u), special.ndtri((u + 0.5) / 2.0**32)
    assert (np.abs(z - true) < 4 * np.spacing(np.abs(true).astype(np.float32))).all()
    assert (standard_normal(~u) == -z).all()


def test_the_ends_are_those_of_32_bits(special: Any) -> None:
    u = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    true = special.ndtri((u + 0.5) / 2.0**32).astype(np.float32)
    assert_same(standard_normal(u), true)


def test_numbers_have_the_moments_of_a_normal() -> None:
    n = 1 << 20
    z = fd.gaussian_noise(np.zeros(n), 1.0, rng=KEY)
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs(float(np.mean(z**power)) - moment) < 5 * deviation / math.sqrt(n)
    # Of neighbours, and of the two that share a word or a block.
    for lag in (1, 2, 4, 8):
        assert abs(float(np.mean(z[:-lag] * z[lag:]))) < 5 / math.sqrt(n)


@pytest.fixture(scope="module")
def many() -> Array:
    z: Array = fd.gaussian_noise(np.zeros(N, np.float32), 1.0, rng=KEY)
    z.sort()
    return z


@pytest.mark.slow
def test_a_hundred_million_numbers_pass_kolmogorov_and_smirnov(many: Array, special: Any) -> None:
    distance = 0.0
    for start in range(0, N, 1 << 22):
        part = special.ndtr(many[start : start + (1 << 22)].astype(np.float64))
        steps = np.arange(start, start + part.size)
        distance = max(distance, np.max(part - steps / N), np.max((steps + 1) / N - part))
    assert special.kolmogorov(distance * math.sqrt(N)) > 1e-3


@pytest.mark.slow
def test_their_tails_have_as_many_as_they_should(many: Array, special: Any) -> None:
    """By chi-square: in steps of a quarter of a deviation, beyond 3 of them, on either side."""
    edges = np.append(np.arange(3.0, 5.25, 0.25), 7.0)
    expected = N * -np.diff(special.ndtr(-edges))
    assert expected.min() > 20
    for side in (many, -many[::-1]):
        seen = np.diff(np.searchsorted(side, edges.astype(np.float32)))
        chi_square = float(np.sum((seen - expected) ** 2 / expected))
        assert special.chdtrc(expected.size, chi_square) > 1e-3
