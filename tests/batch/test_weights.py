"""Poisson and Bernoulli weights: every value by the contract, on CPU and CUDA, and their errors."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._batch.weights import poisson_thresholds
from fastdrop_kernels import contract
from tests.support.batch_oracle import counts
from tests.support.devices import HostDevice
from tests.support.oracle import Array, assert_same, index_of, mask, poisoned

KEY = fd.Key(2**63 + 5, 11)
DTYPES = ("int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
RATES = (0.0, 1e-12, 0.3, 1.0, 7.25, 32.0)


def uniforms(shape: tuple[int, ...], key: fd.Key = KEY, **where: Any) -> Array:
    seed, stream = np.uint64(key.seed), np.uint64(key.stream)
    return np.asarray(contract.uniform32(seed, stream, index_of(shape, **where)))


@pytest.mark.parametrize("rate", RATES)
def test_thresholds_are_those_of_exact_arithmetic(rate: float) -> None:
    """Of the exponential series in fractions, which differs by less than 1e-40."""
    exact = Fraction(rate)
    terms = [Fraction(1)]
    for k in range(1, 400):
        terms.append(terms[-1] * exact / k)
    whole, so_far, found = sum(terms), Fraction(0), []
    for term in terms:
        so_far += term
        threshold = round(so_far / whole * 2**32)
        if threshold >= 2**32:
            break
        found.append(threshold)
    assert list(poisson_thresholds(rate)) == found
    assert len(found) < 127


@pytest.mark.parametrize("name", DTYPES)
def test_counts_are_those_of_the_uniforms(name: str) -> None:
    for shape in ((), (0,), (1,), (7,), (5, 33), (3, 5, 1000), (70_001,)):
        for rate in (1.0, 7.25):
            expected = counts(uniforms(shape), rate).astype(
                fd.poisson_weights((), dtype=name).dtype
            )
            assert_same(np.asarray(fd.poisson_weights(shape, rate, dtype=name, rng=KEY)), expected)


@pytest.mark.parametrize("name", DTYPES)
def test_bernoulli_weights_are_dropout_of_ones(name: str) -> None:
    for p in (0.0, 0.5, 1.0) if name.startswith("int") else (0.0, 0.1, 0.5, 0.9, 1.0):
        made = fd.bernoulli_weights((40, 77), p, dtype=name, rng=KEY)
        ones = np.ones((40, 77), np.float64 if name.startswith("int") else made.dtype)
        assert_same(made, fd.dropout(ones, p, rng=KEY).astype(made.dtype))
        np.testing.assert_array_equal(made != 0, mask((40, 77), p, KEY))


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_and_threads_give_the_same_counts(threads: int) -> None:
    full = (6, 9, 50_000)
    with fd.threads(threads):
        whole = fd.poisson_weights(full, rng=KEY)
        assert_same(whole, counts(uniforms(full), 1.0).astype(np.int8))
        part = fd.poisson_weights((2, 3, 700), rng=KEY, offset=(3, 5, 44), global_shape=full)
        assert_same(part, whole[3:5, 5:8, 44:744].copy())
        far = fd.poisson_weights(1000, rng=KEY, offset=2**62)
        assert_same(far, counts(uniforms((1000,), offset=2**62), 1.0).astype(np.int8))


def test_samples_have_their_own_counts_in_any_batch() -> None:
    index = np.array([4, 1, 9])
    made = fd.poisson_weights((3, 5, 70), rng=KEY, sample_index=index)
    for row, n in zip(made, index.tolist(), strict=True):
        assert_same(row.copy(), fd.poisson_weights((5, 70), rng=KEY.fold_in(n)))
    again = fd.poisson_weights((2, 5, 70), rng=fd.sample_keys(KEY, [9, 4]))
    assert_same(again, made[[2, 0]].copy())


def test_out_is_written_in_any_layout_and_nothing_beside_it() -> None:
    expected = fd.poisson_weights((6, 8), rng=KEY)
    room = poisoned((12, 16), np.int8)
    before = room.copy()
    view = room[::2, 1::2]
    assert fd.poisson_weights((6, 8), rng=KEY, out=view) is view
    assert_same(view.copy(), expected)
    view[...] = before[::2, 1::2]
    np.testing.assert_array_equal(room, before)
    assert_same(
        fd.poisson_weights((6, 8), rng=KEY, out=poisoned((8, 6), np.int8).T).copy(), expected
    )


@pytest.mark.parametrize("name", DTYPES)
def test_cuda_gives_the_same(host: HostDevice, name: str) -> None:
    like = host.put(np.zeros(1))

    def check(function: Any, *arguments: Any, **where: Any) -> None:
        made = function(*arguments, rng=KEY, dtype=name, like=like, **where)
        assert_same(host.get(made), function(*arguments, rng=KEY, dtype=name, **where))

    for shape in ((5,), (3, 41), (0, 3)):
        for offset in (0, 2**35 - 3):
            for function in (fd.poisson_weights, fd.bernoulli_weights):
                check(function, shape, offset=offset)
    check(fd.poisson_weights, (3, 2, 9), sample_index=[7, 2**40, 0])
    check(fd.poisson_weights, (2, 3, 9), offset=(1, 2, 3), global_shape=(4, 9, 20))


def test_counts_are_distributed_as_they_should_be() -> None:
    made = fd.poisson_weights(1 << 20, rng=3)
    n = made.size
    for k in range(8):
        expected = math.exp(-1) / math.factorial(k)
        found = float(np.count_nonzero(made == k)) / n
        assert abs(found - expected) < 5 * math.sqrt(expected / n), k


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"rate": -1}, ValueError, "rate=-1 is out of range"),
        ({"rate": 33}, ValueError, "Generator.poisson takes larger"),
        ({"rate": float("nan")}, ValueError, "rate=nan"),
        ({"dtype": "uint8"}, TypeError, "dtype=uint8 is not supported"),
        ({"dtype": "nonsense"}, TypeError, "is not a dtype"),
        ({"out": np.zeros(8, np.int16)}, TypeError, "out has dtype int16"),
        ({"out": np.zeros(7, np.int8)}, ValueError, r"out has shape \(7,\)"),
        ({"out": np.broadcast_to(np.int8(1), (8,))}, ValueError, "read-only"),
        ({"sample_index": [1] * 8, "offset": 3}, ValueError, "offset is given, and each sample"),
        ({"offset": -1}, ValueError, "offset=-1"),
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
        fd.poisson_weights(8, rng=generator, **arguments)
    assert generator.bit_generator.state == before


def test_integers_take_no_weights_that_they_do_not_have() -> None:
    with pytest.raises(ValueError, match="gives weights of 1.42857"):
        fd.bernoulli_weights(8, 0.3, dtype="int8")
