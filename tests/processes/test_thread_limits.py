"""`fd.threads`: a limit of threads that belongs to a context."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastdrop as fd


@pytest.fixture(autouse=True)
def four() -> Iterator[None]:
    before = fd.get_num_threads()
    fd.set_num_threads(4)
    yield
    fd.set_num_threads(before)


def test_statements_nest_and_end() -> None:
    with fd.threads(2):
        assert fd.get_num_threads() == 2
        with fd.threads(7):
            assert fd.get_num_threads() == 7
            with fd.threads(1):
                assert fd.get_num_threads() == 1
            assert fd.get_num_threads() == 7
        assert fd.get_num_threads() == 2
        fd.set_num_threads(5)  # the process's, which the context does not have
        assert fd.get_num_threads() == 2
    assert fd.get_num_threads() == 5


def test_an_error_ends_the_limit() -> None:
    with pytest.raises(ZeroDivisionError), fd.threads(1):
        raise ZeroDivisionError
    assert fd.get_num_threads() == 4


def test_other_threads_keep_their_own() -> None:
    seen: list[int] = []
    with fd.threads(1):
        thread = threading.Thread(target=lambda: seen.append(fd.get_num_threads()))
        thread.start()
        thread.join()
        assert fd.get_num_threads() == 1
    assert seen == [4]


def test_an_executor_needs_the_limit_in_the_function_or_a_context_to_run_in() -> None:
    def limited(_: int) -> int:
        with fd.threads(1):
            return fd.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(limited, range(8))) == {1}
        with fd.threads(3):
            context = contextvars.copy_context()
        assert pool.submit(context.run, fd.get_num_threads).result() == 3


def test_tasks_of_asyncio_have_contexts_of_their_own() -> None:
    async def limited(n: int) -> int:
        with fd.threads(n):
            await asyncio.sleep(0.001)
            return fd.get_num_threads()

    async def main() -> list[int]:
        return list(await asyncio.gather(*[limited(n) for n in (1, 2, 3)]))

    assert asyncio.run(main()) == [1, 2, 3]


def test_workers_of_joblib() -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")

    def masked(seed: int) -> tuple[int, bytes]:
        with fd.threads(1):
            return fd.get_num_threads(), fd.dropout_mask(100_000, 0.5, rng=seed).tobytes()

    got = joblib.Parallel(n_jobs=2, prefer="threads")(joblib.delayed(masked)(n) for n in range(4))
    assert got == [(1, fd.dropout_mask(100_000, 0.5, rng=n).tobytes()) for n in range(4)]


def test_results_do_not_depend_on_it() -> None:
    x = np.random.default_rng(0).standard_normal((1500, 1500)).astype(np.float32)
    expected = fd.dropout(x, 0.3, rng=1)
    for n in (1, 2, 5):
        with fd.threads(n):
            np.testing.assert_array_equal(fd.dropout(x, 0.3, rng=1), expected)


def test_numbers_of_threads_are_checked() -> None:
    for n, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="n="):
            fd.threads(n)  # type: ignore[arg-type]
    assert fd.get_num_threads() == 4
