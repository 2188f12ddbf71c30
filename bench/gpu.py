"""``python -m bench gpu``: dropout on a GPU beside copying, torch, JAX and the CuPy idiom.

Every contender (`cases.toml` has them) is validated first: fastdrop exactly, peers by what they
drop. Batches of calls are timed by CUDA events (`gpu_timer`), over inputs that are rotated so that
none is in the L2 cache; ratios are to a copy within the device. Needs CuPy alone; peers that can be
imported take part. ``--output`` is written after each size. ``--first`` is for a GPU that nothing
has run on, see `first`; ``--instructions`` needs no GPU, see `instructions`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import common, first, instructions, report
from .cases import CASES, Calls, compiled
from .check import Wrong, is_close, is_dropout, key, same_bits, scaled
from .common import KI, MI, Array, BenchError, P, chosen, load
from .gpu_timer import Timer
from .results import Results, Row, made, save
from .timing import summarise

DTYPES = (*common.HALF, "float32", "float64")
SIZES, QUICK = tuple(64 * KI << 2 * n for n in range(8)), (64 * KI, 16 * MI, 256 * MI)
ROUNDS, QUICK_ROUNDS = 15, 5
BATCH_SECONDS, MOST_CALLS = 3e-3, 200
LAUNCHED = 64 * KI  # elements of which calls on the host are measured
KEPT = 16 * MI  # memory is measured with so many elements, or the next size above
PIECE = MI  # elements that are looked at together
ROW = 4096  # elements of a softmax
# The sections of a contender's rows, forward and step, by what it says of itself.
SECTIONS = {"": ("forward", "step"), "softmax": ("softmax", "softmax-step")}
COLD = 4  # inputs and outputs together are this many times the L2 cache
SPARE = 0.85  # of the memory: the rest is for allocators' slack, and for others on the GPU


def load_cupy() -> Any:
    """Import CuPy, and see that there is a device; without one a BenchError says why."""
    try:
        cupy = load("cupy")
        cupy.cuda.Device().compute_capability  # noqa: B018 - which fails without one
    except ImportError as error:
        raise BenchError(f"CuPy cannot be imported ({error}): pip install -e '.[cuda13]'") from None
    except Exception as error:
        raise BenchError(f"no GPU: {error}") from None
    return cupy


def facts(cupy: Any) -> dict[str, Any]:
    """Ask the current device."""
    about = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    return {
        "gpu": about["name"].decode(),
        "memory_gib": round(about["totalGlobalMem"] / 2**30, 1),
        "l2_kib": about["l2CacheSize"] // 1024,
        "multiprocessors": about["multiProcessorCount"],
        "compute_capability": f"{about['major']}.{about['minor']}",
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
    }


def sets_needed(set_bytes: int, l2_bytes: int) -> int:
    """Return how many sets of arrays are needed so that none is found in the L2 cache again."""
    return max(1, math.ceil(COLD * l2_bytes / set_bytes))


class Sets:
    """Sets of arrays X, Y, DY and DX; of each kind one allocation, cut into `count` parts.

    Inputs have no zeros, so that a zero in an output is a dropped element.
    """

    def __init__(self, cupy: Any, elements: int, dtype: str, count: int) -> None:
        self.cupy, self.elements, self.dtype, self.count = cupy, elements, dtype, count
        part = np.random.default_rng().uniform(1, 2, min(elements, MI))
        part[::2] *= -1
        self.whole = {
            n: cupy.empty((count, elements), common.dtype_of(dtype)) for n in "X Y DY DX".split()
        }
        for name in ("X", "DY"):  # a part drawn on the host, repeated
            array = self.whole[name]
            array.reshape(-1, part.size)[...] = cupy.asarray(part.astype(array.dtype))

    def calls(self, row: dict[str, Any]) -> Calls:
        """Make a contender ready for these arrays: calls by the names of its snippets."""
        code = {"call(i)": row["call"], "there(i)": row.get("there", f"({row['call']}), None")}
        code["back(i, kept)"] = row.get("back", "None")
        code["whole(i)"] = row.get("whole", "(made := there(i))[0], back(i, made[1])")
        sets = "x, y, dy, dx = X[i % n], Y[i % n], DY[i % n], DX[i % n]\n"
        code = {name: sets + text for name, text in code.items()}
        code["view(made)"] = row.get("view", "made")
        code["allocated()"] = row.get("allocated", "cupy.get_default_memory_pool().used_bytes()")
        code["done()"] = row.get("done", "cupy.cuda.Device().synchronize()")
        names = {"cupy": self.cupy, "n": self.count, "p": P}
        lists = {name: list(whole) for name, whole in self.whole.items()}
        return compiled("X, Y, DY, DX", row.get("setup", ""), code, row.get("needs", ()), names)(
            **lists
        )


def complaint(role: str, x: Array, y: Array, first: int) -> str:
    """Say what is wrong with elements from `first` on: of a copy, of ours, or of a peer."""
    if role == "roof":
        return "" if same_bits(y, x) else "is no copy"
    if role == "peer":
        return is_dropout(x, y, P)
    kept = load("fastdrop").dropout_mask(x.shape, P, rng=key(), offset=first)
    right = np.where(kept, scaled(x, P), x.dtype.type(0))
    return "" if same_bits(y, right) else f"differs from the CPU's from element {first} on"


def softmax_complaint(x: Array, dy: Array, given: Array, first: int, forward: bool) -> str:
    """Say what is wrong with rows of softmax and dropout, or its gradient, from `first` on."""
    fd, rows = load("fastdrop"), [a.reshape(-1, ROW) for a in (dy, x)]
    call = fd.softmax_dropout if forward else fd.softmax_dropout_backward
    right = call(*rows[forward:], P, rng=key(), offset=first)
    return is_close(given.reshape(-1, ROW), right, zeros=forward)


def check(row: dict[str, Any], sets: Sets, calls: Calls) -> None:
    """Validate a step of a contender on poisoned memory, at both ends and in the middle."""
    n = sets.elements
    for name in ("Y", "DX"):
        sets.whole[name].view(np.uint8).fill(0xAB)
    results = calls["whole"](0)
    calls["done"]()
    for source, result in zip(("X", "DY"), map(calls["view"], results), strict=True):
        for start in sorted({0, max(0, n // 2 - PIECE // 2), max(0, n - PIECE)}):
            piece = slice(start, start + PIECE)
            x, dy = (sets.whole[name][0][piece].get() for name in ("X", "DY"))
            y = result.reshape(-1)[piece].get()
            if row.get("section") == "softmax":
                wrong = softmax_complaint(x, dy, y, start, source == "X")
            else:
                wrong = complaint(row["role"], x if source == "X" else dy, y, start)
            if wrong:
                raise Wrong(
                    f"{row['label']}, {sets.dtype}, {common.size_label(n)}, {source}: {wrong}"
                )


class Run:
    """A contender that is timed, with the next of its sets at each call."""

    def __init__(
        self, row: Row, section: str, call: Callable[[int], Any], calls: Calls, n: int
    ) -> None:
        done, turn = calls["done"], itertools.count()
        # New outputs are kept for as long as inputs are, so that they are as cold.
        ring: list[Any] = [None] * (n if row.get("fresh") else 1)

        def next_call() -> None:
            i = next(turn)
            ring[i % len(ring)] = None
            ring[i % len(ring)] = call(i)
            if "done" in row:  # on a stream of its own, which the host has to wait for
                done()

        self.name, self.section, self.call = row["name"], section, next_call
        self.own_stream = "done" in row
        for _ in range(max(3, n)):
            next_call()  # so that all memory has been asked for
        done()
        start = time.perf_counter()
        next_call()
        self.told = time.perf_counter() - start  # seconds of the host for one
        done()
        fill = math.ceil(BATCH_SECONDS / (time.perf_counter() - start))
        self.calls = max(3, min(MOST_CALLS, fill))

    def time(self, timer: Timer) -> tuple[float, float]:
        """Return seconds a call in a batch: until all are done, and on the host."""
        device, self.told = timer.batch(self.call, self.calls, self.told, self.own_stream)
        return device, self.told


def memory(row: dict[str, Any], calls: Calls, elements: int) -> Row:
    """Measure what is kept between float32's forward and backward beyond the output, in bytes."""
    calls["back"](0, calls["there"](0)[1])
    gc.collect()
    before = calls["allocated"]()
    y, kept = calls["there"](0)
    beyond = calls["allocated"]() - before - (4 * elements if row.get("fresh") else 0)
    del y, kept
    about = {"section": "memory", "contender": row["name"], "dtype": "float32"}
    return {**about, "elements": elements, "measure": "kept", "bytes": beyond / elements}


