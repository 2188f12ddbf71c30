"""Layers with a p of each channel or element: an array of their own, that nobody can change."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import assert_same

P = np.array([0.1, 0.5, 0.9, 0.0, 1.0])
X = np.linspace(1, 2, 6 * 5, dtype=np.float32).reshape(6, 5)
SHARED: Any = (None, 1)


def test_forwards_and_backwards_are_dropout_with_that_array() -> None:
    layer = fd.Dropout(P, rng=fd.Key(3, 4))
    for n in range(3):
        assert_same(layer(X), fd.dropout(X, P, rng=fd.Key(3, 4 + n)))
    assert len(layer._pending) == 1
    for n in (2, 1, 0):
        assert_same(layer.backward(X), fd.dropout(X, P, rng=fd.Key(3, 4 + n)))
    layer.eval()
    assert layer(X) is X and layer.backward(X) is X


@pytest.mark.parametrize("p", [[0.1, 0.5, 0.9, 0.0, 1.0], P.astype(np.float32), P[:, None][:, 0]])
def test_any_array_like_is_kept_in_float64(p: Any) -> None:
    layer = fd.Dropout(p, rng=1)
    assert layer.p.dtype == np.float64
    assert_same(layer(X), fd.dropout(X, p, rng=1))


def test_what_the_caller_does_to_his_array_changes_nothing() -> None:
    p = P.copy()
    layer = fd.Dropout(p, rng=1)
    y = layer(X)
    p[:] = 0.7
    assert_same(layer.p, P)
    assert_same(layer.backward(X), y)
    with pytest.raises(ValueError, match="read-only"):
        layer.p[0] = 0.3
    assert p.flags.writeable


@pytest.mark.parametrize("how", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_the_same_and_cannot_be_written_to(how: Callable[[Any], Any]) -> None:
    layer = fd.Dropout(P, rng=1, noise_shape=(None, None))
    y = layer(X)
    twin = how(layer)
    assert repr(twin) == repr(layer)
    assert not twin.p.flags.writeable and not twin._pending[-1].settings["p"].flags.writeable
    following = layer(X)
    assert_same(twin(X), following)
    assert len(twin._pending) == 1
    assert_same(twin.backward(X), following)
    assert_same(twin.backward(X), y)


def test_a_backward_uses_the_p_of_its_forward() -> None:
    layer = fd.Dropout(P, rng=1)
    layer(X)
    layer.p = P[::-1]
    layer(X)
    layer.p = P[::-1].copy()  # which is the same, and goes on as before
    layer(X)
    assert len(layer._pending) == 2
    layer.p = 0.5
    layer(X)
    layer.p = np.full(5, 0.5)
    layer(X)
    assert len(layer._pending) == 4
    ps: list[Any] = [P, P[::-1], P[::-1], 0.5, np.full(5, 0.5)]
    for n, p in reversed(list(enumerate(ps))):
        assert_same(layer.backward(X), fd.dropout(X, p, rng=fd.Key(1, n)))


def test_what_shares_a_decision_shares_its_p() -> None:
    p = P.repeat(2)[:6, None]
    layer = fd.Dropout(p, rng=1, noise_shape=SHARED)
    y = layer(X)
    assert_same(y, fd.dropout(X, p, rng=1, noise_shape=SHARED))
    assert_same(layer.backward(X), y)


def test_small_arrays_are_shown_as_code_and_large_ones_shortly() -> None:
    layer = fd.Dropout(P, rng=fd.Key(1, 2))
    assert repr(layer) == "Dropout(p=[0.1, 0.5, 0.9, 0.0, 1.0], rng=Key(seed=1, stream=2))"
    assert_same(eval(repr(layer), vars(fd))(X), layer(X))
    assert repr(fd.Dropout(np.array(0.25), rng=1)) == repr(fd.Dropout(0.25, rng=1))
    large = fd.Dropout(np.linspace(0.125, 0.5, 100).reshape(100, 1), rng=1)
    assert repr(large) == "Dropout(p=<(100, 1) from 0.125 to 0.5>, rng=Key(seed=1, stream=0))"


@pytest.mark.parametrize(
    ("p", "error", "match"),
    [
        ([0.1, 1.5], ValueError, r"p\[1\]=1.5 is not in \[0, 1\]"),
        (np.array([[0.1, np.nan]]), ValueError, r"p\[0, 1\]=nan"),
        ([True, False], TypeError, "p has dtype bool"),
        (["a"], TypeError, "p has dtype <U1"),
    ],
    ids=str,
)
def test_a_bad_p_is_refused_and_the_old_one_stays(
    p: Any, error: type[Exception], match: str
) -> None:
    layer = fd.Dropout(P, rng=1)
    with pytest.raises(error, match=match):
        fd.Dropout(p)
    with pytest.raises(error, match=match):
        layer.p = p
    assert_same(layer.p, P)


def test_a_p_that_does_not_fit_is_refused_by_the_forward_and_nothing_is_counted() -> None:
    layer = fd.Dropout(P, rng=1)
    with pytest.raises(ValueError, match=r"p has shape \(5,\).*\(5, 6\)"):
        layer(np.ones((5, 6)))
    assert layer.forwards == 0
