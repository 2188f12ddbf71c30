"""Calls like an earlier one, which take its plan: the same results, errors and draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.batch import fast_rows
from fastdrop_kernels.cpu.host.kernel_call import run_kernel
from tests.support import internals
from tests.support.oracle import Array, assert_same

KEYS = fd.Key(1, 2), fd.Key(2**63 + 5, 11)
IDS = np.arange(4 * 33).reshape(4, 33) % 50
MARKS = IDS % 7 == 0
TABLE = np.arange(4 * 9, dtype=np.float32).reshape(4, 9)
SOUND = np.ones((4, 40, 16), np.float32)
OWN = np.array([3, 0, 2**62 - 1, 9])
RULE: dict[str, Any] = {"mask_id": 49, "vocab_size": 50}
BANDS: dict[str, Any] = {"time_width": 9, "freq_width": 5}
Calls = dict[str, Callable[..., Any]]


def in_place(function: Callable[..., Array], *args: Any, **where: Any) -> Array:
    x = SOUND.copy()
    assert function(x, *args, **where, out=x) is x
    return x


CALLS: Calls = {
    "mask_tokens": lambda **w: fd.mask_tokens(IDS, **RULE, **w),
    "mask_tokens, ids": lambda **w: fd.mask_tokens(IDS, special=[0, 3], **RULE, **w),
    "mask_tokens, places": lambda **w: fd.mask_tokens(IDS, special=MARKS, **RULE, **w),
    "mask_tokens, row": lambda **w: fd.mask_tokens(IDS, special=MARKS[0], **RULE, **w),
    "mask_tokens, shares": lambda **w: fd.mask_tokens(IDS, replace=(0.1, 0.8, 0.1), **RULE, **w),
    "keep_k": lambda **w: fd.keep_k((4, 3, 33), 8, **w),
    "keep_k, axis 1": lambda **w: fd.keep_k((4, 3, 33), 2, axis=1, **w),
    "keep_k, positions": lambda **w: fd.keep_k((4, 3, 33), 8, indices=True, **w),
    "poisson_weights": lambda **w: fd.poisson_weights((4, 7), **w),
    "bernoulli_weights": lambda **w: fd.bernoulli_weights((4, 7), 0.3, **w),
    "mask_spans": lambda **w: fd.mask_spans((4, 40), length=4, **w),
    "mask_spans, spanbert": lambda **w: fd.mask_spans((4, 40), kind="spanbert", **w),
    "mask_spans, t5": lambda **w: fd.mask_spans((4, 40), kind="t5", **w),
    "swap_rows": lambda **w: fd.swap_rows(TABLE[:, :8], source=TABLE[::-1, :8], **w),
    "swap_rows, contiguous": lambda **w: fd.swap_rows(TABLE, source=TABLE[::-1].copy(), **w),
    "swap_rows, mask": lambda **w: fd.swap_rows(TABLE, source=SOUND[0, :9, :9].copy(),
                                                return_mask=True, **w),
    "spec_augment": lambda **w: fd.spec_augment(SOUND, **BANDS, **w),
    "random_erasing": lambda **w: fd.random_erasing(SOUND, 0.9, **w),
    "random_erasing, noise": lambda **w: fd.random_erasing(SOUND, 0.9, value="noise", **w),
    "random_erasing, channels": lambda **w: fd.random_erasing(
        SOUND.reshape(4, 8, 20, 4), 0.9, count=3, data_format="channels_last", **w),
    "random_erasing, in place": lambda **w: in_place(fd.random_erasing, 0.9, **w),
    "spec_augment, in place": lambda **w: in_place(fd.spec_augment, **BANDS, **w),
}  # fmt: skip


def results(made: Any) -> list[Array]:
    return list(made) if isinstance(made, tuple) else [made]


def check(call: Callable[..., Any], several: list[dict[str, Any]]) -> None:
    """Compare calls, each made twice in this order, with calls that no plan serves."""
    expected = []
    for where in several:
        internals.forget_plans()
        expected.append(results(call(**where)))
    internals.forget_plans()
    for where, wanted in [*zip(several, expected, strict=True)] * 2:
        made = results(call(**where))
        for a, b in zip(made, wanted, strict=True):
            assert_same(a, b)
            assert a.strides == b.strides


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads were asked for in each call that a plan shared among threads."""
    asked: list[int] = []

    def run(kernel: Any, arguments: Any, chunk: int, threads: int, alive: Any, own: Any) -> None:
        asked.append(threads)
        run_kernel(kernel, arguments, chunk, threads, alive, own)

    monkeypatch.setattr(fast_rows, "run_kernel", run)
    internals.set_cpu_limits(monkeypatch, parallel_from=1, chunk=16)
    return asked


