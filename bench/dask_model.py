"""How long a Dask graph of dropout takes, as arithmetic over measured constants.

`bench.dask_calls` compares it with what it measures, and `bench.report` computes with it what has
not been measured: 1 TiB, and more workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TIB = 1 << 40


@dataclass(frozen=True)
class Constants:
    """What a graph and a block cost, in seconds, and bytes of x that a worker handles in a second.

    `start` is what a graph of one small block takes. `scheduler` is the CPU time of a block in the
    scheduler and the client, which is serial. `call` is that in a worker for a block of next to no
    elements, Dask's own part included: workers share it.
    """

    start: float
    scheduler: float
    call: float
    bandwidth: float

    def seconds(self, size: float, blocks: float, workers: float) -> float:
        """Return how long an array of so many bytes takes, in so many blocks."""
        per_block = self.scheduler + self.call / workers
        return self.start + blocks * per_block + size / (workers * self.bandwidth)

    def balance(self, block: float) -> float:
        """Return with how many workers the scheduler takes as long as all of them."""
        return (self.call + block / self.bandwidth) / self.scheduler


def constants(row: Any) -> Constants:
    """Return the constants of a row of results."""
    return Constants(*(row[name] for name in ("start", "scheduler", "call", "bandwidth")))


def tebibyte(row: Any, workers: int) -> float:
    """Return the seconds that 1 TiB of float32 takes, in blocks of a row's size."""
    return constants(row).seconds(TIB, TIB / row["block"], workers)


def useful_workers(row: Any) -> float:
    """Return with how many workers half of the time is the scheduler's, in blocks of a row."""
    return constants(row).balance(row["block"])


def error(row: Any) -> float:
    """Return by which part of what was measured a prediction is off."""
    return float(row["predicted"] / row["measured"] - 1)
