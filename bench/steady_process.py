"""The plain calls in one process, timed beside np.multiply: `bench.steady` starts many of these."""

from __future__ import annotations

import json
import sys
from typing import TypedDict

import numpy as np

import fastdrop

from . import ours, peers
from .common import HALF, Array, BenchError, P, fresh_input, fresh_output
from .timing import ONCE, Effort, measure, prepare, summarise

# Few rounds: what is compared are processes.
ROUNDS = Effort(settle=0.0, least=8)
SECONDS = 0.15  # for each setting, if the least number of rounds takes no longer
CHECKED = 1 << 16  # elements whose values are compared with the reference


class Timed(TypedDict):
    """What a process measured: a call's time, and its ratio to that of np.multiply.

    Both times are the lower quartile over rounds. A process that is slow is slow in every round,
    and one that shares its core loses 4 ms in some: beside other work, a third of the rounds of 16
    Mi took two or three times as long, and no quartile of 24 processes did.
    """

    dtype: str
    elements: int
    seconds: float
    ratio: float


def complaint(x: Array, y: Array) -> str:
    """Compare the first elements with the reference; returns what is wrong, if anything is."""
    some = x[:CHECKED]
    kept = ours.draw(some.shape, P)
    expected = np.where(kept, ours.scaled(some, P), some.dtype.type(0))
    return "" if y[:CHECKED].tobytes() == expected.tobytes() else "computes wrong values"


def time_plain(dtype: str, elements: int, effort: Effort = ROUNDS) -> Timed:
    """Time ``dropout(x, p, rng=key, out=y)`` and ``multiply(x, s, out=y)`` by turns.

    Both use the same memory, which may be slow by itself. NumPy converts half types one by one,
    which takes far longer than their memory: their bytes are multiplied as float32.

    Raises
    ------
    BenchError
        Where the call's result is not what it has to be.
    """
    x = fresh_input(elements, dtype)
    y = fresh_output(x)
    moved = [memory.view(np.float32) for memory in (x, y)] if dtype in HALF else [x, y]
    entries = [
        prepare("multiply", peers.multiply(moved[0], P, moved[1]), effort=effort),
        prepare("dropout", ours.given(x, P, y), effort=effort),
    ]
    if wrong := complaint(x, y):
        raise BenchError(f"fastdrop {wrong} of {dtype}")
    samples = measure(entries, SECONDS, effort=effort)
    found = summarise(samples, dict.fromkeys(samples, "multiply"))
    seconds, base = found["dropout"].q1, found["multiply"].q1
    return {"dtype": dtype, "elements": elements, "seconds": seconds, "ratio": seconds / base}


def main(settings: str, once: bool) -> None:
    """Time settings, JSON pairs of dtype and elements, and print what was found as JSON."""
    fastdrop.set_num_threads(1)
    effort = ONCE if once else ROUNDS
    found = [time_plain(dtype, elements, effort) for dtype, elements in json.loads(settings)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], "once" in sys.argv[2:])
