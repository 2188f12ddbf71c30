"""Keys: two integers, and everything that can be turned into them."""

from __future__ import annotations

import copy
import json
import os
import pickle
import textwrap
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop as fd
from tests.support.subprocesses import assert_succeeds, run_python

WORDS = st.integers(0, 2**64 - 1)


def test_a_key_is_a_seed_and_a_stream_of_0() -> None:
    key = fd.Key(5)
    assert (key.seed, key.stream) == (5, 0)
    assert fd.Key(5, 7).stream == 7
    assert fd.Key(seed=5, stream=7) == fd.Key(5, 7)


def test_a_key_cannot_be_changed() -> None:
    key: Any = fd.Key(5)
    for name in ("seed", "stream", "other"):
        with pytest.raises(AttributeError):
            setattr(key, name, 1)
    assert key == fd.Key(5)


def test_equal_keys_are_equal_and_hash_alike_and_others_differ() -> None:
    assert len({fd.Key(1, 2), fd.Key(1, 2), fd.Key(2, 1), fd.Key(1)}) == 3
    assert hash(fd.Key(1, 2)) == hash(fd.Key(1, 2))
    assert fd.Key(1, 2) != fd.Key(2, 1)


def test_repr_of_a_key_is_code_that_makes_it() -> None:
    key = fd.Key(2**64 - 1, 9)
    assert repr(key) == "Key(seed=18446744073709551615, stream=9)"
    assert eval(repr(key), {"Key": fd.Key}) == key


@given(seed=WORDS, stream=WORDS)
def test_a_key_survives_pickle_copy_and_json(seed: int, stream: int) -> None:
    key = fd.Key(seed, stream)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(key, protocol))
        assert loaded == key
        assert type(loaded) is fd.Key
    assert copy.deepcopy(key) == key
    assert type(copy.copy(key)) is fd.Key
    assert fd.Key(*json.loads(json.dumps(key))) == key


@pytest.mark.parametrize("word", [-1, 2**64, 2**70, np.int64(-3)])
def test_a_word_out_of_range_is_a_value_error_that_names_it(word: Any) -> None:
    with pytest.raises(ValueError, match=rf"seed={int(word)} is out of range"):
        fd.Key(word)
    with pytest.raises(ValueError, match=rf"stream={int(word)} is out of range"):
        fd.Key(0, word)


@pytest.mark.parametrize("word", [1.0, "1", None, True, np.True_, [1], np.float64(2), b"1"])
def test_a_word_that_is_no_integer_is_a_type_error_that_names_it(word: Any) -> None:
    with pytest.raises(TypeError, match="seed="):
        fd.Key(word)
    with pytest.raises(TypeError, match="stream="):
        fd.Key(0, word)


@pytest.mark.parametrize("kind", [np.uint64, np.int64, np.uint8, np.int32])
def test_numpy_integers_become_plain_ones(kind: Any) -> None:
    key = fd.Key(kind(7), kind(8))
    assert key == fd.Key(7, 8)
    assert type(key.seed) is int
    assert type(key.stream) is int
    assert fd.as_key(kind(7)) == fd.Key(7)
    json.dumps(key)


def test_the_largest_uint64_is_a_word() -> None:
    assert fd.as_key(np.uint64(2**64 - 1)) == fd.Key(2**64 - 1)


def test_folds_of_one_key_differ_from_each_other_and_from_it() -> None:
    key = fd.Key(42, 3)
    folds = [key.fold_in(n) for n in [*range(500), 2**32, 2**32 + 1, 2**61, 2**62 - 1]]
    assert len({key, *folds}) == len(folds) + 1
    assert len({fold.seed for fold in folds}) == len(folds)
    assert all(type(fold) is fd.Key for fold in folds)


def test_folds_depend_on_seed_and_stream() -> None:
    keys = [fd.Key(1), fd.Key(2), fd.Key(1, 1), fd.Key(1 << 32), fd.Key(1, 1 << 32)]
    assert len({key.fold_in(5) for key in keys}) == len(keys)


@pytest.mark.parametrize("n", [-1, 2**62, 2**64])
def test_a_fold_out_of_range_is_a_value_error_that_names_it(n: int) -> None:
    with pytest.raises(ValueError, match=rf"n={n} is out of range"):
        fd.Key(1).fold_in(n)


@pytest.mark.parametrize("n", [1.0, "1", None, True])
def test_a_fold_that_is_no_integer_is_a_type_error(n: Any) -> None:
    with pytest.raises(TypeError, match="n="):
        fd.Key(1).fold_in(n)


