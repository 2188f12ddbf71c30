"""Marks the slow cases of a parametrized test.

With an empty kernel cache a test takes as long as compiling what it calls: 0.1 to 1 s a kernel, and
up to fifteen kernels for an operation and dtype. The quick cases reach every operation, dtype and
layout, but not all of their combinations; CI runs the slow ones too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_unless(quick: Callable[..., bool], *axes: Iterable[Any]) -> list[Any]:
    """Return all combinations of values for `parametrize`; those that are not quick are slow."""
    return [
        pytest.param(*values, marks=() if quick(*values) else pytest.mark.slow)
        for values in itertools.product(*axes)
    ]
