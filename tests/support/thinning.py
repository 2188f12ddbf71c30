"""Which cases of a test are quick.

From an empty cache a test takes as long as compiling what it calls: 0.3 to 1 s a kernel, and up to
fifteen kernels an operation and dtype. So the README's test command meets every one of these,
but not all of their combinations; these are marked slow, and CI runs them too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def thinned(quick: Callable[..., bool], *axes: Iterable[Any]) -> list[Any]:
    """All combinations of values to parametrize with: those that are not quick are marked slow."""
    return [
        pytest.param(*values, marks=() if quick(*values) else pytest.mark.slow)
        for values in itertools.product(*axes)
    ]
