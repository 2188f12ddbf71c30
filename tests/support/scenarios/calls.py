"""Large calls of every kind, and the bits that each must give whoever makes it, and wherever.

What is expected is the reference's mask applied by plain NumPy; drawing it takes a while, and a
test draws it once, for all the processes that it starts.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract, threads
from tests.support.oracle import POISON, Array, applied, mask

SHAPE = ROWS, COLUMNS = 1291, 1301  # enough for threads, and no multiple of anything
N = ROWS * COLUMNS
P = 0.3
KEY = fd.Key(2**40 + 3, 11)
DTYPES = ("float16", ml_dtypes.bfloat16, "float32", "float64")  # that dropout takes

MASK_FILE = "FASTDROP_TEST_MASK"  # the environment variable that names the file
THREADS = 4  # more than there may be processors, so that parts wait for each other


def mask_file() -> Path:
    """Return where the mask is."""
    return Path(os.environ[MASK_FILE])


def save_mask(file: Path) -> None:
    """Draw the mask of all calls by the reference."""
    from fastdrop_kernels.cpu.host import work_sharing

    assert work_sharing.PARALLEL_FROM <= N  # else all of this shows nothing
    np.save(file, mask(SHAPE, P, KEY))


@dataclass(frozen=True)
class Call:
    """A call that writes to `out`, which is like `expected`, what it must hold then."""

    name: str
    write: Callable[[Array], object]
    expected: Array

    def check(self) -> None:
        """Make the call, and compare every bit."""
        out = np.empty_like(self.expected)
        actual, expected = _bits(out), _bits(self.expected)
        actual[...] = int.from_bytes(bytes([POISON]) * actual.itemsize, "little")
        self.write(out)
        if not np.array_equal(actual, expected):
            wrong = np.flatnonzero(actual != expected)
            raise AssertionError(f"{self.name}: {wrong.size} elements are wrong: {wrong[:5]}...")


def _bits(x: Array) -> Array:
    return x.view(f"u{x.itemsize}")


def _dropout(dtype: Any, order: Any, kept: Array) -> Call:
    x = np.asarray(np.arange(1, N + 1).reshape(SHAPE) % 1000, dtype=dtype, order=order)
    expected = np.asarray(applied(kept, x, contract.scale(P)), order=order)
    return Call(
        f"dropout of {x.dtype} in {order} order",
        lambda out: fd.dropout(x, P, rng=KEY, out=out),
        expected,
    )


@functools.cache
def calls() -> list[Call]:
    """Return all calls; the arrays are shared by all threads, and only read."""
    kept = np.load(mask_file())
    tokens = np.arange(N, dtype=np.int16).reshape(SHAPE)
    packed = np.packbits(kept, bitorder="little")
    return [
        *(_dropout(dtype, "C", kept) for dtype in DTYPES),
        _dropout("float32", "F", kept),
        Call("dropout_mask", lambda out: fd.dropout_mask(SHAPE, P, rng=KEY, out=out), kept),
        Call(
            "packed dropout_mask",
            lambda out: fd.dropout_mask(SHAPE, P, rng=KEY, packed=True, out=out),
            packed,
        ),
        Call(
            "masked_fill of int16",
            lambda out: fd.masked_fill(tokens, P, -7, rng=KEY, out=out),
            np.where(kept, tokens, np.int16(-7)),
        ),
    ]


def check_all() -> None:
    """Make every call once."""
    for call in calls():
        call.check()


def rounds(seconds: float, least: int = 1) -> Iterator[int]:
    """Count from 0 until time is up, and at least so often."""
    until = time.monotonic() + seconds
    n = 0
    while n < least or time.monotonic() < until:
        yield n
        n += 1


def check_for(seconds: float, first: int = 0) -> int:
    """Make the calls in turn, starting with any, until time is up; say how many were made."""
    made = 0
    for n in rounds(seconds, least=len(calls())):
        calls()[(first + n) % len(calls())].check()
        made += 1
    return made


def use_threads() -> None:
    """Make every call on several threads."""
    fd.set_num_threads(THREADS)
    check_all()
    assert_threads_were_used()


def assert_threads_were_used() -> None:
    """Fail if calls in this process were serial: then nothing was tested."""
    assert len(threads._workers) == THREADS - 1, threads._workers
    # One that has just been started may have had no turn yet. A parent's never has one.
    for _ in rounds(30.0):
        alive = sys._current_frames()
        if all(worker in alive for worker in threads._workers):
            return
        time.sleep(0.01)
    raise AssertionError("these are a parent's")
