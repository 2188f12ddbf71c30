"""Unusual arrays that are right: every function takes them, with the bits of a plain array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.hostile import calls, table
from tests.support.oracle import Array, data, misaligned, poison

KEY = fd.Key(11)


class Own(np.ndarray):
    """A subclass without meaning of its own."""


def frozen(x: Array) -> Array:
    copy: Array = x.copy()
    copy.flags.writeable = False
    return copy


KINDS: dict[str, Callable[[Array], Array]] = {
    "matrix": lambda x: x.view(np.matrix),
    "subclass": lambda x: x.view(Own),
    "read-only": frozen,
    "unaligned": lambda x: misaligned(x, 1),
    "reversed": lambda x: x[::-1].copy()[::-1],
    "of a buffer": lambda x: np.frombuffer(bytearray(x.tobytes()), x.dtype).reshape(x.shape),
}
FIRST = ("x", "dy", "ids", "images")
NAMES = [
    name
    for name in calls.FUNCTIONS
    if table.parameters(name)[0] in FIRST and not name.endswith("_vjp")
]


def result(name: str, **given: Any) -> list[bytes]:
    y = getattr(fd, name)(**{**calls.CALLS[name](), "rng": KEY, **given})
    several = y if isinstance(y, tuple) else (y,)
    return [data(np.asarray(each)) for each in several if each is not None]


@pytest.mark.parametrize("name", NAMES)
def test_unusual_arrays_have_the_results_of_plain_ones(name: str) -> None:
    first = table.parameters(name)[0]
    plain = calls.CALLS[name]()[first]
    expected = result(name)
    for kind, made_of in KINDS.items():
        if kind == "matrix" and plain.ndim != 2:
            continue
        x = made_of(plain)
        before = x.tobytes()
        assert result(name, **{first: x}) == expected, kind
        assert x.tobytes() == before, kind


@pytest.mark.parametrize("name", [n for n in NAMES if "out" in table.parameters(n)])
def test_outputs_that_overlap_in_part(name: str) -> None:
    """They are written as if they did not overlap, or refused before anything is drawn."""
    first = table.parameters(name)[0]
    plain = calls.CALLS[name]()[first]
    expected = result(name)
    memory = poison(np.empty(plain.size + 2, plain.dtype))
    x, out = (memory[k : k + plain.size].reshape(plain.shape) for k in (0, 2))
    x[...] = plain
    before, rng = memory.tobytes(), np.random.default_rng(3)
    state = rng.bit_generator.state
    try:
        got = result(name, **{first: x, "out": out})
    except ValueError as error:
        assert "overlaps" in str(error) and "give" in str(error)
        with pytest.raises(ValueError):
            result(name, **{first: x, "out": out, "rng": rng})
        assert (memory.tobytes(), rng.bit_generator.state) == (before, state)
    else:
        assert got[0] == expected[0]
        assert data(out) == expected[0]