class Collector:
    """Validates, times and measures contenders on the current device."""

    def __init__(self, members: list[dict[str, Any]], rounds: int, kept_at: int) -> None:
        self.cupy, self.members, self.rounds, self.notes = load_cupy(), members, rounds, list[str]()
        self.facts, self.kept_at = facts(self.cupy), kept_at  # elements of which memory is measured
        self.timer, self.wrong = Timer(self.cupy), list[str]()  # what of ours fails

    def timed(self, dtype: str, elements: int) -> Iterator[Row]:
        """Validate, then time in rounds, each beginning with the next contender."""
        gc.collect()
        self.cupy.get_default_memory_pool().free_all_blocks()
        if torch := sys.modules.get("torch"):
            torch.cuda.empty_cache()
        one, where = (
            4 * elements * common.dtype_of(dtype).itemsize,
            f"{common.size_label(elements)} {dtype}",
        )
        count = sets_needed(one, self.facts["l2_kib"] * 1024)
        # New outputs are kept as long as inputs are, a mask or uniforms beside them.
        if one * count * 2 + elements * 16 > SPARE * self.cupy.cuda.runtime.memGetInfo()[0]:
            self.notes.append(f"{where}: left out, for lack of memory")
            return
        sets, groups = Sets(self.cupy, elements, dtype, count), (list[Run](), list[Run]())
        for row in self.members:
            if dtype not in row.get("dtypes", DTYPES) or (elements % ROW and "section" in row):
                continue
            sections = SECTIONS[row.get("section", "")]
            try:
                calls = sets.calls(row)  # which imports what it needs
                check(row, sets, calls)
                for runs, section, name in zip(groups, sections, ("call", "whole"), strict=True):
                    runs.append(Run(row, section, calls[name], calls, count))
            except Exception as error:  # the others are timed all the same
                if row["role"] == "roof":
                    raise
                told = self.wrong if row["role"] == "ours" else self.notes
                told.append(common.failure(where, row["label"], error))
                continue
            if (dtype, elements) == ("float32", self.kept_at) and "back" in row:
                if row["role"] != "roof" and "section" not in row:
                    yield memory(row, calls, elements)
        base = "copy" if dtype == "float32" else f"copy/{dtype}"
        for members in groups:
            samples: dict[str, list[tuple[float, float]]] = {run.name: [] for run in members}
            for turn in range(self.rounds):
                for run in (*members[turn % len(members) :], *members[: turn % len(members)]):
                    samples[run.name].append(run.time(self.timer))
            of = {run.name: run.section for run in members}
            hosts = (dtype, elements, of["copy"]) == ("float32", LAUNCHED, "forward")
            for at in range(1 + hosts):
                each = {name: [pair[at] for pair in pairs] for name, pairs in samples.items()}
                found = summarise(each, dict.fromkeys(each, "copy"))
                about = {"dtype": dtype, "variant": "", "elements": elements, "base": base}
                for name in each:
                    section = "launch" if at else of[name]
                    yield {"section": section, **about, "contender": name, **found[name]}


