"""Memory and first calls, in fresh processes; and ``python -m bench latency``, beside busy ones.

``python -m bench start`` calls it too, and `bench.cpu` for memory. Run as ``python -m
bench.processes CONTENDER ELEMENTS STEP`` it measures memory in this process, and prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import common, report
from .cases import BY_NAME, CASES, Contender
from .common import MI, BenchError, P, chosen, load
from .results import Row, made

ELEMENTS = 16 * MI  # of which memory is measured
FREED_SECONDS = 0.1  # what a library frees when a call is over is freed by then


def resident(field: str) -> int:
    """Bytes of this process' memory: those resident now (VmRSS), or the most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def _new_bytes(result: Any, given: Any) -> int:
    """Bytes of a result; 0 if it is the array that was given."""
    if isinstance(result, np.ndarray):
        return 0 if np.shares_memory(result, given) else result.nbytes
    dtype: Any = result.dtype  # of PyTorch's, jax's or TensorFlow's
    return int(math.prod(result.shape)) * int(getattr(dtype, "itemsize", None) or dtype.size)


def _memory_here(name: str, elements: int, step: bool) -> list[Row]:
    """Measure a forward call or a step of a contender in this process, in bytes an element."""
    contender = BY_NAME[name]
    contender.set_threads()

    def run(n: int) -> dict[str, float]:
        x = common.fresh_input(n)
        y, dx = np.ones_like(x), np.ones_like(x)  # ones: their pages have to be resident
        calls = contender.calls(x, y, dx if step else None)
        gc.collect()
        time.sleep(FREED_SECONDS)  # libraries may copy x and the gradient in the background
        # Sets the peak back to the present, and so forgets the warm-up and the compilers.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = resident("VmRSS")
        output, kept = calls["there"]() if step else (calls["call"](), None)
        result = min(x.nbytes, _new_bytes(output, y))  # peaks are beyond one output like x
        if not step:
            return {"forward": resident("VmHWM") - before - result}
        time.sleep(FREED_SECONDS)
        held = resident("VmRSS") - before - _new_bytes(output, y)
        result += min(x.nbytes, _new_bytes(calls["back"](kept), dx))
        return {"step": resident("VmHWM") - before - result, "kept": held}

    # At a part of the size, where what a library's own allocator keeps of a warm-up would not show.
    own = {"torch", "jax", "tensorflow"} & {*contender.needs}
    run(-(-elements // 16) if own else elements)
    about = {"section": "memory", "contender": name, "dtype": "float32", "elements": elements}
    found = run(elements)
    return [{**about, "measure": m, "bytes": value / elements} for m, value in found.items()]


def memory(contender: Contender, elements: int = ELEMENTS) -> list[Row]:
    """Measure memory beyond the results of a contender, each time in a fresh process.

    "forward" is the peak of a call, "step" that of forward and backward, "kept" what is held
    between them. None profits from memory that another has left behind.
    """
    rows: list[Row] = []
    for step in ("", "step") if contender.back else ("",):
        command = ["-m", "bench.processes", contender.name, str(elements), step]
        # glibc keeps freed blocks of up to 32 MiB, so that memory which the warm-up had used would
        # not show as growth. With a fixed threshold larger blocks go back to the system at once.
        rows += common.child(command, MALLOC_MMAP_THRESHOLD_="65536")
    return rows


WARM, EMPTY = "warm", "empty"  # caches of compiled kernels
SAMPLES = {WARM: 7, EMPTY: 3}
FIRST = {row["name"]: row for row in CASES["first"]}
IMPORTS = {"NumPy's import alone": "numpy", "Numba's import alone": "numba"}


def first_code(name: str) -> str:
    """Return the code of a process that times a first call, or an import."""
    code = CASES["first_code"]
    if name in IMPORTS:
        early = "" if IMPORTS[name] == "numpy" else "import numpy"
        return str(code["module"]).format(module=IMPORTS[name], early=early)
    row = code["usual"] | FIRST[name]
    early, late = ("", row["array"].format(**row))[:: 1 if row["numpy"] else -1]
    row["call"] = row["call"].format(**row)
    return str(code["call_code"]).format(**row, early=early, late=late)


def start(args: argparse.Namespace) -> int:
    """Time the first call of fresh processes, from a warm and from an empty cache of kernels."""
    names = chosen(args.only, (*IMPORTS, *FIRST), "first call")
    # All take turns, so that what slows the machine for a while slows each of them. The first
    # round fills the cache, and does not count.
    warm = [(name, WARM if name in FIRST else None) for name in names]
    empty = [(name, EMPTY) for name in names if name in FIRST]
    rounds = [warm] * (1 + (1 if args.check else SAMPLES[WARM]))
    todo = [*itertools.chain(*rounds), *empty * (0 if args.check else SAMPLES[EMPTY])]
    found: dict[tuple[str, str | None], list[dict[str, float]]] = {}
    with common.progress() as tell, tempfile.TemporaryDirectory() as folder:
        for done, (name, cache) in enumerate(todo):
            tell(f"{name}, {cache} cache" if cache else name, done / len(todo))
            mine = found.setdefault((name, cache), [])
            if cache == EMPTY and mine and "before" in FIRST[name]:
                continue  # compiling all the kernels of a function takes as long as all else here
            timed = common.child(
                ["-c", first_code(name)],
                FASTDROP_CACHE_DIR=f"{folder}/{done if cache == EMPTY else WARM}",
                # Where Python may write none, or is told not to, each process compiles every module
                # it imports: 0.2 s of the figure then.
                PYTHONDONTWRITEBYTECODE="",
                PYTHONPYCACHEPREFIX=f"{folder}/bytecode",
            )
            mine += [timed] * (done >= len(warm))
    rows = []
    for (name, cache), samples in found.items():
        totals = [sample["total"] for sample in samples]
        about = {"section": "start", "first": name, "cache": cache, "samples": len(samples)}
        figures = {"median": statistics.median(totals), "worst": max(totals)}
        calls = [sample["call"] for sample in samples if "call" in sample]
        rows.append({**about, **figures, "call": statistics.median(calls) if calls else None})
    report.finish(made(rows, {"p": P, "check": args.check}), args, "start")
    return 0


# A pool whose threads wait for each other at a barrier stalls for milliseconds where other
# processes keep the cores; latency shows whether fastdrop's does.
TURN = 0.25  # seconds of one number of threads before the other has its turn
# A busy process, which ends with its parent even if that is killed.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n sum(range(100000))"


def latency(args: argparse.Namespace) -> int:
    """Time single calls by one thread and by all in turn, alone and beside busy processes."""
    library, clock, rows = load("fastdrop"), time.perf_counter, list[Row]()
    threads = library.get_num_threads()
    if threads == 1:
        raise BenchError("fastdrop has one thread: give it more, as in FASTDROP_NUM_THREADS=2")
    # Threads share both sizes: 1 Mi only just, so that one that waits for another loses most.
    settings = list(itertools.product((MI, 2 * MI), (0, common.usable_cpus())))
    seconds = 0.01 if args.check else (args.seconds or 24.0) / len(settings)
    with common.progress() as tell:
        for done, (elements, busy) in enumerate(settings):
            tell(f"{common.size_label(elements)} beside {busy} busy", done / len(settings))
            x = common.fresh_input(elements)
            y = common.fresh_output(x)
            for name in ("fastdrop-1", "fastdrop"):
                BY_NAME[name].validate(x, y)
            call, samples = BY_NAME["fastdrop"].make(x, y), {1: list[float](), threads: []}
            with contextlib.ExitStack() as stack:
                for _ in range(busy):
                    process = stack.enter_context(subprocess.Popen([sys.executable, "-c", _BUSY]))
                    stack.callback(process.kill)
                time.sleep(0.5 if busy else 0)  # until they run
                end = clock() + seconds
                while clock() < end:
                    for n, mine in samples.items():
                        library.set_num_threads(n)
                        until = clock() + min(TURN, seconds / 2)
                        while (begin := clock()) < until:
                            call()
                            mine.append(clock() - begin)
            for n, mine in samples.items():
                row = {"section": "latency", "elements": elements, "busy": busy, "threads": n}
                figures = np.percentile(mine, (50, 99, 100)).tolist()
                row |= dict(zip(("median", "p99", "worst"), figures, strict=True))
                rows.append({**row, "calls": len(mine)})
    library.set_num_threads(threads)
    report.finish(made(rows, {"p": P, "turn": TURN, "check": args.check}), args, "latency")
    return 0


def main(args: argparse.Namespace) -> int:
    """Run the command; the exit status is 0 whatever it says: benchmarks inform, tests decide."""
    return start(args) if args.command == "start" else latency(args)


if __name__ == "__main__":
    name, elements, step = sys.argv[1:]
    print(json.dumps(_memory_here(name, int(elements), bool(step))))
