"""The choice of the k largest among uniforms that no key gives: equal, clustered, at the ends."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import types

from fastdrop_kernels import contract
from fastdrop_kernels.cpu.batch.counting import SLACK
from fastdrop_kernels.cpu.batch.selection import choose, prepare_row, row_state, set_row
from fastdrop_kernels.cpu.codegen.compiler import callback
from tests.support.oracle import POISON, Array

SEED, STREAM, INDEX, STEP = 5, 6, 2**40 + 3, 7
MOST = 2**32 - 1


@functools.cache
def compiled() -> Callable[..., None]:
    """The routine for a row, with its state, as a C function."""
    choose_row = choose()

    def run(u: Any, n: Any, k: Any, y: Any, seed: Any, stream: Any, index: Any, step: Any) -> None:
        state = row_state()
        prepare_row(state, n, k)
        set_row(state, seed, stream, index, step)
        choose_row(u, n, k, y, state)

    pointer, number = types.voidptr, types.uint64
    signature = types.void(pointer, number, number, pointer, *[number] * 4)
    at = callback("choose-in-a-test", run, signature)
    numbers = [ctypes.c_uint64] * 4
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *numbers[:2], ctypes.c_void_p, *numbers)
    function: Callable[..., None] = kind(at)
    return function


def chosen(u: Array, k: int) -> Array:
    """What the kernel marks; bytes behind the row stay as they are."""
    n = len(u)
    memory = np.full(n + SLACK // 4, MOST, np.uint32)  # to be read, and not used
    memory[:n] = u
    y = np.full(n + 64, POISON, np.uint8)
    compiled()(memory.ctypes.data, n, k, y.ctypes.data, SEED, STREAM, INDEX, STEP)
    assert (y[n:] == POISON).all()
    return y[:n]


def expected(u: Array, k: int) -> Array:
    index = np.uint64(INDEX) + np.arange(len(u), dtype=np.uint64) * np.uint64(STEP)
    key = np.uint64(SEED), np.uint64(STREAM)
    further = [np.asarray(contract.draw32(*key, index, np.uint64(d))) for d in (1, 2, 3)]
    best = np.lexsort([~draw for draw in reversed([u.astype(np.uint64), *further])])[:k]
    mask = np.zeros(len(u), np.uint8)
    mask[best] = 1
    return mask


def cases(n: int) -> dict[str, Array]:
    rng = np.random.default_rng(n)
    half = np.arange(n) % 2
    return {
        "uniform": rng.integers(0, MOST, n, endpoint=True),
        "equal": np.full(n, 12345),
        "zeros": np.zeros(n),
        "largest": np.full(n, MOST),
        "ends": half * MOST,
        "low": rng.integers(0, 100, n),
        "high": MOST - rng.integers(0, 100, n),
        "neighbours": 2**31 + np.arange(n) // 3,
        "apart": np.minimum(2.0 ** (np.arange(n) * 32 / n), MOST),
        "one": np.where(np.arange(n) == n // 3, 2**31, 2**31 - 1),
        "few values": rng.integers(0, 4, n) << 30,
    }


@pytest.mark.parametrize("n", [2, 5, 16, 17, 32, 33, 64, 100, 200])
def test_whatever_the_uniforms_are_the_choice_is_right(n: int) -> None:
    for name, values in cases(n).items():
        u = np.asarray(values).astype(np.uint32)
        for k in sorted({0, 1, n // 4, n // 2, n - 1, n}):
            np.testing.assert_array_equal(chosen(u, k), expected(u, k), err_msg=f"{name}, {k}")


@pytest.mark.parametrize("name", ["uniform", "neighbours", "apart"])
def test_long_rows_of_other_distributions(name: str) -> None:
    for n in (4095, 30_001):
        u = np.asarray(cases(n)[name]).astype(np.uint32)
        for k in (1, 5, n // 4, n // 2, n - 1):
            np.testing.assert_array_equal(chosen(u, k), expected(u, k), err_msg=f"{n}, {k}")


def test_uniforms_that_crowd_the_bracket_are_more_than_it_has_room_for() -> None:
    n = 50_000
    rng = np.random.default_rng(1)
    crowd = 2**31 + rng.integers(-(2**24), 2**24, n)  # all where the k-th largest is looked for
    u = crowd.astype(np.uint32)
    for k in (n // 2, n // 2 + 100):
        np.testing.assert_array_equal(chosen(u, k), expected(u, k))
