"""Masks of spans: every mask by an oracle in plain Python, the rules' distributions, and errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._batch.spans import geometric_thresholds
from tests.support.devices import HostDevice
from tests.support.oracle import POISON, Array, assert_same, poisoned
from tests.support.spans import KEY, Draws, chosen, expected, row

RULES: tuple[dict[str, Any], ...] = (
    {"p": 0.65, "length": 10},
    {"p": 0.05, "length": 10, "min_spans": 2},
    {"n": 3, "length": 1},
    {"n": 4, "length": 7, "min_spacing": 0},
    {"p": 0.5, "length": 3, "min_spacing": 5},
    {"kind": "spanbert"},
    {"kind": "spanbert", "p": 1.0, "length": 1.5, "max_length": 80},
    {"kind": "t5"},
    {"kind": "t5", "p": 0.8, "length": 1.0},
)
LENGTHS = (10, 64, 65, 200, 1000)
LONG, LONG_SPANS = (1 << 23) + (1 << 22), 1500  # of a row, some of whose draws are rejected


def runs(masked: Array) -> list[int]:
    """The lengths of runs of True."""
    edges = np.flatnonzero(np.diff(np.pad(masked.astype(np.int8), 1)))
    return [int(n) for n in edges[1::2] - edges[::2]]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_masks_are_those_of_the_oracle(rule: dict[str, Any]) -> None:
    where: dict[str, Any] = {"offset": 0, "global_shape": None}
    for length in LENGTHS:
        made = fd.mask_spans((5, length), rng=KEY, **rule)
        assert_same(made, expected((5, length), rule, **where))
    made = fd.mask_spans((2, 3, 70), rng=KEY, offset=2**62 + 3, **rule)
    assert_same(made, expected((2, 3, 70), rule, offset=2**62 + 3, global_shape=None))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rows_are_drawn_as_rows_of_their_lengths(rule: dict[str, Any]) -> None:
    lengths = [130, 64, 11, 7, 2, 1, 0, 129]
    made = fd.mask_spans((8, 130), rng=KEY, row_lengths=lengths, **rule)
    assert_same(made, expected((8, 130), rule, row_lengths=lengths, offset=0, global_shape=None))
    assert all(kept[n:].all() for kept, n in zip(made, lengths, strict=True))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_cuda_gives_the_same(host: HostDevice, rule: dict[str, Any]) -> None:
    like = host.put(np.zeros(1))

    def check(shape: tuple[int, ...], **where: Any) -> None:
        made = fd.mask_spans(shape, rng=KEY, like=like, **rule, **where)
        assert_same(host.get(made), fd.mask_spans(shape, rng=KEY, **rule, **where))

    for shape in ((10,), (3, 64), (2, 2, 333), (0, 30)):
        for offset in (0, 2**35 - 3):
            check(shape, offset=offset)
    check((3, 2, 90), sample_index=[7, 2**40, 0])
    check((2, 3, 90), offset=(1, 2, 0), global_shape=(4, 9, 90))
    check((3, 90), row_lengths=[90, 33, 0])


def test_cuda_redraws_rejected_integers(host: HostDevice) -> None:
    made = fd.mask_spans(LONG, n=LONG_SPANS, length=1, rng=KEY, like=host.put(np.zeros(1)))
    assert_same(host.get(made), fd.mask_spans(LONG, n=LONG_SPANS, length=1, rng=KEY))


def test_integers_are_rejected_by_the_contract() -> None:
    """In rows so long that some of the draws are rejected."""
    made = fd.mask_spans(LONG, n=LONG_SPANS, length=1, rng=KEY)
    draws = Draws(KEY, 0, LONG_SPANS)
    assert np.flatnonzero(~made).tolist() == chosen(draws, LONG_SPANS, LONG)
    totals = range(LONG - LONG_SPANS + 1, LONG + 1)
    products = [draws.first[1][k] * n % 2**32 < 2**32 % n for k, n in enumerate(totals)]
    assert any(products)


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_and_threads_give_the_same_masks(threads: int) -> None:
    full = (40, 30, 1000)
    with fd.threads(threads):
        whole = fd.mask_spans(full, rng=KEY)
        part = fd.mask_spans((2, 3, 1000), rng=KEY, offset=(3, 5, 0), global_shape=full)
        assert_same(part, whole[3:5, 5:8].copy())
        one = fd.mask_spans((30, 1000), rng=KEY, offset=7 * 30 * 1000)
        assert_same(one, whole[7].copy())
    assert_same(whole[39, 29].copy(), row(KEY, (full[0] * full[1] - 1) * 1000, 1000, 1000, {}))


def test_samples_have_their_own_masks_in_any_batch() -> None:
    index = np.array([4, 1, 9])
    made = fd.mask_spans((3, 5, 70), rng=KEY, sample_index=index)
    for sample, n in zip(made, index.tolist(), strict=True):
        assert_same(sample.copy(), fd.mask_spans((5, 70), rng=KEY.fold_in(n)))
    again = fd.mask_spans((2, 5, 70), rng=fd.sample_keys(KEY, [9, 4]))
    assert_same(again, made[[2, 0]].copy())


def test_out_is_written_in_any_layout_and_nothing_beside_it() -> None:
    made = fd.mask_spans((6, 80), rng=KEY)
    room = np.zeros((12, 160), np.bool_)
    view = room[::2, 1::2]
    assert fd.mask_spans((6, 80), rng=KEY, out=view) is view
    assert_same(view.copy(), made)
    view[...] = False
    assert not room.any()
    turned = poisoned((80, 6), np.bool_).T
    assert_same(fd.mask_spans((6, 80), rng=KEY, out=turned).copy(), made)


def test_nothing_beside_a_contiguous_mask_is_written() -> None:
    for length in (1, 13, 64, 65, 127, 1000):
        for rule in ({"n": 1, "length": 1}, {"kind": "spanbert"}, {"kind": "t5"}):
            room = poisoned((4, length), np.uint8)
            fd.mask_spans((2, length), rng=KEY, out=room[1:3].view(np.bool_), **rule)
            assert (room[[0, 3]] == POISON).all() and (room[1:3] < 2).all()


def test_empty_masks() -> None:
    for shape in ((0,), (0, 20), (3, 0), (0, 0)):
        for kind in ("spanbert", "t5"):
            assert fd.mask_spans(shape, rng=KEY, kind=kind).shape == shape
    assert fd.mask_spans((0, 20), rng=KEY).shape == (0, 20)
    for rule in RULES:
        if "n" not in rule:
            assert fd.mask_spans((4, 99), rng=KEY, **{**rule, "p": 0.0}).all()


# Distributions. Chi-squares are compared with their mean, the degrees of freedom, plus 5 standard
# deviations, sqrt(2 * degrees of freedom) each.


def assert_uniform(counts: Sequence[int], cells: int) -> None:
    total = sum(counts)
    assert len(counts) <= cells and total >= 10 * cells
    mean = total / cells
    chi = sum((n - mean) ** 2 / mean for n in counts) + mean * (cells - len(counts))
    assert chi < cells - 1 + 5 * math.sqrt(2 * (cells - 1)), chi


def test_all_sets_of_starts_are_equally_likely() -> None:
    masked = ~fd.mask_spans((60_000, 8), n=3, length=1, rng=1)
    assert (masked.sum(1) == 3).all()
    assert_uniform(list(Counter(map(bytes, masked)).values()), math.comb(8, 3))


def test_all_arrangements_of_spaced_spans_are_equally_likely() -> None:
    """3 spans of 2 with a gap of 1 in 11: the 4 free places and the 3 spans in any order."""
    masked = ~fd.mask_spans((60_000, 11), n=3, length=2, min_spacing=1, rng=2)
    kinds = Counter(map(bytes, masked))
    assert all(runs(np.frombuffer(kind, np.bool_)) == [2, 2, 2] for kind in kinds)
    assert_uniform(list(kinds.values()), math.comb(3 + 3, 3))


def test_all_masks_of_t5_are_equally_likely() -> None:
    """5 of 12 masked in 2 spans: 4 ways to cut these, and 6 to cut the 7 others."""
    masked = ~fd.mask_spans((60_000, 12), kind="t5", p=5 / 12, length=2.5, rng=3)
    kinds = Counter(map(bytes, masked))
    for kind in kinds:
        spans = runs(np.frombuffer(kind, np.bool_))
        assert len(spans) == 2 and sum(spans) == 5 and not kind[0] and kind[-1]
    assert_uniform(list(kinds.values()), 4 * 6)


def test_starts_are_uniform_and_their_number_is_right_on_average() -> None:
    rows, length, p = 20_000, 200, 0.065 * 10
    masked = ~fd.mask_spans((rows, length), p=p, length=10, rng=4)
    # Where no span began within 9 elements before, a run begins with a span.
    share = masked[:, 40:160].mean()
    starts, places = p * length / 10, length - 9
    exact = 1 - math.comb(places - 10, int(starts)) / math.comb(places, int(starts))
    assert p * length / 10 == int(starts)
    assert abs(share - exact) < 5 * math.sqrt(exact * 10 / (rows * 120))
    single = ~fd.mask_spans((rows, length), n=1, length=10, rng=5)
    assert (single.sum(1) == 10).all()
    first = np.bincount(single.argmax(1), minlength=places)
    assert_uniform(first.tolist(), places)


def test_numbers_of_spans_are_rounded_by_chance() -> None:
    counted = (~fd.mask_spans((40_000, 37), p=0.3, length=4, min_spacing=1, rng=6)).sum(1) // 4
    expected_number = 0.3 * 37 / 4
    assert set(counted.tolist()) == {2, 3}
    chance = expected_number - 2
    assert abs(counted.mean() - expected_number) < 5 * math.sqrt(chance * (1 - chance) / 40_000)


def test_spanbert_masks_its_budget_in_geometric_spans() -> None:
    rows, length = 4000, 512
    masked = ~fd.mask_spans((rows, length), kind="spanbert", rng=7)
    assert (masked.sum(1) == math.ceil(0.15 * length)).all()
    # A budget of 10 of a long row is one span only if its first has the greatest length, as spans
    # rarely touch.
    rows, length = 20_000, 3000
    few = ~fd.mask_spans((rows, length), kind="spanbert", p=10 / length, rng=8)
    assert (few.sum(1) == 10).all()
    single = np.count_nonzero((few[:, 1:] & ~few[:, :-1]).sum(1) + few[:, 0] == 1) / rows
    chance = 0.2 * 0.8**9 / (1 - 0.8**10)
    assert -5 * math.sqrt(chance / rows) < single - chance < 5 * math.sqrt(chance / rows) + 0.002


def test_lengths_of_spanbert_have_the_mean_that_the_paper_gives() -> None:
    thresholds = geometric_thresholds(5.0, 10).tolist()
    chances = np.diff([0, *thresholds, 2**32]) / 2**32
    assert len(chances) == 10
    assert abs(float(chances @ np.arange(1, 11)) - 3.8) < 0.01
    np.testing.assert_allclose(chances[1:] / chances[:-1], 0.8, rtol=1e-7)


def test_t5_masks_its_share_in_its_number_of_spans() -> None:
    masked = ~fd.mask_spans((500, 512), kind="t5", rng=9)
    assert (masked.sum(1) == round(0.15 * 512)).all()
    assert {len(runs(r)) for r in masked} == {round(round(0.15 * 512) / 3)}
    assert not masked[:, 0].any() and masked[:, -1].all()


@pytest.mark.parametrize(
    ("mean", "most"), [(5.0, 10), (1.0, 10), (1.25, 300), (3.3, 1), (90, 4096)]
)
def test_thresholds_of_lengths_are_those_of_exact_arithmetic(mean: float, most: int) -> None:
    longer = 1 - 1 / Fraction(mean)
    digits = 10**45  # fractions of more would take minutes
    power, powers = Fraction(1), [Fraction(1)]
    for _ in range(most):
        power = Fraction(round(power * longer * digits), digits)
        powers.append(power)
    exact = [round((1 - powers[k]) / (1 - powers[most]) * 2**32) for k in range(1, most)]
    assert geometric_thresholds(mean, most).tolist() == [t for t in exact if t < 2**32]


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"p": 1.5}, ValueError, r"p=1.5 is not in \[0, 1\]"),
        ({"p": 0.5, "n": 3}, ValueError, "p=0.5 and n=3 are given"),
        ({"n": -1}, ValueError, "n=-1 is below 0"),
        ({"n": 1, "min_spans": 2}, ValueError, "n=1 and min_spans=2 are given"),
        ({"length": 31}, ValueError, "length=31 is more than the last axis has, 30"),
        ({"length": 0}, ValueError, "length=0 is below 1"),
        ({"length": 2.5}, TypeError, "length"),
        ({"min_spacing": -1}, ValueError, "min_spacing=-1 is below 0"),
        ({"kind": "bert"}, ValueError, "kind='bert': give 'wav2vec2' or"),
        ({"kind": "t5", "n": 3}, ValueError, "n=3 is for kind='wav2vec2'"),
        ({"kind": "t5", "min_spacing": 3}, ValueError, "min_spacing=3 is for kind='wav2vec2'"),
        ({"max_length": 3}, ValueError, "max_length=3 is for kind='spanbert'"),
        ({"kind": "t5", "length": 0.5}, ValueError, "length=0.5 is below 1"),
        ({"kind": "spanbert", "max_length": 0}, ValueError, "max_length=0 is below 1"),
        ({"kind": "spanbert", "max_length": 5000}, ValueError, "max_length=5000 is above 4096"),
        ({"row_lengths": [1, 2]}, ValueError, r"row_lengths has shape \(2,\), and shape\[:-1\]"),
        ({"row_lengths": [1, 31, 0]}, ValueError, "row_lengths has 31, and the last axis has 30"),
        ({"row_lengths": [1, -3, 0]}, ValueError, "row_lengths has -3"),
        ({"row_lengths": [1.0, 3, 0]}, TypeError, "row_lengths has dtype float64"),
        ({"offset": (0, 2), "global_shape": (3, 40)}, ValueError, "whole rows"),
        ({"sample_index": [1, 2]}, ValueError, r"sample_index has 2 numbers, and shape\[:-1\]"),
        ({"sample_index": [1, 2, 3], "offset": 3}, ValueError, "offset is given, and each sample"),
        ({"out": np.zeros((3, 30), np.uint8)}, TypeError, "out has dtype uint8"),
        ({"out": np.zeros((3, 31), np.bool_)}, ValueError, r"out has shape \(3, 31\)"),
        ({"out": np.broadcast_to(True, (3, 30))}, ValueError, "read-only"),
        ({"size": 3}, TypeError, "size"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], kind: type[Exception], match: str
) -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    with pytest.raises(kind, match=match):
        fd.mask_spans((3, 30), rng=generator, **arguments)
    assert generator.bit_generator.state == before


def test_masks_without_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="has no axes"):
        fd.mask_spans(())
    with pytest.raises(ValueError, match="below 2"):
        fd.mask_spans(2**32)
    with pytest.raises(ValueError, match=r"shape\[:-1\] has no axes"):
        fd.mask_spans(30, sample_index=[1])
