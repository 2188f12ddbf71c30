"""Rates of `dropout` in layouts that are not plain, over the rate of the plain contiguous call.

``python -m bench layouts`` measures float32 on one thread with ``out=``, and prints beside each
layout what `numpy.multiply` keeps of its own plain rate in it, and the goal. With ``--against
PATH`` a second checkout of the project is measured by turns with this one. Each checkout has a
worker process; all workers are pinned to one CPU and use the public API of fastdrop alone.

Where the memory of a process lies is chance, and moves a ratio of two processes by some percent
(9% at 1,024 x 1,024 between equal checkouts, Zen 5, 2026). So the whole table is measured in
several pairs of fresh processes: figures are medians over them, and their range is shown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from .common import ROOT, Array, BenchError, P, figure, parse_names, parse_seconds, placed

SIZES = (256, 1024, 4096)  # of a square array; every layout has as many elements
BATCH_SECONDS = 2e-3
LEAST_ROUNDS, MOST_ROUNDS = 5, 60
SECONDS = 0.5  # for a layout at a size, in each checkout and pass
PASSES = 5
CHANNELS, SHORT, WIDER = 64, 8, 64
CALLS = ("plain", "layout", "multiply", "multiply_layout")
# `bench` comes from this checkout, fastdrop from the one measured.
_WORKER = """
import sys
tree, here = sys.argv[1:]
sys.path[:0] = [tree, tree + "/kernels"]
import fastdrop, fastdrop_kernels
assert fastdrop.__file__.startswith(tree + "/"), fastdrop.__file__
del sys.path[:2]
sys.path.insert(0, here)
from bench.layouts import serve
serve()
"""


@dataclass(frozen=True)
class Operands:
    """What a layout is called with.

    Attributes
    ----------
    x, y : ndarray
        Input and output.
    p : float or ndarray
        Probabilities.
    factor : float32 or ndarray
        What `numpy.multiply` multiplies by in the same layout.
    arguments : dict
        Further arguments of `dropout`.
    """

    x: Array
    y: Array
    p: Any = P
    factor: Any = np.float32(1 / (1 - P))
    arguments: dict[str, Any] = field(default_factory=dict)


def _normal(*shape: int) -> Array:
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    x[x == 0] = 1
    return placed(x)


def _blank(*shape: int) -> Array:
    return placed(np.ones(shape, np.float32))


def _plain(n: int) -> Operands:
    return Operands(_normal(n, n), _blank(n, n))


def _transposed(n: int) -> Operands:
    return Operands(_normal(n, n).T, _blank(n, n))


def _steps(n: int) -> Operands:
    return Operands(_normal(n, 2 * n)[:, ::2], _blank(n, 2 * n)[:, ::2])


def _fortran(n: int) -> Operands:
    return Operands(_normal(n, n).T, _blank(n, n).T)


def _wider(n: int) -> Operands:
    return Operands(_normal(n, n + WIDER)[:, WIDER // 2 : -WIDER // 2], _blank(n, n))


def _probabilities(*shape: int) -> Callable[[int], Operands]:
    """Draw p between 0.05 and 0.15, of a shape in which -1 stands for n."""

    def make(n: int) -> Operands:
        own = tuple(n if length < 0 else length for length in shape)
        p = np.float32(P) * (np.float32(0.5) + np.random.default_rng(1).random(own, np.float32))
        factor = (1 / (1 - p.astype(np.float64))).astype(np.float32)
        return Operands(_normal(n, n), _blank(n, n), placed(p), placed(factor))

    return make


def _shared(*shape: int, axis: int) -> Callable[[int], Operands]:
    """Share decisions along an axis of ``(N, *shape)``."""

    def make(n: int) -> Operands:
        whole = (n * n // math.prod(shape), *shape)
        noise = tuple(1 if at == axis else length for at, length in enumerate(whole))
        factor = placed(np.full(noise, 1 / (1 - P), np.float32))
        return Operands(
            _normal(*whole), _blank(*whole), factor=factor, arguments={"noise_shape": noise}
        )

    return make


@dataclass(frozen=True)
class Layout:
    """A row of the table: how its operands are made, and the rate to reach at each of `SIZES`."""

    make: Callable[[int], Operands]
    goals: tuple[float, ...] = ()


LAYOUTS = {
    "plain": Layout(_plain),
    "x.T into C order": Layout(_transposed, (0.3, 0.3, 0.3)),
    "x and y with a step of 2": Layout(_steps, (0.4, 0.4, 0.4)),
    "p of every element": Layout(_probabilities(-1, -1), (0.3, 0.3, 0.3)),
    "p of every row": Layout(_probabilities(-1, 1), (0.6, 0.6, 0.6)),
    "p along the last axis": Layout(_probabilities(-1), (0.6, 0.6, 0.6)),
    "Fortran order, in and out": Layout(_fortran, (0.6, 0.8, 0.8)),
    "noise_shape (N, 1, 16) of (N, 8, 16)": Layout(_shared(8, 16, axis=1), (0.7, 0.7, 0.7)),
    "rows of a wider array": Layout(_wider, (0.7, 0.85, 0.85)),
    "noise_shape (N, C, 1) of (N, C, 8)": Layout(_shared(CHANNELS, SHORT, axis=2), (0.5, 0.5, 0.5)),
    # Rates of the generator alone: masks, over the plain call's.
    "dropout_mask": Layout(_plain),
    "dropout_mask, packed": Layout(_plain),
}


class _Cell:
    """A layout at a size in a worker: the four calls, checked and ready to be timed."""

    def __init__(self, name: str, n: int) -> None:
        import fastdrop

        plain, layout = _plain(n), LAYOUTS[name].make(n)
        rng = fastdrop.Key(2026, 984)
        drop, mask, multiply = fastdrop.dropout, fastdrop.dropout_mask, np.multiply
        result = layout.y
        calls: dict[str, Callable[[], object]] = {
            "plain": lambda: drop(plain.x, P, rng=rng, out=plain.y),
            "multiply": lambda: multiply(plain.x, plain.factor, out=plain.y),
            "multiply_layout": lambda: multiply(layout.x, layout.factor, out=layout.y),
        }
        if name.startswith("dropout_mask"):
            packed = "packed" in name
            shape = (n * n // 8,) if packed else (n, n)
            result = placed(np.ones(shape, np.uint8 if packed else np.bool_))
            calls["layout"] = lambda: mask((n, n), P, rng=rng, packed=packed, out=result)
            kept = mask((n, n), P, rng=rng)
            expected = np.packbits(kept, bitorder="little") if packed else kept
        else:
            more = layout.arguments
            calls["layout"] = lambda: drop(layout.x, layout.p, rng=rng, out=layout.y, **more)
            kept = mask(layout.x.shape, layout.p, rng=rng, **more)
            expected = np.where(kept, layout.x * layout.factor, np.float32(0))
        result.fill(np.nan if result.dtype.kind == "f" else 1)
        calls["layout"]()
        if not np.array_equal(result, expected) or not 0.08 < 1 - kept.mean() < 0.12:
            raise BenchError(f"{name}, {n} x {n}: computes wrong values")
        self.digest = hashlib.sha256(np.ascontiguousarray(result).tobytes()).hexdigest()
        self.calls = [calls[call] for call in CALLS]
        self.counts = []
        for call in self.calls:
            _batch(call, 1)
            quick = min(_batch(call, 1) for _ in range(3))
            self.counts.append(max(1, math.ceil(BATCH_SECONDS / quick)))
        self.turn = 0

    def round(self) -> list[float]:
        """Return the seconds of each of the four calls, in the order of `CALLS`."""
        self.turn += 1
        taken = [math.nan] * len(self.calls)
        for step in range(len(self.calls)):
            at = (self.turn + step) % len(self.calls)
            if self.counts[at] > 1:
                _batch(self.calls[at], self.counts[at])  # its data are in cache again
            taken[at] = _batch(self.calls[at], self.counts[at])
        return taken


def _batch(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def serve() -> None:
    """Answer requests, a line of JSON each, until the input ends."""
    import fastdrop

    fastdrop.set_num_threads(1)
    cell: _Cell | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any
        try:
            if request:
                cell = None  # its arrays go before others are made
                cell = _Cell(*request)
                answer = cell.digest
            else:
                assert cell is not None
                answer = cell.round()
        except BenchError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


class _Worker:
    """A process that measures one checkout."""

    def __init__(self, tree: Path, cpu: int | None) -> None:
        self.tree = tree
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tree), str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        )
        if cpu is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, {cpu})

    def ask(self, *request: object) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its own message is on stderr
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"the process that measures {self.tree} has ended")
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise BenchError(f"{self.tree}: {answer['error']}")
        return answer

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


class Measured(TypedDict):
    """A layout at a size in one pass: medians, of each checkout where that is a list."""

    seconds: list[list[float]]
    rate: list[float]
    multiply: float
    faster: float


def measure(workers: Sequence[_Worker], name: str, n: int, seconds: float) -> Measured:
    """Measure a layout at a size in every checkout by turns.

    Raises
    ------
    BenchError
        Where a checkout computes wrong values, or another result than the other one.
    """
    if len({worker.ask(name, n) for worker in workers}) > 1:
        raise BenchError(f"{name}, {n} x {n}: the checkouts give different results")
    samples: list[list[list[float]]] = [[] for _ in workers]
    start, rounds = time.perf_counter(), 0
    while rounds < MOST_ROUNDS * (seconds > 0) and (
        rounds < LEAST_ROUNDS or time.perf_counter() - start < seconds * len(workers)
    ):
        order = range(len(workers)) if rounds % 2 else reversed(range(len(workers)))
        for at in order:
            samples[at].append(workers[at].ask())
        rounds += 1
    if not rounds:
        for at, worker in enumerate(workers):
            samples[at].append(worker.ask())
    taken = np.asarray(samples)  # checkout, round, call
    plain, layout, multiply, multiplied = np.moveaxis(taken, 2, 0)
    found: Measured = {
        "seconds": np.median(taken, axis=1).tolist(),
        "rate": np.median(plain / layout, axis=1).tolist(),
        "multiply": float(np.median(multiply[0] / multiplied[0])),
        # Above 1: the first checkout is faster.
        "faster": float(np.median(layout[-1] / layout[0])),
    }
    return found


def summarise(passes: Sequence[Measured]) -> dict[str, Any]:
    """Return medians over the passes, and of what is shown with its range all values."""
    seconds, rate = (
        np.median([each[key] for each in passes], axis=0) for key in ("seconds", "rate")
    )
    return {
        "seconds": [dict(zip(CALLS, tree, strict=True)) for tree in seconds.tolist()],
        "rate": rate.tolist(),
        "multiply": float(np.median([each["multiply"] for each in passes])),
        "faster": sorted(each["faster"] for each in passes),
    }


def table(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return head and lines: a line a layout, columns a size."""
    sizes = sorted({row["n"] for row in rows})
    head, lines = ["rate over the plain call's"], []
    against = len(rows[0]["rate"]) > 1
    for n in sizes:
        head += [f"{n} x {n}", "goal", "np.multiply"]
        head += ["the other", "times as fast"] * against
    by = {(row["layout"], row["n"]): row for row in rows}
    for name in dict.fromkeys(row["layout"] for row in rows):
        line = [name]
        for n in sizes:
            row = by[name, n]
            goals = dict(zip(SIZES, LAYOUTS[name].goals, strict=False))
            rate, goal = row["rate"][0], goals.get(n)
            met = "" if goal is None else f"{goal:g} " + ("met" if rate >= goal else "missed")
            if name == "plain":
                line += [f"{n * n / row['seconds'][0]['plain'] / 1e9:.2f} Gelem/s", "", ""]
            else:
                line += [figure(rate), met, figure(row["multiply"]) if goal is not None else ""]
            if against:
                faster = row["faster"]
                line += ["" if name == "plain" else figure(row["rate"][1])]
                line += [f"{np.median(faster):.2f} ({faster[0]:.2f} to {faster[-1]:.2f})"]
        lines.append(line)
    return head, lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--against", type=Path, metavar="PATH", help="another checkout, measured by turns with this"
    )
    parser.add_argument("--only", type=parse_names, metavar="NAMES", help="parts of layouts' names")
    parser.add_argument(
        "--sizes", type=parse_names, metavar="N,N", help="lengths of the sides, multiples of 64"
    )
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        default=SECONDS,
        help=f"for a layout at a size, in each checkout and pass (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--passes",
        type=int,
        help="times that all is measured, each in fresh processes (default: 1, against 5)",
    )
    parser.add_argument(
        "--cpu", type=int, help="where workers are pinned (default: the last CPU; -1: nowhere)"
    )
    parser.add_argument("--check", action="store_true", help="one round of each, at 256 x 256")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write results as JSON")