def collect(args: argparse.Namespace) -> Results:
    """Validate, time and measure; returns what the results file holds."""
    names = chosen(args.only, [row["name"] for row in CASES["gpu"]], "contender")
    sizes = args.sizes or (QUICK if args.quick else SIZES)
    if any(n % 16 for n in sizes):
        raise BenchError("sizes have to be multiples of 16, which the copies move")
    rows_of = ({"role": "peer", **row} for row in CASES["gpu"])
    members = [row for row in rows_of if row["name"] in names or row["role"] == "roof"]
    kept_at = min((n for n in sizes if n >= KEPT), default=max(sizes))
    collector = Collector(members, QUICK_ROUNDS if args.quick else ROUNDS, kept_at)
    groups, rows = list(itertools.product(chosen(args.dtypes, DTYPES, "dtype"), sizes)), list[Row]()
    labels = {row["name"]: {"label": row["label"], "role": row["role"]} for row in members}
    settings = {"p": P, "rounds": collector.rounds, "quick": args.quick}

    def so_far() -> Results:
        found = made(rows, settings, labels, collector.notes)
        found["hardware"] = collector.facts | {"os": found["hardware"]["os"]}
        found["versions"] |= {
            "cupy": collector.cupy.__version__,
            "numba-cuda": common.version("numba-cuda"),
        }
        return found

    with common.progress() as tell:
        for done, (dtype, n) in enumerate(groups):
            tell(f"{common.size_label(n)} {dtype}", done / len(groups))
            rows += collector.timed(dtype, n)
            if args.output:  # a run that is cut loses no size that was measured
                save(so_far(), args.output)
    if collector.wrong:
        raise BenchError("; ".join(dict.fromkeys(collector.wrong)))
    return so_far()


def main(args: argparse.Namespace) -> int:
    """Run; the exit status is 0 whatever the goals say."""
    if args.rehearse and not args.first:
        raise BenchError("--rehearse is of a first run: give --first FOLDER, too")
    if args.check and not args.instructions:
        raise BenchError("--check goes with --instructions: it compares them with the table")
    if args.instructions:
        return instructions.main(args)
    if args.first:
        return first.main(args)
    load_cupy()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or JAX takes most of it
    report.finish(collect(args), args, None if args.dtypes else "gpu")
    return 0
