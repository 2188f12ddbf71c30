"""Repeated calls that read arrays beside x use a plan, and do what the first one did."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import internals
from tests.support.internals import set_cpu_limits
from tests.support.oracle import Array, poisoned
from tests.support.repeated_calls import Host, outcome
from tests.support.slow import slow_unless

HOST, KEY, P = Host(), fd.Key(11, 2**63 + 5), 0.4
SHAPE = 4, 6
Call = Callable[..., Any]
Make = Callable[[], dict[str, Any]]


def add(x: Any, other: Any, **given: Any) -> Any:
    return fd.bias_act_dropout_add(x, **{"p": P, "residual": other, **given})


def epilogue(x: Any, other: Any, **given: Any) -> Any:
    return fd.bias_act_dropout_add(x, other, **{"act": "relu", "p": P, "residual": x, **given})


def activated(x: Any, other: Any, **given: Any) -> Any:
    return fd.bias_act_dropout_add(x, **{"act": "relu", "p": P, **given})


def backward(x: Any, other: Any, **given: Any) -> Any:
    return fd.bias_act_dropout_add_backward(x, other, **{"act": "relu", "p": P, **given})[0]


def zoneout(x: Any, other: Any, **given: Any) -> Any:
    return fd.zoneout(x, other, **{"p": P, **given})


def fill(x: Any, other: Any, **given: Any) -> Any:
    return fd.masked_fill(x, **{"p": P, "value": other, **given})


CALLS: dict[str, Call] = {
    call.__name__: call for call in (add, epilogue, activated, backward, zoneout, fill)
}
every_call = pytest.mark.parametrize("name", CALLS)
X = np.arange(1.0, 25.0, dtype=np.float32).reshape(SHAPE)
X[1, 2], X[3, 4], X[0, 5] = np.nan, np.inf, -0.0
OTHER = np.arange(-3.0, 21.0, dtype=np.float32).reshape(SHAPE)


def alone(call: Call, **given: Any) -> Any:
    internals.forget_plans()
    return outcome(HOST, call, **given)


def check_history(call: Call, makes: list[Make]) -> None:
    """What a call does must not depend on the calls before it."""
    first = [alone(call, **make()) for make in makes]
    internals.forget_plans()
    for _ in range(3):
        for make, want in zip(makes, first, strict=True):
            assert outcome(HOST, call, **make()) == want, make()
    assert internals.plan_count()


def layouts(x: Array) -> dict[str, Array]:
    """The same elements, in several layouts."""
    wide = poisoned((9, 13), x.dtype)
    wide[:4, 1:7] = x
    steps = poisoned((4, 12), x.dtype)
    steps[:, ::2] = x
    return {
        "C": x.copy(),
        "F": np.asfortranarray(x),
        "rows": wide[:4, 1:7],
        "steps": steps[:, ::2],
        "backwards": np.ascontiguousarray(x[::-1])[::-1],
    }


@every_call
def test_later_calls_use_a_plan_in_every_layout(name: str) -> None:
    call = CALLS[name]
    want = call(X, OTHER, rng=KEY)
    internals.forget_plans()
    for x, other, out in itertools.product(*map(lambda a: layouts(a).values(), (X, OTHER, X))):
        for given in (None, out):
            call(x, other, rng=KEY, out=None if given is None else given.copy(order="K"))
            result = poisoned(SHAPE, X.dtype) if given is None else given
            made = call(x, other, rng=KEY, out=given)
            with internals.only_planned_calls():
                again = call(x, other, rng=KEY, out=given)
            assert given is None or (made is given and again is given)
            for found in (made, again):
                assert np.ascontiguousarray(found).tobytes() == want.tobytes()
            assert result.shape == SHAPE


@every_call
def test_a_call_does_not_depend_on_earlier_calls(name: str) -> None:
    """Whatever differs, and what is refused: numbers, arrays beside x, outputs, places, keys."""
    others: list[Any] = [
        OTHER, OTHER[0], OTHER[:, :1], OTHER[:1], OTHER.astype(np.float64), OTHER.astype(">f4"),
        np.float32(2), 2.0, [1.0] * 6, OTHER[:3], OTHER.T, OTHER.view(np.recarray), None, "1",
        np.ma.masked_array(OTHER), OTHER[None],
    ]  # fmt: skip
    xs: list[Any] = [
        X, X[0], X[:2], X.astype(np.float64), X.astype(np.float16), np.ones(SHAPE, int),
        X.tolist(), X.view(np.recarray), X[:0], X.astype(">f4"),
    ]  # fmt: skip
    numbers: list[Any] = [0.0, 0, 1.0, 1, True, P, np.float32(P), np.float64(P), -P, np.nan, "1"]
    outs: list[Callable[[], Any]] = [
        lambda: poisoned(SHAPE, np.float32), lambda: poisoned(SHAPE, np.float64),
        lambda: poisoned((4, 7), np.float32), lambda: poisoned((24,), np.float32),
        lambda: poisoned((6, 4), np.float32).T, lambda: poisoned((4, 12), np.float32)[:, ::2],
        lambda: np.lib.stride_tricks.as_strided(poisoned((6,), np.float32), SHAPE, (0, 4)),
        lambda: [1.0],
    ]  # fmt: skip
    places: list[dict[str, Any]] = [
        *({"offset": o} for o in (0, False, 1, np.int64(1), 1.0, -1, 2**63, (0, 1))),
        *({"offset": o, "global_shape": (5, 9)} for o in ((0, 1), [0, 1], (0, 9), 0)),
        *({"training": t} for t in (True, 1, False, None)),
        *({"rng": r} for r in (KEY, 7, True, np.uint64(7), -1, 1.5, "7")),
    ]
    if name not in ("zoneout", "fill"):
        places += [{"scale": s} for s in (1.0, 1, -0.0, 0.0, np.nan, np.float32(3), True, "1")]
        places += [{"act": a} for a in ("identity", "relu", "silu", "none", None, ["relu"])]
    if name == "fill":
        places += [{"noise_shape": n} for n in ((1, None), [1, None], np.array([1, 6]), (True, 6))]
    makes: list[Make] = [
        *(lambda other=other: {"x": X, "other": other} for other in others),
        *(lambda x=x: {"x": x, "other": OTHER} for x in xs),
        *(lambda number=number: {"x": X, "other": OTHER, "p": number} for number in numbers),
        *(lambda place=place: {"x": X, "other": OTHER, **place} for place in places),
        *(lambda out=out: {"x": X, "other": OTHER, "out": out()} for out in outs),
        # The output is looked at before rng is.
        *(lambda out=out: {"x": X, "other": OTHER, "out": out(), "rng": -1} for out in outs),
    ]
    check_history(CALLS[name], makes)


@pytest.mark.parametrize("name", slow_unless(lambda name: name in ("add", "zoneout"), CALLS))
def test_overlap_is_as_if_there_were_none(name: str) -> None:
    call, n, room = CALLS[name], 100, 400
    memory = np.arange(1.0, 1 + room, dtype=np.float32)
    for step in (1, 2, -1):
        begin = 0 if step > 0 else 320
        views = [slice(a, a + n * step, step) for a in range(begin, begin + 7, 2)]
        views.append(slice(*((210, 310) if abs(step) == 1 else (210, 410)), abs(step)))
        views[-1:] = [views[-1]] if len(memory[views[-1]]) == n else []
        for _ in range(2):  # so that there is a plan
            call(memory[views[0]], memory[views[1]], rng=KEY, out=memory.copy()[views[0]])
        for of_x, of_other, written in itertools.product(views, repeat=3):
            mine = memory.copy()
            call(mine[of_x], mine[of_other], rng=KEY, out=mine[written])
            want = memory.copy()
            want[written] = call(memory[of_x].copy(), memory[of_other].copy(), rng=KEY)
            assert mine.tobytes() == want.tobytes(), (of_x, of_other, written)


@every_call
def test_an_output_that_is_an_input_uses_the_plan(name: str) -> None:
    call = CALLS[name]
    want = call(X, OTHER, rng=KEY)
    for _ in range(2):
        call(X, OTHER, rng=KEY, out=np.empty_like(X))
    for which in range(2):
        mine = [X.copy(), OTHER.copy()]
        with internals.only_planned_calls():
            call(*mine, rng=KEY, out=mine[which])
        assert mine[which].tobytes() == want.tobytes()


@every_call
def test_an_output_at_the_address_of_an_input_may_lie_otherwise(name: str) -> None:
    call = CALLS[name]
    x, other = np.arange(20_000, dtype=np.float32).reshape(2, 100, 100)
    want = call(x, other, rng=KEY)
    for which in range(2):
        for _ in range(3):
            mine = [x.copy(), other.copy()]
            call(*mine, rng=KEY, out=mine[which].T)
            assert mine[which].T.tobytes() == want.tobytes()


def test_values_of_another_dtype_are_converted_at_each_call() -> None:
    internals.forget_plans()
    x = np.arange(24, dtype=np.float32)
    for k in range(3):
        for dtype in (np.float64, np.float16, np.int8):
            value = np.arange(24).astype(dtype) + dtype(k)
            found = fd.masked_fill(x, P, value, rng=KEY)
            want = np.where(fd.dropout_mask(24, P, rng=KEY), x, value)
            assert np.array_equal(found, want)


@every_call
def test_a_read_only_output_and_its_generator_stay_as_they_are(name: str) -> None:
    call, out, rng = CALLS[name], np.empty_like(X), np.random.default_rng(1)
    for _ in range(3):
        call(X, OTHER, rng=rng, out=out)
    out.flags.writeable = False
    before, state = out.copy(), rng.bit_generator.state
    with pytest.raises(ValueError, match="read-only"):
        call(X, OTHER, rng=rng, out=out)
    assert out.tobytes() == before.tobytes() and rng.bit_generator.state == state


@every_call
@pytest.mark.parametrize("threads", [1, 3])
def test_large_calls(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> None:
    """Plans of calls that threads share, some of them with nontemporal stores, and in place."""
    rng = np.random.default_rng(3)
    x, other = rng.standard_normal((2, 60, 500), np.float32)
    call = CALLS[name]
    want = alone(call, x=x, other=other, rng=KEY)[0]
    set_cpu_limits(
        monkeypatch, parallel_from=500, chunk=1500, cached_bytes=256, nontemporal_from=1 << 14
    )
    set_threads(threads)
    for _ in range(3):
        assert outcome(HOST, call, x=x, other=other, rng=KEY)[0] == want
        mine = x.copy()
        assert call(mine, other, rng=KEY, out=mine).tobytes() == want[4]


def test_calls_that_differ_in_the_offset_share_a_plan() -> None:
    internals.forget_plans()
    x, other = np.ones(100, np.float32), np.full(100, -1, np.float32)
    for k in range(50):
        kept = fd.dropout_mask(100, P, rng=KEY, offset=k)
        found = fd.zoneout(x, other, P, rng=KEY, offset=k)
        assert np.array_equal(found, np.where(kept, x, other))
    assert internals.plan_count() == 2


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has no such dtype")
@pytest.mark.parametrize("name", ["add", "zoneout", "fill", "epilogue"])
def test_a_dtype_that_cannot_be_hashed_is_refused_as_others_are(name: str) -> None:
    texts = np.array(["a"] * 6, np.dtypes.StringDType(na_object=[]))
    for _ in range(2):
        with pytest.raises(TypeError, match=r"has dtype StringDType"):
            CALLS[name](X, texts, rng=KEY)
