"""``python -m bench dask``: dropout of Dask arrays, beside `da.random`, on two worker processes.

Measures what graphs cost to build, and times an array that no worker could hold, in `dask_cluster`.
Compares its checksum over five chunkings, measures the constants of `dask_model`, and checks them.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from . import common, report, timing
from . import dask_pipeline as pipeline
from .check import Wrong, is_dropout, is_ours
from .common import MI, BenchError, P, Tell, chosen, load
from .dask_cluster import THREADS, WORKERS, Cluster, Run, cluster, interleaved
from .dask_model import Constants
from .dask_pipeline import CALLS, COLUMNS, DATA
from .results import Row, made

SECONDS = 150.0  # for the rounds of the large array
GRAPH, LARGE, CHUNKINGS, MODEL = "graph", "large", "chunkings", "model"
BASE, FLOAT = "identity", 4  # bytes of an element
ELEMENTS, BLOCK = 1024 * MI, 16 * MI
BUILDING = timing.FULL._replace(settle=0.0, least=3)
BLOCKS, SMALL_ELEMENTS = (100, 1000, 10_000), 8
MODELLED = ("identity", "fastdrop", "uniform")
GRAPHS: dict[str, dict[str, Any]] = {
    row["name"]: CALLS.get(row["name"], {}) | row for row in DATA["graph"]
}


def _about(section: str, name: str, elements: int) -> Row:
    return {"section": section, "contender": name, "dtype": "float32", "elements": elements}


def validate() -> None:
    """Check what every call computes, on an array of several blocks."""
    shape, key = (256, COLUMNS), pipeline.key(1)
    x = pipeline.source(shape, (100, 1000), "validated")
    given: Any = x.compute(scheduler="synchronous")
    for row in CALLS.values():
        y = pipeline.called(row["call"], x, 1)
        computed = y.compute(scheduler="synchronous")
        if row["role"] == "roof":
            wrong = "" if np.array_equal(computed, given) else "is not x"
        else:
            check = partial(is_ours, rng=key) if row["role"] == "ours" else is_dropout
            wrong = check(given, computed, P)
        if wrong or computed.dtype != np.float32:
            raise Wrong(f"{row['label']}: {wrong or computed.dtype}")


def graphs(blocks: int, effort: timing.Effort) -> Iterator[Row]:
    """Measure what the graph of each call costs: seconds to build, and bytes of its tasks."""
    rows = blocks * 4
    x = pipeline.source((rows, COLUMNS), (4, COLUMNS), "built")
    entries = [
        timing.prepare(name, partial(pipeline.called, row["call"], x, 1), effort=effort)
        for name, row in GRAPHS.items()
    ]
    # `da.random` takes a second for 10,000 blocks: the least number of rounds is all there are.
    samples = timing.measure(entries, 0.5, effort=effort)
    for name, row in GRAPHS.items():
        y = pipeline.called(row["call"], x, 1)
        # As if nothing fused them: the tasks of each layer that x has not.
        layers = [layer for key, layer in y.dask.layers.items() if key not in x.dask.layers]
        size = sum(len(pickle.dumps(dict(layer))) for layer in layers)
        seconds = statistics.median(samples[name]) / blocks
        more = {"blocks": blocks, "seconds": seconds, "bytes": size / blocks}
        yield {**_about("dask-graph", name, rows * COLUMNS), **more}


def shape_of(elements: int) -> pipeline.Chunks:
    """Return the shape of an array of so many elements."""
    if elements % (8 * COLUMNS):
        raise BenchError(f"{elements} elements are no multiple of {8 * COLUMNS}")
    return elements // COLUMNS, COLUMNS


def rows_of(block: int) -> pipeline.Chunks:
    """Return the chunks of blocks of so many elements."""
    return max(1, block // COLUMNS), COLUMNS


def large(
    there: Cluster, elements: int, block: int, names: tuple[str, ...], seconds: float, turns: int
) -> Iterator[Row]:
    """Time the large array with every call, in rounds, and watch the workers' memory."""
    shape, chunks = shape_of(elements), rows_of(block)
    calls = {name: partial(_built, there, name, shape, chunks) for name in names}
    runs: dict[str, list[Run]] = {name: [] for name in names}
    until = time.perf_counter() + seconds
    for name, run in interleaved(calls, 1 if not seconds else turns, until):
        runs[name].append(run)
    samples = {name: [run.seconds for run in found] for name, found in runs.items()}
    for name, figures in timing.summarise(samples, dict.fromkeys(names, BASE)).items():
        memory = {"peak": max(run.peak for run in runs[name])}
        memory["before"] = max(run.before for run in runs[name])
        row = {**_about("dask", name, elements), "variant": "", "base": BASE, **figures}
        cpu = statistics.median(run.scheduler_cpu + run.workers_cpu for run in runs[name])
        yield {**row, "block": block * FLOAT, "cpu": cpu, **memory}


def _built(there: Cluster, name: str, shape: pipeline.Chunks, chunks: Any) -> Run:
    return there.run(there.graph(name, shape, chunks))


