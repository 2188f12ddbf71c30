"""Promises of arrays on a GPU, in Numba's simulator: ``python -m tests.scenarios.simulator NAME``.

The environment says NUMBA_ENABLE_CUDASIM=1, which Numba reads when it is imported.
"""

from __future__ import annotations

import sys

from tests.device_arrays import PROMISES, SIMULATED

if __name__ == "__main__":
    assert SIMULATED
    PROMISES[sys.argv[1]]()
