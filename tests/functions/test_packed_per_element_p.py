"""Packed masks of a p of each element: the bits of the mask that is not packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.functions.test_per_element_p import KEY, chances, kept_by
from tests.support.oracle import Array, assert_same, poisoned

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((0,), (1,)),
    ((0, 3), (3,)),
    ((1,), (1,)),
    ((1003,), (1003,)),
    ((30, 7), (7,)),
    ((30, 7), (30, 1)),
    ((4, 6, 11, 13), (6, 1, 1)),
    ((4, 6, 11, 13), (4, 1, 1, 13)),
    ((5, 1, 3), ()),
]


def packed(kept: Array) -> Array:
    return np.packbits(kept, axis=None, bitorder="little")


@pytest.mark.parametrize(("shape", "of_p"), SHAPES, ids=str)
def test_it_is_the_mask_packed(
    shape: tuple[int, ...], of_p: tuple[int, ...], rng: np.random.Generator
) -> None:
    p = chances(of_p, rng)
    true = packed(kept_by(p, shape))
    assert_same(fd.dropout_mask(shape, p, rng=KEY, packed=True), true)
    for out in (poisoned(true.shape, np.uint8), poisoned((2 * true.size,), np.uint8)[::2]):
        assert fd.dropout_mask(shape, p, rng=KEY, packed=True, out=out) is out
        assert_same(np.ascontiguousarray(out), true)


def test_noise_shape_and_shards(rng: np.random.Generator) -> None:
    p = chances((30, 1), rng)
    noise: Any = (None, None, 1)
    places: list[dict[str, Any]] = [
        {"noise_shape": noise},
        {"offset": 2**40 + 3},
        {"offset": (3, 0, 5), "global_shape": (12, 31, 70)},
    ]
    for place in places:
        plain = fd.dropout_mask((8, 30, 51), p, rng=KEY, **place)
        assert_same(fd.dropout_mask((8, 30, 51), p, rng=KEY, packed=True, **place), packed(plain))
    with pytest.raises(ValueError, match=r"p has shape \(51,\).*\(8, 30, 1\)"):
        fd.dropout_mask((8, 30, 51), rng.random(51), packed=True, noise_shape=noise)


def test_large_masks_are_the_same_on_any_number_of_threads(
    rng: np.random.Generator, set_threads: Callable[[int], None]
) -> None:
    for shape, of_p in (((3, 400_001), (3, 1)), ((1_100_003,), (1_100_003,))):
        p = chances(of_p, rng)
        true = packed(fd.dropout_mask(shape, p, rng=KEY))
        for threads in (1, 3):
            set_threads(threads)
            assert_same(fd.dropout_mask(shape, p, rng=KEY, packed=True), true)


def test_out_may_be_the_memory_of_p(rng: np.random.Generator) -> None:
    p = rng.random(640)
    true = fd.dropout_mask(640, p, rng=KEY, packed=True)
    out = p.view(np.uint8)[40:120]
    assert_same(fd.dropout_mask(640, p, rng=KEY, packed=True, out=out).copy(), true)


def test_a_wrong_out_is_refused_before_anything_is_written() -> None:
    out = poisoned((9,), np.uint8)
    before = out.tobytes()
    with pytest.raises(ValueError, match="out has shape"):
        fd.dropout_mask(64, [0.5] * 64, packed=True, out=out)
    with pytest.raises(ValueError, match=r"p\[1\]=2.0"):
        fd.dropout_mask(72, [0.5, 2.0] * 36, packed=True, out=out)
    with pytest.raises(TypeError, match="rng="):
        fd.dropout_mask(72, [0.5] * 72, packed=True, rng="1", out=out)  # type: ignore[arg-type]
    assert out.tobytes() == before
