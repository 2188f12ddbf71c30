"""Calls like earlier ones with CuPy arrays, on the host. On a GPU: tests/gpu."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._call import plan_cache
from fastdrop_kernels.cuda import driver, launch, operations
from tests.support import family_repeats as family
from tests.support import oracle, repeat_cases
from tests.support.devices import HostDevice, cupy_or_skip, host_device, seen
from tests.support.gpu_cases import BFLOAT16, KEY, LAYOUTS
from tests.support.repeat_cases import LAYOUTS_OF_REPEATS, WHERES, P, quickly
from tests.support.thinning import thinned

cupy = cupy_or_skip()


@pytest.fixture(params=["CUDA kernels", "CPU's kernels"])
def host(request: pytest.FixtureRequest) -> Iterator[HostDevice]:
    """A device of CuPy arrays on the host, with the CUDA kernels or the CPU's in their place."""
    kernels = None
    if request.param.startswith("CUDA"):
        request.getfixturevalue("cuda_on_host")
        kernels = driver
    with host_device(kernels) as (device, _):
        yield device


@pytest.mark.parametrize("layout", LAYOUTS_OF_REPEATS, ids=lambda layout: layout.name)
def test_other_numbers_arrays_and_keys(host: HostDevice, layout: Any) -> None:
    for where in WHERES:
        repeat_cases.check_layout(host, "float32", layout, where)


@pytest.mark.parametrize(
    ("name", "layout"),
    thinned(
        lambda name, layout: layout == "C" and name == "packed mask",
        family.NAMES,
        ("C", "F", "stepped"),
    ),
)
def test_later_calls_of_the_family(host: HostDevice, name: str, layout: str) -> None:
    for where in family.WHERES:
        family.check_later_calls(host, family.NAMES[name], layout, where)


def test_no_mask_sees_that_equal_ones_were_drawn(host: HostDevice) -> None:
    shape = 6, 13
    x, marks, bits = host.put(np.ones(shape)), host.put(np.ones(shape, bool)), np.ones(10, np.uint8)
    rng = fd.cuda.DeviceKey(KEY)
    calls: list[dict[str, Any]] = [
        {"like": x},
        {"like": marks},
        {"out": marks},
        {"out": marks, "like": x},
        {"out": marks, "like": x, "rng": rng},
        {"out": np.ones(shape, bool), "like": x},
        {"out": marks, "like": np.ones(3)},
        {"out": host.put(np.ones(shape, np.int8))},
        {"out": host.put(np.ones((13, 6), bool))},
        {"like": x, "packed": True},
        {"out": host.put(bits), "packed": True},
        {"out": host.put(np.ones(20, np.uint8))[::2], "packed": True},
        {"out": marks, "packed": True},
        {"out": bits, "packed": True},
        {"like": x, "packed": 1},
        {"like": x, "rng": -1},
        {},
        {"packed": True},
    ]

    def make(given: dict[str, Any]) -> Any:
        call = functools.partial(fd.dropout_mask, shape, P)
        return family.outcome(host, call, **{"rng": KEY, **given})

    first = []
    for given in calls:
        plan_cache.forget()
        first.append(make(given))
    plan_cache.forget()
    for _ in range(3):
        assert [make(given) for given in calls] == first
    for given in calls[:5]:
        with repeat_cases.short_ways_only():
            make(given)
    rng.advance()
    y = fd.dropout_mask(shape, P, rng=rng, out=marks, like=x)
    oracle.assert_same(host.get(y), oracle.mask(shape, P, KEY.advanced(1)))


def test_masks_of_a_device_that_is_not_current(host: HostDevice) -> None:
    near, out = host.put(np.ones(100)), host.put(np.ones(100, bool))
    for _ in range(3):
        fd.dropout_mask(100, P, rng=KEY, like=near)
        fd.dropout_mask(100, P, rng=KEY, out=out)
        fd.dropout_mask(100, P, rng=KEY, out=out, like=near)
    with host.cupy.cuda.Device(1):
        far, far_out = host.put(np.ones(100)), host.put(np.ones(100, bool))
        assert device_of(fd.dropout_mask(100, P, rng=KEY, like=near)) == 0
        for like in (None, near):
            assert device_of(fd.dropout_mask(100, P, rng=KEY, out=out, like=like)) == 0
    want = oracle.mask((100,), P, KEY)
    for _ in range(3):
        y = fd.dropout_mask(100, P, rng=KEY, like=far)
        assert device_of(y) == 1
        seen(far_out)[:] = False
        assert fd.dropout_mask(100, P, rng=KEY, out=far_out) is far_out
        for made in (y, far_out):
            oracle.assert_same(host.get(made), want)
        for target, like in ((far_out, near), (out, far)):
            with pytest.raises(ValueError, match="out lies on device ., and x on device"):
                fd.dropout_mask(100, P, rng=KEY, out=target, like=like)


@pytest.mark.parametrize("dtype", ["float64", *BFLOAT16])
def test_other_types(host: HostDevice, dtype: Any) -> None:
    for layout in LAYOUTS[:3]:
        repeat_cases.check_layout(host, dtype, layout, {})


def test_arrays_that_begin_anywhere(host: HostDevice) -> None:
    for dtype in ("float32", *BFLOAT16):
        repeat_cases.check_alignments(host, dtype)


def test_overlap_is_as_if_there_were_none(host: HostDevice) -> None:
    repeat_cases.check_overlaps(host)


def test_every_kind_of_key(host: HostDevice) -> None:
    repeat_cases.check_keys(host)


def test_every_refusal_is_that_of_a_first_call(host: HostDevice) -> None:
    repeat_cases.check_refusals(host)


def device_of(x: Any) -> int:
    number: int = x.data.device_id
    return number


