"""Repeated calls use a plan, with the same results and errors as first calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support import internals
from tests.support.oracle import Array, assert_same, dropped, poisoned
from tests.support.slow import slow_unless

KEYS = fd.Key(3, 2**40), fd.Key(2**63 + 1, 5)
P = 0.4


def layouts(dtype: Any) -> dict[str, Array]:
    x = np.random.default_rng().standard_normal((12, 50, 7)).astype(dtype)
    return {
        "F": np.asfortranarray(x),
        "transposed": x.transpose(1, 0, 2),
        "backwards": x[::-1, ::-1],
        "stepped": x[:, ::3],
        "rows": x[:, 5:31],
        "broadcast": np.broadcast_to(x[:1], (4, 50, 7)),
    }


@pytest.mark.parametrize(
    "dtype",
    slow_unless(
        lambda dtype: dtype != ml_dtypes.bfloat16,
        [np.float16, ml_dtypes.bfloat16, np.float32, np.float64],
    ),
)
def test_repeated_calls_give_what_a_first_call_would(dtype: Any) -> None:
    for x in layouts(dtype).values():
        larger = tuple(n + 3 for n in x.shape)
        wheres: list[dict[str, Any]] = [
            {},
            {"noise_shape": (1, None, None)},
            {"noise_shape": (None, 1, 1)},
            {"offset": (1, 2, 3), "global_shape": larger},
            {"offset": 77},
        ]
        for where in wheres:
            internals.forget_plans()
            for key in KEYS:
                for data in (x, x.copy(order="K"), np.negative(x)):
                    want = dropped(data, P, key, **where)
                    assert_same(np.ascontiguousarray(fd.dropout(data, P, rng=key, **where)), want)
                    out = poisoned(x.shape, dtype)
                    assert fd.dropout(data, P, rng=key, out=out, **where) is out
                    assert_same(out, want)
            assert internals.plan_count()


def test_each_p_and_scale_has_its_own_plan() -> None:
    x = np.asfortranarray(np.random.default_rng().standard_normal((30, 20)))
    for _ in range(2):
        for p in (0.0, 0.1, 0.5, 1.0):
            for scale in (None, 1.0, 0.0, -0.0, -3.0):
                y = fd.dropout(x, p, rng=KEYS[0], scale=scale)
                factor = scale if scale is not None else 1 / (1 - p) if p < 1 else 0.0
                kept = fd.dropout_mask(x.shape, p, rng=KEYS[0])
                assert_same(np.ascontiguousarray(y), np.where(kept, x * factor, 0.0))


def test_equal_arguments_of_wrong_types_are_refused_after_right_ones_too() -> None:
    x = np.asfortranarray(np.ones((2, 3), np.float32))
    right: list[dict[str, Any]] = [
        {"noise_shape": (1, None)},
        {"offset": (0, 1), "global_shape": (2, 4)},
        {"offset": 1},
    ]
    wrong: list[dict[str, Any]] = [
        {"noise_shape": (True, None)},
        {"noise_shape": (1.0, None)},
        {"offset": (False, True), "global_shape": (2, 4)},
        {"offset": (0, 1), "global_shape": (2.0, 4)},
        {"offset": True},
        {"offset": 1.0},
        {"noise_shape": [1.0, None]},
    ]
    for where in right:
        fd.dropout(x, P, rng=KEYS[0], **where)
    for where in wrong:
        with pytest.raises(TypeError):
            fd.dropout(x, P, rng=KEYS[0], **where)


def test_an_output_that_does_not_fit_is_refused_after_right_ones_too() -> None:
    x = np.asfortranarray(np.ones((4, 6), np.float32))
    fd.dropout(x, P, rng=KEYS[0], out=np.empty_like(x))
    frozen = np.empty_like(x)
    frozen.flags.writeable = False
    for out in (frozen, np.empty((6, 4), np.float32), np.empty((4, 6)), [1.0]):
        with pytest.raises((TypeError, ValueError), match="out"):
            fd.dropout(x, P, rng=KEYS[0], out=out)  # type: ignore[arg-type]


def test_views_of_the_output_are_read_before_they_are_written() -> None:
    views: list[Callable[[Array], Array]] = [
        lambda a: a.T,
        lambda a: a[::-1],
        lambda a: a[:, ::-1].T,
    ]
    for view in views:
        out = np.random.default_rng().standard_normal((40, 40)).astype(np.float32)
        for _ in range(2):
            x = view(out)
            want = dropped(x.copy(), P, KEYS[0])
            assert_same(fd.dropout(x, P, rng=KEYS[0], out=out), want)


def test_the_plan_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    internals.limit_plan_cache(monkeypatch, 5)
    x = np.asfortranarray(np.ones((3, 4), np.float32))
    for k in range(1, 20):
        assert_same(fd.dropout(x, k / 20, rng=KEYS[1]), dropped(x, k / 20, KEYS[1]))
        assert internals.plan_count() <= 5


class _ProtectingSeed(list[int]):
    """Integers for a seed that protect an array from writing when they are read."""

    def __init__(self, numbers: list[int], array: Array) -> None:
        super().__init__(numbers)
        self.array = array

    def __iter__(self) -> Iterator[int]:
        self.array.flags.writeable = False
        return super().__iter__()


@pytest.mark.parametrize("view", [np.s_[:], np.s_[::2]], ids=["contiguous", "strided"])
@pytest.mark.parametrize("p", [P, np.linspace(0.1, 0.9, 40)], ids=["one p", "per element"])
def test_an_output_that_changes_while_rng_gives_a_key_is_not_written(view: Any, p: Any) -> None:
    x = np.ones((8, 40), np.float32)[view]
    out = np.full(x.shape, 7, np.float32)
    for _ in range(2):
        fd.dropout(x, p, rng=KEYS[0], out=out)
    out.fill(7)
    with pytest.raises(RuntimeError, match="was changed while rng"):
        fd.dropout(x, p, rng=_ProtectingSeed([1, 2], out), out=out)
    assert (out == 7).all()


def test_fresh_entropy_is_fresh_in_repeated_calls() -> None:
    x = np.ones((9, 40), np.float32)
    masks = {fd.dropout(x, 0.5).tobytes() for _ in range(300)}
    assert len(masks) == 300
