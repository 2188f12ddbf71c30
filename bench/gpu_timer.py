"""Times batches of calls on the GPU's own clock.

`bench.gpu` and `bench.sweep` call it. A spinning kernel keeps the GPU busy while the host queues a
batch, so that what is timed is the GPU's work, and not how fast it is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

SPIN = """
extern "C" __global__ void spin(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles) { }
}
"""
WARM_SECONDS = 50e-3  # of spinning, after which an idle GPU's clocks are up
CALIBRATED_CYCLES = 5_000_000  # some 3 ms
SPARE = 1.3  # the GPU spins so many times as long as the host should need
MOST_SECONDS = 20e-3  # of spinning, for one batch


class Timer:
    """Times calls on CuPy's current stream; calls that go to other streams by the host's clock."""

    def __init__(self, cupy: Any) -> None:
        self.cupy, self._kernel = cupy, cupy.RawKernel(SPIN, "spin")
        self._begin, self._end = cupy.cuda.Event(), cupy.cuda.Event()
        warm = time.perf_counter() + WARM_SECONDS
        while time.perf_counter() < warm:
            self._spin(CALIBRATED_CYCLES)
            cupy.cuda.Device().synchronize()
        self._begin.record()
        self._spin(CALIBRATED_CYCLES)
        self.rate = CALIBRATED_CYCLES / self._elapsed()  # cycles a second

    def _spin(self, cycles: int) -> None:
        self._kernel((1,), (1,), (np.int64(cycles),))

    def _elapsed(self) -> float:
        self._end.record()
        self._end.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(self._begin, self._end)) / 1e3

    def batch(
        self, call: Callable[[], object], calls: int, host: float, own_stream: bool = False
    ) -> tuple[float, float]:
        """Time a batch of calls, after one that is not timed.

        Parameters
        ----------
        call : callable
            What is timed.
        calls : int
            How many of them.
        host : float
            Seconds that the host is thought to need for one.
        own_stream : bool
            Whether the call goes to a stream of its own, and waits for it.

        Returns
        -------
        device, host : float
            Seconds a call: until all are done, and on the host until they return.
        """
        call()
        if own_stream:
            self.cupy.cuda.Device().synchronize()
        else:
            self._spin(int(self.rate * min(MOST_SECONDS, SPARE * host * calls)))
        self._begin.record()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        told = (time.perf_counter() - start) / calls
        device = self._elapsed() / calls
        return (told if own_stream else device), told
