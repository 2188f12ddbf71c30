"""``python -m bench gpu``: dropout on a GPU beside copying, torch, JAX and the CuPy idiom.

Every contender (`cases.toml` has them) is validated first: fastdrop exactly, peers by what they
drop. Each call is timed by CUDA events (`cupyx.profiler`), over inputs that are rotated so that
none is in the L2 cache; ratios are to a copy within the device. Needs CuPy alone; peers that can be
imported take part. ``--first`` is for a GPU that nothing has run on: it prints what the device is,
runs the tests marked gpu, and a sanitizer where there is one, and measures a few sizes.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import common, report
from .cases import CASES, Calls, compiled
from .check import Wrong, is_dropout, key, same_bits, scaled
from .common import KI, MI, Array, BenchError, P, chosen, load
from .results import Results, Row, made
from .timing import summarise

DTYPES = (*common.HALF, "float32", "float64")
SIZES, QUICK = tuple(64 * KI << 2 * n for n in range(8)), (64 * KI, 16 * MI, 256 * MI)
ROUNDS, QUICK_ROUNDS = 15, 5
BATCH_SECONDS, MOST_CALLS = 3e-3, 200
LAUNCHED, KEPT = 64 * KI, 16 * MI  # elements of which calls on the host, and memory are measured
PIECE = MI  # elements that are looked at together
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
            x, y = sets.whole[source][0][piece].get(), result[piece].get()
            if wrong := complaint(row["role"], x, y, start):
                raise Wrong(
                    f"{row['label']}, {sets.dtype}, {common.size_label(n)}, {source}: {wrong}"
                )


class Run:
    """A contender that is timed, with the next of its sets at each call."""

    def __init__(self, row: Row, call: Callable[[int], Any], calls: Calls, n: int) -> None:
        done, turn = calls["done"], itertools.count()
        # New outputs are kept for as long as inputs are, so that they are as cold.
        ring: list[Any] = [None] * (n if row.get("fresh") else 1)

        def next_call() -> None:
            i = next(turn)
            ring[i % len(ring)] = None
            ring[i % len(ring)] = call(i)
            if "done" in row:  # on a stream of its own, which the host has to wait for
                done()

        self.name, self.host, self.call = row["name"], "done" in row, next_call
        for _ in range(max(3, n)):
            next_call()  # so that all memory has been asked for
        done()
        start = time.perf_counter()
        next_call()
        done()
        fill = math.ceil(BATCH_SECONDS / (time.perf_counter() - start))
        self.calls = max(3, min(MOST_CALLS, fill))

    def time(self) -> tuple[float, float]:
        """Return median seconds of a batch of calls: done, and on the host until they return."""
        found = load("cupyx.profiler").benchmark(self.call, n_repeat=self.calls, n_warmup=1)
        host, device = float(np.median(found.cpu_times)), float(np.median(found.gpu_times))
        return host if self.host else device, host


def memory(row: dict[str, Any], calls: Calls, itemsize: int) -> Row:
    """Measure what is kept between forward and backward beyond the output, in bytes an element."""
    calls["back"](0, calls["there"](0)[1])
    gc.collect()
    before = calls["allocated"]()
    y, kept = calls["there"](0)
    beyond = calls["allocated"]() - before - (itemsize * KEPT if row.get("fresh") else 0)
    del y, kept
    about = {"section": "memory", "contender": row["name"], "dtype": "float32", "elements": KEPT}
    return {**about, "measure": "kept", "bytes": beyond / KEPT}


class Collector:
    """Validates, times and measures contenders on the current device."""

    def __init__(self, members: list[dict[str, Any]], rounds: int) -> None:
        self.cupy, self.members, self.rounds, self.notes = load_cupy(), members, rounds, list[str]()
        self.facts = facts(self.cupy)

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
        sets, runs = Sets(self.cupy, elements, dtype, count), {"forward": list[Run](), "step": []}
        for row in self.members:
            if dtype not in row.get("dtypes", DTYPES):
                continue
            try:
                calls = sets.calls(row)  # which imports what it needs
                check(row, sets, calls)
                for section, name in (("forward", "call"), ("step", "whole")):
                    runs[section].append(Run(row, calls[name], calls, count))
            except Exception as error:  # of a peer's library: the others are timed all the same
                if row["role"] != "peer":
                    raise
                self.notes.append(common.failure(where, row["label"], error))
                continue
            if (dtype, elements) == ("float32", KEPT) and "back" in row and row["role"] != "roof":
                yield memory(row, calls, 4)
        base = "copy" if dtype == "float32" else f"copy/{dtype}"
        for section, members in runs.items():
            samples: dict[str, list[tuple[float, float]]] = {run.name: [] for run in members}
            for turn in range(self.rounds):
                for run in (*members[turn % len(members) :], *members[: turn % len(members)]):
                    samples[run.name].append(run.time())
            hosts = (dtype, elements, section) == ("float32", LAUNCHED, "forward")
            for at, shown in enumerate((section, "launch")[: 1 + hosts]):
                each = {name: [pair[at] for pair in pairs] for name, pairs in samples.items()}
                found = summarise(each, dict.fromkeys(each, "copy"))
                about = {"section": shown, "dtype": dtype, "variant": "", "elements": elements}
                yield from ({**about, "contender": n, "base": base, **found[n]} for n in each)


def collect(args: argparse.Namespace) -> Results:
    """Validate, time and measure; returns what the results file holds."""
    names = chosen(args.only, [row["name"] for row in CASES["gpu"]], "contender")
    sizes = args.sizes or (QUICK if args.quick else SIZES)
    if any(n % 16 for n in sizes):
        raise BenchError("sizes have to be multiples of 16, which the copies move")
    rows_of = ({"role": "peer", **row} for row in CASES["gpu"])
    members = [row for row in rows_of if row["name"] in names or row["role"] == "roof"]
    collector = Collector(members, QUICK_ROUNDS if args.quick else ROUNDS)
    groups, rows = list(itertools.product(chosen(args.dtypes, DTYPES, "dtype"), sizes)), list[Row]()
    with common.progress() as tell:
        for done, (dtype, n) in enumerate(groups):
            tell(f"{common.size_label(n)} {dtype}", done / len(groups))
            rows += collector.timed(dtype, n)
    labels = {
        row["name"]: {"label": row["label"], "role": row["role"]} for row in collector.members
    }
    settings = {"p": P, "rounds": collector.rounds, "quick": args.quick}
    found = made(rows, settings, labels, collector.notes)
    found["hardware"] = collector.facts | {"os": found["hardware"]["os"]}
    found["versions"] |= {
        "cupy": collector.cupy.__version__,
        "numba-cuda": common.version("numba-cuda"),
    }
    return found


def first_run() -> None:
    """Say what the device is, run the tests marked gpu, and a sanitizer where there is one."""
    python, races = sys.executable, CASES["gpu_first"]["races"]
    tests = [python, "-m", "pytest", "-m", "gpu", "-q", "--tb=short", "--maxfail=30", "tests"]
    tests += ["-p", "no:benchmark", "-o", "filterwarnings=default", "--durations=6"]
    if importlib.util.find_spec("xdist"):
        tests += ["-n", str(min(12, os.cpu_count() or 1))]
    steps = [(["nvidia-smi"], 30), ([python, "-m", "pip", "list"], 60), (tests, 300)]
    for tool in ("racecheck", "memcheck"):
        steps.append((["compute-sanitizer", "--tool", tool, python, "-c", races], 60))
    for command, limit in steps:
        print(f"== {' '.join(command)[:60]}", flush=True)
        try:  # whatever comes of it, the next step is worth its time
            status = subprocess.run(command, cwd=common.ROOT, timeout=limit).returncode
            print(f"exit status {status}", flush=True)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(error, flush=True)


def main(args: argparse.Namespace) -> int:
    """Run; the exit status is 0 whatever the goals say."""
    load_cupy()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or JAX takes most of it
    if args.first:
        first_run()
        args.quick, args.dtypes = True, args.dtypes or ("bfloat16", "float32")
    report.finish(collect(args), args, None if args.dtypes else "gpu")
    return 0
