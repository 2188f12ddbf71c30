"""Fixtures and settings that all tests share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd

from .devices import Device, need_a_gpu

if importlib.util.find_spec("hypothesis"):  # which tests on a GPU do without
    from hypothesis import settings

    # The same examples in every run, and no deadline: the first call of a kernel compiles it.
    settings.register_profile("stable", deadline=None, derandomize=True, max_examples=40)
    settings.load_profile("stable")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Let ``-m gpu`` run where only CuPy, Numba and pytest are: the other files import more."""
    if config.getoption("markexpr") != "gpu" or collection_path.suffix != ".py":
        return None
    return collection_path.name.startswith("test_") and "test_gpu_" not in collection_path.name


@pytest.fixture(scope="session")
def gpu() -> Device:
    """The current GPU."""
    need_a_gpu()
    return Device()


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
