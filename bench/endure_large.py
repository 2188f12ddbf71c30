"""``python -m bench endure --large``: arrays past 2**31, 2**32 and 2**33 elements, once.

`bench.endure` calls it. Each call is compared with the reference around the places where a number
of 32 bits would overflow, and everywhere with calls on blocks of it, which are shards of the mask.
"""

from __future__ import annotations

import argparse
import functools
import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import common, report
from .common import Array, BenchError, dtype_of
from .results import Row, made

BLOCK = 1 << 26  # elements
AROUND = 3000  # elements on both sides of a place that are compared one by one
SPARE_GIB = 4.0  # that the machine must have beside what a call takes
P = 0.3
VALUE = 200  # of fills; the elements are below 100
SEED = 2**40 + 9
COLUMNS = (1 << 16) + 1


@dataclass(frozen=True)
class Large:
    """A call: how to make it, all of it or a block, and what its memory is."""

    name: str
    dtype: str
    elements: int  # of the mask
    gib: float
    whole: Callable[[], Array]  # the call; its result as a flat array in mask order, or packed
    block: Callable[[int, int], Array]  # the same of `n` elements from an index on
    expected: Callable[[Array, Array], Array]  # of what is kept, and the elements' indices
    packed: int = 1  # elements of an item of the result


def _numbers(start: int, n: int, dtype: str) -> Array:
    """Numbers from 1 to 97, again and again: every dtype holds them, and none is dropped."""
    period = np.roll(np.arange(1, 98), -(start % 97)).astype(dtype_of(dtype))
    return np.resize(period, n)


def _filled(elements: int, dtype: str) -> Array:
    x = np.empty(elements, dtype_of(dtype))
    for start in range(0, elements, BLOCK):
        n = min(BLOCK, elements - start)
        x[start : start + n] = _numbers(start, n, dtype)
    return x


def calls() -> Iterator[Large]:
    """Yield the calls, each up to 9 GiB."""
    fd = common.load("fastdrop")
    key = fd.Key(SEED, 7)
    odd = (1 << 20) + 5  # so that the end is nowhere special

    def masks(n: int, offset: int = 0) -> Array:
        result: Array = fd.dropout_mask(n, P, rng=key, offset=offset, packed=True)
        return result

    def packed_expected(kept: Array, index: Array) -> Array:
        return kept

    n = (1 << 33) + odd
    yield Large(
        "dropout_mask, packed", "bool", n, n / 8 / 2**30,
        functools.partial(masks, n), lambda at, m: masks(m, at), packed_expected, 8,
    )  # fmt: skip

    def fill(x: Array, offset: int = 0) -> Array:
        result: Array = fd.masked_fill(x, P, VALUE, rng=key, offset=offset, out=x)
        return result

    n = (1 << 32) + odd
    yield Large(
        "masked_fill, in place", "uint8", n, n / 2**30,
        functools.partial(lambda n: fill(_filled(n, "uint8")), n),
        lambda at, m: fill(_numbers(at, m, "uint8"), at),
        lambda kept, index: np.where(kept, index % 97 + 1, VALUE).astype(np.uint8),
    )  # fmt: skip

    def drop(x: Array, offset: int = 0) -> Array:
        result: Array = fd.dropout(x, P, rng=key, offset=offset, out=x)
        return result

    def dropped(dtype: str, kept: Array, index: Array) -> Array:
        factor = np.float32(1 / (1 - P))
        product = (index % 97 + 1).astype(np.float32) * factor
        return np.where(kept, product, 0).astype(dtype_of(dtype))

    for dtype in ("float16", "float32"):
        n = (1 << 31) + odd
        yield Large(
            "dropout, in place", dtype, n, n * dtype_of(dtype).itemsize / 2**30,
            functools.partial(lambda n, dtype: drop(_filled(n, dtype)), n, dtype),
            functools.partial(lambda dtype, at, m: drop(_numbers(at, m, dtype), at), dtype),
            functools.partial(dropped, dtype),
        )  # fmt: skip

    def weights(n: int, offset: int = 0) -> Array:
        result: Array = fd.poisson_weights(n, rng=key, offset=offset)
        return result

    counts = [math.exp(-1) / math.factorial(k) for k in range(16)]
    until = [round(sum(counts[: k + 1]) * 2**32) for k in range(16)]

    def counted(uniforms: Array, index: Array) -> Array:
        return np.asarray(sum((uniforms >= t).astype(np.int8) for t in until if t < 2**32))

    n = (1 << 32) + odd
    yield Large(
        "poisson_weights", "int8", n, n / 2**30,
        functools.partial(weights, n), lambda at, m: weights(m, at), counted,
    )  # fmt: skip

    shape = (COLUMNS, COLUMNS)

    def columns() -> Array:
        out = np.empty(shape, np.bool_, order="F")
        return np.asarray(fd.dropout_mask(shape, P, rng=key, out=out))

    yield Large(
        "dropout_mask, into Fortran order", "bool", COLUMNS**2, COLUMNS**2 / 2**30,
        columns, lambda at, m: fd.dropout_mask(m, P, rng=key, offset=at),
        lambda kept, index: kept,
    )  # fmt: skip


