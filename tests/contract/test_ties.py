"""Level 1 decides ties, in every kernel; offsets cross every boundary of the counter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support.oracle import Array, applied, assert_same, data, key_from, mask, misaligned

N = 3000
EDGES = [2**16, 2**19, 2**32, 2**34, 2**35, 2**36, 2**60, 2**62]


def uniforms(key: fd.Key, index: Array) -> Array:
    """The 32-bit uniform of every index."""
    drawn = contract.uniform32(np.uint64(key.seed), np.uint64(key.stream), index)
    return np.asarray(drawn)


def tied_ps(key: fd.Key, index: int) -> tuple[float, float]:
    """Probabilities between which the element of an index changes from kept to dropped."""
    u = int(uniforms(key, np.array([index], np.uint64))[0])
    return u / 2**32, (u + 1) / 2**32


def assert_drawn(kept: Array, p: float, key: fd.Key, **where: Any) -> None:
    """Every function draws this mask, C order and F, and at other alignments."""
    shape = kept.shape
    expected = applied(kept, np.ones(shape, np.float32), 1.0)
    for x in (
        np.ones(shape, np.float32),
        np.ones(shape, np.float32, order="F"),
        misaligned(np.ones(shape, np.float32), 13),
        np.ones((*shape, 2), np.float32)[..., 0],
        np.ones(shape, np.float32)[(slice(None, None, -1),) * len(shape)],
    ):
        assert_same(fd.dropout(x, p, rng=key, scale=1.0, **where), expected)
        assert_same(fd.masked_fill(x, p, 0.0, rng=key, **where), expected)
    double = fd.dropout(np.ones(shape), p, rng=key, scale=1.0, **where)
    assert data(double) == data(expected.astype(np.float64))
    assert_same(fd.dropout_mask(shape, p, rng=key, **where), kept)
    bits = fd.dropout_mask(shape, p, rng=key, packed=True, **where)
    assert_same(bits, np.packbits(kept.ravel(), bitorder="little"))


# Each place an element can take within a block, a vector, a granule and a tile; edges of each.
PLACES = [*range(8), 15, 16, 31, 32, 63, 64, 127, 511, 512, 1023, 2047, 2048, 2500, N - 1]


@pytest.mark.parametrize("place", PLACES)
def test_a_tie_at_any_place_of_a_line_is_settled(place: int, rng: np.random.Generator) -> None:
    key = key_from(rng)
    kept_at, dropped_at = tied_ps(key, place)
    before, after = mask((N,), kept_at, key), mask((N,), dropped_at, key)
    assert before[place]
    assert not after[place]
    assert_drawn(before, kept_at, key)
    assert_drawn(after, dropped_at, key)


@pytest.mark.parametrize("low", [0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
def test_ties_are_settled_by_any_low_half_of_the_threshold(
    low: int, rng: np.random.Generator
) -> None:
    key = key_from(rng)
    halves = uniforms(key, np.arange(N, dtype=np.uint64)) >> np.uint64(16)
    for place in (5, 1700):
        p = (int(halves[place]) * 65536 + low) / 2**32
        assert contract.threshold(p) & 0xFFFF == low
        assert_drawn(mask((N,), p, key), p, key)


def test_many_ties_at_once_are_settled() -> None:
    # Of 2**17 elements about two share each half; the most that do so are the test.
    key = fd.Key(17)
    uniform = uniforms(key, np.arange(2**17, dtype=np.uint64))
    halves, counts = np.unique(uniform >> np.uint64(16), return_counts=True)
    most = int(halves[counts.argmax()])
    tied = np.flatnonzero(uniform >> np.uint64(16) == most)
    assert len(tied) >= 8
    middle = int(np.sort(uniform[tied])[len(tied) // 2])
    for u in (middle, middle + 1):
        kept = uniform >= u
        assert kept[tied].any()
        assert not kept[tied].all()
        assert_drawn(kept.reshape(256, 512), u / 2**32, key)


@pytest.mark.parametrize("p", [2.0**-32, 2.0**-20, 65535 / 2**32, 2.0**-16, 1 - 2.0**-16,
                               1 - 65535 / 2**32, 1 - 2.0**-32])  # fmt: skip
def test_thresholds_whose_upper_half_is_0_or_all_ones_are_settled(p: float) -> None:
    # Level 0 is tied for an element in 65,536: there are some among these.
    key = fd.Key(23)
    index = np.arange(2**17, dtype=np.uint64)
    uniform = uniforms(key, index)
    threshold = contract.threshold(p)
    assert (uniform >> np.uint64(16) == threshold >> 16).any()
    assert_drawn((uniform >= threshold).reshape(512, 256), p, key)


@pytest.mark.parametrize("level_0", [0, 0xFFFF])
def test_ties_in_the_outermost_halves_are_settled(level_0: int) -> None:
    key = fd.Key(29)
    uniform = uniforms(key, np.arange(2**17, dtype=np.uint64))
    (tied,) = np.nonzero(uniform >> np.uint64(16) == level_0)
    assert tied.size
    for place in tied:
        for u in (int(uniform[place]), int(uniform[place]) + 1):
            first = int(place) // 64 * 64
            where = {"offset": first}
            kept = uniform[first : first + 600] >= u
            if u < 2**32:
                assert_drawn(kept, u / 2**32, key, **where)


@pytest.mark.parametrize(
    ("noise", "place"), [((40, 1), 33), ((1, 30), 29), ((1, 1), 0), ((), 0), ((40, 30), 700)]
)
def test_ties_of_shared_decisions_are_settled(
    noise: tuple[int, ...], place: int, rng: np.random.Generator
) -> None:
    for _ in range(3):
        key = key_from(rng)
        for p in tied_ps(key, place):
            assert_drawn(mask((40, 30), p, key, noise_shape=noise), p, key, noise_shape=noise)


@pytest.mark.parametrize("columns", [1, 2, 3, 9])
def test_ties_of_scattered_elements_are_settled(columns: int, rng: np.random.Generator) -> None:
    # A narrow block of a wide array: each element of a line is in a block of its own.
    key = key_from(rng)
    full, start, shape = (900, 1000), (17, 501), (600, columns)
    where: dict[str, Any] = {"offset": start, "global_shape": full}
    for row in (0, 1, 63, 64, 255, 256, 511, 512, 599):
        place = (start[0] + row) * 1000 + start[1] + columns - 1
        for p, kept_there in zip(tied_ps(key, place), (True, False), strict=True):
            kept = mask(shape, p, key, **where)
            assert bool(kept[row, -1]) is kept_there
            assert_drawn(kept, p, key, **where)


@pytest.mark.parametrize("row_length", [64, 65, 72, 333])
def test_ties_of_panels_are_settled(row_length: int, rng: np.random.Generator) -> None:
    key = key_from(rng)
    shape = (300, row_length)
    for row, column in ((0, 0), (0, 63), (1, 5), (255, 62), (256, 63), (299, row_length - 1)):
        for offset in (0, 5):
            for p in tied_ps(key, row * row_length + column + offset):
                kept = mask(shape, p, key, offset=offset)
                x = np.ones(shape, np.float32, order="F")
                y = fd.dropout(x, p, rng=key, scale=1.0, offset=offset)
                assert_same(y, kept.astype(np.float32))
                assert_same(fd.masked_fill(x, p, 0, rng=key, offset=offset), y)


@pytest.mark.parametrize("edge", EDGES)
def test_offsets_that_cross_a_boundary_of_the_index_go_on(
    edge: int, rng: np.random.Generator
) -> None:
    key = key_from(rng)
    for behind in (1, 1300, 2999):
        offset = edge - behind
        assert_drawn(mask((N,), 0.4, key, offset=offset), 0.4, key, offset=offset)
        for place in (behind - 1, behind):  # and a tie on either side
            for p in tied_ps(key, offset + place):
                assert_drawn(mask((N,), p, key, offset=offset), p, key, offset=offset)


@pytest.mark.parametrize("edge", EDGES)
def test_arrays_of_two_axes_cross_a_boundary_of_the_index(
    edge: int, rng: np.random.Generator
) -> None:
    key = key_from(rng)
    offset = edge - 1234
    for shape in ((40, 70), (300, 9), (3, 1000)):
        kept = mask(shape, 0.4, key, offset=offset)
        assert_drawn(kept, 0.4, key, offset=offset)


def test_the_last_index_of_all_is_drawn(rng: np.random.Generator) -> None:
    key = key_from(rng)
    for n in (1, 9, 2500):
        offset = 2**63 - n
        for p in (0.5, *tied_ps(key, 2**63 - 1)):
            assert_drawn(mask((n,), p, key, offset=offset), p, key, offset=offset)
    full = (2**31, 2**32)
    where: dict[str, Any] = {"offset": (2**31 - 40, 2**32 - 50), "global_shape": full}
    assert_drawn(mask((40, 50), 0.5, key, **where), 0.5, key, **where)


def test_block_counters_differ_beyond_32_bits() -> None:
    masks = [fd.dropout_mask(512, 0.5, rng=1, offset=offset) for offset in (0, 2**35, 2**36, 2**60)]
    assert len({data(kept) for kept in masks}) == len(masks)


@pytest.mark.parametrize("word", [0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_every_word_of_the_key_counts(word: int) -> None:
    for key in (fd.Key(word, 5), fd.Key(5, word), fd.Key(word, word)):
        for p in (0.5, *tied_ps(key, 100)):
            assert_drawn(mask((200,), p, key), p, key)
