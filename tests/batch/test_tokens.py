"""`mask_tokens`: every token by the contract, on CPU and CUDA, proportions, and errors."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.tokens import FEW, special_ids
from tests.support.batch_oracle import masked_tokens
from tests.support.devices import HostDevice
from tests.support.oracle import Array, assert_same, mask, misaligned, poisoned

KEY = fd.Key(2**63 + 9, 13)
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
REPLACE = (0.8, 0.1, 0.1)
RULE: dict[str, Any] = {"mask_id": 3, "vocab_size": 100}
expected = functools.partial(masked_tokens, key=KEY)


def tokens(shape: Any, dtype: Any = np.int64, below: int = 100) -> Array:
    made: Array = np.random.default_rng(5).integers(0, below, shape).astype(dtype)
    return made


def check(made: tuple[Array, Array], wanted: tuple[Array, Array]) -> None:
    for one, other in zip(made, wanted, strict=True):
        assert_same(one, other)


@functools.cache
def ignored(dtype: str) -> int:
    return 127 if dtype.startswith("u") else -100


@pytest.mark.parametrize("dtype", DTYPES)
def test_tokens_are_those_of_the_contract(dtype: str) -> None:
    rule = {**RULE, "ignore_index": ignored(dtype)}
    for shape in ((), (0,), (1,), (7,), (64,), (5, 33), (3, 5, 200), (4099,)):
        ids = tokens(shape, dtype)
        for p in (0.15, 0.6):
            check(fd.mask_tokens(ids, p, **rule, rng=KEY), expected(ids, p, **rule))


@pytest.mark.parametrize("offset", [0, 1, 63, 255, 1000, 2**35 - 3, 2**62 + 5])
def test_tokens_at_any_index(offset: int) -> None:
    for n in (1, 64, 700, 3000):
        ids = tokens(n, np.int32)
        made = fd.mask_tokens(ids, 0.3, **RULE, rng=KEY, offset=offset)
        check(made, expected(ids, 0.3, **RULE, offset=offset))


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_and_threads_give_the_same_tokens(threads: int) -> None:
    ids = tokens((6, 9, 10_000), np.int16)
    rule: dict[str, Any] = {**RULE, "special": [0, 5]}
    with fd.threads(threads):
        whole = fd.mask_tokens(ids, 0.2, **rule, rng=KEY)
        check(whole, expected(ids, 0.2, **RULE, special=np.isin(ids, [0, 5])))
        at, full = (3, 5, 44), ids.shape
        part = ids[3:5, 5:8, 44:744]
        made = fd.mask_tokens(part, 0.2, **rule, rng=KEY, offset=at, global_shape=full)
        inputs, labels = (y[3:5, 5:8, 44:744].copy() for y in whole)
        check(made, (inputs, labels))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64"])
def test_shares_of_0_and_1_are_exact(dtype: str) -> None:
    ids = tokens(5000, dtype)
    for replace in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0), (0, 0.3, 0.7), [0.4, 0, 0.6]):
        for p in (0.0, 0.4, 1.0):
            made = fd.mask_tokens(ids, p, **RULE, replace=replace, rng=KEY)
            check(made, expected(ids, p, **RULE, replace=replace))
    masked, labels = fd.mask_tokens(ids, 1.0, **RULE, replace=(1, 0, 0), rng=KEY)
    assert (masked == 3).all() and (labels == ids).all()
    stay, labels = fd.mask_tokens(ids, 1.0, **RULE, replace=(0, 0, 1), rng=KEY)
    assert (stay == ids).all() and (labels == ids).all()


@pytest.mark.parametrize("count", [1, 2, FEW, FEW + 1, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_ids_are_never_chosen(dtype: str, count: int) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(count)
    near = rng.choice(100, count, replace=False)
    for far in (False, True):
        special = [*near[1:].tolist(), int(limits.max if far else near[0])]
        if far and limits.min < 0:
            special.append(int(limits.min))
        ids = tokens((3, 700), dtype)
        ids[rng.random(ids.shape) < 0.3] = special[0]
        ids[:, ::50], ids[:, ::77] = limits.max, limits.min
        rule = {**RULE, "ignore_index": ignored(dtype)}
        wanted = expected(ids, 0.5, **rule, special=np.isin(ids, np.array(special, dtype)))
        for given in (special, set(special), np.array(special, dtype), special[::-1] * 2):
            check(fd.mask_tokens(ids, 0.5, **rule, special=given, rng=KEY), wanted)


def test_ids_whose_lowest_bits_agree_are_told_apart() -> None:
    """The table of special ids has 2**19 bits, and says only who may be one."""
    special = [k * 1000 + (k << 30) for k in range(20)]
    table = special_ids(np.array(special, np.int64))
    assert not table.is_exact
    ids = np.array([[s, s + (1 << 19), s - (1 << 19), s + (1 << 33)] for s in special]).ravel()
    made = fd.mask_tokens(ids, 1.0, **RULE, special=special, rng=KEY)
    check(made, expected(ids, 1.0, **RULE, special=np.isin(ids, special)))
    assert np.count_nonzero(made[1] == -100) == 20


def test_special_places_broadcast() -> None:
    ids = tokens((5, 70, 333), np.int32)
    rng = np.random.default_rng(2)
    for shape in ((), (333,), (70, 1), (5, 1, 333), (5, 70, 333)):
        special = rng.random(shape) < 0.4
        wanted = expected(ids, 0.5, **RULE, special=np.broadcast_to(special, ids.shape))
        check(fd.mask_tokens(ids, 0.5, **RULE, special=special, rng=KEY), wanted)
    given = [[True, False, False], [False, False, True]]
    few = tokens((2, 3))
    made = fd.mask_tokens(few, 1.0, **RULE, special=given, rng=KEY)
    check(made, expected(few, 1.0, **RULE, special=np.array(given)))


def test_only_special_tokens_and_none() -> None:
    ids = tokens((4, 100))
    for special in (list(range(100)), np.ones((4, 100), bool), True):
        inputs, labels = fd.mask_tokens(ids, 1.0, **RULE, special=special, rng=KEY)
        assert_same(inputs, ids)
        assert (labels == -100).all()
    nothings: list[Any] = [[], set(), None, [100, 1000, -1], np.array([], np.int64)]
    for nothing in nothings:
        made = fd.mask_tokens(ids, **RULE, special=nothing, rng=KEY)
        check(made, expected(ids, 0.15, **RULE))
    # Special ids that the dtype does not have are nowhere.
    few = tokens(50, np.int8)
    made = fd.mask_tokens(few, **RULE, special=[1000, 2**70, -(2**40)], rng=KEY)
    check(made, expected(few, 0.15, **RULE))


def test_tokens_outside_the_vocabulary_are_moved() -> None:
    ids = np.array([-1, 2**62, -(2**62), 100, 99] * 50)
    check(fd.mask_tokens(ids, 0.5, **RULE, rng=KEY), expected(ids, 0.5, **RULE))


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 2**31 + 1, 2**32 - 1, 2**32])
def test_vocabularies_of_any_size(vocab_size: int) -> None:
    """With 2**31 + 1, every second draw is rejected, so that keys are derived."""
    ids = tokens(3000, below=1)
    rule: dict[str, Any] = {"mask_id": 0, "vocab_size": vocab_size, "replace": (0, 1, 0)}
    made = fd.mask_tokens(ids, 0.9, **rule, rng=KEY)
    check(made, expected(ids, 0.9, **rule))
    assert 0 <= made[0].min() and made[0].max() < vocab_size


def test_chosen_tokens_are_those_that_dropout_drops() -> None:
    ids = tokens((30, 50))
    _, labels = fd.mask_tokens(ids, 0.15, **RULE, rng=KEY)
    np.testing.assert_array_equal(labels == -100, mask((30, 50), 0.15, KEY))


def test_samples_have_their_own_tokens_in_any_batch() -> None:
    ids, index = tokens((3, 5, 70)), [4, 1, 9]
    made = fd.mask_tokens(ids, **RULE, rng=KEY, sample_index=index)
    for k, n in enumerate(index):
        alone = fd.mask_tokens(ids[k], **RULE, rng=KEY.fold_in(n))
        check((made[0][k].copy(), made[1][k].copy()), alone)
    again = fd.mask_tokens(ids[[2, 0]], **RULE, rng=fd.sample_keys(KEY, [9, 4]))
    check(again, (made[0][[2, 0]].copy(), made[1][[2, 0]].copy()))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_any_layout_in_place_and_out(dtype: str) -> None:
    base = tokens((12, 130), dtype)
    special = np.random.default_rng(1).random((6, 65)) < 0.2
    for ids in (base[:6, :65], base[::2, ::2], base[5::-1, 64::-1], base.T[:65, :6].T):
        wanted = expected(ids, 0.4, **RULE, special=special)
        check(fd.mask_tokens(ids, 0.4, **RULE, special=special, rng=KEY), wanted)
        room, labels = poisoned((12, 130), dtype), poisoned((65, 6), dtype).T
        before, view = room.copy(), room[::2, 1::2]
        given = {"out": view, "labels_out": labels, "special": special}
        first, second = fd.mask_tokens(ids, 0.4, **RULE, **given, rng=KEY)
        assert first is view and second is labels
        check((first.copy(), second.copy()), wanted)
        view[...] = before[::2, 1::2]
        np.testing.assert_array_equal(room, before)
        mine = ids.copy(order="K")
        first, second = fd.mask_tokens(mine, 0.4, **RULE, special=special, rng=KEY, out=mine)
        assert first is mine
        check((first.copy(order="C"), second), wanted)
    there = misaligned(base, 1)
    check(fd.mask_tokens(there, 0.4, **RULE, rng=KEY), expected(base, 0.4, **RULE))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_gives_the_same(host: HostDevice, dtype: str) -> None:
    rule: dict[str, Any] = {**RULE, "ignore_index": ignored(dtype), "rng": KEY}

    def same(ids: Array, p: float = 0.5, marks: Any = None, **given: Any) -> None:
        there = {} if marks is None else {"special": host.put(marks)}
        here = {} if marks is None else {"special": marks}
        made = fd.mask_tokens(host.put(ids), p, **rule, **there, **given)
        wanted = fd.mask_tokens(ids, p, **rule, **here, **given)
        check((host.get(made[0]), host.get(made[1])), wanted)

    few = [1, 5, 99]
    many = [*range(0, 40, 3), int(np.iinfo(dtype).max)]
    for shape in ((5,), (3, 41), (0, 3), ()):
        for offset in (0, 2**35 - 3):
            same(tokens(shape, dtype), offset=offset)
    ids = tokens((4, 300), dtype)
    for p in (0.0, 0.15, 1.0):
        same(ids, p, special=few)
    same(ids, special=many)
    same(ids, special=[1, many[-1]])
    same(ids, special=[[True], [False], [True], [False]])
    same(ids, marks=np.random.default_rng(0).random((4, 1)) < 0.5)
    same(ids, replace=(0, 1, 0))
    same(ids[:, ::3], replace=(0.5, 0.5, 0))
    same(ids, sample_index=[7, 2**40, 0, 3])
    same(ids[:2, :9], offset=(1, 2), global_shape=(4, 300))


def test_cuda_rejects_draws_and_works_in_place(host: HostDevice) -> None:
    ids = tokens((2, 200), below=1)
    rule: dict[str, Any] = {"mask_id": 0, "vocab_size": 2**31 + 1, "replace": (0, 1, 0), "rng": KEY}
    wanted = fd.mask_tokens(ids, 0.9, **rule)
    there = host.put(ids)
    labels = host.put(poisoned((2, 200), np.int64))
    made = fd.mask_tokens(there, 0.9, **rule, out=there, labels_out=labels)
    assert made[0] is there and made[1] is labels
    check((host.get(there), host.get(labels)), wanted)
    key = fd.cuda.DeviceKey(KEY)
    made = fd.mask_tokens(host.put(ids), 0.9, **{**rule, "rng": key})
    check((host.get(made[0]), host.get(made[1])), wanted)
    # Special ids that agree in their lowest bits.
    special = [k * 1000 + (k << 30) for k in range(20)]
    far = np.array([[s, s + (1 << 19), s - (1 << 19)] for s in special])
    made = fd.mask_tokens(host.put(far), 1.0, **RULE, special=special, rng=KEY)
    check((host.get(made[0]), host.get(made[1])),
          fd.mask_tokens(far, 1.0, **RULE, special=special, rng=KEY))  # fmt: skip
    for wrong, match in ((np.ones((2, 200), bool), "does not lie where"),
                           (host.put(np.arange(3)), "on a GPU: give marks")):  # fmt: skip
        with pytest.raises(TypeError, match=match):
            fd.mask_tokens(there, **RULE, special=wrong, rng=KEY)


def chi_square(found: Array, expected: Array) -> float:
    """How many standard deviations chi-square is above its mean."""
    freedom = len(found) - 1
    return float((((found - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("replace", [REPLACE, (0.2, 0.5, 0.3)])
def test_shares_are_as_given(replace: tuple[float, float, float]) -> None:
    n, vocab = 1 << 20, 50_000
    ids = np.full(n, 60_000, np.int32)
    inputs, labels = fd.mask_tokens(
        ids, 0.15, mask_id=vocab, vocab_size=vocab + 1, replace=replace, rng=11
    )
    chosen = labels == 60_000
    masked, stay = chosen & (inputs == vocab), chosen & (inputs == 60_000)
    counts = [n - chosen.sum(), masked.sum(), stay.sum()]
    counts.insert(2, n - sum(counts))
    probabilities = np.array([0.85, *(0.15 * share for share in replace)])
    assert chi_square(np.array(counts), n * probabilities) < 6


@pytest.mark.parametrize("vocab", [7, 1000, 30_522])
def test_random_tokens_are_uniform(vocab: int) -> None:
    ids = np.full(1 << 21, vocab, np.int32)
    inputs, labels = fd.mask_tokens(
        ids, 0.5, mask_id=0, vocab_size=vocab, replace=(0, 1, 0), rng=12
    )
    found = np.bincount(inputs[labels == vocab], minlength=vocab)
    assert len(found) == vocab
    assert abs(chi_square(found, np.full(vocab, found.sum() / vocab))) < 6


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [
        ({"vocab_size": 0}, ValueError, "vocab_size=0 is out of range"),
        ({"vocab_size": 2**32 + 1}, ValueError, r"2\*\*32"),
        ({"vocab_size": 1.5}, TypeError, "vocab_size"),
        ({"mask_id": 100}, ValueError, r"mask_id=100 is not in the vocabulary.*len\(tokenizer\)"),
        ({"mask_id": -1}, ValueError, "mask_id=-1"),
        ({"ignore_index": 2**63}, ValueError, "ignore_index=.* range of int64"),
        ({"p": 1.5}, ValueError, "p=1.5"),
        ({"p": float("nan")}, ValueError, "p=nan"),
        ({"replace": (0.8, 0.1)}, TypeError, "replace.*three shares"),
        ({"replace": 0.8}, TypeError, "three shares"),
        ({"replace": (0.8, 0.3, 0.1)}, ValueError, "whose sum is 1"),
        ({"replace": (1.2, -0.1, -0.1)}, ValueError, "at least 0"),
        ({"replace": (0.8, float("nan"), 0.2)}, ValueError, "not finite"),
        ({"special": np.ones((2, 3), bool)}, ValueError, r"shape \(2, 3\), which does not broad"),
        ({"special": np.ones((2, 8), int)}, ValueError, r"special.astype\(bool\)"),
        ({"special": [0.5]}, TypeError, "special has dtype float64"),
        ({"special": fd.Key(3)}, TypeError, "special is a Key"),
        ({"ids": np.zeros(8)}, TypeError, "ids has dtype float64: give integers"),
        ({"ids": np.zeros(8, bool)}, TypeError, "ids has dtype bool"),
        ({"ids": np.zeros(8, ">i4")}, TypeError, "byte order"),
        ({"ids": np.zeros(8, np.int8), "vocab_size": 129}, ValueError, "int8, .* has not"),
        ({"ids": np.zeros(8, np.uint8)}, ValueError, "ignore_index=-100 .* uint8"),
        ({"out": np.zeros(8, np.int32)}, TypeError, "out has dtype int32"),
        ({"labels_out": np.zeros(7, np.int64)}, ValueError, r"labels_out has shape \(7,\)"),
        ({"sample_index": [1] * 8, "offset": 3}, ValueError, "offset is given, and each sample"),
        ({"sample_index": [1] * 7}, ValueError, "ids has 8 samples"),
        ({"offset": -1}, ValueError, "offset=-1"),
        ({"generator": 3}, TypeError, "rng=3"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    given: dict[str, Any], kind: type[Exception], match: str
) -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    arguments = {"ids": tokens(8), **RULE, "rng": generator, **given}
    with pytest.raises(kind, match=match):
        fd.mask_tokens(**arguments)
    assert generator.bit_generator.state == before


def test_overlapping_outputs_are_refused_and_nothing_is_written() -> None:
    room = tokens(30)
    before = room.copy()
    ids, other = room[:10], room[5:15]
    for given, match in (
        ({"out": other}, "out overlaps an array that is read"),
        ({"labels_out": other}, "labels_out overlaps"),
        ({"labels_out": ids}, "labels_out overlaps"),
        ({"out": room[15:25], "labels_out": room[20:30]}, "labels_out overlaps"),
        ({"out": ids, "labels_out": ids}, "labels_out overlaps"),
        ({"out": ids[::-1]}, "out overlaps"),
    ):
        with pytest.raises(ValueError, match=match):
            fd.mask_tokens(ids, **RULE, rng=KEY, **given)  # type: ignore[arg-type]
    np.testing.assert_array_equal(room, before)
    for missing in ("mask_id", "vocab_size"):
        with pytest.raises(TypeError, match=missing):
            fd.mask_tokens(ids, **{k: v for k, v in RULE.items() if k != missing})
