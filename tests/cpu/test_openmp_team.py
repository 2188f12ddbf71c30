"""On a team of OpenMP threads, calls give the same bits; forked processes use the pool."""

from __future__ import annotations

import ctypes.util
import threading
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract, threads
from fastdrop_kernels.cpu.codegen.target import IS_X86_64
from fastdrop_kernels.cpu.host import driver, openmp
from fastdrop_kernels.cpu.host.openmp import OpenMPTeam
from tests.support import openmp as runtimes
from tests.support.internals import set_cpu_limits
from tests.support.oracle import Array, applied, assert_same, data, dropped, mask, poison
from tests.support.slow import slow_unless
from tests.support.subprocesses import assert_succeeds, run_python, run_scenario
from tests.support.systems import needs_fork, needs_proc

P = 0.3
KEY = fd.Key(2**40 + 3, 11)
DTYPES = [np.dtype(d) for d in ("float16", ml_dtypes.bfloat16, "float32", "float64")]
COUNT = 2  # more than there are processors would wait for each other, spinning


@pytest.fixture(params=runtimes.RUNTIMES)
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> OpenMPTeam:
    """A team that shares calls of any size."""
    set_cpu_limits(monkeypatch, parallel_from=1)  # so that the fast path makes no call
    try:
        return runtimes.team(request.param)
    except runtimes.RuntimeIsMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def regions(team: OpenMPTeam) -> list[int]:
    """The numbers of threads of the team's parallel regions, so far."""
    return runtimes.count_regions(team)


def drop_call(dtype: np.dtype[Any]) -> Callable[..., bool]:
    factor = np.array(contract.scale(P), np.float64 if dtype == np.float64 else np.float32)
    operation = driver.operation("drop", dtype)
    call = driver.address_call(operation, contract.threshold(P), factor)
    assert call is not None

    def by_arrays(x: Array, y: Array, index: int = 0) -> bool:
        x_at, y_at = (a.__array_interface__["data"][0] for a in (x, y))
        return call(x_at, y_at, x.size, index, KEY.seed, KEY.stream)

    return by_arrays


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", slow_unless(lambda dtype: dtype.itemsize < 8, DTYPES), ids=str)
def test_calls_by_addresses(
    dtype: np.dtype[Any],
    in_place: bool,
    team: OpenMPTeam,
    regions: list[int],
    rng: np.random.Generator,
) -> None:
    call, made = drop_call(dtype), 0
    for n in (1, 255, 256, 257, 511, 512, 1000, 5003, 70_001):
        for index in (0, 3):
            x = (rng.standard_normal(n) * 100).astype(dtype)
            expected = dropped(x, P, KEY, offset=index)
            memory = np.full(n + 128, 7, dtype)
            y = memory[64 : 64 + n]
            y[...] = x if in_place else poison(x.copy())
            with threads.using(COUNT, team):
                assert call(y if in_place else x, y, index)
            assert_same(y, expected)
            assert (memory[:64] == 7).all() and (memory[64 + n :] == 7).all()
            made += n >= 512  # two chunks
    assert len(regions) == made
    assert set(regions) == {COUNT}


def test_nontemporal_stores(
    team: OpenMPTeam, regions: list[int], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    set_cpu_limits(monkeypatch, nontemporal_from=1 << 12, cached_bytes=1 << 11)
    call = drop_call(np.dtype(np.float32))
    for n in (1 << 10, 5003, 100_001):
        x = rng.standard_normal(n, np.float32)
        y = poison(np.empty_like(x))
        with threads.using(COUNT, team):
            assert call(x, y)
        assert_same(y, dropped(x, P, KEY))
    assert regions == [COUNT] * 3


ROWS, COLUMNS = 97, 131
CALLS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda x: fd.dropout(x, P, rng=KEY),
    "F order": lambda x: fd.dropout(np.asfortranarray(x), P, rng=KEY),
    "transposing": lambda x: fd.dropout(x.T, P, rng=KEY, out=np.empty(x.T.shape, x.dtype)),
    "other elements": lambda x: fd.dropout(x[:, ::2], P, rng=KEY),
    "shared decisions": lambda x: fd.dropout(x, P, rng=KEY, noise_shape=(None, 1)),
    "p array": lambda x: fd.dropout(x, np.full(COLUMNS, P), rng=KEY),
    "gaussian": lambda x: fd.gaussian_noise(x, 1.0, rng=KEY),
    "mask": lambda x: fd.dropout_mask(x.shape, P, rng=KEY),
    "packed": lambda x: fd.dropout_mask(x.shape, P, rng=KEY, packed=True),
    "operands": lambda x: fd.bias_act_dropout_add(x, x[0], "relu", P, residual=x, rng=KEY),
    "few sums": lambda x: driver.sum_to(np.tile(x, (20, 1)), (1, COLUMNS)),
    "many sums": lambda x: driver.sum_to(
        np.stack([np.tile(x, (6, 1))] * 2), (1, 6 * ROWS, COLUMNS)
    ),
    "softmax": lambda x: fd.softmax_dropout(x, P, rng=KEY),
    "softmax backward": lambda x: fd.softmax_dropout_backward(x, x, P, rng=KEY),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    slow_unless(
        lambda name, dtype: dtype == np.float32 or (name == "softmax" and dtype == np.float16),
        CALLS,
        [np.float32, np.float16, np.float64],
    ),
)
def test_every_kind_of_kernel(
    name: str, dtype: Any, team: OpenMPTeam, regions: list[int], rng: np.random.Generator
) -> None:
    call = CALLS[name]
    x = rng.standard_normal((ROWS, COLUMNS)).astype(dtype)
    with threads.using(1):
        expected = call(x)
    for _ in range(3):
        regions.clear()
        with threads.using(COUNT, team):
            result = call(x)
        assert data(result) == data(expected)
        assert regions == [COUNT]


