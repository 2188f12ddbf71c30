"""Calls like earlier ones with CuPy arrays, on a real GPU or on the host.

Each check makes a call that later ones are like, and then those, which must not see that it was.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._arrays.adapter import Backend
from fastdrop._call import plan_cache
from tests.support import gpu_cases, oracle
from tests.support.devices import Device
from tests.support.gpu_cases import KEY, LAYOUTS, Board, Layout
from tests.support.oracle import Array

P = 0.4
KEYS = (KEY, fd.Key(2**64 - 1, 2**64 - 1), fd.Key(0, 0))
SHAPE = 21, 35
WHERES: list[dict[str, Any]] = [
    {},
    {"offset": 77},
    {"noise_shape": (None, 1)},
    {"noise_shape": (1, None), "offset": 2**40},
    {"offset": (1, 2), "global_shape": (30, 40)},
    {"scale": -2.5},
]
WRONG: list[dict[str, Any]] = [
    {"p": 1.5},
    {"p": float("nan")},
    {"p": True},
    {"p": "0.4"},
    {"rng": 1.5},
    {"rng": -1},
    {"rng": -(2**64)},
    {"rng": "key"},
    {"training": 2},
    {"scale": float("inf")},
    {"scale": 1e300},
    {"scale": True},
    {"noise_shape": (True, None)},
    {"noise_shape": (1.0, None)},
    {"noise_shape": (2, None)},
    {"offset": True},
    {"offset": 1.0},
    {"offset": -1},
    {"offset": 2**63},
    {"offset": (0, False), "global_shape": (30, 40)},
    {"offset": (0, 1), "global_shape": (30, 40.0)},
    {"offset": (0, 10), "global_shape": (30, 40)},
    {"global_shape": (30, 40, 50)},
]


def dropped(x: Array, key: fd.Key = KEY, scale: float | None = None, **where: Any) -> Array:
    """Return what must come out, in C order."""
    x = np.ascontiguousarray(x)
    if scale is None:
        return oracle.dropped(x, P, key, **where)
    return oracle.applied(oracle.mask(x.shape, P, key, **where), x, scale)


def no_long_way(*arguments: Any, **named: Any) -> Any:
    raise AssertionError("this call is like an earlier one, and went the long way")


@contextmanager
def short_ways_only() -> Iterator[None]:
    """Let no call go the long way, for a while: each has been made before."""
    with pytest.MonkeyPatch.context() as patch:
        for way in ("operands", "mask"):
            patch.setattr(Backend, way, no_long_way)
        yield


def quickly(device: Device, x: Any, *, rng: Any = KEY, **given: Any) -> Any:
    """Call dropout, which must not go the long way: it has seen a call like this."""
    with short_ways_only():
        return fd.dropout(x, P, rng=rng, **given)


def check_layout(device: Device, dtype: Any, layout: Layout, where: dict[str, Any]) -> None:
    """Other numbers, arrays and keys: new results, results that are given, and in place."""
    if not device.takes(dtype):
        pytest.skip(f"CuPy {device.cupy.__version__} takes no {np.dtype(dtype)}")
    first = gpu_cases.laid(device, gpu_cases.numbers(dtype, SHAPE), layout)
    out = gpu_cases.laid(device, oracle.poisoned(SHAPE, dtype), layout)
    made = fd.dropout(first.array, P, rng=KEY, **where)
    fd.dropout(first.array, P, rng=KEY, out=out.array, **where)
    for key in KEYS:
        x = gpu_cases.numbers(dtype, SHAPE)
        expected = dropped(x, key, **where)
        board = gpu_cases.laid(device, x, layout)
        y = quickly(device, board.array, rng=key, **where)
        assert type(y) is device.cupy.ndarray
        assert (y.dtype, y.strides) == (made.dtype, made.strides)
        oracle.assert_same(np.ascontiguousarray(device.get(y)), expected)
        board.assert_holds(x)
        other = gpu_cases.laid(device, oracle.poisoned(SHAPE, dtype), layout)
        assert quickly(device, board.array, rng=key, out=(target := other.array), **where) is target
        other.assert_holds(expected)
        board.assert_holds(x)
        quickly(device, (both := board.array), rng=key, out=both, **where)
        board.assert_holds(expected)


def check_alignments(device: Device, dtype: Any, n: int = 1003) -> None:
    """Arrays that begin anywhere in 16 bytes, of one layout: the first call is an aligned one."""
    fd.dropout(device.put(np.ones(n, dtype)), P, rng=KEY)
    fd.dropout(device.put(np.ones(n, dtype)), P, rng=KEY, out=device.put(np.ones(n, dtype)))
    places = range(16 // np.dtype(dtype).itemsize + 1)
    x = gpu_cases.numbers(dtype, (n,))
    expected = dropped(x)
    for source, target in itertools.product(places, places):

        def board(values: Array, start: int) -> Board:
            base = oracle.poisoned((n + 20,), values.dtype)
            base[start : start + n] = values
            return Board(device, device.put(base), lambda a: a[start : start + n])

        given, out = board(x, source), board(oracle.poisoned((n,), dtype), target)
        quickly(device, given.array, out=out.array)
        out.assert_holds(expected)
        given.assert_holds(x)
        oracle.assert_same(device.get(quickly(device, given.array)), expected)


def check_overlaps(device: Device) -> None:
    """What overlaps is as if it did not, after calls of the same layouts that do not."""
    n, room = 1000, 4000
    x = np.arange(1.0, room + 1.0)
    for step in (1, 2, -1, -3):
        views = [slice(a, a + n * step, step) for a in range(3000, 3010)]
        if step > 0:
            views = [slice(a, a + n * step, step) for a in range(10)]
        apart = device.put(np.zeros(room))
        for _ in range(2):
            fd.dropout(device.put(x)[views[0]], P, rng=KEY, out=apart[views[0]])
        for read, written in itertools.product(views[::3], views):
            memory = device.put(x)
            fd.dropout(memory[read], P, rng=KEY, out=memory[written])
            expected = x.copy()
            expected[written] = dropped(x[read])
            oracle.assert_same(device.get(memory), expected)
    # Right beside each other they are apart.
    memory = device.put(x)
    halves = slice(0, n), slice(n, 2 * n)
    for read, written in (halves, halves[::-1]):
        quickly(device, memory[read], out=memory[written])
        expected[:] = x
        expected[written] = dropped(x[read])
        oracle.assert_same(device.get(memory), expected)
        memory = device.put(x)
    square = x[:900].reshape(30, 30)
    fd.dropout(device.put(square).T, P, rng=KEY, out=device.put(square))
    memory = device.put(square)
    fd.dropout(memory.T, P, rng=KEY, out=memory)  # which begin at the same place
    oracle.assert_same(device.get(memory), dropped(square.T))
    for _ in range(2):  # what overlaps itself goes the long way every time
        row = device.put(np.zeros(n))
        fd.dropout(
            device.put(np.ones((3, n))), P, rng=KEY, out=device.cupy.broadcast_to(row, (3, n))
        )
        assert set(device.get(row)) <= {0.0, 1 / (1 - P)}


def check_keys(device: Device) -> None:
    """Every kind of key, which is drawn from once at each call."""
    x = gpu_cases.numbers("float32", SHAPE)
    there, out = device.put(x), device.put(x)
    fd.dropout(there, P, rng=KEY)
    fd.dropout(there, P, rng=KEY, out=out)
    sequence = np.random.SeedSequence(7)
    on_device = fd.cuda.DeviceKey(KEY)
    ours, same = (np.random.default_rng(5) for _ in range(2))
    cases: list[tuple[Any, Any]] = [  # and what each is to draw as
        (2**64 - 1, fd.Key(2**64 - 1)),
        (np.uint64(12), fd.Key(12)),
        (sequence, sequence),
        (ours, same),
        (on_device, KEY),
    ]
    for rng, like in cases:
        for _ in range(2):
            made = quickly(device, there, rng=rng)
            oracle.assert_same(device.get(made), dropped(x, fd.as_key(like)))
            quickly(device, there, rng=rng, out=out)
            oracle.assert_same(device.get(out), dropped(x, fd.as_key(like)))
    on_device.advance()
    made = quickly(device, there, rng=on_device)
    oracle.assert_same(device.get(made), dropped(x, KEY.advanced(1)))
    fresh = [device.get(quickly(device, there, rng=None)).tobytes() for _ in range(2)]
    assert fresh[0] != fresh[1]


def check_refusals(device: Device) -> None:
    """Every refusal is that of a first call, and nothing has been written."""
    ones = np.ones(SHAPE, np.float32)
    x, other = device.put(ones), functools.partial(device.put, ones)
    wrong: list[dict[str, Any]] = [
        *WRONG,
        {"out": device.put(np.ones(SHAPE))},
        {"out": other()[:-1]},
        {"out": other().T},
        {"out": ones},
        {"out": [1.0]},
    ]

    def messages() -> list[str]:
        made, out = [], other()
        for given in wrong:
            with pytest.raises((TypeError, ValueError)) as caught:
                fd.dropout(x, **{"p": P, "rng": KEY, "out": out, **given})
            made.append(f"{caught.type} {caught.value}")
        oracle.assert_same(device.get(out), ones)
        return made

    plan_cache.forget()
    before = messages()
    wheres: list[dict[str, Any]] = [
        {},
        {"noise_shape": (1, None)},
        {"offset": 1},
        {"offset": (0, 1), "global_shape": (30, 40)},
        {"scale": 1.0},
    ]
    for where in wheres:
        fd.dropout(x, P, rng=KEY, **where)
        fd.dropout(x, P, rng=KEY, out=other(), **where)
    assert messages() == before


LAYOUTS_OF_REPEATS = (*LAYOUTS[:6], LAYOUTS[6], LAYOUTS[8])
