"""Fixtures and settings that all tests share."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import internals
from tests.support.devices import Device, HostDevice, host_device, need_a_gpu

if importlib.util.find_spec("hypothesis"):  # which tests on a GPU do without
    from hypothesis import settings

    # The same examples in every run, and no deadline: the first call of a kernel compiles it.
    settings.register_profile("stable", deadline=None, derandomize=True, max_examples=40)
    settings.load_profile("stable")


def find_cuda() -> None:
    """Say where CUDA's toolkit is, if nobody did: Numba looks for libnvvm there."""
    if os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        return
    compiler = shutil.which("nvcc")
    homes = [Path(compiler).resolve().parents[1]] if compiler else []
    for home in (*homes, Path("/usr/local/cuda")):
        if (home / "nvvm").is_dir():
            os.environ["CUDA_HOME"] = str(home)
            return


# Before any library that uses a GPU is imported. JAX would take three quarters of its memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
find_cuda()


def pytest_configure(config: pytest.Config) -> None:
    """Let no warning fail a run on a GPU, while tests are collected neither.

    Most of what runs there is other libraries', in versions that nobody has tried together.
    """
    if config.getoption("markexpr") == "gpu":
        config.addinivalue_line("filterwarnings", "default")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Let ``-m gpu`` run where only CuPy, Numba and pytest are: the other files import more."""
    if config.getoption("markexpr") != "gpu" or collection_path.suffix != ".py":
        return None
    return collection_path.name.startswith("test_") and collection_path.parent.name != "gpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes a minute, so that nothing else waits for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("minute") is None)
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(autouse=True)
def empty_plan_cache() -> None:
    """Forget plans that other tests made under other settings."""
    internals.forget_plans()


@pytest.fixture(scope="session")
def gpu() -> Device:
    """The current GPU."""
    need_a_gpu()
    return Device()


@pytest.fixture(scope="module")
def cuda_on_host() -> Iterator[Any]:
    """The launcher of the CUDA kernels: here it runs them on the host, compiled with g++."""
    from tests.support.cuda_host import host

    if host.COMPILER is None:
        pytest.skip("g++ is not here to compile the kernels for the host")
    from fastdrop_kernels.cuda import driver

    before = driver._launcher
    driver._launcher = runner = host.HostLauncher()
    yield runner
    driver._launcher = before


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[HostDevice]:
    """A device of CuPy arrays on the host; the kernels are CUDA's, or without g++ the CPU's."""
    from tests.support.cuda_host.host import COMPILER

    driver: Any = None
    if COMPILER is not None:
        request.getfixturevalue("cuda_on_host")
        driver = importlib.import_module("fastdrop_kernels.cuda.driver")
    with host_device(driver) as (device, _):
        yield device


@pytest.fixture
def asked() -> Iterator[Any]:
    """A device of CuPy arrays on the host, and its driver, which remembers its calls."""
    with host_device() as both:
        yield both


@pytest.fixture(params=[32, 64], ids=["32 bits", "64 bits"])
def counting(request: pytest.FixtureRequest) -> Iterator[None]:
    """In how many bits the CUDA kernels count."""
    from tests.support.cuda_host.cases import WIDE, settings_of_launches

    with settings_of_launches(**({} if request.param == 32 else WIDE)):
        yield


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