@pytest.mark.parametrize("name", CALLS)
def test_plans_serve_other_keys_and_offsets(name: str) -> None:
    places: list[dict[str, Any]] = [{"rng": key} for key in KEYS]
    places += [{"rng": KEYS[0], "offset": n} for n in (5, 2**40 + 3, 2**62)]
    check(CALLS[name], [*places, {"rng": 7}, {"rng": KEYS[1]}])


@pytest.mark.parametrize("name", CALLS)
def test_plans_serve_other_samples(name: str) -> None:
    tables = [fd.sample_keys(key, OWN) for key in KEYS]
    check(CALLS[name], [{"rng": keys} for keys in (*tables, tables[0][::-1])])
    numbers = OWN, OWN[::-1], OWN.astype(np.uint64), [1, 2, 3, 4], OWN.astype(np.int32) % 9, [0] * 4
    check(CALLS[name], [{"rng": KEYS[1], "sample_index": of} for of in numbers])


@pytest.mark.parametrize("name", CALLS)
def test_a_generator_is_asked_as_often_by_a_plan(name: str) -> None:
    internals.forget_plans()
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(3):
        key = fd.as_key(other)
        for a, b in zip(*(results(CALLS[name](rng=rng)) for rng in (one, key)), strict=True):
            assert_same(a, b)
    assert one.integers(2**60) == other.integers(2**60)


def test_a_plan_writes_and_reads_the_arrays_of_its_call() -> None:
    def call(
        x: Array, like: type = np.int64, out: Array | None = None, labels: Array | None = None
    ) -> list[Array]:
        return results(fd.mask_tokens(x, **RULE, rng=KEYS[0], out=out, labels_out=labels))

    for x in (IDS, IDS[::-1].copy(), np.asfortranarray(IDS), IDS[:, ::-1], IDS.astype(np.int16)):
        internals.forget_plans()
        wanted = call(x)
        for _ in range(3):
            here = [np.full_like(x, -7) for _ in range(2)]
            for made in (call(x), call(x, out=here[0], labels=here[1])):
                for a, b in zip(made, wanted, strict=True):
                    assert_same(np.ascontiguousarray(a), np.ascontiguousarray(b))
            assert_same(np.ascontiguousarray(here[0]), np.ascontiguousarray(wanted[0]))
            own = x.copy()
            inputs, labels = fd.mask_tokens(own, **RULE, rng=KEYS[0], out=own)
            assert inputs is own
            assert_same(np.ascontiguousarray(own), np.ascontiguousarray(wanted[0]))
            assert_same(np.ascontiguousarray(labels), np.ascontiguousarray(wanted[1]))


@pytest.mark.parametrize("planned", [False, True])
def test_what_is_refused_is_refused_with_a_plan(planned: bool) -> None:
    internals.forget_plans()
    rng, x = np.random.default_rng(5), IDS.copy()
    state = rng.bit_generator.state
    out, labels = np.empty_like(x), np.empty_like(x)
    both: dict[str, Any] = {"out": out, "labels_out": labels}
    if planned:
        for _ in range(2):
            fd.mask_tokens(x, **RULE, **both, rng=1)
            fd.mask_tokens(x, **RULE, rng=1, sample_index=[1, 2, 3, 4])
            fd.mask_tokens(x, **RULE, rng=fd.sample_keys(1, OWN))
            fd.spec_augment(SOUND, **BANDS, rng=1)
            fd.keep_k((4, 5), 1, rng=1)
            fd.swap_rows(TABLE, rng=1)
    out[...] = labels[...] = -3
    frozen = out.copy()
    frozen.flags.writeable = False
    for wrong, error in [
        ({"out": frozen, "labels_out": labels}, ValueError),
        ({"out": out, "labels_out": out}, ValueError),
        ({"out": out, "labels_out": x}, ValueError),
        ({"p": True}, TypeError),
        ({"mask_id": 49.0}, TypeError),
        ({"replace": (True, 0, 0)}, TypeError),
        ({"sample_index": [-1, 2, 3, 4]}, ValueError),
        ({"sample_index": [1, 2, 3, 2**62]}, ValueError),
        ({"sample_index": [1.0, 2, 3, 4]}, TypeError),
        ({"sample_index": np.array([[1, 2, 3, 4]])}, ValueError),
        ({"sample_index": [1, 2, 3]}, ValueError),
        ({"sample_index": [1, 2, 3, 4], "offset": 3}, ValueError),
        ({"offset": -1}, ValueError),
    ]:
        given = {**RULE, **both, "rng": rng, **wrong}
        with pytest.raises(error):
            fd.mask_tokens(x, **given)
    with pytest.raises(ValueError, match="offset"):
        fd.mask_tokens(x, **RULE, rng=fd.sample_keys(1, OWN), offset=1)
    with pytest.raises(ValueError, match="offset"):
        fd.swap_rows(TABLE, rng=rng, offset=1)
    with pytest.raises(TypeError):
        fd.keep_k((4, 5), 1.0, rng=rng)
    assert_same(x, IDS)
    assert (out == -3).all() and (labels == -3).all()
    assert rng.bit_generator.state == state


