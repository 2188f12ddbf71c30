"""Any number of threads gives the same bits, and concurrent callers do not disturb each other."""

from __future__ import annotations

import contextvars
import ctypes
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract, threads
from fastdrop_kernels.cpu.codegen.ndarray_layout import slot
from fastdrop_kernels.cpu.host import driver
from fastdrop_kernels.cpu.loops.call_descriptor import make_descriptor
from fastdrop_kernels.cpu.loops.contiguous import CACHED
from fastdrop_kernels.cpu.loops.kernels import contiguous_kernel
from tests.support.internals import call_plan, set_cpu_limits, work_sharing
from tests.support.oracle import Array, applied, assert_same, data, mask, misaligned, poison
from tests.support.slow import slow_unless

ROWS, COLUMNS = 417, 661
N = ROWS * COLUMNS
P = 0.3
KEY = fd.Key(2**40 + 3, 11)
COUNTS = [1, 2, 3, 8]
SetThreads = Callable[[int], None]


@pytest.fixture(scope="module")
def kept() -> Array:
    """The mask of N elements by the reference, in C order."""
    return mask((N,), P, KEY)


@pytest.fixture(params=COUNTS)
def count(request: pytest.FixtureRequest, set_threads: SetThreads) -> int:
    n: int = request.param
    set_threads(n)
    return n


def numbers(dtype: Any) -> Array:
    return np.arange(1, N + 1).astype(dtype).reshape(ROWS, COLUMNS)


def layouts(x: Array) -> dict[str, Array]:
    return {
        "flat": x,
        "misaligned": misaligned(x, 36),
        "F": np.asfortranarray(x),
        "backwards": x[::-1, ::-1],
        "padded rows": np.concatenate([x, x], axis=1)[:, :COLUMNS],
        "other elements": np.stack([x, x], axis=2)[:, :, 1],
        "one column": x.reshape(N, 1),
        "one row": x.reshape(1, N),
    }


@pytest.fixture(autouse=True)
def these_arrays_are_large_enough_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cpu_limits(monkeypatch, parallel_from=1 << 18)
    assert N > work_sharing.PARALLEL_FROM


@pytest.mark.parametrize(
    ("dtype", "layout"),
    slow_unless(
        lambda dtype, layout: dtype == np.float32 or layout != "F",
        [np.float32, np.float64],
        list(layouts(np.empty((ROWS, COLUMNS)))),
    ),
)
def test_any_number_of_threads_drops_the_same(
    dtype: Any, layout: str, count: int, kept: Array
) -> None:
    x = layouts(numbers(dtype))[layout]
    for _ in range(3):
        out = poison(np.empty_like(x))
        fd.dropout(x, P, rng=KEY, out=out)
        # `x` holds other numbers in another order where it runs backwards.
        assert_same(out, applied(kept.reshape(x.shape), x, 1 / (1 - P)))
    assert fd.get_num_threads() == count


@pytest.mark.parametrize(
    ("dtype", "layout"),
    slow_unless(
        lambda dtype, layout: layout == "flat" or (dtype, layout) == ("u4", "other elements"),
        ["u1", "i2", "u4", "i8", "c16"],
        ["flat", "F", "other elements"],
    ),
)
def test_any_number_of_threads_fills_the_same(
    dtype: str, layout: str, count: int, kept: Array
) -> None:
    x = layouts(numbers(dtype))[layout]
    out = poison(np.empty_like(x))
    fd.masked_fill(x, P, 0, rng=KEY, out=out)
    expected = np.where(kept.reshape(x.shape), x, np.zeros((), x.dtype))
    assert_same(out, expected)
    assert count == fd.get_num_threads()