def _places(elements: int) -> list[tuple[int, int]]:
    """Where elements are compared one by one: around what overflows, at the ends, and between."""
    middles = [0, 1 << 31, 3 << 30, 1 << 32, 3 << 31, 1 << 33, 1 << 35, elements]
    starts = [m - AROUND for m in middles if m <= elements]
    return [(max(0, at) // 8 * 8, min(elements, at + 2 * AROUND)) for at in starts]


def _compare(large: Large, result: Array) -> int:
    """Compare with the reference, and with blocks; return how many elements the first was."""
    contract, compared = common.load("fastdrop_kernels.contract"), 0
    flat = result.ndim == 1

    def part(start: int, stop: int) -> Array:
        if flat:
            return result[start // large.packed : -(-stop // large.packed)]
        rows = result[start // COLUMNS : -(-stop // COLUMNS)]
        skip = start % COLUMNS
        return np.ascontiguousarray(rows).reshape(-1)[skip : skip + stop - start]

    for start, stop in _places(large.elements):
        index = np.arange(start, stop, dtype=np.uint64)
        drawn = contract.uniform32(np.uint64(SEED), np.uint64(7), index)
        uniforms = np.asarray(drawn, np.uint64)
        first = uniforms if "weights" in large.name else uniforms >= contract.threshold(P)
        expected = large.expected(first, index)
        found = part(start, stop)
        if large.packed > 1:
            found = np.unpackbits(found, count=stop - start, bitorder="little").astype(np.bool_)
        if not np.array_equal(found, expected):
            raise BenchError(f"{large.name}: wrong between {start} and {stop}")
        compared += stop - start
    for start in range(0, large.elements, BLOCK):
        n = min(BLOCK, large.elements - start)
        if not np.array_equal(part(start, start + n), large.block(start, n)):
            raise BenchError(f"{large.name}: not what a shard gives, from {start} on")
    return compared


def _available_gib() -> float:
    """Memory that the system can give."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(n.split()[1]) for n in lines if n.startswith("MemAvailable")) / 2**20


def main(args: argparse.Namespace) -> int:
    """Make all calls, one after the other, and write `endure-large.json`."""
    rows: list[Row] = []
    with common.progress() as tell:
        for number, large in enumerate(calls()):
            tell(f"{large.name}, {large.dtype}", number / 6)
            if _available_gib() < large.gib + SPARE_GIB:
                raise BenchError(
                    f"{large.name} takes {large.gib:.1f} GiB, and {_available_gib():.1f} are free: "
                    f"{SPARE_GIB:g} should be left"
                )
            begin = time.perf_counter()
            result = large.whole()
            seconds = time.perf_counter() - begin
            about = {"call": large.name, "dtype": large.dtype, "elements": large.elements}
            figures = {"bytes": int(result.nbytes), "compared": _compare(large, result)}
            rows.append({"section": "endure-large", **about, **figures, "seconds": seconds})
            del result
            gc.collect()
    report.finish(made(rows, {"p": P, "seed": SEED}), args, "endure-large")
    return 0
