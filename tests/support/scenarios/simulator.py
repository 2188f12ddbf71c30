"""Promises of arrays on a GPU, in Numba's simulator.

``python -m tests.support.scenarios.simulator NAME`` runs one.
The environment says NUMBA_ENABLE_CUDASIM=1, which Numba reads when it is imported.
"""

from __future__ import annotations

import sys

from tests.support.device_arrays import PROMISES, SIMULATED

if __name__ == "__main__":
    assert SIMULATED
    PROMISES[sys.argv[1]]()
