"""Masks that keep k of n: every mask and position by the contract, on CPU and CUDA, and errors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support.batch_oracle import KEY, chosen
from tests.support.devices import HostDevice
from tests.support.normals import uniforms
from tests.support.oracle import Array, assert_same, index_of, poisoned

# Of 2**17 uniforms of this key, four pairs are equal; see `ties`.
TIED_KEY, TIED_LENGTH = fd.Key(6), 1 << 17


def check(made: Any, index: Array, k: int, axis: int, key: fd.Key = KEY) -> None:
    """All four arrays, beside the mask and what NumPy finds in it."""
    mask, kept, dropped, restore = made
    assert_same(mask, chosen(index, k, axis, key))
    last = np.moveaxis(mask, axis, -1)
    rows, n = last.shape[:-1], last.shape[-1]
    for found, positions, length in ((kept, last, k), (dropped, ~last, n - k)):
        expected = np.nonzero(positions)[-1].reshape(*rows, length)
        assert_same(found.copy(), np.ascontiguousarray(np.moveaxis(expected, -1, axis)))
    assert restore.dtype == np.int64
    x = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    both = [np.take_along_axis(x, part, axis) for part in (kept, dropped)]
    assert_same(np.take_along_axis(np.concatenate(both, axis), restore, axis), x)


def counts_of(n: int) -> list[int]:
    return sorted({0, 1, n // 4, n // 2, n - 1, n} & set(range(n + 1)))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 196, 257, 5000])
def test_rows_keep_the_k_largest(n: int) -> None:
    shape = (max(1, 9000 // n), n)
    for k in counts_of(n):
        made = fd.keep_k(shape, k, rng=KEY, indices=True)
        check(made, index_of(shape), k, 1)
        assert_same(fd.keep_k(shape, k, rng=KEY), made.mask)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((7,), 0),
        ((5, 7), 0),
        ((2, 50, 3), 1),
        ((2, 3, 40), 0),
        ((196, 130), -2),
        ((3, 20, 5, 40), 1),
        ((30, 1100), 0),
        ((4, 9, 1), 1),
        ((6, 1, 5), 1),
        ((5000, 18), 0),
    ],
    ids=str,
)
def test_rows_lie_along_any_axis(shape: tuple[int, ...], axis: int) -> None:
    for k in counts_of(shape[axis]):
        made = fd.keep_k(shape, k, axis=axis, rng=KEY, indices=True)
        check(made, index_of(shape), k, axis % len(shape))
        assert_same(fd.keep_k(shape, k, axis=axis, rng=KEY), made.mask)


def test_every_k_is_right_near_the_ends_of_the_uniforms() -> None:
    for n in (40, 150):
        for k in range(n + 1):
            assert_same(fd.keep_k((3, n), k, rng=KEY), chosen(index_of((3, n)), k, 1))


def test_each_row_may_have_its_own_k() -> None:
    for shape, axis in (((30, 50), 1), ((50, 30), 0), ((4, 20, 6), 1)):
        others = shape[:axis] + shape[axis + 1 :]
        counts = np.random.default_rng(1).integers(0, shape[axis] + 1, others)
        made = fd.keep_k(shape, counts, axis=axis, rng=KEY)
        assert_same(made, chosen(index_of(shape), counts, axis))
        np.testing.assert_array_equal(made.sum(axis), counts)
    assert_same(
        fd.keep_k((2, 3, 9), [1, 2, 5], rng=KEY),
        chosen(index_of((2, 3, 9)), np.array([[1, 2, 5]] * 2), 2),
    )


def ties(u: Array) -> list[tuple[int, Array]]:
    """Return how many uniforms are larger, for each that several elements have; their places."""
    values, times = np.unique(u, return_counts=True)
    return [
        (int(np.count_nonzero(u > value)), np.flatnonzero(u == value))
        for value in values[times > 1]
    ]


ONE = np.uint64(1)


def test_equal_uniforms_are_told_apart_by_further_draws() -> None:
    """Of real pairs, with thresholds that fall between the two."""
    index = np.arange(TIED_LENGTH, dtype=np.uint64)
    found = ties(uniforms(index, TIED_KEY))
    assert len(found) == 4
    seed, stream = np.uint64(TIED_KEY.seed), np.uint64(TIED_KEY.stream)
    firsts = []
    for larger, (a, b) in found:
        made = fd.keep_k(TIED_LENGTH, larger + 1, rng=TIED_KEY, indices=True)
        check(made, index, larger + 1, 0, TIED_KEY)
        assert bool(made.mask[a]) != bool(made.mask[b])
        firsts.append(bool(made.mask[a]))
        assert contract.precedes(seed, stream, np.uint64(b), np.uint64(a), ONE) == made.mask[a]
        assert contract.precedes(seed, stream, np.uint64(a), np.uint64(b), ONE) == made.mask[b]
    assert len(set(firsts)) == 2  # it is not the place that decides


def test_ties_are_settled_in_short_rows_and_along_other_axes() -> None:
    """The same pairs, moved into rows of two and of a hundred by offset and by shape."""
    for larger, (a, b) in ties(uniforms(np.arange(TIED_LENGTH, dtype=np.uint64), TIED_KEY)):
        first, apart = int(a), int(b - a)
        shape = 2, apart  # rows along axis 0: the elements a + i and a + i + apart
        made = fd.keep_k(shape, 1, axis=0, rng=TIED_KEY, offset=first, indices=True)
        index = index_of(shape, offset=first)
        check(made, index, 1, 0, TIED_KEY)
        u = uniforms(index, TIED_KEY)
        assert u[0, 0] == u[1, 0], larger


def test_the_order_goes_on_through_all_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """With draws of elements 1 and 2 that are equal up to a certain one of a derived key."""
    seed, stream = np.uint64(1), np.uint64(2)
    third = tuple(int(word) for word in contract.derive(seed, stream, np.uint64(3)))
    asked: list[tuple[int, int, int]] = []

    def draw32(seed: Any, stream: Any, index: Any, draw: Any) -> Any:
        asked.append((int(seed), int(stream), int(draw)))
        decides = (int(seed), int(stream)) == third and draw == 2
        return np.uint64(int(index) if decides else 7)

    monkeypatch.setattr(contract, "draw32", draw32)
    one, two = np.uint64(1), np.uint64(2)
    assert contract.precedes(seed, stream, one, two, ONE)
    own = [(1, 2, draw) for draw in (1, 2, 3)]
    derived = [
        (*(int(word) for word in contract.derive(seed, stream, np.uint64(n))), draw)
        for n in (1, 2, 3)
        for draw in range(4)
    ]
    assert asked[::2] == asked[1::2] == (own + derived)[:-1]
    assert not contract.precedes(seed, stream, two, one, ONE)


def test_masks_are_nested_and_those_of_dropout() -> None:
    shape = 50, 40
    u = uniforms(index_of(shape), KEY)
    before = np.zeros(shape, bool)
    for k in range(41):
        mask = fd.keep_k(shape, k, rng=KEY)
        assert not (before & ~mask).any()
        before = mask
        if 0 < k < 40:
            least = np.where(mask, u, 2**32).min(1)
            for row in range(3):  # dropout with that row's threshold keeps the same of the row
                kept = fd.dropout_mask(shape, int(least[row]) / 2**32, rng=KEY)
                np.testing.assert_array_equal(kept[row], mask[row])


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_and_threads_give_the_same(threads: int) -> None:
    with fd.threads(threads):
        full = 12, 40, 700
        index = index_of(full)
        for axis in range(3):
            k = full[axis] // 3
            whole = fd.keep_k(full, k, axis=axis, rng=KEY, indices=True)
            check(whole, index, k, axis)
            start, size = [3, 11, 90], [5, 20, 300]
            start[axis], size[axis] = 0, full[axis]
            part = fd.keep_k(
                size, k, axis=axis, rng=KEY, offset=start, global_shape=full, indices=True
            )
            cut = [slice(s, s + n) for s, n in zip(start, size, strict=True)]
            for one, all_ in zip(part, whole, strict=True):
                cut[axis] = slice(None)
                assert_same(one, all_[tuple(cut)].copy())
        far = fd.keep_k((30, 50), 9, rng=KEY, offset=2**62, indices=True)
        check(far, index_of((30, 50), offset=2**62), 9, 1)


def test_samples_have_their_own_masks_in_any_batch() -> None:
    samples = np.array([4, 1, 9])
    for shape, axis in (((3, 20), 1), ((3, 5, 20), -1), ((3, 20, 5), 1), ((3, 2, 20, 5), 2)):
        made = fd.keep_k(shape, 7, axis=axis, rng=KEY, sample_index=samples, indices=True)
        inner = axis - 1 if axis > 0 else axis
        for row, n in enumerate(samples.tolist()):
            alone = fd.keep_k(shape[1:], 7, axis=inner, rng=KEY.fold_in(n), indices=True)
            for all_, one in zip(made, alone, strict=True):
                assert_same(all_[row].copy(), one)
        again = fd.keep_k((2, *shape[1:]), 7, axis=axis, rng=fd.sample_keys(KEY, [9, 4]))
        assert_same(again, made.mask[[2, 0]].copy())


def test_every_subset_is_equally_likely() -> None:
    """Of 6 elements, 3 kept: 20 subsets, by chi-square with 19 degrees of freedom."""
    rows, n, k = 200_000, 6, 3
    mask = fd.keep_k((rows, n), k, rng=5)
    codes = mask @ (1 << np.arange(n))
    subsets = [sum(1 << e for e in subset) for subset in itertools.combinations(range(n), k)]
    found = np.array([np.count_nonzero(codes == subset) for subset in subsets])
    expected = rows / math.comb(n, k)
    assert found.sum() == rows
    assert ((found - expected) ** 2).sum() / expected < 45.97  # exceeded by chance once in 2,000


def test_outputs_are_written_in_any_layout_and_nothing_beside_them() -> None:
    expected = fd.keep_k((6, 8), 3, rng=KEY, indices=True)
    room = poisoned((12, 16), np.bool_)
    before = room.copy()
    view = room[::2, 1::2]
    assert fd.keep_k((6, 8), 3, rng=KEY, out=view) is view
    assert_same(view.copy(), expected.mask)
    view[...] = before[::2, 1::2]
    np.testing.assert_array_equal(room, before)
    given = (None, poisoned((3, 6), np.int64).T, None, poisoned((6, 8), np.int64))
    made = fd.keep_k((6, 8), 3, rng=KEY, indices=True, out=given)
    assert made.kept is given[1] and made.restore is given[3]
    for one, other in zip(made, expected, strict=True):
        assert_same(one.copy(), other)


def test_nothing_is_kept_of_nothing() -> None:
    assert fd.keep_k((0, 5), 2, rng=KEY).shape == (0, 5)
    made = fd.keep_k((3, 0), 0, rng=KEY, indices=True)
    assert [each.shape for each in made] == [(3, 0)] * 4
    made = fd.keep_k((4, 0, 5), 0, axis=1, rng=KEY, indices=True)
    assert [each.shape for each in made] == [(4, 0, 5)] * 4
    assert fd.keep_k((0, 5), [], rng=KEY).shape == (0, 5)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 196), 1), ((2, 400), 1), ((2, 900), 1), ((3, 5), 1), ((2, 30, 5), 1), ((4, 6, 3), 0)],
    ids=str,
)
def test_cuda_gives_the_same(host: HostDevice, shape: tuple[int, ...], axis: int) -> None:
    like = host.put(np.zeros(1))
    for k in counts_of(shape[axis]):
        for offset in (0, 2**35 - 3):
            where: dict[str, Any] = {"axis": axis, "rng": KEY, "offset": offset, "indices": True}
            made = fd.keep_k(shape, k, like=like, **where)
            for one, other in zip(made, fd.keep_k(shape, k, **where), strict=True):
                assert_same(host.get(one), other)
            mask = fd.keep_k(shape, k, like=like, axis=axis, rng=KEY)
            assert_same(host.get(mask), fd.keep_k(shape, k, axis=axis, rng=KEY))


def test_cuda_takes_keys_shards_and_counts(host: HostDevice) -> None:
    like = host.put(np.zeros(1))
    for shape, axis, where in (
        ((3, 4, 20), 2, {"sample_index": [7, 2**40, 0]}),
        ((3, 20, 4), 1, {"sample_index": [7, 2**40, 0]}),
        ((2, 20, 3), 1, {"offset": (1, 0, 5), "global_shape": (4, 20, 9)}),
        ((2, 3, 20), 2, {"offset": (1, 4, 0), "global_shape": (4, 9, 20)}),
        ((4, 2, 2, 3), 0, {"offset": (0, 1, 2, 5), "global_shape": (4, 4, 5, 9)}),
    ):
        made = fd.keep_k(shape, 3, axis=axis, rng=KEY, like=like, indices=True, **where)
        expected = fd.keep_k(shape, 3, axis=axis, rng=KEY, indices=True, **where)
        for one, other in zip(made, expected, strict=True):
            assert_same(host.get(one), other)
    counts = np.arange(12).reshape(4, 3)
    for shape, axis in (((4, 3, 11), 2), ((4, 11, 3), 1)):
        alone = fd.keep_k(shape, counts, axis=axis, rng=KEY, like=like)
        assert_same(host.get(alone), fd.keep_k(shape, counts, axis=axis, rng=KEY))


@pytest.mark.parametrize(
    "length", [9000, pytest.param(TIED_LENGTH, marks=pytest.mark.slow)], ids=str
)
def test_cuda_settles_ties_and_takes_long_rows(host: HostDevice, length: int) -> None:
    like = host.put(np.zeros(1))
    found = ties(uniforms(np.arange(length, dtype=np.uint64), TIED_KEY))
    for k in [length // 4, *(larger + 1 for larger, _ in found)]:
        made = fd.keep_k(length, k, rng=TIED_KEY, like=like, indices=True)
        expected = fd.keep_k(length, k, rng=TIED_KEY, indices=True)
        for one, other in zip(made, expected, strict=True):
            assert_same(host.get(one), other)
    whole = np.arange(TIED_LENGTH, dtype=np.uint64)
    for _, (a, b) in ties(uniforms(whole, TIED_KEY))[:1]:
        where: dict[str, Any] = {"axis": 0, "rng": TIED_KEY, "offset": int(a)}
        mask = fd.keep_k((2, int(b - a)), 1, like=like, **where)
        assert_same(host.get(mask), fd.keep_k((2, int(b - a)), 1, **where))


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"k": 9}, ValueError, r"k=9 is not in \[0, 8\], the length of axis 1"),
        ({"k": -1}, ValueError, "k=-1 is not in"),
        ({"k": 2.0}, TypeError, "k=2.0 is a float: give an integer"),
        ({"k": 0.25}, TypeError, r"k=0.25 is a share, .* round\(0.25 \* 8\)"),
        ({"k": [1, 2]}, ValueError, r"k has shape \(2,\), and the shape without axis 1 is \(6,\)"),
        ({"k": [1, 2, 3, 4, 5, 9]}, ValueError, "k=9"),
        ({"k": [1.0] * 6}, TypeError, "k has dtype float64"),
        ({"k": [1] * 6, "indices": True}, TypeError, "k is an array, and rows of positions"),
        ({"axis": 2}, np.exceptions.AxisError, "axis 2"),
        ({"shape": ()}, np.exceptions.AxisError, "axis -1"),
        ({"shape": (2**31,)}, ValueError, r"below 2\*\*31"),
        ({"indices": 1}, TypeError, "indices"),
        ({"out": np.zeros((6, 8), np.int8)}, TypeError, "out has dtype int8"),
        ({"out": np.zeros((6, 7), bool)}, ValueError, r"out has shape \(6, 7\)"),
        ({"out": np.zeros((6, 8), bool), "indices": True}, TypeError, "tuple of four"),
        (
            {"out": (None, None, np.zeros((6, 3), np.int64), None), "indices": True},
            ValueError,
            r"dropped has shape \(6, 3\)",
        ),
        ({"sample_index": [1] * 6, "axis": 0}, ValueError, "axis 0 .* that of the samples"),
        ({"sample_index": [1] * 6, "offset": 3}, ValueError, "offset is given"),
        ({"global_shape": (6, 9)}, ValueError, "keep_k needs the whole axis"),
        ({"p": 0.5}, TypeError, "p"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], kind: type[Exception], match: str
) -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    with pytest.raises(kind, match=match):
        fd.keep_k(**{"shape": (6, 8), "k": 3, "rng": generator, **arguments})
    assert generator.bit_generator.state == before