def chunkings(there: Cluster, elements: int, block: int) -> Iterator[Row]:
    """Compute the checksum of one result over five chunkings, which must be that of NumPy's."""
    shape = shape_of(elements)
    # Nothing of this is a Dask array, or in a worker.
    right = f"{pipeline.numpy_checksum(shape, rows_of(block)[0]):016x}"
    row = {"section": "dask-checksum", "elements": elements, "chunks": [], "blocks": 1}
    rows = [row | {"checksum": right}]
    for chunks in pipeline.chunkings(shape, block):
        lazy = there.graph("fastdrop", shape, chunks, placed=True)
        blocks = int(np.prod([-(-n // m) for n, m in zip(shape, chunks, strict=True)]))
        found = f"{there.run(lazy).result:016x}"
        rows.append(row | {"chunks": list(chunks), "blocks": blocks, "checksum": found})
    if len({row["checksum"] for row in rows}) > 1:
        each = ", ".join(f"{row['chunks'] or 'NumPy'}: {row['checksum']}" for row in rows)
        raise Wrong(f"the result depends on the chunks: checksums {each}")
    yield from rows


def overheads(
    there: Cluster, few: int, many: int, turns: int
) -> dict[str, tuple[float, float, float]]:
    """Measure seconds of a graph of one block, and CPU seconds of a block more.

    Those are of the scheduler, and of a worker; blocks have 8 elements.
    """
    one = (1, SMALL_ELEMENTS)
    calls = {
        f"{name} {blocks}": partial(_built, there, name, (blocks, SMALL_ELEMENTS), one)
        for name in MODELLED
        for blocks in (1, few, many)
    }
    runs: dict[str, list[Run]] = {name: [] for name in calls}
    for name, run in interleaved(calls, turns, float("inf")):
        runs[name].append(run)

    def grown(name: str, cpu: Callable[[Run], float]) -> float:
        pairs = zip(runs[f"{name} {few}"], runs[f"{name} {many}"], strict=True)
        return statistics.median((cpu(b) - cpu(a)) / (many - few) for a, b in pairs)

    return {
        name: (
            statistics.median(run.seconds for run in runs[f"{name} 1"]),
            grown(name, lambda run: run.scheduler_cpu),
            grown(name, lambda run: run.workers_cpu),
        )
        for name in MODELLED
    }


def model(
    there: Cluster, cases: list[tuple[int, int]], check: bool, tell: Callable[[str], object]
) -> Iterator[Row]:
    """Measure the constants, and compare what they predict with runs of these sizes and blocks."""
    tell("constants of the model")
    costs = overheads(there, *((2, 6, 1) if check else (64, 576, 3)))
    effort = 0.01 if check else 0.7
    found: dict[tuple[str, int], Constants] = {}
    for block in dict.fromkeys(block for _, block in cases):
        for name in MODELLED:
            taken = there.block_seconds(name, rows_of(block), effort)
            taken -= there.block_seconds(name, (1, SMALL_ELEMENTS), effort / 4)
            constants = Constants(*costs[name], block * FLOAT / max(taken, 1e-9))
            found[name, block] = constants
            row = {**_about("dask-constants", name, block), "block": block * FLOAT}
            yield {**row, "workers": WORKERS, **vars(constants)}
    for elements, block in cases:
        tell(f"model, {common.size_label(elements)} in blocks of {common.size_label(block)}")
        shape, chunks = shape_of(elements), rows_of(block)
        calls = {name: partial(_built, there, name, shape, chunks) for name in MODELLED}
        taken_by: dict[str, list[float]] = {name: [] for name in MODELLED}
        for name, run in interleaved(calls, 1 if check else 3, float("inf")):
            taken_by[name].append(run.seconds)
        for name in MODELLED:
            size, blocks = elements * FLOAT, -(-elements // block)
            predicted = found[name, block].seconds(size, blocks, WORKERS)
            row = {**_about("dask-model", name, elements), "block": block * FLOAT}
            measured = statistics.median(taken_by[name])
            yield {**row, "blocks": blocks, "predicted": predicted, "measured": measured}


def main(args: argparse.Namespace) -> int:
    """Print the tables; the exit status is 0 whatever they say: benchmarks inform, tests decide."""
    check: bool = args.check
    sections = chosen(args.sections, (GRAPH, LARGE, CHUNKINGS, MODEL), "section")
    names = tuple(dict.fromkeys((BASE, *chosen(args.only, list(CALLS), "contender"))))
    if len(args.sizes or ()) > 1:
        raise BenchError("one size at a time: --sizes 256Mi")
    (elements,) = args.sizes or (32 * COLUMNS if check else ELEMENTS,)
    shape_of(elements)
    block = min(BLOCK, elements // 8)
    seconds, rows = 0.0 if check else args.seconds or SECONDS, list[Row]()
    for module in ("dask", "distributed"):
        load(module)
    with common.progress() as tell:
        tell("validation", 0.0)
        validate()
        if GRAPH in sections:
            for blocks in (10,) if check else BLOCKS:
                tell(f"graphs of {blocks:,} blocks", 0.02)
                rows += graphs(blocks, timing.ONCE if check else BUILDING)
        if {LARGE, CHUNKINGS, MODEL} & {*sections}:
            with cluster() as there:
                rows += _on_cluster(there, sections, names, elements, block, seconds, tell)
    settings = {"p": P, "seconds": seconds, "check": check, "workers": WORKERS}
    settings |= {"threads": THREADS, "columns": COLUMNS}
    labels = {n: {"label": r["label"], "role": r["role"]} for n, r in {**GRAPHS, **CALLS}.items()}
    report.finish(made(rows, settings, labels), args, "dask")
    return 0


def _on_cluster(
    there: Cluster,
    sections: tuple[str, ...],
    names: tuple[str, ...],
    elements: int,
    block: int,
    seconds: float,
    tell: Tell,
) -> Iterator[Row]:
    if LARGE in sections:
        tell(f"{common.size_label(elements)} elements", 0.2)
        yield from large(there, elements, block, names, seconds, 12)
    if CHUNKINGS in sections:
        tell("five chunkings", 0.6)
        yield from chunkings(there, elements, block)
    if MODEL in sections:
        # The large array, half of it in smaller blocks, and twice as much in larger ones.
        cases = [(elements, block), (elements // 2, block // 4), (elements * 2, block * 2)]
        yield from model(there, cases, not seconds, lambda what: tell(what, 0.7))
