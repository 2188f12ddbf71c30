"""Memory that dropout takes beyond its results: peaks of a call and of a step, and what is kept.

Seen by tracemalloc and by the resident set. Run as ``python -m bench.memory NAME ELEMENTS WHAT`` it
measures one contender in this process and prints JSON; `measure` runs that in a fresh process each
time, so that none profits from memory that another has left behind.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .common import MI, ROOT, Array, BenchError, fresh_input
from .contender import Contender
from .contenders import BY_NAME
from .results import MemoryRow

ELEMENTS = 16 * MI

# Libraries with allocators of their own are warmed up at a part of the size: what a warm-up at full
# size leaves with them would not show as growth.
WARM_UP_PART = 16
# What a library frees when a call is over is freed by now.
FREED_SECONDS = 0.1


def _status_bytes(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


class _Resident:
    """The resident set, with its growth since the beginning: now, and at its peak."""

    def __enter__(self) -> _Resident:
        # Sets the peak back to the present, and so forgets the warm-up and the compilers.
        with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
            clear.write("5")
        self.before = _status_bytes("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def now(self) -> int:
        time.sleep(FREED_SECONDS)
        return _status_bytes("VmRSS") - self.before

    def peak(self) -> int:
        return _status_bytes("VmHWM") - self.before


class _Traced:
    """The same of what tracemalloc sees."""

    def __enter__(self) -> _Traced:
        tracemalloc.start()
        self.before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        return self

    def __exit__(self, *error: object) -> None:
        tracemalloc.stop()

    def now(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self.before

    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self.before


class _Unseen:
    """Nothing is looked at: for the warm-up, which compiles, and would take long if traced."""

    def now(self) -> int:
        return 0

    peak = now


Probe: TypeAlias = _Resident | _Traced | _Unseen
Run: TypeAlias = Callable[[Probe], dict[str, int]]


def _bytes(result: Any, given: Array) -> int:
    """Bytes of a result; 0 if it is the array given."""
    if isinstance(result, np.ndarray):
        return 0 if np.shares_memory(result, given) else int(result.nbytes)
    dtype: Any = result.dtype  # of PyTorch's, jax's or TensorFlow's
    itemsize = dtype.itemsize if hasattr(dtype, "itemsize") else dtype.size
    return int(math.prod(result.shape) * itemsize)


def _forward(contender: Contender, x: Array) -> Run:
    out = np.ones_like(x)  # ones, not empty: its pages have to be resident before
    call = contender.setup(x, contender.p, out)

    def run(probe: Probe) -> dict[str, int]:
        y = call()
        return {"forward": probe.peak() - min(x.nbytes, _bytes(y, out))}

    return run


def _step(contender: Contender, x: Array) -> Run:
    assert contender.steps is not None
    out, dx = np.ones_like(x), np.ones_like(x)
    step = contender.steps(x, -x, contender.p, out, dx)

    def run(probe: Probe) -> dict[str, int]:
        y, kept = step.forward()
        held = probe.now() - _bytes(y, out)
        gradient = step.backward(kept)
        results = min(x.nbytes, _bytes(y, out)) + min(x.nbytes, _bytes(gradient, dx))
        return {"step": probe.peak() - results, "kept": held}

    return run


def measure_here(contender: Contender, elements: int, what: str) -> list[MemoryRow]:
    """Measure "forward" or "step" of one contender in this process."""
    prepare = {"forward": _forward, "step": _step}[what]
    x = fresh_input(elements)
    contender.set_threads()
    run = prepare(contender, x)
    # Not our kernels nor NumPy's allocations: the first may differ with the size, and the second
    # are given back.
    warm = run if contender.traceable else prepare(contender, x[: -(-elements // WARM_UP_PART)])
    resident: dict[str, int] = {}
    traced: dict[str, int] = {}
    warm(_Unseen())
    gc.collect()
    with contextlib.suppress(OSError), _Resident() as seen:  # not Linux, or not allowed
        resident = run(seen)
    gc.collect()
    if contender.traceable:
        with _Traced() as probe:
            traced = run(probe)

    def each(growth: dict[str, int], name: str) -> float | None:
        return growth[name] / elements if name in growth else None

    return [
        {
            "contender": contender.name,
            "dtype": contender.dtype,
            "elements": elements,
            "measure": name,
            "traced": each(traced, name),
            "resident": each(resident, name),
        }
        for name in (("forward",) if what == "forward" else ("step", "kept"))
    ]


def kinds(contender: Contender) -> tuple[str, ...]:
    """Return what can be measured of a contender."""
    return ("forward", "step") if contender.steps else ("forward",)


def measure(contender: Contender, elements: int = ELEMENTS) -> list[MemoryRow]:
    """Measure one contender, each time in a fresh process."""
    paths = [str(ROOT), *filter(None, sys.path)]  # so that the child imports what this one does
    # glibc keeps freed blocks of up to 32 MiB, so that memory which the warm-up had used would not
    # show as growth. With a fixed threshold larger blocks go back to the system at once.
    environment = {"PYTHONPATH": os.pathsep.join(paths), "MALLOC_MMAP_THRESHOLD_": "65536"}
    rows: list[MemoryRow] = []
    for what in kinds(contender):
        child = subprocess.run(
            [sys.executable, "-m", "bench.memory", contender.name, str(elements), what],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        if child.returncode:
            last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
            raise BenchError(f"memory of {contender.label}: {last}")
        rows += json.loads(child.stdout.splitlines()[-1])
    return rows


if __name__ == "__main__":
    name, count, what = sys.argv[1:]
    print(json.dumps(measure_here(BY_NAME[name], int(count), what)))
