"""The mask contract, version 1: known answers, an outside oracle, and its consequences."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop as fd
from fastdrop_kernels import contract, reference
from tests.support.oracle import POISON, ROOT, Array, mask, poisoned

DATA = ROOT / "tests" / "data"
VECTORS: dict[str, Any] = json.loads((DATA / "mask_vectors.json").read_text())
Round = Callable[..., tuple[Any, ...]]


class Answer(NamedTuple):
    rounds: int
    counter: list[int]
    key: list[int]
    output: list[int]


def known_answers() -> list[Answer]:
    answers = []
    for line in (DATA / "philox4x32_kat.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        rounds, *words = line.replace("->", " ").split()
        c = [int(word, 16) for word in words]
        answers.append(Answer(int(rounds), c[:4], c[4:6], c[6:]))
    return answers


ANSWERS = known_answers()


def philox(
    rounds: int,
    words: list[Any],
    middle: Round = contract.philox_round,
    last: Round = contract.philox_last_round,
) -> list[int]:
    state = words
    for _ in range(rounds - 1):
        state = [np.uint64(word) for word in middle(*state)]
    pairs = (int(pair) for pair in last(*state))
    return [word for pair in pairs for word in (pair % 2**32, pair >> 32)]


def arguments_of(v: dict[str, Any]) -> tuple[tuple[int, ...], float, fd.Key, dict[str, Any]]:
    """Shape, p, key and the rest of a mask vector."""
    where: dict[str, Any] = {
        name: tuple(v[name]) if isinstance(v[name], list) else v[name]
        for name in ("offset", "global_shape", "noise_shape")
        if name in v
    }
    p = float.fromhex(v["p"])
    return tuple(v["shape"]), p, fd.Key(int(v["seed"]), int(v["stream"])), where


def check_mask(kept: Array, v: dict[str, Any]) -> None:
    assert kept.shape == tuple(v["shape"])
    flat = kept.ravel()
    packed = np.packbits(flat, bitorder="little")
    assert "".join("01"[bit] for bit in flat[:64].astype(int)) == v["first64"]
    assert int((~flat).sum()) == v["dropped"]
    assert hashlib.sha256(packed.tobytes()).hexdigest() == v["packed_sha256"]


def test_the_known_answers_are_those_of_7_and_10_rounds() -> None:
    assert sorted(a.rounds for a in ANSWERS) == [7, 7, 7, 10, 10, 10]


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_philox_gives_the_known_answers(answer: Answer) -> None:
    words = [np.uint64(w) for w in answer.counter + answer.key]
    assert philox(answer.rounds, words) == answer.output


COMPILED = numba.njit(contract.philox_round), numba.njit(contract.philox_last_round)


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_compiled_philox_gives_the_known_answers(answer: Answer) -> None:
    words = [np.uint64(w) for w in answer.counter + answer.key]
    assert philox(answer.rounds, words, *COMPILED) == answer.output


def test_philox_over_arrays_gives_the_known_answers() -> None:
    answers = [a for a in ANSWERS if a.rounds == 10]
    words = np.array([a.counter + a.key for a in answers], np.uint64).T
    low, high = contract.philox4x32_10(*words)
    output = np.stack([low, high], axis=1).astype("<u8").view("<u4")
    np.testing.assert_array_equal(output, [a.output for a in answers])


def test_compiled_functions_of_the_contract_equal_the_plain_ones(rng: np.random.Generator) -> None:
    from fastdrop_kernels import device  # makes the functions callable from compiled code

    assert device

    @numba.njit  # type: ignore[untyped-decorator]
    def compiled(seed: Any, stream: Any, index: Any) -> Any:
        return contract.uniform32(seed, stream, index)

    @numba.njit  # type: ignore[untyped-decorator]
    def compiled_fold(seed: Any, stream: Any, n: Any) -> Any:
        return contract.fold_in(seed, stream, n)

    for seed, stream, index in rng.integers(0, 2**63, (50, 3), np.uint64):
        assert compiled(seed, stream, index) == contract.uniform32(seed, stream, index)
        n = index >> np.uint64(1)
        assert compiled_fold(seed, stream, n) == contract.fold_in(seed, stream, n)


@pytest.mark.parametrize("v", VECTORS["masks"], ids=lambda v: f"{v['shape']}-{v['p_decimal']}")
class TestMaskVectors:
    def test_the_reference_draws_the_mask(self, v: dict[str, Any]) -> None:
        shape, p, key, where = arguments_of(v)
        check_mask(mask(shape, p, key, **where), v)

    def test_dropout_mask_draws_the_mask(self, v: dict[str, Any]) -> None:
        shape, p, key, where = arguments_of(v)
        out = poisoned(shape, np.uint8).view(np.bool_)
        assert fd.dropout_mask(shape, p, rng=key, out=out, **where) is out
        assert out.view(np.uint8).max() <= 1
        check_mask(out, v)

    def test_packed_dropout_mask_draws_the_mask(self, v: dict[str, Any]) -> None:
        shape, p, key, where = arguments_of(v)
        size = math.prod(shape)
        out = poisoned(((size + 7) // 8,), np.uint8)
        fd.dropout_mask(shape, p, rng=key, packed=True, out=out, **where)
        assert hashlib.sha256(out.tobytes()).hexdigest() == v["packed_sha256"]
        bits = np.unpackbits(out, count=size, bitorder="little")
        check_mask(bits.astype(bool).reshape(shape), v)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_dropout_drops_by_the_mask(self, v: dict[str, Any], dtype: Any) -> None:
        shape, p, key, where = arguments_of(v)
        out = poisoned(shape, dtype)
        fd.dropout(np.ones(shape, dtype), p, rng=key, scale=1.0, out=out, **where)
        check_mask(out == 1, v)
        assert ((out == 0) | (out == 1)).all()

    @pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.int16, marks=pytest.mark.slow)])
    def test_masked_fill_fills_by_the_mask(self, v: dict[str, Any], dtype: Any) -> None:
        shape, p, key, where = arguments_of(v)
        out = poisoned(shape, dtype)
        fd.masked_fill(np.ones(shape, dtype), p, 0, rng=key, out=out, **where)
        check_mask(out.astype(bool), v)
        assert ((out == 0) | (out == 1)).all()


@pytest.mark.parametrize("v", VECTORS["ties"], ids=lambda v: v["index"])
class TestTieVectors:
    def test_the_uniform_is_the_recorded_one(self, v: dict[str, Any]) -> None:
        words = (np.uint64(int(v[name])) for name in ("seed", "stream", "index"))
        assert int(contract.uniform32(*words)) == v["uniform32"]

    @pytest.mark.parametrize("shape", [(1,), (3,), (600,), (1, 1)])
    def test_level_1_settles_it_in_every_kernel(
        self, v: dict[str, Any], shape: tuple[int, ...]
    ) -> None:
        key, index = fd.Key(int(v["seed"]), int(v["stream"])), int(v["index"])
        x = np.ones(shape, np.float32)
        for name, kept in (("kept_at_p", True), ("dropped_at_p", False)):
            p = float.fromhex(v[name])
            assert bool(mask((1,), p, key, offset=index)[0]) is kept
            assert bool(fd.dropout_mask(shape, p, rng=key, offset=index).flat[0]) is kept
            packed = fd.dropout_mask(shape, p, rng=key, offset=index, packed=True)
            assert bool(packed[0] & 1) is kept
            assert bool(fd.dropout(x, p, rng=key, offset=index).flat[0] != 0) is kept
            assert bool(fd.masked_fill(x, p, 0.0, rng=key, offset=index).flat[0] != 0) is kept


@pytest.mark.parametrize("v", VECTORS["fold_in"], ids=lambda v: v["n"])
def test_fold_in_gives_the_recorded_keys(v: dict[str, Any]) -> None:
    key = fd.Key(int(v["seed"]), int(v["stream"]))
    assert key.fold_in(int(v["n"])) == fd.Key(int(v["new_seed"]), int(v["new_stream"]))


@pytest.mark.parametrize("block", [1, 77, 2**32 - 1, 2**32, 2**60 - 5])
def test_level_0_is_the_stream_that_randomgen_draws(block: int, rng: np.random.Generator) -> None:
    randomgen = pytest.importorskip("randomgen", reason="the outside oracle is randomgen's Philox")
    seed, stream = (int(n) for n in rng.integers(0, 2**64 - 1, 2, np.uint64))
    blocks = 4
    # randomgen counts up before it draws.
    oracle = randomgen.Philox(counter=(stream << 64) + block - 1, key=seed, number=4, width=32)
    words = oracle.random_raw(4 * blocks)
    assert words.max() < 2**32
    halves = words.astype("<u4").view("<u2").astype(np.uint64)
    index = np.arange(8 * block, 8 * (block + blocks), dtype=np.uint64)
    ours = contract.half(np.uint64(seed), np.uint64(stream), index, np.uint64(0))
    np.testing.assert_array_equal(ours, halves)
    # And the kernels: p = T / 2**32 with low half 0 is decided by level 0 alone.
    kept = fd.dropout_mask(8 * blocks, 0.25, rng=fd.Key(seed, stream), offset=8 * block)
    np.testing.assert_array_equal(kept, halves >= 0x4000)


def test_the_uniform_puts_level_0_above_level_1(rng: np.random.Generator) -> None:
    seed, stream = rng.integers(0, 2**64 - 1, 2, np.uint64)
    index = rng.integers(0, 2**63, 100, np.uint64)
    first, second = (contract.half(seed, stream, index, np.uint64(level)) for level in (0, 1))
    uniform = contract.uniform32(seed, stream, index)
    np.testing.assert_array_equal(uniform, first * np.uint64(65536) + second)
    assert (first != second).any()


@pytest.mark.parametrize(
    ("p", "threshold"),
    [
        (0.0, 0),
        (2.0**-33, 0),  # half-even: halfway between 0 and 1
        (math.nextafter(2.0**-33, 1), 1),
        (2.0**-32, 1),
        (1.5 * 2.0**-32, 2),
        (2.5 * 2.0**-32, 2),
        (3.5 * 2.0**-32, 4),
        (0.5, 2**31),
        (0.5 + 2.0**-33, 2**31),
        (0.5 + 3 * 2.0**-33, 2**31 + 2),
        (1 - 2.0**-32, 2**32 - 1),
        (1 - 2.0**-34, 2**32 - 1),
        (math.nextafter(1.0, 0), 2**32 - 1),
        (5e-324, 0),
        (1.0, 2**32),
    ],
)
def test_threshold_rounds_half_to_even_and_stays_below_certainty(p: float, threshold: int) -> None:
    assert contract.threshold(p) == threshold


def test_p_just_below_1_keeps_an_element_of_the_largest_uniform() -> None:
    # An element whose U is 2**32 - 1 cannot be had by search, so the rule itself is checked.
    top = np.uint64(2**32 - 1)
    threshold = np.uint64(contract.threshold(math.nextafter(1.0, 0)))
    assert top >= threshold
    assert top < np.uint64(contract.threshold(1.0))


def test_p_just_below_1_still_scales_by_its_own_p() -> None:
    key = fd.Key(3)
    uniform = contract.uniform32(np.uint64(3), np.uint64(0), np.arange(2**16, dtype=np.uint64))
    best = int(uniform.argmax())
    p = int(uniform[best]) / 2**32  # keeps this element alone, or few
    y = fd.dropout(np.ones(2**16, np.float64), p, rng=key)
    assert y[best] == 1 / (1 - p)
    assert np.count_nonzero(y) == 1


def test_a_p_below_the_resolution_drops_nothing_and_scales_by_itself() -> None:
    x = np.full(1000, 3.0)
    y = fd.dropout(x, 2.0**-34, rng=1)
    np.testing.assert_array_equal(y, 3.0 * (1 / (1 - 2.0**-34)))


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, 2**64 - 1),
    ps=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    offset=st.integers(0, 2**62),
)
def test_masks_of_one_key_are_nested(
    seed: int, stream: int, ps: tuple[float, float], offset: int
) -> None:
    key = fd.Key(seed, stream)
    less, more = (fd.dropout_mask(700, p, rng=key, offset=offset) for p in sorted(ps))
    assert not (more & ~less).any()


@given(
    global_shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    choices=st.data(),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_reference_of_a_shard_is_a_block_of_the_whole_mask(
    global_shape: list[int], choices: st.DataObject, seed: int
) -> None:
    full = tuple(global_shape)
    noise = tuple(choices.draw(st.sampled_from([1, n])) for n in full)
    start = tuple(choices.draw(st.integers(0, n - 1)) for n in full)
    shape = tuple(choices.draw(st.integers(0, n - s)) for n, s in zip(full, start, strict=True))
    drawn = reference.keep_mask(
        np.arange(math.prod(noise), dtype=np.uint64).reshape(noise), 0.5, seed, 0
    )
    block = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    expected = np.broadcast_to(drawn, full)[block]
    where: dict[str, Any] = {"noise_shape": noise, "offset": start, "global_shape": full}
    actual = mask(shape, 0.5, fd.Key(seed), **where)
    np.testing.assert_array_equal(actual, expected)


def test_the_poison_is_not_what_masks_hold() -> None:
    assert POISON not in (0, 1, 255)