def test_a_plan_serves_the_second_call_and_the_cache_is_bounded() -> None:
    internals.forget_plans()
    for n in range(2):
        fd.keep_k((4, 5), 1, rng=n)
        assert internals.plan_count() == 1
    for n in range(1, 700):
        fd.poisson_weights(n, rng=1)
    assert internals.plan_count() <= 512


def test_what_lies_otherwise_in_memory_takes_no_plan_of_arrays_in_c_order() -> None:
    internals.forget_plans()
    for x in (np.asfortranarray(TABLE), TABLE, np.asfortranarray(TABLE), TABLE[:, ::-1], TABLE):
        for out in (None, np.empty_like(x), np.empty_like(TABLE), np.empty_like(TABLE, order="F")):
            made = fd.swap_rows(x, 0.5, rng=KEYS[0], out=out)
            kept = fd.dropout_mask(x.shape, 0.5, rng=KEYS[0])
            assert np.array_equal(made[kept], x[kept])
            column = np.sort(x, 0)
            assert all(np.isin(made[:, c], column[:, c]).all() for c in range(9))


@pytest.mark.parametrize("threads", [0, 3])
def test_plans_of_permutations(threads: int, request: pytest.FixtureRequest) -> None:
    """Two calls, of which one writes what the other reads."""
    asked = request.getfixturevalue("shared") if threads else []
    tables = [TABLE + 100 * n for n in range(3)]

    def of(x: Array, **where: Any) -> Callable[..., Any]:
        return lambda **w: fd.swap_rows(x, 0.4, replace=False, **where, **w)

    internals.forget_plans()
    with fd.threads(threads or 2):
        for where in ({}, {"return_mask": True}):
            wanted = []
            for x in tables:
                internals.forget_plans()
                wanted.append([results(of(x, **where)(rng=key)) for key in KEYS])
            internals.forget_plans()
            for _ in range(2):
                for x, of_keys in zip(tables, wanted, strict=True):
                    wide = np.repeat(x, 2, axis=1)  # a view of which is no array in C order
                    room = np.full((4, 20), -1.0, np.float32)
                    for key, right in zip(KEYS, of_keys, strict=True):
                        for made in (
                            of(x, **where)(rng=key),
                            of(x, **where)(rng=key, out=np.full_like(x, -1)),
                            of(wide[:, ::2], **where)(rng=key),
                            of(x, **where)(rng=key, out=room[:, 2::2]),
                        ):
                            for a, b in zip(results(made), right, strict=True):
                                assert_same(a.copy(), b)
            internals.forget_plans()
            of(np.repeat(TABLE, 2, axis=1)[:, ::2], **where)(
                rng=KEYS[0]
            )  # makes no plan of its copy
            assert_same(results(of(tables[1], **where)(rng=KEYS[0]))[0], wanted[1][0][0])
            one, other = np.random.default_rng(3), np.random.default_rng(3)
            for x in tables:
                key = fd.as_key(other)
                assert_same(
                    results(of(x, **where)(rng=one))[0], results(of(x, **where)(rng=key))[0]
                )
            state = one.bit_generator.state
            frozen = TABLE.copy()
            frozen.flags.writeable = False
            for out in (frozen, tables[0]):
                with pytest.raises(ValueError, match="out"):
                    of(tables[0], **where)(rng=one, out=out)
            assert one.bit_generator.state == state
    assert bool(asked) == bool(threads)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_plans_of_calls_that_threads_share(threads: int, shared: list[int]) -> None:
    """Of any call here, in chunks of a few rows, with keys of all samples and of each."""
    with fd.threads(threads):
        for call in CALLS.values():
            check(call, [{"rng": KEYS[0]}, {"rng": KEYS[1], "offset": 2**40 + 3}])
            own = fd.sample_keys(KEYS[0], OWN)
            check(call, [{"rng": own}, {"rng": KEYS[1], "sample_index": OWN}])
            one, other = np.random.default_rng(3), np.random.default_rng(3)
            for _ in range(3):
                key = fd.as_key(other)
                for a, b in zip(results(call(rng=one)), results(call(rng=key)), strict=True):
                    assert_same(a, b)
            assert one.integers(2**60) == other.integers(2**60)
    assert max(shared) == threads