@pytest.mark.parametrize("shape", [(N,), (ROWS, COLUMNS), (3, N // 3), (N // 3, 3)])
def test_any_number_of_threads_draws_the_same_mask(
    shape: tuple[int, ...], count: int, kept: Array
) -> None:
    out = poison(np.empty(shape, np.uint8)).view(np.bool_)
    fd.dropout_mask(shape, P, rng=KEY, out=out)
    assert data(out) == data(kept)
    bits = poison(np.empty((N + 7) // 8, np.uint8))
    fd.dropout_mask(shape, P, rng=KEY, packed=True, out=bits)
    assert data(bits) == data(np.packbits(kept, bitorder="little"))
    assert count == fd.get_num_threads()


@pytest.mark.parametrize("shape", [(6_000_011,), (1500, 4001)])
@pytest.mark.parametrize("offset", [0, 3])
def test_large_packed_masks(shape: tuple[int, ...], offset: int, count: int) -> None:
    """Several times what the second-level cache holds, in bits."""
    for noise in (None, (1,) * (len(shape) - 1) + (None,)):
        where: dict[str, Any] = {"offset": offset, "noise_shape": noise}
        bits = poison(np.empty((np.prod(shape) + 7) // 8, np.uint8))
        fd.dropout_mask(shape, P, rng=KEY, packed=True, out=bits, **where)
        mask = fd.dropout_mask(shape, P, rng=KEY, **where)
        assert data(bits) == data(np.packbits(mask, axis=None, bitorder="little"))
    assert count == fd.get_num_threads()


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"offset": 8 * 12345},
        {"offset": 2**40 + 5},
        {"noise_shape": (None, 1)},
        {"noise_shape": (1, None)},
    ],
    ids=str,
)
def test_chunks_of_a_packed_mask_never_share_a_byte(
    where: dict[str, Any], set_threads: SetThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two threads in one byte would lose bits only now and then, so the parts are looked at.
    parts: list[int] = []
    made: dict[str, Any] = {
        name: vars(call_plan)[name] for name in ("contiguous_kernel", "layout_kernel")
    }

    def watched(name: str) -> Callable[..., Any]:
        def make(*which: Any) -> Callable[..., None]:
            kernel = made[name](*which)
            if which[0] is not driver.operation("pack"):
                return kernel  # type: ignore[no-any-return]

            def call(*args: Any) -> None:
                parts.append(args[7])
                if name == "layout_kernel":
                    words = (ctypes.c_uint64 * 5).from_address(args[2])
                    assert words[3] == 0  # cut along the outermost axis, between rows
                kernel(*args)

            return call

        return make

    for name in made:
        monkeypatch.setattr(call_plan, name, watched(name))
    set_threads(3)
    for shape in ((ROWS, COLUMNS), (COLUMNS, ROWS), (N // 3, 3)):
        bits = fd.dropout_mask(shape, P, rng=KEY, packed=True, **where)
        assert parts
        assert all(part % 8 == 0 and part < N for part in parts)
        parts.clear()
        expected = fd.dropout_mask(shape, P, rng=KEY, **where)
        assert data(bits) == data(np.packbits(expected, axis=None, bitorder="little"))


@pytest.mark.parametrize("noise", [(ROWS, 1), (1, COLUMNS), (1, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_number_of_threads_follows_the_noise_shape(
    noise: tuple[int, int], order: Any, count: int
) -> None:
    x = np.asarray(numbers(np.float32), order=order)
    where: dict[str, Any] = {"noise_shape": noise, "offset": 12345}
    small = mask(noise, P, KEY, offset=12345)
    expected = applied(np.broadcast_to(small, x.shape), x, 1 / (1 - P))
    assert_same(fd.dropout(x, P, rng=KEY, **where), expected)
    bits = fd.dropout_mask(x.shape, P, rng=KEY, packed=True, **where)
    assert data(bits) == data(np.packbits(expected != 0, axis=None, bitorder="little"))
    assert count == fd.get_num_threads()


def test_any_number_of_threads_draws_the_same_shard(count: int, kept: Array) -> None:
    tall = (2 * ROWS, COLUMNS)
    top = fd.dropout(numbers(np.float32), P, rng=KEY, scale=1.0, global_shape=tall)
    assert_same(top, applied(kept.reshape(ROWS, COLUMNS), numbers(np.float32), 1.0))
    # A block of the columns: each row begins somewhere else in its Philox block.
    wide, start = (ROWS, COLUMNS + 7), (0, 5)
    kwargs: dict[str, Any] = {"offset": start, "global_shape": wide}
    orders: list[Any] = ["C", "F"]
    for order in orders:
        x = np.ones((ROWS, COLUMNS), np.float32, order=order)
        y = fd.dropout(x, P, rng=KEY, scale=1.0, **kwargs)
        assert_same(y, mask((ROWS, COLUMNS), P, KEY, **kwargs).astype(np.float32))
    assert count == fd.get_num_threads()


def test_in_place_and_degenerate_calls_are_the_same_on_any_number_of_threads(
    count: int, kept: Array
) -> None:
    x = numbers(np.float64)
    expected = applied(kept.reshape(x.shape), x, 1 / (1 - P))
    fd.dropout(x, P, rng=KEY, out=x)
    assert_same(x, expected)
    assert_same(fd.dropout(x, 0.0, rng=KEY), x)
    assert not fd.dropout(x, 1.0, rng=KEY).any()
    assert fd.dropout_mask(x.shape, 0.0, rng=KEY).all()
    assert count == fd.get_num_threads()


def call_from_threads(callers: int, seconds: float, kept: Array) -> None:
    x = numbers(np.float32)
    column = np.asfortranarray(x)
    expected = data(applied(kept.reshape(x.shape), x, 1 / (1 - P)))
    expected_bits = data(np.packbits(kept, bitorder="little"))
    until = time.monotonic() + seconds
    wrong: list[str] = []
    calls = [0] * callers

    def work(who: int) -> None:
        try:
            while time.monotonic() < until or calls[who] < 3:
                out = poison(np.empty_like(x))
                fd.dropout(x if calls[who] % 2 else column, P, rng=KEY, out=out)
                if data(out) != expected:
                    wrong.append(f"dropout of caller {who}")
                bits = fd.dropout_mask(N, P, rng=KEY, packed=True)
                if data(bits) != expected_bits:
                    wrong.append(f"mask of caller {who}")
                calls[who] += 1
        except BaseException as error:
            wrong.append(repr(error))
            raise

    workers = [threading.Thread(target=work, args=(who,)) for who in range(callers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60 + seconds)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong
    assert min(calls) >= 3


@pytest.mark.parametrize("seconds", [0.5, pytest.param(2.0, marks=pytest.mark.slow)])
def test_callers_on_many_python_threads_do_not_disturb_each_other(
    seconds: float, kept: Array, set_threads: SetThreads
) -> None:
    set_threads(3)
    call_from_threads(8, seconds, kept)


def test_the_number_of_threads_may_change_while_others_compute(
    kept: Array, set_threads: SetThreads
) -> None:
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for n in COUNTS:
                set_threads(n)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        call_from_threads(3, 0.5, kept)
    finally:
        stop.set()
        changer.join(60)


def test_the_number_that_was_set_is_returned(set_threads: SetThreads) -> None:
    for n in (1, 5, np.int64(3)):
        set_threads(n)
        assert fd.get_num_threads() == n


@pytest.mark.parametrize("n", [0, -1, -8])
def test_fewer_than_one_thread_is_a_value_error(n: int, set_threads: SetThreads) -> None:
    before = fd.get_num_threads()
    with pytest.raises(ValueError, match=f"n={n} is below 1"):
        set_threads(n)
    assert fd.get_num_threads() == before


@pytest.mark.parametrize("n", [1.0, "2", None, True, [1]])
def test_a_number_of_threads_that_is_no_integer_is_a_type_error(
    n: Any, set_threads: SetThreads
) -> None:
    with pytest.raises(TypeError, match="n="):
        set_threads(n)


def test_several_threads_work_together_and_each_once(set_threads: SetThreads) -> None:
    seen: list[int] = []
    met = threading.Barrier(3, timeout=60)

    def work() -> None:
        met.wait()  # passes only if three threads are in here at once
        seen.append(threading.get_ident())

    threads.run_together(work, 3)
    assert len(set(seen)) == len(seen) == 3
    assert threading.get_ident() in seen


def test_the_caller_does_not_wait_for_threads_that_have_not_begun(set_threads: SetThreads) -> None:
    busy, done = threading.Barrier(3, timeout=60), threading.Event()

    def hold() -> None:
        busy.wait()
        done.wait(60)

    holder = threading.Thread(target=threads.run_together, args=(hold, 2))
    holder.start()  # with one of the pool's threads, if it has no more
    busy.wait()
    try:
        calls: list[int] = []
        threads.run_together(lambda: calls.append(threading.get_ident()), 2)
        assert threading.get_ident() in calls
    finally:
        done.set()
        holder.join(60)


def test_an_error_in_work_reaches_the_caller(set_threads: SetThreads) -> None:
    for failing in range(4):
        turns = itertools.count()

        def work(failing: int = failing, turns: Iterator[int] = turns) -> None:
            for turn in turns:
                if turn == failing:
                    raise KeyError(turn)
                if turn > 4:
                    return

        with pytest.raises(KeyError):
            threads.run_together(work, 2)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 5_000, 70_001])
@pytest.mark.parametrize("index", [0, 1, 255, 256, 2**40 + 77])
@pytest.mark.parametrize("part", [256, 1024])
def test_chunks_taken_by_several_threads_cover_the_array(
    n: int, index: int, part: int, rng: np.random.Generator
) -> None:
    """Three threads, in turns that differ from run to run, of the smallest parts there are."""
    x = rng.standard_normal(n, np.float32)
    y, cursor, factor = poison(np.empty_like(x)), np.zeros(1, np.uint64), np.array(2, np.float32)
    kernel = contiguous_kernel(driver.operation("drop", x.dtype), CACHED)
    words = make_descriptor(n, contract.threshold(P), factor)

    def work() -> None:
        kernel(slot(x), slot(y), words.at, index, *KEY, slot(cursor), part)

    threads.run_together(work, 3)
    assert_same(y, applied(mask(x.shape, P, KEY, offset=index), x, 2.0))


# Limits of a context


def test_a_context_has_its_own_number_of_threads(set_threads: SetThreads) -> None:
    set_threads(5)
    with threads.using(2):
        assert threads.thread_count() == fd.get_num_threads() == 2
        with threads.using(3):
            assert threads.thread_count() == 3
        set_threads(4)  # for the process
        assert threads.thread_count() == 2
    assert threads.thread_count() == 4


class OtherTeam:
    """A team that runs nothing."""

    parallel_from, chunk = 1 << 12, 1 << 10

    def __init__(self, usable: bool = True) -> None:
        self.usable, self.asked = usable, 0

    def is_usable(self) -> bool:
        return self.usable

    def run(self, work: threads.Work, count: int) -> bool:
        self.asked += 1
        return False


def test_nested_contexts_keep_what_is_not_given(set_threads: SetThreads) -> None:
    set_threads(5)
    inner, outer = OtherTeam(), OtherTeam()
    with threads.using(2, outer):
        assert threads.team_and_parallel_from() == (outer, outer.parallel_from)
        with threads.using(parallel_from=77):
            assert threads.thread_count() == 2
            assert threads.team_and_parallel_from() == (outer, 77)
            with threads.using(team=inner):
                assert threads.team_and_parallel_from() == (inner, 77)
            with threads.without_team():
                assert threads.thread_count() == 2
                assert threads.team_and_parallel_from() == (None, None)
            assert threads.team_and_parallel_from() == (outer, 77)
        assert threads.team_and_parallel_from() == (outer, outer.parallel_from)
    assert threads.team_and_parallel_from() == (None, None)
    assert threads.thread_count() == 5


def test_a_team_of_another_process_is_not_used() -> None:
    team = OtherTeam(usable=False)
    with threads.using(2, team):
        assert threads.team_and_parallel_from() == (None, None)
        threads.run_together(lambda: None, 2)
    assert not team.asked


def test_an_exception_leaves_the_context(set_threads: SetThreads) -> None:
    set_threads(5)
    with pytest.raises(KeyError), threads.using(2, OtherTeam(), 3):
        raise KeyError
    assert threads.thread_count() == 5
    assert threads.team_and_parallel_from() == (None, None)


def test_work_that_a_team_does_not_run_goes_to_the_pool() -> None:
    team, met = OtherTeam(), threading.Barrier(3, timeout=60)

    def work() -> None:
        met.wait()  # passes only if three threads are in here at once

    with threads.using(3, team):
        threads.run_together(work, 3)
    assert team.asked == 1


def test_limits_are_of_the_context_and_not_of_other_threads(set_threads: SetThreads) -> None:
    set_threads(5)
    seen: list[int] = []
    with threads.using(2):
        bare = threading.Thread(
            target=contextvars.Context().run, args=(lambda: seen.append(threads.thread_count()),)
        )
        copied = threading.Thread(
            target=contextvars.copy_context().run,
            args=(lambda: seen.append(threads.thread_count()),),
        )
        for thread in (bare, copied):
            thread.start()
            thread.join(60)
    assert seen == [5, 2]


def test_workers_of_the_pool_have_no_limits_of_a_caller() -> None:
    met, seen = threading.Barrier(3, timeout=60), []

    def work() -> None:
        met.wait()
        seen.append((threading.get_ident() == caller, threads.team_and_parallel_from()))

    caller = threading.get_ident()
    with threads.using(3, parallel_from=7):
        threads.run_together(work, 3)
    assert sorted(seen, key=str) == [(False, (None, None))] * 2 + [(True, (None, 7))]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("parallel_from", [None, 1, N, N + 1, 1 << 40])
def test_any_limits_give_the_same_bits(count: int, parallel_from: int | None, kept: Array) -> None:
    x = numbers(np.float32)
    expected = applied(kept.reshape(x.shape), x, 1 / (1 - P))
    with threads.using(count, None, parallel_from):
        for order in layouts(x).values():
            out = poison(np.empty_like(order))
            fd.dropout(order, P, rng=KEY, out=out)
            assert_same(out, applied(kept.reshape(order.shape), order, 1 / (1 - P)))
        assert work_sharing.is_shared(N) == (
            count > 1 and N >= (parallel_from or work_sharing.PARALLEL_FROM)
        )
    assert_same(fd.dropout(x, P, rng=KEY), expected)