def main(args: argparse.Namespace) -> int:
    """Print the table; the exit status is 0 whatever it says."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

    trees = [ROOT] + ([args.against.resolve()] if args.against else [])
    for tree in trees:
        if not (tree / "fastdrop" / "__init__.py").is_file():
            raise BenchError(f"{tree} is no checkout of the project")
    names = [n for n in LAYOUTS if args.only is None or any(part in n for part in args.only)]
    sizes = SIZES[:1] if args.check else tuple(map(int, args.sizes or SIZES))
    if not names or any(n < 64 or n % 64 for n in sizes):
        raise BenchError("no such layout" if not names else "sizes have to be multiples of 64")
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    cpu = cpus[-1] if args.cpu is None else None if args.cpu < 0 else args.cpu
    passes = args.passes or (1 if args.check or not args.against else PASSES)
    seconds = 0.0 if args.check else args.seconds
    found: dict[tuple[str, int], list[Measured]] = {(m, n): [] for n in sizes for m in names}
    with Progress(console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task("", total=passes * len(found))
        for turn in range(passes):
            workers = [_Worker(tree, cpu) for tree in trees]
            try:
                for (name, n), each in found.items():
                    doing = f"pass {turn + 1} of {passes}: {n} x {n}, {name}"
                    progress.update(task, description=doing, refresh=True)
                    each.append(measure(workers, name, n, seconds))
                    progress.advance(task)
            finally:
                for worker in workers:
                    worker.close()
    rows = [{"layout": name, "n": n, **summarise(each)} for (name, n), each in found.items()]
    if args.check:
        print(f"All works: {len(rows)} layouts. Nothing was judged.")
    else:
        console = Console()
        if not console.is_terminal:
            console.width = 300
        head, lines = table(rows)
        shown = Table()
        for at, column in enumerate(head):
            shown.add_column(column, justify="right" if at else "left", no_wrap=True)
        for line in lines:
            shown.add_row(*map(Text, line))
        console.print(shown)
        console.print(
            "float32, one thread, out=. Medians over rounds of the ratio within a round. "
            "np.multiply: its rate in the layout, by an array where p or the mask's shape is one, "
            "over its own plain rate."
        )
        if args.against:
            console.print(
                f"The other: {trees[1]}. Times as fast: above 1, this one is faster; the median of "
                f"{passes} passes, and the range of theirs."
            )
    if args.output:
        settings = {"trees": [str(tree) for tree in trees], "cpu": cpu, "passes": passes}
        text = json.dumps({**settings, "rows": rows}, indent=1)
        args.output.write_text(text + "\n", encoding="utf-8")
    return 0
