"""Extra memory of one call, beyond the output: by tracemalloc and by the peak resident set.

Run as ``python -m bench.memory NAME ELEMENTS`` it measures one contender in this process and
prints JSON; `measure` runs that in a fresh process for each contender, so that no contender
profits from memory that another has left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np

from .common import MI, ROOT, Array, BenchError, P, fresh_input
from .contenders import Contender, by_name

ELEMENTS = 16 * MI


class Extra(TypedDict):
    """Bytes per element beyond one output like x; None where it cannot be seen."""

    traced: float | None
    resident: float | None


def _status_bytes(field: str) -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _resident_growth(call: Callable[[], Any]) -> tuple[int | None, Any]:
    """Growth of the peak resident set during a call, in bytes, and the call's result."""
    try:
        # Sets the peak back to the present, and so forgets the warm-up and the compilers.
        with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
            clear.write("5")
        before = _status_bytes("VmRSS")
    except OSError:  # not Linux, or not allowed
        return None, call()
    result = call()
    return _status_bytes("VmHWM") - before, result


def _traced_growth(call: Callable[[], Any]) -> tuple[int, Any]:
    """Growth of the peak that tracemalloc sees during a call, in bytes, and the call's result."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = call()
        return tracemalloc.get_traced_memory()[1] - before, result
    finally:
        tracemalloc.stop()


def measure_here(contender: Contender, elements: int) -> Extra:
    """Measure one contender in this process, after a warm-up at full size.

    The setup counts as well: buffers that are kept for the next call are memory too.
    """
    x = fresh_input(elements)
    out = np.ones_like(x)  # ones, not empty: its pages have to be resident before
    contender.set_threads()

    def call() -> Any:
        return contender.setup(x, P, out)()

    call()

    def extra(growth: int | None, result: Any) -> float | None:
        if growth is None:
            return None
        return (growth - (0 if _is(result, out) else x.nbytes)) / elements

    return {
        "resident": extra(*_resident_growth(call)),
        "traced": extra(*_traced_growth(call)) if contender.traceable else None,
    }


def _is(result: Any, out: Array) -> bool:
    return bool(np.shares_memory(np.asarray(result), out))


def measure(contender: Contender, elements: int = ELEMENTS) -> Extra:
    """Measure one contender in a fresh process."""
    paths = [str(ROOT), *filter(None, sys.path)]  # so that the child imports what this one does
    # glibc keeps freed blocks of up to 32 MiB, so that memory which the warm-up had used would not
    # show as growth. With a fixed threshold larger blocks go back to the system at once.
    environment = {"PYTHONPATH": os.pathsep.join(paths), "MALLOC_MMAP_THRESHOLD_": "65536"}
    child = subprocess.run(
        [sys.executable, "-m", "bench.memory", contender.name, str(elements)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        raise BenchError(f"memory of {contender.label}: {last}")
    extra: Extra = json.loads(child.stdout)
    return extra


if __name__ == "__main__":
    name, count = sys.argv[1:]
    print(json.dumps(measure_here(by_name([name])[-1], int(count))))