def test_arrays_of_a_device_that_is_not_current(host: HostDevice) -> None:
    x, key = np.arange(1.0, 101.0), fd.cuda.DeviceKey(KEY)
    near = host.put(x)
    out = host.put(x)
    fd.dropout(near, P, rng=KEY)
    fd.dropout(near, P, rng=KEY, out=out)
    with host.cupy.cuda.Device(1):
        far, far_out = host.put(x), host.put(x)
        for _ in range(2):
            oracle.assert_same(host.get(fd.dropout(far, P, rng=KEY)), repeat_cases.dropped(x))
        for array in (far, far_out):
            assert device_of(fd.dropout(near, P, rng=KEY)) == 0
            with pytest.raises(ValueError, match="DeviceKey on device 0, and x lies on device 1"):
                fd.dropout(array, P, rng=key)
    y = fd.dropout(far, P, rng=KEY)
    assert device_of(y) == 1
    oracle.assert_same(host.get(y), repeat_cases.dropped(x))
    fd.dropout(far, P, rng=KEY, out=far_out)
    oracle.assert_same(host.get(far_out), repeat_cases.dropped(x))
    for source, target in ((near, far_out), (far, out)):
        with pytest.raises(ValueError, match="out lies on device ., and x on device"):
            fd.dropout(source, P, rng=KEY, out=target)


def test_a_subclass_goes_the_long_way(host: HostDevice) -> None:
    class Tagged(cupy.ndarray):  # type: ignore[name-defined,misc]
        pass

    x = host.put(np.ones(50))
    fd.dropout(x, P, rng=KEY)
    y = fd.dropout(x.view(Tagged), P, rng=KEY)
    assert type(y) is cupy.ndarray
    oracle.assert_same(host.get(y), repeat_cases.dropped(np.ones(50)))
    with pytest.raises(AssertionError, match="the long way"):
        quickly(host, x.view(Tagged))


def test_nothing_is_left_of_empty_arrays_and_certain_ones(host: HostDevice) -> None:
    for _ in range(2):
        assert fd.dropout(host.put(np.ones((0, 3))), P, rng=KEY).shape == (0, 3)
        for p, kept in ((0.0, 1.0), (1.0, 0.0)):
            y = fd.dropout(host.put(np.ones((4, 5))), p, rng=KEY)
            oracle.assert_same(host.get(y), np.full((4, 5), kept))
        for scale in (0.0, -0.0):
            y = fd.dropout(host.put(np.ones(9)), 0.0, rng=KEY, scale=scale)
            oracle.assert_same(host.get(y), np.full(9, scale))


def test_arrays_are_not_kept_alive(host: HostDevice) -> None:
    x, out = host.put(np.ones(9)), host.put(np.ones(9))
    for _ in range(2):
        before = sys.getrefcount(x), sys.getrefcount(out)
        fd.dropout(x, P, rng=KEY, out=out)
        y = fd.dropout(x, P, rng=KEY)
        assert (sys.getrefcount(x), sys.getrefcount(out)) == before
        assert sys.getrefcount(y) == 2


def test_what_is_prepared_does_not_grow_without_end(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_cache, "_MOST_PLANS", 5)
    x = np.arange(1.0, 301.0)
    there = host.put(x)
    for n in range(280, 300):
        for _ in range(2):
            y = fd.dropout(there[:n], P, rng=KEY)
            oracle.assert_same(host.get(y), repeat_cases.dropped(x[:n]))
            assert len(plan_cache.plans) <= 5
    monkeypatch.undo()


def test_numpys_and_cupys_calls_are_told_apart(host: HostDevice) -> None:
    x = np.asfortranarray(np.ones((6, 7), np.float32))
    there = host.put(x)
    there = host.cupy.ndarray(x.shape, x.dtype, there.data, x.strides)
    seen(there)[...] = x
    for _ in range(3):
        assert type(fd.dropout(x, P, rng=KEY)) is np.ndarray
        assert type(fd.dropout(there, P, rng=KEY)) is cupy.ndarray


def test_cupy_reads_an_argument_where_it_is() -> None:
    from cupy.cuda import function

    from fastdrop_kernels.cuda.cupy_launcher import _Argument

    for size in (8, 696):
        argument = _Argument.of(size)
        argument.bytes[:] = bytes(range(256))[:size] if size < 256 else bytes(size)
        assert argument.size == 1
        assert argument.nbytes == size
        at = np.asarray(argument).view(np.ndarray).ctypes.data
        assert function.CNumpyArray(argument).ptr == at
        assert argument.tobytes() == bytes(argument.bytes)


def test_launches_within_launches_and_in_threads_have_arguments_of_their_own() -> None:
    from fastdrop_kernels.cuda.cupy_launcher import CupyLauncher

    launcher, module = CupyLauncher(), operations.MARK.module
    depth = 4
    meet = threading.Barrier(3, timeout=60)
    right: list[bool] = []

    def one(name: str, level: int) -> launch.Launch:
        return launch.Launch(module, name, level, 1, f"{name}{level}".encode())

    def kernel(grid: tuple[int], block: tuple[int], args: tuple[Any]) -> None:
        (argument,) = args
        data = argument.tobytes()
        name, level = data[:1].decode(), grid[0]
        meet.wait()
        if level < depth:
            launcher.launch(one(name, level + 1))
        meet.wait()
        right.append(argument.tobytes() == data == f"{name}{level}".encode())

    launcher._kernels = dict.fromkeys("abc", kernel)
    for _ in range(2):  # with new arguments, and with those that are left
        right.clear()
        threads = [threading.Thread(target=launcher.launch, args=(one(n, 0),)) for n in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert right == [True] * 3 * (depth + 1)
        (idle,) = launcher._idle.values()
        assert len({id(argument) for argument in idle}) == len(idle) == len(right)
