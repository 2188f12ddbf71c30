"""Repeated calls of every element-wise function, with NumPy arrays, use a plan."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.threads import run_together
from tests.support import internals, normals
from tests.support import repeated_calls as family
from tests.support.internals import set_cpu_limits
from tests.support.oracle import Array, assert_same, filled, mask, poisoned
from tests.support.repeated_calls import (
    KEYS,
    MEMBERS,
    NAMES,
    SHAPE,
    WHERES,
    Host,
    P,
    numbers,
    outcome,
)
from tests.support.slow import slow_unless

HOST = Host()
KEY = KEYS[0]


@pytest.mark.parametrize(
    ("name", "layout"),
    slow_unless(
        lambda name, layout: layout == "C" or (name, layout) == ("masked_fill", "backwards"),
        NAMES,
        family.LAYOUTS,
    ),
)
def test_repeated_calls_use_their_plan_and_give_the_same(name: str, layout: str) -> None:
    # Without noise shapes and shards, whose kernels would take the quick tests long to compile.
    for where in WHERES[:3] if layout == "C" else WHERES[:1]:
        family.check_later_calls(HOST, NAMES[name], layout, where)


@pytest.mark.parametrize("where", WHERES[3:], ids=str)
@pytest.mark.parametrize("member", [pytest.param(m, marks=pytest.mark.slow) for m in MEMBERS])
def test_shards_and_noise_shapes(member: family.Member, where: dict[str, Any]) -> None:
    for layout in family.LAYOUTS:
        family.check_later_calls(HOST, member, layout, where)


NUMBERS: list[Any] = [
    1.0, 1, True, np.True_, np.float32(1), np.float64(1), np.int8(1), np.uint64(1), 0.0, -0.0, 0,
    False, np.float32(0), np.float32(-0.0), P, np.float16(P), np.float64(P), -P, 1.5, np.nan,
    float("nan"), np.float32(np.nan), np.inf, 2**70, "1", None, 1 + 0j,
]  # fmt: skip
OFFSETS: list[dict[str, Any]] = [
    {"offset": o} for o in (0, False, 0.0, 1, True, 1.0, np.int64(1), -1, 2**63, (0, 1), "1")
]
# These use other kernels, which take long to compile.
LISTS: list[Any] = [[1.0], [[P]], [True]]
PLACES: list[dict[str, Any]] = [
    *({"noise_shape": n} for n in ((1, None), (True, None), (1.0, None), [1, None], [1.0, None])),
    *({"noise_shape": n} for n in ((np.int64(1), None), (1,), (2, None), 1, "1", (1, 1, 1))),
    *(
        {"offset": offset, "global_shape": shape}
        for offset in ((0, 1), (False, True), (0.0, 1), [0, 1], (0, 9), 0)
        for shape in ((4, 9), (4, 9.0), [4, 9], (4, 9, 1), 36)
    ),
]
KINDS: list[dict[str, Any]] = [
    *({"training": t} for t in (True, 1, 1.0, np.True_, False, np.False_, None)),
    *({"rng": r} for r in (KEY, 7, True, np.uint64(7), -1, 2**64, 1.5, "7", (7, 0), [7])),
    {"rng": np.random.SeedSequence(7)},
]


def outputs(dtype: Any, strided: bool) -> list[Callable[[], Any]]:
    """Arrays that can be written to, and others, each a new one."""

    def frozen() -> Array:
        made = poisoned((4, 6), dtype)
        made.flags.writeable = False
        return made

    plain: list[Callable[[], Any]] = [
        lambda: None,
        lambda: poisoned((4, 6), dtype),
        frozen,
        lambda: poisoned((4, 7), dtype),
        lambda: poisoned((9, 6), dtype)[:3],  # of the same steps
        lambda: poisoned((9, 6), dtype)[:5],
        lambda: poisoned((24,), dtype),
        lambda: poisoned((4, 6), np.dtype(dtype).newbyteorder() if dtype != "bool" else "int8"),
        lambda: poisoned((4, 6), dtype).view(np.recarray),
        lambda: [1.0],
    ]
    others: list[Callable[[], Any]] = [
        lambda: poisoned((6, 4), dtype).T,
        lambda: poisoned((4, 12), dtype)[:, ::2],
        lambda: np.lib.stride_tricks.as_strided(poisoned((6,), dtype), (4, 6), (0, 1)),
    ]
    return plain + others * strided


Make = Callable[[], dict[str, Any]]


def check_history(calls: list[tuple[Callable[..., Any], Make]]) -> None:
    """What a call does must not depend on the calls before it."""

    def alone(call: Callable[..., Any], make: Make) -> Any:
        internals.forget_plans()
        return outcome(HOST, call, **make())

    first = [alone(*each) for each in calls]
    internals.forget_plans()
    for _ in range(3):
        for (call, make), want in zip(calls, first, strict=True):
            given = make()
            assert outcome(HOST, call, **given) == want, given
    assert internals.plan_count()


def functions(x: Array) -> dict[str, Callable[..., Any]]:
    """Return each function on x, without its numbers."""
    return {
        "dropout": lambda number, **given: fd.dropout(x, number, **given),
        "scaled": lambda number, **given: fd.dropout(x, P, scale=number, **given),
        "fill": lambda number, **given: fd.masked_fill(x, P, number, **given),
        "fill by": lambda number, **given: fd.masked_fill(x, number, 1.0, **given),
        "alpha": lambda number, **given: fd.alpha_dropout(x, number, **given),
        "backward": lambda number, **given: fd.alpha_dropout_backward(x, number, **given),
        "gaussian": lambda number, **given: fd.gaussian_dropout(x, number, **given),
        "noise": lambda number, **given: fd.gaussian_noise(x, number, **given),
    }


X = np.arange(1.0, 25.0, dtype=np.float32).reshape(4, 6)
X[1, 2], X[3, 4], X[0, 5] = np.nan, np.inf, -0.0


@pytest.mark.parametrize(
    ("name", "thorough"),
    slow_unless(
        lambda name, thorough: name == "fill" and not thorough, functions(X), [False, True]
    ),
)
def test_a_call_does_not_depend_on_earlier_calls(name: str, thorough: bool) -> None:
    call = functions(np.asfortranarray(X) if thorough else X)[name]
    outs = outputs("float32", thorough)
    makes: list[Make] = [
        *(lambda number=number: {"number": number} for number in NUMBERS + LISTS * thorough),
        *(
            lambda place=place: {"number": P, **place}
            for place in (*OFFSETS, *PLACES * thorough, *KINDS)
        ),
        *(lambda out=out: {"number": P, "out": out()} for out in outs),
        # The output is looked at before rng is.
        *(lambda out=out: {"number": P, "out": out(), "rng": -1} for out in outs),
    ]
    check_history([(call, make) for make in makes])


def test_zeros_of_both_signs_have_their_own_plans() -> None:
    x = np.full(50, -0.0, np.float32)
    for stddev in (0.0, -0.0, 0.0, -0.0, np.float32(0.0), np.float32(-0.0)) * 3:
        want = normals.expected("plus", x, float(stddev), KEY)
        assert_same(fd.gaussian_noise(x, stddev, rng=KEY), want)


@pytest.mark.parametrize(
    ("packed", "thorough"),
    slow_unless(lambda packed, thorough: not thorough, [False, True], [False, True]),
)
def test_a_mask_does_not_depend_on_earlier_calls(packed: bool, thorough: bool) -> None:
    def call(shape: Any = (4, 6), number: Any = P, **given: Any) -> Any:
        return fd.dropout_mask(shape, number, **{"packed": packed, **given})

    shapes: list[Any] = [
        (4, 6), (4.0, 6), [4, 6], (np.int64(4), 6), 24, 24.0, np.int64(24), (24,), 1, True, (1,),
        (True,), (1, True), (4, -6), None, (4, None), (0, 3), (),
    ]  # fmt: skip
    flags = (True, False, 1, 0, 1.0, np.True_, None)
    likes: list[Any] = [None, X, X.view(np.recarray), [1.0], 1]
    dtype = "uint8" if packed else "bool"

    def packed_out(out: Any) -> Any:
        return out.reshape(-1)[:3] if packed and hasattr(out, "reshape") else out

    makes: list[Make] = [
        *(lambda shape=shape: {"shape": shape} for shape in shapes),
        *(lambda number=number: {"number": number} for number in NUMBERS + LISTS * thorough),
        *(lambda place=place: dict(place) for place in (*OFFSETS, *PLACES * thorough, *KINDS[7:])),
        *(lambda flag=flag: {"packed": flag} for flag in flags),
        *(lambda like=like: {"like": like} for like in likes),
        *(lambda out=out: {"out": packed_out(out())} for out in outputs(dtype, thorough)),
        *(lambda out=out: {"out": out(), "rng": -1} for out in outputs(dtype, thorough)),
        lambda: {"out": poisoned((3,), np.uint8)},
        lambda: {"out": poisoned((6,), np.uint8)[::2]},
        lambda: {"out": poisoned((4,), np.uint8)},
    ]
    check_history([(call, make) for make in makes])


@pytest.mark.parametrize("name", slow_unless(lambda name: name in ("masked_fill",), NAMES))
def test_every_kind_of_rng(name: str) -> None:
    member = NAMES[name]
    x = numbers(member)
    sequence = np.random.SeedSequence(7)
    ours, same = (np.random.default_rng(5) for _ in range(2))
    bits, same_bits = (np.random.PCG64(5) for _ in range(2))
    cases: list[tuple[Any, Any]] = [
        (KEY, KEY), (2**64 - 1, fd.Key(2**64 - 1)), (np.uint8(3), fd.Key(3)), (sequence, sequence),
        (ours, same), (bits, same_bits),
    ]  # fmt: skip
    out = member.result(SHAPE)
    member.call(x, rng=np.random.default_rng(1))  # not by a key, with which dropout is quicker yet
    member.call(x, rng=np.random.default_rng(1), out=out)
    with internals.only_planned_calls():
        for (rng, like), _ in itertools.product(cases, range(2)):
            assert_same(member.call(x, rng=rng), member.expected(x, fd.as_key(like)))
            member.call(x, rng=rng, out=out)
            assert_same(out, member.expected(x, fd.as_key(like)))
        # drop_path draws few elements: two masks may well be equal.
        fresh = {member.call(x, rng=None).tobytes() for _ in range(60)}
    assert len(fresh) > 1


@pytest.mark.parametrize(
    "name",
    slow_unless(
        lambda name: name in ("masked_fill",),
        ["masked_fill", "masked_fill of integers", "alpha_dropout", "gaussian_noise"],
    ),
)
def test_overlap_is_as_if_there_were_none(name: str) -> None:
    member, n, room = NAMES[name], 100, 400
    x = numbers(member, (room,))
    for step in (1, 2, -1, -3):
        begin = 0 if step > 0 else 320
        views = [slice(a, a + n * step, step) for a in range(begin, begin + 10)]
        for _ in range(2):
            member.call(x[views[0]], rng=KEY, out=x.copy()[views[0]])
        for read, written in itertools.product(views[::3], views):
            memory = x.copy()
            member.call(memory[read], rng=KEY, out=memory[written])
            want = x.copy()
            want[written] = member.expected(x[read], KEY)
            assert_same(memory, want)
    memory = x.copy()
    with internals.only_planned_calls():  # adjacent
        member.call(memory[:n], rng=KEY, out=memory[n : 2 * n])
        member.call(memory[2 * n : 3 * n], rng=KEY, out=memory[n : 2 * n])
    want = x.copy()
    want[n : 2 * n] = member.expected(x[2 * n : 3 * n], KEY)
    assert_same(memory, want)


def test_an_output_that_overlaps_itself_is_never_planned() -> None:
    memory = np.arange(1.0, 12.0, dtype=np.float32)
    before = memory.copy()

    def windows() -> Array:
        return np.lib.stride_tricks.as_strided(memory, (4, 8), (4, 4))

    results = set()
    for _ in range(4):
        memory[:] = before
        x = windows()
        fd.masked_fill(x, P, -1.0, rng=KEY, out=x)
        results.add(memory.tobytes())
        marks = np.lib.stride_tricks.as_strided(memory.view(np.bool_), (4, 8), (1, 1))
        fd.dropout_mask((4, 8), P, rng=KEY, out=marks)
        results.add(memory.tobytes())
    assert len(results) == 2
    assert internals.no_call_has_a_plan()


def test_a_read_only_output_stays_as_it_is_after_calls_that_wrote_to_it() -> None:
    x, out = np.ones(50, np.float32), np.ones(50, np.float32)
    marks, bits = np.ones(50, np.bool_), np.ones(7, np.uint8)
    calls: list[tuple[Array, Callable[[], Any]]] = [
        (out, lambda: fd.masked_fill(x, P, 7.0, rng=generator, out=out)),
        (marks, lambda: fd.dropout_mask(50, P, rng=generator, out=marks)),
        (bits, lambda: fd.dropout_mask(50, P, rng=generator, packed=True, out=bits)),
    ]
    generator = np.random.default_rng(1)
    for target, call in calls:
        for _ in range(3):
            call()
        target.flags.writeable = False
        before, state = target.copy(), generator.bit_generator.state
        with pytest.raises(ValueError, match="read-only"):
            call()
        assert_same(target, before)
        assert generator.bit_generator.state == state


def test_equal_dtypes_share_a_plan() -> None:
    x = np.arange(1.0, 51.0)
    arrays = [x, pickle.loads(pickle.dumps(x)), x.astype(np.dtype("f8", metadata={"unit": "m"}))]
    for array in arrays * 3:
        y = fd.masked_fill(array, P, -1.0, rng=KEY)
        assert y.dtype.metadata == array.dtype.metadata
        assert_same(y, filled(x, P, -1.0, KEY))
    swapped = x.astype(x.dtype.newbyteorder())
    for _ in range(3):
        assert (fd.masked_fill(swapped, P, 3.0, rng=KEY) == filled(x, P, 3.0, KEY)).all()


def test_calls_that_differ_in_the_offset_share_a_plan() -> None:
    x = np.ones(100, np.float32)
    for k in range(100):
        assert_same(fd.masked_fill(x, P, 7.0, rng=KEY, offset=k), filled(x, P, 7.0, KEY, offset=k))
        assert (fd.dropout_mask(100, P, rng=KEY, offset=k) == mask((100,), P, KEY, offset=k)).all()
    assert internals.plan_count() == 2


def test_the_plan_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    internals.limit_plan_cache(monkeypatch, 5)
    x = np.ones(100, np.float32)
    for k in range(1, 30):
        for _ in range(3):
            y = fd.masked_fill(x, k / 30, 7.0, rng=KEY)
            assert_same(y, filled(x, k / 30, 7.0, KEY))
            fd.dropout_mask(k, P, rng=KEY)
            assert internals.plan_count() <= 5


def test_forgetting_empties_the_plan_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones(100, np.float32)
    for _ in range(3):
        fd.masked_fill(x, P, 7.0, rng=KEY)
        fd.dropout_mask(100, P, rng=KEY)
    assert internals.plan_count() == 2
    internals.forget_plans()
    assert internals.plan_count() == 0
    # What was begun before is not remembered either.
    internals.while_planning(monkeypatch, internals.forget_plans)
    for _ in range(3):
        assert_same(fd.masked_fill(x, P, 7.0, rng=KEY), filled(x, P, 7.0, KEY))
    assert internals.plan_count() == 0


def test_arrays_are_not_kept_alive() -> None:
    x, out, marks = np.ones(50), np.ones(50), np.ones(50, np.bool_)
    before = [sys.getrefcount(a) for a in (x, out, marks)]
    for _ in range(4):
        y = fd.masked_fill(x, P, 7.0, rng=KEY)
        fd.masked_fill(x, P, 7.0, rng=KEY, out=out)
        fd.dropout_mask(50, P, rng=KEY, out=marks, like=x)
        assert sys.getrefcount(y) == 2
    assert [sys.getrefcount(a) for a in (x, out, marks)] == before


def test_threads_share_planned_calls(monkeypatch: pytest.MonkeyPatch, set_threads: Any) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 10, chunk=1 << 8)
    helped: list[int] = []

    def counted(work: Any, threads: int) -> None:
        helped.append(threads)
        run_together(work, threads)

    monkeypatch.setattr(internals.kernel_call, "run_together", counted)
    shape = 5000, 3
    for member in (NAMES["masked_fill"], NAMES["dropout_mask"], NAMES["packed mask"]):
        first = numbers(member, shape)
        out = member.result(shape)
        member.call(first, rng=KEY)
        member.call(first, rng=KEY, out=out)
        for threads, key in itertools.product((1, 3), KEYS):
            set_threads(threads)
            x = numbers(member, shape)
            helped.clear()
            with internals.only_planned_calls():
                assert_same(member.call(x, rng=key), member.expected(x, key))
                member.call(x, rng=key, out=out)
            assert helped == ([] if threads == 1 else [threads] * 2)
            assert_same(out, member.expected(x, key))


def test_many_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    internals.limit_plan_cache(monkeypatch, 7)
    members = [NAMES[name] for name in ("masked_fill", "dropout_mask", "packed mask")]
    sizes, key = range(90, 100), KEYS[1]
    x = {n: numbers(members[0], (n,)) for n in sizes}
    want = {(m.name, n): m.expected(x[n], key) for m in members for n in sizes}
    start = threading.Barrier(5)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        start.wait()
        for k in range(600):
            member, n = members[rng.integers(3)], sizes[rng.integers(10)]
            out = member.result((n,)) if k % 2 else None
            try:
                assert_same(member.call(x[n], rng=key, out=out), want[member.name, n])
            except BaseException as error:
                wrong.append(error)
            if k % 97 == 0:
                internals.forget_plans()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
