"""Repeated calls with CuPy arrays over host memory use the plan of the first.

tests/gpu/test_repeated_calls.py makes the same checks on a GPU.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cuda import driver, launch, operations
from tests.support import gpu_repeated_calls, internals, oracle
from tests.support import repeated_calls as family
from tests.support.devices import HostDevice, cupy_or_skip, host_device, seen
from tests.support.gpu_cases import BFLOAT16, KEY, LAYOUTS
from tests.support.gpu_repeated_calls import LAYOUTS_OF_REPEATED_CALLS, WHERES, P, quickly
from tests.support.slow import slow_unless

cupy = cupy_or_skip()


@pytest.fixture(params=["CUDA kernels", "CPU's kernels"])
def host(request: pytest.FixtureRequest) -> Iterator[HostDevice]:
    """A device of CuPy arrays over host memory, with the CUDA kernels or the CPU's."""
    kernels = None
    if request.param.startswith("CUDA"):
        request.getfixturevalue("cuda_on_host")
        kernels = driver
    with host_device(kernels) as (device, _):
        yield device


@pytest.mark.parametrize("layout", LAYOUTS_OF_REPEATED_CALLS, ids=lambda layout: layout.name)
def test_repeated_calls_with_other_values_arrays_and_keys(host: HostDevice, layout: Any) -> None:
    for where in WHERES:
        gpu_repeated_calls.check_layout(host, "float32", layout, where)


@pytest.mark.parametrize(
    ("name", "layout"),
    slow_unless(
        lambda name, layout: layout == "C" and name == "packed mask",
        family.NAMES,
        ("C", "F", "stepped"),
    ),
)
def test_repeated_calls_of_every_function(host: HostDevice, name: str, layout: str) -> None:
    for where in family.WHERES:
        family.check_later_calls(host, family.NAMES[name], layout, where)


def test_a_mask_does_not_depend_on_earlier_calls(host: HostDevice) -> None:
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
        internals.forget_plans()
        first.append(make(given))
    internals.forget_plans()
    for _ in range(3):
        assert [make(given) for given in calls] == first
    for given in calls[:5]:
        with internals.only_planned_calls():
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
def test_other_dtypes(host: HostDevice, dtype: Any) -> None:
    for layout in LAYOUTS[:3]:
        gpu_repeated_calls.check_layout(host, dtype, layout, {})


def test_arrays_of_any_alignment(host: HostDevice) -> None:
    for dtype in ("float32", *BFLOAT16):
        gpu_repeated_calls.check_alignments(host, dtype)


def test_overlap_is_as_if_there_were_none(host: HostDevice) -> None:
    gpu_repeated_calls.check_overlaps(host)


def test_every_kind_of_key(host: HostDevice) -> None:
    gpu_repeated_calls.check_keys(host)


def test_every_error_is_that_of_a_first_call(host: HostDevice) -> None:
    gpu_repeated_calls.check_refusals(host)


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
            oracle.assert_same(host.get(fd.dropout(far, P, rng=KEY)), gpu_repeated_calls.dropped(x))
        for array in (far, far_out):
            assert device_of(fd.dropout(near, P, rng=KEY)) == 0
            with pytest.raises(ValueError, match="DeviceKey on device 0, and x lies on device 1"):
                fd.dropout(array, P, rng=key)
    y = fd.dropout(far, P, rng=KEY)
    assert device_of(y) == 1
    oracle.assert_same(host.get(y), gpu_repeated_calls.dropped(x))
    fd.dropout(far, P, rng=KEY, out=far_out)
    oracle.assert_same(host.get(far_out), gpu_repeated_calls.dropped(x))
    for source, target in ((near, far_out), (far, out)):
        with pytest.raises(ValueError, match="out lies on device ., and x on device"):
            fd.dropout(source, P, rng=KEY, out=target)


def test_a_subclass_has_no_plan(host: HostDevice) -> None:
    class Tagged(cupy.ndarray):  # type: ignore[name-defined,misc]
        pass

    x = host.put(np.ones(50))
    fd.dropout(x, P, rng=KEY)
    y = fd.dropout(x.view(Tagged), P, rng=KEY)
    assert type(y) is cupy.ndarray
    oracle.assert_same(host.get(y), gpu_repeated_calls.dropped(np.ones(50)))
    with pytest.raises(AssertionError, match="has a plan, and did not use it"):
        quickly(host, x.view(Tagged))


def test_empty_arrays_and_degenerate_p(host: HostDevice) -> None:
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


def test_the_plan_cache_is_bounded(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    internals.limit_plan_cache(monkeypatch, 5)
    x = np.arange(1.0, 301.0)
    there = host.put(x)
    for n in range(280, 300):
        for _ in range(2):
            y = fd.dropout(there[:n], P, rng=KEY)
            oracle.assert_same(host.get(y), gpu_repeated_calls.dropped(x[:n]))
            assert internals.plan_count() <= 5
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


def test_nested_and_concurrent_launches_have_their_own_arguments() -> None:
    from fastdrop_kernels.cuda.cupy_launcher import CupyLauncher

    launcher, module = CupyLauncher(), operations.operation("mark").module
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
