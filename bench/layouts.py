"""``python -m bench layouts``: rates of other ways to call fastdrop over the plain call's.

float32, one thread, ``out=``; beside each layout is what `numpy.multiply` keeps of its own plain
rate in it, and the goal. With ``--against PATH`` a second checkout is measured by turns with this
one. Each has a worker process; all are pinned to one CPU and use fastdrop's public API alone.

Where the memory of a process lies is chance, and moves a ratio of two processes by some percent
(9% at 1,024 x 1,024 between equal checkouts, Zen 5, 2026). So the whole table is measured in
several pairs of fresh processes: figures are medians over them, and their range is shown.
``python -m bench steady`` measures the plain call in many processes in the same way.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from . import report, results
from .cases import CASES, form
from .check import same_bits
from .common import ROOT, BenchError, P, fresh_input, load, progress
from .timing import batch

SIDES = (256, 1024, 4096)  # of a square array; every layout has as many elements
BATCH_SECONDS, SECONDS, STEADY_SECONDS = 2e-3, 0.5, 0.15  # for a layout at a size, in a pass
PASSES, PROCESSES = 5, 40
LEAST_ROUNDS, MOST_ROUNDS, MULTIPLE = 5, 60, 8192
CALLS = ("plain", "layout", "multiply", "multiply_layout")
STEADY = {"plain": "float32"} | {r["name"]: r["name"] for r in CASES["form"] if "steady" in r}
USUAL = ["plain", *(row["name"] for row in CASES["form"] if "goals" in row)]
USUAL += ["dropout_mask", "dropout_mask, packed"]


class Cell:
    """A layout at a size in a worker: the four calls, checked and ready to be timed."""

    def __init__(self, name: str, n: int) -> None:
        plain, shown = (form(each).calls(fresh_input(n), np.empty(0)) for each in ("plain", name))
        right = shown["right"]()
        result = shown["call"]()
        if not same_bits(result, right):
            raise BenchError(f"{name}, {n} elements: computes wrong values")
        self.digest = zlib.crc32(np.ascontiguousarray(result).data)
        multiply = shown.get("multiply", plain["multiply"])
        self.turn, self.calls = 0, list[Any]()
        for call in (plain["call"], shown["call"], plain["multiply"], multiply):
            batch(call, 1)
            quick = min(batch(call, 1) for _ in range(3))
            self.calls.append((call, max(1, math.ceil(BATCH_SECONDS / quick))))

    def round(self) -> list[float]:
        """Return the seconds of each call, in the order of `CALLS`; each round begins elsewhere."""
        self.turn += 1
        taken = [math.nan] * len(self.calls)
        for step in range(len(self.calls)):
            at = (self.turn + step) % len(self.calls)
            call, calls = self.calls[at]
            if calls > 1:
                batch(call, calls)  # its data are in cache again
            taken[at] = batch(call, calls)
        return taken


# Of a worker, which measures one checkout in a process of its own.
_cell: list[Cell] = []


def _start(tree: str) -> None:
    # `bench` comes from this checkout, fastdrop from the one measured.
    sys.path[:0] = [tree, f"{tree}/kernels"]
    found = Path(load("fastdrop").__file__)
    assert found.is_relative_to(tree), found
    load("fastdrop").set_num_threads(1)
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def prepare(name: str, n: int) -> int:
    """Make a cell ready in a worker; returns a digest of what the layout gives."""
    _cell.clear()  # its arrays go before others are made
    _cell.append(Cell(name, n))
    return _cell[0].digest


def _round() -> list[float]:
    return _cell[0].round()


def measure(workers: Sequence[Executor], name: str, n: int, seconds: float) -> dict[str, Any]:
    """Measure a layout at a size in every checkout by turns; returns medians of each."""
    if len({worker.submit(prepare, name, n).result() for worker in workers}) > 1:
        raise BenchError(f"{name}, {n} elements: the checkouts give different results")
    samples: list[list[list[float]]] = [[] for _ in workers]
    end, over = time.perf_counter() + seconds * len(workers), False
    while not over:
        turn = list(range(len(workers)))
        for at in turn if len(samples[0]) % 2 else turn[::-1]:
            samples[at].append(workers[at].submit(_round).result())
        rounds = len(samples[0])
        over = time.perf_counter() >= end and rounds >= (LEAST_ROUNDS if seconds else 1)
        over |= rounds == MOST_ROUNDS
    taken = np.asarray(samples)  # checkout, round, call
    plain, layout, multiply, multiplied = np.moveaxis(taken, 2, 0)
    return {
        "seconds": np.median(taken, axis=1),
        "rate": np.median(plain / layout, axis=1),
        "multiply": np.median(multiply[0] / multiplied[0]),
        "faster": np.median(layout[-1] / layout[0]),  # above 1: the first checkout is faster
        # Lower quartiles: a process that is slow is slow in every round, and one that shares its
        # core loses 4 ms in some.
        "over_multiply": np.divide(*np.percentile(taken[0][:, (1, 3)], 25, axis=0)),
    }


def _passes(
    trees: Sequence[Path], cells: Sequence[tuple[str, int]], passes: int, seconds: float
) -> dict[tuple[str, int], dict[str, list[Any]]]:
    """Measure layouts at sizes so many times, each time in fresh processes."""
    found: dict[tuple[str, int], list[Any]] = {cell: [] for cell in cells}
    context = multiprocessing.get_context("spawn")
    with progress() as tell:
        for turn in range(passes):
            with contextlib.ExitStack() as stack:
                pools = (ProcessPoolExecutor(1, context, _start, (str(tree),)) for tree in trees)
                workers = [stack.enter_context(pool) for pool in pools]
                for done, (name, n) in enumerate(cells):
                    part = (turn + done / len(cells)) / passes
                    tell(f"pass {turn + 1} of {passes}: {name}, {n} elements", part)
                    found[name, n].append(measure(workers, name, n, seconds))
    return {cell: {k: [each[k] for each in all_] for k in all_[0]} for cell, all_ in found.items()}


def _row(name: str, n: int, found: dict[str, list[Any]], steady: bool) -> results.Row:
    seconds = np.median(found["seconds"], axis=0).tolist()
    if steady:
        about = {"section": "steady", "dtype": STEADY[name], "elements": n}
        ratios = sorted(map(float, found["over_multiply"]))
        return {**about, "processes": len(ratios), "seconds": seconds[0][1], "ratios": ratios}
    return {
        **{"section": "layouts", "layout": name, "elements": n},
        "seconds": [dict(zip(CALLS, tree, strict=True)) for tree in seconds],
        "rate": np.median(found["rate"], axis=0).tolist(),
        "multiply": float(np.median(found["multiply"])),
        "faster": sorted(map(float, found["faster"])),
    }


def main(args: argparse.Namespace) -> int:
    """Print the table; the exit status is 0 whatever it says."""
    steady = args.command == "steady"
    trees = [ROOT] + ([] if steady or not args.against else [args.against.resolve()])
    for tree in trees:
        if not (tree / "fastdrop" / "__init__.py").is_file():
            raise BenchError(f"{tree} is no checkout of the project")
    only = None if steady else args.only
    names = list(STEADY) if steady else USUAL
    if only:
        names = [r["name"] for r in CASES["form"] if any(part in r["name"] for part in only)]
    usual = [side * side for side in SIDES[: 1 if args.check else None]]
    sizes = usual if steady else args.sizes or usual
    if not names or any(n % MULTIPLE for n in sizes):
        raise BenchError(f"sizes have to be multiples of {MULTIPLE}" if names else "no such layout")
    passes = (PROCESSES if steady else PASSES) if steady or args.against else 1
    passes = min(passes, 2) if args.check else passes
    seconds = STEADY_SECONDS if steady else args.seconds or SECONDS
    cells = [(name, n) for n in sizes for name in names]
    found = _passes(trees, cells, passes, 0.0 if args.check else seconds)
    rows = [_row(name, n, each, steady) for (name, n), each in found.items()]
    settings = {"p": P, "check": args.check, "passes": passes, "trees": len(trees)}
    report.finish(results.made(rows, settings), args, "steady" if steady else None)
    return 0
