"""The device: its facts, memory to rotate over, and times by its own clock."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common import BenchError, dtype_of

# Inputs and outputs together are this many times the L2 cache, so that none is found there again.
COLD = 4
# Room that is left: for allocators' slack, and what others on the GPU may take.
SPARE = 0.85
_SPIN = """
extern "C" __global__ void spin(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles) { }
}
"""


def load_cupy() -> Any:
    """Import CuPy, and see that there is a device.

    Raises
    ------
    BenchError
        If there is none, with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import cupy
    except ImportError as error:
        raise BenchError(f"CuPy cannot be imported ({error}): pip install -e '.[cuda13]'") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BenchError(f"no GPU: {error}") from None
    if not count:
        raise BenchError("no GPU")
    return cupy


@dataclass(frozen=True)
class Facts:
    """What results depend on."""

    name: str
    l2_bytes: int
    memory_bytes: int
    multiprocessors: int
    capability: str
    cuda_driver: int
    cuda_runtime: int
    driver: str | None

    def hardware(self) -> dict[str, str | int | float | None]:
        """Return them as a results file holds them."""
        return {
            "gpu": self.name,
            "memory_gib": round(self.memory_bytes / 2**30, 1),
            "l2_kib": self.l2_bytes // 1024,
            "multiprocessors": self.multiprocessors,
            "compute_capability": self.capability,
            "driver": self.driver,
            "cuda_driver": self.cuda_driver,
            "cuda_runtime": self.cuda_runtime,
        }


def facts(cupy: Any) -> Facts:
    """Ask the current device."""
    runtime = cupy.cuda.runtime
    about = runtime.getDeviceProperties(runtime.getDevice())
    name = about["name"]
    return Facts(
        name=name.decode() if isinstance(name, bytes) else str(name),
        l2_bytes=int(about["l2CacheSize"]),
        memory_bytes=int(about["totalGlobalMem"]),
        multiprocessors=int(about["multiProcessorCount"]),
        capability=f"{about['major']}.{about['minor']}",
        cuda_driver=int(runtime.driverGetVersion()),
        cuda_runtime=int(runtime.runtimeGetVersion()),
        driver=_driver(),
    )


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def sets_needed(elements: int, itemsize: int, arrays: int, l2_bytes: int) -> int:
    """Return how many sets of arrays are needed so that none is found in the L2 cache again."""
    return max(1, math.ceil(COLD * l2_bytes / (elements * itemsize * arrays)))


class Sets:
    """Several sets of arrays: inputs x and gradients dy, and where to write y and dx.

    Of each kind one allocation, cut into `count` parts. Inputs have no zeros, so that a zero in an
    output is a dropped element.
    """

    def __init__(self, cupy: Any, elements: int, dtype: str, l2_bytes: int, step: bool) -> None:
        self.cupy, self.elements, self.dtype_name, self.step = cupy, elements, dtype, step
        self.dtype = dtype_of(dtype)
        arrays = 4 if step else 2
        self.count = sets_needed(elements, self.dtype.itemsize, arrays, l2_bytes)
        self.whole = {"x": self._inputs(), "y": self._empty()}
        if step:
            self.whole |= {"dy": self._inputs(), "dx": self._empty()}

    @staticmethod
    def bytes_needed(elements: int, itemsize: int, l2_bytes: int, step: bool) -> int:
        """Return the memory that sets take."""
        arrays = 4 if step else 2
        return elements * itemsize * arrays * sets_needed(elements, itemsize, arrays, l2_bytes)

    def _empty(self) -> Any:
        return self.cupy.empty(self.count * self.elements, self.dtype)

    def _inputs(self) -> Any:
        """Numbers of both signs, from 1 to 2: a part drawn on the host, repeated."""
        part = np.random.default_rng().uniform(1, 2, min(self.elements, 1 << 20))
        part[::2] *= -1
        made = self._empty()
        source = self.cupy.asarray(part.astype(self.dtype))
        for start in range(0, made.size, source.size):
            target = made[start : start + source.size]
            target[...] = source[: target.size]
        return made

    def part(self, name: str, i: int) -> Any:
        """Return an array of the i-th set."""
        first = (i % self.count) * self.elements
        return self.whole[name][first : first + self.elements]

    def parts(self, name: str) -> list[Any]:
        """Return that array of all sets."""
        return [self.part(name, i) for i in range(self.count)]


Call = Callable[[int], Any]


class Clock:
    """Times calls on the current stream by events, back to back."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self._spin = cupy.RawKernel(_SPIN, "spin")
        self._cycles_a_second = 1e9
        started = time.perf_counter()
        self._wait(1)
        cupy.cuda.Device().synchronize()
        started = time.perf_counter()
        self._wait(20_000_000)
        cupy.cuda.Device().synchronize()
        self._cycles_a_second = 20_000_000 / (time.perf_counter() - started)

    def _wait(self, cycles: int) -> None:
        self._spin((1,), (1,), (np.int64(cycles),))

    def events(self, call: Call, calls: int, first: int, launch_seconds: float) -> float:
        """Seconds a call. The device is kept busy until all are queued, and so never waits."""
        cuda = self.cupy.cuda
        before, after = cuda.Event(), cuda.Event()
        self._wait(int(self._cycles_a_second * calls * launch_seconds * 1.5))
        before.record()
        for i in range(first, first + calls):
            call(i)
        after.record()
        after.synchronize()
        return float(cuda.get_elapsed_time(before, after)) / 1e3 / calls

    def wall(self, call: Call, calls: int, first: int, finish: Callable[[], object]) -> float:
        """Seconds a call by the host's clock, until `finish` says that all is done."""
        finish()
        start = time.perf_counter()
        for i in range(first, first + calls):
            call(i)
        finish()
        return (time.perf_counter() - start) / calls