def test_a_plan_that_threads_share_is_made_with_the_threads_of_its_call(shared: list[int]) -> None:
    internals.forget_plans()
    with fd.threads(1):
        wanted = fd.poisson_weights((70, 3000), rng=1)
        assert internals.plan_count() == 1
        fd.poisson_weights((70, 3000), rng=1)
    with fd.threads(3):
        assert_same(fd.poisson_weights((70, 3000), rng=1), wanted)
    assert shared == [1, 3]
    out = wanted.copy()
    out.flags.writeable = False
    rng = np.random.default_rng(2)
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            fd.poisson_weights((70, 3000), rng=rng, out=out)
        assert fd.poisson_weights((70, 3000), rng=1, out=np.empty_like(wanted)) is not None
    assert rng.bit_generator.state == np.random.default_rng(2).bit_generator.state


def test_what_a_plan_does_not_know_is_looked_at_again() -> None:
    """Keys of other shapes, flags of other types, and what is like a number but may change."""
    for _ in range(2):
        fd.random_erasing(SOUND, 0.9, rng=fd.sample_keys(1, OWN))
        fd.spec_augment(SOUND, **BANDS, rng=fd.sample_keys(1, OWN))
        for width in (0, 1, 3):
            for call in (CALLS["random_erasing"], CALLS["spec_augment"]):
                with pytest.raises(TypeError, match="rng"):
                    call(rng=np.zeros((4, width), np.uint64))
        for call in (CALLS["random_erasing"], CALLS["spec_augment"], CALLS["keep_k"]):
            call(rng=1, sample_index=OWN)
            with pytest.raises(ValueError, match="axes"):
                call(rng=1, sample_index=np.array(3))
        for replace in (False, True):
            made, kept = fd.swap_rows(TABLE, replace=replace, rng=1, return_mask=np.True_)  # type: ignore[arg-type]
            assert made.shape == kept.shape == TABLE.shape
            alone = fd.swap_rows(TABLE, replace=replace, rng=1, return_mask=np.False_)  # type: ignore[arg-type]
            assert_same(alone, made)

    class Changing:
        number = 1

        def __index__(self) -> int:
            return self.number

    count = Changing()
    one = fd.random_erasing(SOUND, 1.0, count=count, rng=1)  # type: ignore[arg-type]
    count.number = 9
    nine = fd.random_erasing(SOUND, 1.0, count=count, rng=1)  # type: ignore[arg-type]
    assert (nine != SOUND).sum() > (one != SOUND).sum()


def test_zeros_with_a_sign_are_two_values() -> None:
    for value in (0.0, -0.0, 0.0, 0):
        made = fd.random_erasing(SOUND, 1.0, value=value, rng=1)
        assert np.signbit(made).any() == (str(value) == "-0.0")


def test_calls_with_large_tables_have_no_plans() -> None:
    """Plans would keep the tables, which have 24 bytes a row."""
    internals.forget_plans()
    numbers = np.arange(10_000)
    for _ in range(2):
        fd.keep_k((10_000, 3), 1, rng=1, sample_index=numbers)
    assert internals.plan_count() == 0
    fd.keep_k((1000, 3), 1, rng=1, sample_index=numbers[:1000])
    assert internals.plan_count() == 1


def test_a_call_without_a_plan_is_no_hindrance_for_the_next() -> None:
    internals.forget_plans()
    fd.spec_augment(np.asfortranarray(SOUND), **BANDS, rng=1)
    assert internals.plan_count() == 0
    fd.spec_augment(SOUND, **BANDS, rng=1)
    assert internals.plan_count() == 1


def test_calls_on_large_arrays_have_plans() -> None:
    images = np.zeros((40, 3, 64, 64), np.float32)
    table, ids = images.reshape(-1, 64), np.arange(1 << 20).reshape(1024, 1024) % 30_000
    calls: list[Callable[[], Any]] = [
        lambda: fd.random_erasing(images, rng=1),
        lambda: fd.random_erasing(images, rng=1, out=images),
        lambda: fd.random_erasing(images, rng=1, value="noise"),
        lambda: fd.spec_augment(images, rng=1),
        lambda: fd.spec_augment(images, rng=1, out=images),
        lambda: fd.swap_rows(table, rng=1),
        lambda: fd.swap_rows(table, rng=1, source=table.copy()),
        lambda: fd.swap_rows(table, rng=1, replace=False),
        lambda: fd.mask_tokens(ids, mask_id=1, vocab_size=30_000, special=[0, 1, 2], rng=1),
        lambda: fd.mask_tokens(ids, mask_id=1, vocab_size=30_000, special=ids < 9, rng=1),
        lambda: fd.keep_k((1024, 1024), 99, rng=1),
        lambda: fd.mask_spans((1024, 1024), length=5, rng=1),
        lambda: fd.poisson_weights((1024, 1024), rng=1),
    ]
    internals.forget_plans()
    for number, call in enumerate(calls, 1):
        call()
        assert internals.plan_count() == number, number
