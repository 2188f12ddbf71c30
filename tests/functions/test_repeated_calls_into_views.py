"""Repeated calls that write to views: where `out` does not own its memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array, assert_same, poisoned


@pytest.mark.parametrize("round_", range(2))
def test_views_are_written_and_their_neighbours_are_not(round_: int) -> None:
    del round_  # the second call of each is the one that is remembered
    rng = np.random.default_rng()
    x = rng.standard_normal((60, 90)).astype(np.float32)
    expected = fd.dropout(x, 0.3, rng=9)
    views: list[Callable[[Array], Array]] = [
        lambda a: a[20:80, 30:120],
        lambda a: a.T[20:80, 30:120],
        lambda a: a[::2, ::-1][10:70, 5:95],
        lambda a: a.reshape(-1)[7 : 7 + 60 * 90].reshape(60, 90),
    ]
    for view in views:
        memory = poisoned((200, 200), np.float32)
        before, out = memory.copy(), view(memory)
        assert fd.dropout(x, 0.3, rng=9, out=out) is out
        assert_same(np.ascontiguousarray(out), expected)
        view(before)[...] = out
        assert_same(memory, before)


@pytest.mark.parametrize("shift", [0, 1, 45, 90, 91])
def test_views_that_overlap_are_as_if_they_did_not(shift: int) -> None:
    for _ in range(3):
        memory = np.random.default_rng().standard_normal(61 * 91).astype(np.float32)
        x, out = (memory[k : k + 60 * 90].reshape(60, 90) for k in (0, shift))
        expected = fd.dropout(x.copy(), 0.3, rng=9)
        fd.dropout(x, 0.3, rng=9, out=out)
        assert_same(out.copy(), expected)
        t = np.random.default_rng().standard_normal((64, 64)).astype(np.float32)
        expected = fd.dropout(t.copy(), 0.3, rng=9)
        fd.dropout(t, 0.3, rng=9, out=t.T)
        assert_same(t.T.copy(), expected)


def test_a_view_that_may_not_be_written_to_is_refused_each_time() -> None:
    x = np.ones((8, 8), np.float32)
    out = np.ones((8, 8), np.float32).T
    fd.dropout(x, 0.5, rng=1, out=out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        fd.dropout(x, 0.5, rng=1, out=out)