def test_a_fold_takes_numpy_integers() -> None:
    assert fd.Key(1).fold_in(np.int16(4)) == fd.Key(1).fold_in(4)


def test_as_key_returns_a_key_itself() -> None:
    key = fd.Key(1, 2)
    assert fd.as_key(key) is key


def test_as_key_makes_an_int_the_seed() -> None:
    assert fd.as_key(9) == fd.Key(9, 0)


def test_as_key_of_none_differs_each_time() -> None:
    keys = [fd.as_key() for _ in range(20)] + [fd.as_key(None) for _ in range(20)]
    assert len({key.seed for key in keys}) == 40
    assert len({key.stream for key in keys}) == 40


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "SFC64", "Philox"])
def test_a_generator_gives_seed_and_stream_and_moves_on(kind: str) -> None:
    make = getattr(np.random, kind)
    first, second = (np.random.Generator(make(123)) for _ in range(2))
    words = second.integers(0, 2**64 - 1, 4, np.uint64, endpoint=True)
    expected = [fd.Key(int(words[0]), int(words[1])), fd.Key(int(words[2]), int(words[3]))]
    assert [fd.as_key(first), fd.as_key(first)] == expected
    assert first.integers(1000) == second.integers(1000)  # two words each, no more


def test_a_bit_generator_without_a_state_gives_what_it_draws() -> None:
    class Foreign:
        """All that NumPy's Generator asks for, and no BitGenerator."""

        def __init__(self) -> None:
            self.own = np.random.PCG64(3)
            self.capsule, self.lock = self.own.capsule, self.own.lock

    words = np.random.PCG64(3).random_raw(2).tolist()
    foreign: Any = Foreign()
    assert fd.as_key(np.random.Generator(foreign)) == fd.Key(*words)


@pytest.mark.parametrize("kind", ["PCG64", "MT19937", "SFC64", "Philox"])
def test_a_bit_generator_gives_what_its_generator_does(kind: str) -> None:
    make = getattr(np.random, kind)
    bits, same = make(5), make(5)
    generator = np.random.Generator(same)
    assert [fd.as_key(bits) for _ in range(3)] == [fd.as_key(generator) for _ in range(3)]


def test_a_seed_sequence_gives_its_state_and_the_same_again() -> None:
    sequence = np.random.SeedSequence(77, spawn_key=(3,))
    seed, stream = (int(word) for word in sequence.generate_state(2, np.uint64))
    assert fd.as_key(sequence) == fd.Key(seed, stream)
    assert fd.as_key(sequence) == fd.Key(seed, stream)
    assert fd.as_key(sequence.spawn(1)[0]) != fd.Key(seed, stream)


@pytest.mark.parametrize("kind", ["PCG64", "MT19937"])
def test_a_random_state_gives_what_its_bit_generator_does(kind: str) -> None:
    make = getattr(np.random, kind)
    legacy = np.random.RandomState(make(5))  # noqa: NPY002
    bits = make(5)
    assert [fd.as_key(legacy) for _ in range(3)] == [fd.as_key(bits) for _ in range(3)]
    assert legacy.randint(2**40) == np.random.RandomState(bits).randint(2**40)  # noqa: NPY002


def test_np_random_stands_for_its_global_state_which_np_random_seed_sets() -> None:
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(7)  # noqa: NPY002
        keys = [fd.as_key(np.random) for _ in range(3)]
        np.random.seed(7)  # noqa: NPY002
        assert [fd.as_key(np.random) for _ in range(3)] == keys
        assert len(set(keys)) == 3
        legacy = np.random.RandomState(7)  # noqa: NPY002
        assert [fd.as_key(legacy) for _ in range(3)] == keys
        np.random.seed(7)  # noqa: NPY002
        masks = [fd.dropout(np.ones(64), rng=np.random).tobytes() for _ in range(2)]
        np.random.seed(7)  # noqa: NPY002
        assert [fd.dropout(np.ones(64), rng=np.random).tobytes() for _ in range(2)] == masks
        assert masks[0] != masks[1]
    finally:
        np.random.set_state(before)  # noqa: NPY002


def test_np_random_seed_does_not_affect_rng_none() -> None:
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(7)  # noqa: NPY002
        first = fd.as_key(None)
        np.random.seed(7)  # noqa: NPY002
        assert fd.as_key(None) != first
    finally:
        np.random.set_state(before)  # noqa: NPY002


