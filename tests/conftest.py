"""Fixtures and settings that all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import settings

import fastdrop as fd

# The same examples in every run, and no deadline: the first call of a kernel compiles it.
settings.register_profile("stable", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("stable")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random inputs: others in every test, and the same in every run."""
    return np.random.default_rng([ord(c) for c in request.node.name])


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """`fastdrop.set_num_threads`, with the setting restored afterwards."""
    before = fd.get_num_threads()
    yield fd.set_num_threads
    fd.set_num_threads(before)
