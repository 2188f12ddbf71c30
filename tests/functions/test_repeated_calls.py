"""Calls like earlier ones, which are prepared once: the same results, and the same errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop._call import plan_cache
from tests.support.oracle import Array, assert_same, dropped, poisoned
from tests.support.thinning import thinned

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
    thinned(
        lambda dtype: dtype != ml_dtypes.bfloat16,
        [np.float16, ml_dtypes.bfloat16, np.float32, np.float64],
    ),
)
def test_later_calls_give_what_the_first_would(dtype: Any) -> None:
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
            plan_cache.forget()
            for key in KEYS:
                for data in (x, x.copy(order="K"), np.negative(x)):
                    want = dropped(data, P, key, **where)
                    assert_same(np.ascontiguousarray(fd.dropout(data, P, rng=key, **where)), want)
                    out = poisoned(x.shape, dtype)
                    assert fd.dropout(data, P, rng=key, out=out, **where) is out
                    assert_same(out, want)
            assert plan_cache.plans


def test_each_p_and_scale_has_calls_of_its_own() -> None:
    x = np.asfortranarray(np.random.default_rng().standard_normal((30, 20)))
    for _ in range(2):
        for p in (0.0, 0.1, 0.5, 1.0):
            for scale in (None, 1.0, 0.0, -0.0, -3.0):
                y = fd.dropout(x, p, rng=KEYS[0], scale=scale)
                factor = scale if scale is not None else 1 / (1 - p) if p < 1 else 0.0
                kept = fd.dropout_mask(x.shape, p, rng=KEYS[0])
                assert_same(np.ascontiguousarray(y), np.where(kept, x * factor, 0.0))


def test_equal_arguments_of_other_types_are_refused_after_right_ones_too() -> None:
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


def test_what_is_prepared_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "_MOST_PLANS", 5)
    x = np.asfortranarray(np.ones((3, 4), np.float32))
    for k in range(1, 20):
        assert_same(fd.dropout(x, k / 20, rng=KEYS[1]), dropped(x, k / 20, KEYS[1]))
        assert len(plan_cache.plans) <= 5