@pytest.mark.parametrize(
    "seed", [2**64, 2**70, [5], [1, 2, 3], (1, 2), np.array([1, 2]), [], [2**70]]
)
def test_larger_integers_and_several_are_what_a_seed_sequence_makes_of_them(seed: Any) -> None:
    seq = np.random.SeedSequence(seed)
    assert fd.as_key(seed) == fd.as_key(seq)


@pytest.mark.parametrize(
    "rng",
    [
        "1",
        1.0,
        True,
        {},
        np.float32(1),
        [1.0],
        [True],
        np.array([1.0]),
        np.array([[1]]),
    ],
)
def test_as_key_refuses_anything_else_and_names_what_it_takes(rng: Any) -> None:
    with pytest.raises(TypeError, match=r"rng=.*Generator"):
        fd.as_key(rng)


@pytest.mark.parametrize("rng", [-1, -(2**70), [-1], [1, -2], np.int64(-3)])
def test_as_key_refuses_negative_integers(rng: Any) -> None:
    with pytest.raises(ValueError, match=r"rng.*negative"):
        fd.as_key(rng)


def test_a_large_rng_is_not_shown_whole() -> None:
    for rng in (np.ones((30, 30)), {n: n for n in range(999)}):
        with pytest.raises(TypeError) as caught:
            fd.as_key(rng)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 250
    with pytest.raises(ValueError, match="negative"):
        fd.as_key(-(10**5000))


def test_fresh_keys_differ_between_threads_and_in_forked_children() -> None:
    keys: list[fd.Key] = []
    threads = [
        threading.Thread(target=lambda: keys.extend([fd.as_key() for _ in range(500)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 2000
    if not hasattr(os, "fork"):
        pytest.skip("between threads they do; this system has no fork")
    script = """
        import os
        import fastdrop as fd
        fd.as_key()  # so that there are keys in store
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, repr([fd.as_key() for _ in range(100)]).encode())
            os._exit(0)
        os.wait()
        theirs = eval(os.read(read, 1 << 16), {"Key": fd.Key})
        print(len({*theirs, *[fd.as_key() for _ in range(100)]}))
    """
    assert assert_succeeds(run_python(textwrap.dedent(script))) == "200\n"


def test_fold_in_gives_the_same_keys_in_python_and_compiled() -> None:
    script = """
        import sys
        import numpy as np
        import fastdrop as fd
        key = fd.Key(2**64 - 3, 2**63 + 5)
        counts = [0, 1, 2**31, 2**32 - 1, 2**32, 2**45 + 7, 2**62 - 1]
        before = [key.fold_in(n) for n in counts]
        assert not any(name.startswith("numba") for name in sys.modules)
        fd.dropout(np.ones(9), rng=key)
        for n in range(99):
            key.fold_in(n)
        from fastdrop._check import fold_in
        assert fold_in.fold_in is not fold_in._interpreted
        print(before == [key.fold_in(n) for n in counts])
    """
    assert assert_succeeds(run_python(textwrap.dedent(script))) == "True\n"


def test_every_function_takes_everything_that_as_key_takes() -> None:
    x = np.ones(200, np.float32)
    for make in (
        lambda: fd.Key(4, 5),
        lambda: 4,
        lambda: np.random.default_rng(4),
        lambda: np.random.PCG64(4),
        lambda: np.random.SeedSequence(4),
    ):
        kept = fd.dropout_mask(200, 0.4, rng=fd.as_key(make()))
        np.testing.assert_array_equal(fd.dropout_mask(200, 0.4, rng=make()), kept)
        np.testing.assert_array_equal(fd.dropout(x, 0.4, rng=make()) != 0, kept)
        np.testing.assert_array_equal(fd.masked_fill(x, 0.4, 0, rng=make()) != 0, kept)
        assert fd.Dropout(rng=make()).key == fd.as_key(make())


def test_calls_without_rng_draw_different_masks() -> None:
    x = np.ones(256, np.float32)
    assert len({fd.dropout(x).tobytes() for _ in range(5)}) == 5
    assert len({fd.dropout_mask(256).tobytes() for _ in range(5)}) == 5
    assert len({fd.masked_fill(x, 0.5, 0).tobytes() for _ in range(5)}) == 5


def test_rng_is_keyword_only() -> None:
    function: Any
    for function in (fd.dropout, fd.dropout_mask, fd.Dropout):
        with pytest.raises(TypeError, match="positional"):
            function(np.ones(3, np.float32), 0.5, 1)
