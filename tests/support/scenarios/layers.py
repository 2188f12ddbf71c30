"""A user's own parallel code: it launches one of Numba's threading layers in the process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np

from . import SKIPPED

_N = 1 << 18


def _total(x: Any) -> Any:
    total = 0
    for i in numba.prange(x.size):
        total += x[i]
    return total


_parallel_total: Callable[[Any], int] = numba.njit(parallel=True, cache=True)(_total)


def run_parallel_code() -> None:
    """Run Numba-parallel code. Under workqueue no two threads may do so at once."""
    assert _parallel_total(np.arange(_N)) == _N * (_N - 1) // 2


def launch() -> None:
    """Launch the layer that the environment names; exit where it cannot be."""
    layer = os.environ["NUMBA_THREADING_LAYER"]
    try:
        run_parallel_code()
    except ValueError as error:  # Numba's, where the layer's library is missing
        print(f"the layer {layer} cannot be launched:", " ".join(str(error).split()))
        sys.exit(SKIPPED)
    assert numba.threading_layer() == layer


def main(scenarios: Mapping[str, Callable[[float], None]]) -> None:
    """Launch the layer and run one scenario, as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=scenarios)
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    launch()
    scenarios[arguments.scenario](arguments.seconds)
    run_parallel_code()  # it has come to no harm either
    print("done")
