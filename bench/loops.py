"""Time dropout in real training steps: none, the usual stored mask, fd.Mask, and a layer."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from . import loops_report, machine, report, show, timing
from .check import Wrong
from .common import Array, BenchError, parse_names, parse_seconds
from .contender import load
from .loop_cases import BY_NAME, CASES, Loop
from .loop_nets import Network
from .loop_sites import LAYER, MASK, STORED, VARIANTS, Layer, Multiplied, Site, site
from .loops_report import LoopResults, LoopRow
from .results import save

SECONDS = 60.0
LEAST, MOST = 20, 400  # rounds of a loop
WARM = 3  # steps of each before the first that is timed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--only",
        type=parse_names,
        metavar="NAMES",
        help=f"loops (default: all): {', '.join(BY_NAME)}",
    )
    parser.add_argument(
        "--seconds",
        type=parse_seconds,
        default=SECONDS,
        help=f"time for timing, split evenly between the loops (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--check", action="store_true", help="tiny networks, a step of each; judges no times"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="results file (default: bench/results/loops.json for a full run, none for a part)",
    )


def chosen(names: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """Return the loops of these names, with their dtypes, or all."""
    if unknown := [name for name in names or () if name not in BY_NAME]:
        raise BenchError(f"no loop {unknown[0]!r}; there are {', '.join(BY_NAME)}")
    return tuple(case for case in CASES if names is None or case[0] in names)


def validate(loop: Loop, dtype: str) -> None:
    """Check that the same masks give the same gradients, however they are kept.

    Raises
    ------
    Wrong
        Naming the loop, the variant and the parameter.
    """
    library = load("fastdrop")
    batch = next(loop.batches(dtype, np.random.default_rng(0)))
    keys = [library.Key(3).fold_in(n) for n in range(len(loop.spots))]

    def masks(number: int) -> Callable[[tuple[int, ...]], Any]:
        # A layer's n-th forward is n streams further on.
        ahead, p = itertools.count(), loop.spots[number].p
        return lambda shape: library.Mask(shape, p, rng=keys[number].advanced(next(ahead)))

    def arrays(number: int) -> Callable[[tuple[int, ...]], Any]:
        make = masks(number)
        return lambda shape: make(shape).astype(dtype)

    spots = list(enumerate(loop.spots))
    kinds: dict[str, list[Site]] = {
        STORED: [Multiplied(arrays(n), spot.in_place) for n, spot in spots],
        MASK: [Multiplied(masks(n), spot.in_place) for n, spot in spots],
        LAYER: [Layer(spot.p, keys[n]) for n, spot in spots],
    }
    found = {
        kind: loop.build(sites, dtype).loss_and_gradients(batch) for kind, sites in kinds.items()
    }
    loss, expected = found[STORED]
    for kind in (MASK, LAYER):
        if found[kind][0] != loss:
            raise Wrong(f"{loop.name}, {dtype}: {kind} has another loss than its mask stored")
        for name, gradient in found[kind][1].items():
            if gradient.dtype != dtype or gradient.tobytes() != expected[name].tobytes():
                raise Wrong(
                    f"{loop.name}, {dtype}: {kind} has another gradient of {name} than its mask "
                    "stored"
                )


def measure(
    loop: Loop, dtype: str, seconds: float, rounds: tuple[int, int], tell: Callable[[float], object]
) -> list[LoopRow]:
    """Time steps of all variants in turn, each with a batch of its own."""
    networks: dict[str, Network] = {
        variant: loop.build([site(variant, spot, n) for n, spot in enumerate(loop.spots)], dtype)
        for variant in VARIANTS
    }
    batches = loop.batches(dtype, np.random.default_rng(1))
    np.random.seed(1)  # noqa: NPY002 - what public loops draw their masks from
    samples: dict[str, list[tuple[float, float]]] = {variant: [] for variant in VARIANTS}
    least, most = rounds
    for _ in range(WARM):
        for network in networks.values():
            network.step(next(batches))
    start = time.perf_counter()
    with timing.quiet_gc():
        for turn in range(most):
            order = [VARIANTS[(turn + k) % len(VARIANTS)] for k in range(len(VARIANTS))]
            for variant in order:
                batch, network = next(batches), networks[variant]
                for each in network.sites:
                    each.seconds = 0.0
                begin = time.perf_counter()
                network.step(batch)
                taken = time.perf_counter() - begin
                samples[variant].append((taken, sum(each.seconds for each in network.sites)))
            part = (time.perf_counter() - start) / seconds
            tell(min(1.0, max(part, (turn + 1) / most)))
            if part >= 1 and turn + 1 >= least:
                break
    counts = _counted(loop, dtype)
    stored = np.asarray(samples[STORED])[:, 0]
    return [_row(loop, dtype, v, samples[v], stored, networks[v], *counts) for v in VARIANTS]


def _counted(loop: Loop, dtype: str) -> tuple[int, int]:
    """Count the elements that a step drops from, and its masks."""
    shapes: list[tuple[int, ...]] = []

    def ones(shape: tuple[int, ...]) -> Any:
        shapes.append(shape)
        return np.ones(shape, dtype)

    sites = [Multiplied(ones, spot.in_place) for spot in loop.spots]
    loop.build(sites, dtype).step(next(loop.batches(dtype, np.random.default_rng(1))))
    return sum(int(np.prod(shape)) for shape in shapes), len(shapes)


def _row(
    loop: Loop,
    dtype: str,
    variant: str,
    samples: list[tuple[float, float]],
    stored: Array,
    network: Network,
    elements: int,
    masks: int,
) -> LoopRow:
    steps, dropout = np.asarray(samples).T
    q1, median, q3 = map(float, np.percentile(steps, (25, 50, 75)))
    return {
        "loop": loop.name,
        "dtype": dtype,
        "variant": variant,
        "steps": len(samples),
        "step": median,
        "step_q1": q1,
        "step_q3": q3,
        "ratio": float(np.median(steps / stored)),
        "dropout": float(np.median(dropout)),
        "share": float(np.median(dropout / steps)),
        "elements": elements,
        "masks": masks,
        "kept": sum(each.kept for each in network.sites),
        "activations": network.activations.name,
    }


def collect(cases: Sequence[tuple[str, str]], seconds: float, check: bool = False) -> list[LoopRow]:
    """Validate and time loops, under a progress bar."""
    rows: list[LoopRow] = []
    with show.progress() as bar, timing.one_blas_thread():
        task = bar.add_task("", total=len(cases))
        for done, (name, dtype) in enumerate(cases):

            def tell(part: float, done: int = done, doing: str = f"{name}, {dtype}") -> None:
                bar.update(task, completed=done + part, description=doing)
                bar.refresh()

            loop = replace(BY_NAME[name], samples=4, hidden=16) if check else BY_NAME[name]
            tell(0.0)
            validate(loop, dtype)
            rounds = (1, 1) if check else (LEAST, MOST)
            rows += measure(loop, dtype, seconds / len(cases), rounds, tell)
        bar.update(task, completed=len(cases), description="done")
        bar.refresh()
    return rows


def output_path(args: argparse.Namespace) -> Path | None:
    """Choose where to write: a part of a measurement only where it is told to."""
    output: Path | None = args.output
    if output is not None and output.is_dir():
        raise BenchError(f"--output {output} is a folder, not a file")
    return output or (None if args.check or args.only else loops_report.RESULTS)


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say: benchmarks inform, tests decide."""
    output, cases = output_path(args), chosen(args.only)
    rows = collect(cases, args.seconds, args.check)
    settings = {"seconds": args.seconds, "check": args.check, "blas_threads": 1}
    conditions = machine.conditions(settings)
    conditions["versions"]["scikit-learn"] = machine.version("scikit-learn")
    results: LoopResults = {"schema": loops_report.SCHEMA, **conditions, "rows": rows}
    out = show.console()
    if args.check:
        out.print(f"All works: {len(rows)} training steps made. Nothing was judged.")
    else:
        show.show_tables([loops_report.summary(results), loops_report.every(results)], out)
        for verdict in loops_report.judge(results):
            out.print(Text(str(verdict), style=show.STYLES[verdict.state]))
        out.print(Text("\n" + report.machine(results)))
    if output is not None:
        save(results, output)
        out.print(Text(f"Written to {output}"))
    return 0