def test_threads_have_their_own_memory_for_a_row(
    team: OpenMPTeam, regions: list[int], rng: np.random.Generator
) -> None:
    """Rows that differ much: exponentials in another thread's memory would be seen."""
    x = (rng.standard_normal((400, 700)) * np.linspace(0.1, 30, 400)[:, None]).astype(np.float32)
    dy = rng.standard_normal(x.shape, np.float32)
    with threads.using(1):
        y, dx = fd.softmax_dropout(x, P, rng=KEY), fd.softmax_dropout_backward(dy, x, P, rng=KEY)
    for _ in range(10):
        with threads.using(COUNT, team):
            assert_same(fd.softmax_dropout(x, P, rng=KEY), y)
            assert_same(fd.softmax_dropout_backward(dy, x, P, rng=KEY), dx)
    assert regions == [COUNT] * 20


def test_python_work_goes_to_the_pool_which_uses_no_team(
    team: OpenMPTeam, regions: list[int], rng: np.random.Generator
) -> None:
    met, teams = threading.Barrier(3, timeout=60), []

    def work() -> None:
        met.wait()
        teams.append(threads.team_and_parallel_from()[0])

    with threads.using(3, team):
        threads.run_together(work, 3)
        assert threads.team_and_parallel_from()[0] is team
        x = rng.standard_normal((300, 40, 30), np.float32)
        result = fd.softmax_dropout(x, P, axis=1, rng=KEY)  # by slabs, which are copied
    assert teams == [None] * 3
    assert not regions
    with threads.using(1):
        assert_same(result, fd.softmax_dropout(x, P, axis=1, rng=KEY))


def test_an_error_in_work_leaves_the_context_as_it_was(team: OpenMPTeam) -> None:
    def work() -> None:
        raise KeyError

    with threads.using(2, team):
        with pytest.raises(KeyError):
            threads.run_together(work, 2)
        assert threads.team_and_parallel_from()[0] is team


def test_several_python_threads_at_once(
    team: OpenMPTeam, regions: list[int], rng: np.random.Generator
) -> None:
    """Each is a master of its own, with a team of its own."""
    x = rng.standard_normal(100_003, np.float32)
    expected, call = data(dropped(x, P, KEY)), drop_call(x.dtype)
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(5):
                y = poison(np.empty_like(x))
                with threads.using(COUNT, team):
                    assert call(x, y)
                if data(y) != expected:
                    wrong.append("other bits")
        except BaseException as error:
            wrong.append(error)
            raise

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong
    assert regions == [COUNT] * 20


@pytest.mark.skipif(not IS_X86_64, reason="only on x86-64 threads are set back")
def test_threads_that_flush_subnormal_numbers(team: OpenMPTeam, regions: list[int]) -> None:
    torch = pytest.importorskip("torch")
    call = drop_call(np.dtype(np.float32))
    x = np.full(100_003, 4096 * np.finfo(np.float32).smallest_subnormal, np.float32)
    kept = mask(x.shape, P, KEY)
    expected = applied(kept, x, contract.scale(P))
    results: list[Array] = []

    def work() -> None:
        # The threads of a team that is made now begin as their master is.
        torch.set_flush_denormal(True)
        for _ in range(3):
            y = poison(np.empty_like(x))
            with threads.using(COUNT, team):
                assert call(x, y)
            results.append(y)
        assert (torch.tensor([1e-42]) * 1.0).item() == 0.0  # still

    caller = threading.Thread(target=work)
    caller.start()
    caller.join(60)
    assert len(results) == len(regions) == 3
    for y in results:
        assert_same(y, expected)


def test_a_library_without_a_runtime_has_no_team() -> None:
    assert openmp.team_of("libc.so.6") is None
    assert openmp.team_of("no such library") is None


@needs_proc
def test_no_runtime_is_loaded() -> None:
    name = ctypes.util.find_library("gomp")
    if name is None:
        pytest.skip("libgomp is not installed")
    code = f"""
from fastdrop_kernels.cpu.host import openmp
assert openmp.team_of({name!r}) is None
import ctypes, pathlib
assert "libgomp" not in pathlib.Path("/proc/self/maps").read_text()
ctypes.CDLL({name!r})
assert openmp.team_of({name!r}) is not None
"""
    assert_succeeds(run_python(code))


@needs_fork
@pytest.mark.parametrize("which", runtimes.RUNTIMES)
@pytest.mark.parametrize("scenario", ["after_use", "during_calls"])
def test_forked_children_use_the_pool(scenario: str, which: str) -> None:
    assert run_scenario("openmp_forks", scenario, which).strip() == "done"


@needs_proc
def test_a_child_that_was_forked_before_the_import_makes_no_team() -> None:
    name = ctypes.util.find_library("gomp")
    if name is None:
        pytest.skip("libgomp is not installed")
    code = f"""
import ctypes, os
ctypes.CDLL({name!r})
child = os.fork()
from fastdrop_kernels.cpu.host import openmp
team = openmp.team_of({name!r})
if child == 0:
    os._exit(team is not None)
assert team is not None
assert os.waitpid(child, 0)[1] == 0
"""
    assert_succeeds(run_python(code))
